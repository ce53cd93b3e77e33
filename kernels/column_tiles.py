"""How kernels walk arrays [L,...,C] column by column, and sum them over all but L and C."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.kernels.launch import cdiv, jit, power_of_two, tl


class ColumnTiles(NamedTuple):
    """The tiles of an array [L,...,C]: each lane's n elements as rows of W columns, a multiple of C of at least 128
    that nearly fills its tiles.

    Program (p, q, lane) takes blocks p, p + PROGRAMS, .. of ROWS rows of the columns from q COLUMNS on, and writes one row of
    partial sums. A last pass over these, left to XLA, adds them up: the order is fixed, and there are no atomics.
    """

    lanes: int
    channels: int
    grid: tuple[int, int, int]
    constants: dict[str, int]

    @classmethod
    def of(cls, shape: tuple[int, ...], per_multiprocessor: int = 8) -> "ColumnTiles":
        """The tiles for an array of that shape; per_multiprocessor: how many programs its registers let run at once."""
        lanes, channels, n = shape[0], shape[-1], math.prod(shape[1:])
        columns_of = lambda w: min(power_of_two(w), 256)
        filled = lambda w: w / (cdiv(w, columns_of(w)) * columns_of(w))
        widths = [
            channels * k
            for k in range(1, 2048 // channels + 9)
            if channels * k >= 128 and channels * k % 8 == 0
        ]
        w = next((w for w in widths if filled(w) >= 0.9), max(widths, key=filled))
        columns = columns_of(w)
        rows = _TILE // columns
        blocks, side_by_side = cdiv(cdiv(n, w), rows), cdiv(w, columns) * lanes
        # As many programs as run at once, each with as many turns; on small arrays fewer programs with up to four turns, which
        # leave fewer partial sums, as long as two for each multiprocessor remain.
        at_once = max(1, per_multiprocessor * _MULTIPROCESSORS // side_by_side)
        turns = max(
            cdiv(blocks, at_once), min(4, blocks * side_by_side // (2 * _MULTIPROCESSORS)), 1
        )
        programs = cdiv(blocks, turns)
        constants = dict(n=n, W=w, ROWS=rows, COLUMNS=columns, PROGRAMS=programs, TURNS=turns)
        return cls(lanes, channels, (programs, cdiv(w, columns), lanes), constants)

    def partial(self) -> jax.ShapeDtypeStruct:
        """[L, PROGRAMS, W]."""
        return jax.ShapeDtypeStruct(
            (self.lanes, self.constants["PROGRAMS"], self.constants["W"]), jnp.float32
        )

    def summed(self, partial: Array) -> Array:
        """[L, C]."""
        return partial.sum(axis=1).reshape(self.lanes, -1, self.channels).sum(axis=1)


_TILE = 2048  # elements of a tile: 16 for each of 128 threads
_MULTIPROCESSORS = 132  # of an H100


# -------------------------------------------------------------------------------------------------- what kernels share
@jit
def columns_of_program(W: tl.constexpr, COLUMNS: tl.constexpr):
    return tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)


@jit
def elements_of_tile(
    turn,
    n: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PROGRAMS: tl.constexpr,
):
    """Where the elements of a tile are in memory, and which of them exist."""
    rows = (turn * PROGRAMS + tl.program_id(0)) * ROWS + tl.arange(0, ROWS)
    if n > 2**30:
        rows = rows.to(tl.int64)
    columns = columns_of_program(W, COLUMNS)
    at = rows[:, None] * W + columns[None, :]
    return tl.program_id(2).to(tl.int64) * n + at, (at < n) & (columns < W)[None, :]


@jit
def store_sums(partial_ptr, total, W: tl.constexpr, COLUMNS: tl.constexpr, PROGRAMS: tl.constexpr):
    columns = columns_of_program(W, COLUMNS)
    row = tl.program_id(2).to(tl.int64) * PROGRAMS + tl.program_id(0)
    tl.store(partial_ptr + row * W + columns, tl.sum(total, axis=0), mask=columns < W)
