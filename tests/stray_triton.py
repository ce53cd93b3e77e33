"""Kernels that reach where they must not, for `interpreted.py`: its launcher must notice."""

import triton
import triton.language as tl


@triton.jit
def one_too_many(x_ptr, y_ptr, n: tl.constexpr, BLOCK: tl.constexpr):
    """Writes an element after the last."""
    at = tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n, other=0.0), mask=at < n + 1)


@triton.jit
def one_too_far(x_ptr, y_ptr, n: tl.constexpr, BLOCK: tl.constexpr):
    """Reads the element after the last, and leaves the last out."""
    at = tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at + 1, mask=at < n, other=0.0), mask=at < n - 1)
