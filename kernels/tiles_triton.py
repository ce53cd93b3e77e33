"""What kernels share: which elements a program has, and where its sums go. See `tiles`.

Of program ids: axis 0 counts blocks or tiles along the elements, the last axis counts lanes.
"""

import triton
import triton.language as tl


@triton.jit
def elements_of_block(n: tl.constexpr, BLOCK: tl.constexpr):
    """The elements of this program, as 64-bit numbers where there are too many for 32."""
    program = tl.program_id(0)
    if n > 2**31 - BLOCK:
        program = program.to(tl.int64)
    return program * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def columns_of_program(W: tl.constexpr, COLUMNS: tl.constexpr):
    """The columns of this program's tiles, [COLUMNS]."""
    return tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)


@triton.jit
def elements_of_tile(
    turn,
    n: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PROGRAMS: tl.constexpr,
):
    """Where the elements of a tile are in memory, and which exist, both [ROWS, COLUMNS]."""
    rows = (turn * PROGRAMS + tl.program_id(0)) * ROWS + tl.arange(0, ROWS)
    if n > 2**30:
        rows = rows.to(tl.int64)
    columns = columns_of_program(W, COLUMNS)
    at = rows[:, None] * W + columns[None, :]
    return tl.program_id(2).to(tl.int64) * n + at, (at < n) & (columns < W)[None, :]


@triton.jit
def store_sums(partial_ptr, total, W: tl.constexpr, COLUMNS: tl.constexpr, PROGRAMS: tl.constexpr):
    """Writes the column sums of total [ROWS, COLUMNS] as this program's row of [L, PROGRAMS, W]."""
    columns = columns_of_program(W, COLUMNS)
    row = tl.program_id(2).to(tl.int64) * PROGRAMS + tl.program_id(0)
    tl.store(partial_ptr + row * W + columns, tl.sum(total, axis=0), mask=columns < W)
