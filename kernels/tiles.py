"""How the programs of a launch share the elements of an array; `tiles_triton` walks them."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

BLOCK = 1024  # elements of a program that needs no sums: 8 for each of 128 threads
_TILE = 2048  # elements of a tile: 16 for each of 128 threads
_MULTIPROCESSORS = 132  # of an H100


def cdiv(n: int, d: int) -> int:
    """n / d, rounded up."""
    return -(-n // d)


def power_of_two(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


class ColumnTiles(NamedTuple):
    """The tiles of an array [L,...,C] that is summed over all but L and C.

    A lane's n elements are taken as rows of W columns; W is a multiple of C, so that a column holds
    elements of one channel. A tile is ROWS x COLUMNS of them:

        W columns: channel 0 .. C-1, 0 .. C-1, ..
        | program (0, 0)     | program (0, 1)     |   ROWS rows, turn 0
        | program (1, 0)     | program (1, 1)     |   ROWS rows, turn 0
        | program (0, 0)     | program (0, 1)     |   ROWS rows, turn 1
        | program (1, 0)     | program (1, 1)     |   .. with PROGRAMS = 2, TURNS = 2, W = 2 COLUMNS

    Program (p, q, lane) adds its tiles up and writes one row of partial sums. A last pass over
    these, left to XLA, adds the rows: the order is fixed, and there are no atomics.

    Attributes:
      lanes: L.
      channels: C.
      grid: programs (PROGRAMS, tiles side by side, L).
      constants: n, W, ROWS, COLUMNS, PROGRAMS and TURNS, for the kernel.
    """

    lanes: int
    channels: int
    grid: tuple[int, int, int]
    constants: dict[str, int]

    @classmethod
    def of(cls, shape: tuple[int, ...], per_multiprocessor: int = 8) -> "ColumnTiles":
        """The tiles of an array.

        Args:
          shape: [L,...,C].
          per_multiprocessor: how many programs its registers let run at once.
        """
        lanes, channels, n = shape[0], shape[-1], math.prod(shape[1:])
        w = _width(channels)
        columns = _columns(w)
        rows = _TILE // columns
        blocks, side_by_side = cdiv(cdiv(n, w), rows), cdiv(w, columns) * lanes
        # As many programs as run at once, each with as many turns; on small arrays fewer programs
        # with up to four turns, which leave fewer partial sums, as long as two for each
        # multiprocessor remain.
        at_once = max(1, per_multiprocessor * _MULTIPROCESSORS // side_by_side)
        few = min(4, blocks * side_by_side // (2 * _MULTIPROCESSORS))
        turns = max(cdiv(blocks, at_once), few, 1)
        programs = cdiv(blocks, turns)
        constants = dict(n=n, W=w, ROWS=rows, COLUMNS=columns, PROGRAMS=programs, TURNS=turns)
        return cls(lanes, channels, (programs, cdiv(w, columns), lanes), constants)

    def partial(self) -> jax.ShapeDtypeStruct:
        """What a kernel writes its partial sums to: [L, PROGRAMS, W]."""
        shape = (self.lanes, self.constants["PROGRAMS"], self.constants["W"])
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def summed(self, partial: Array) -> Array:
        """The sums [L, C] of partial ones [L, PROGRAMS, W]."""
        return partial.sum(axis=1).reshape(self.lanes, -1, self.channels).sum(axis=1)


def _columns(w: int) -> int:
    return min(power_of_two(w), 256)


def _filled(w: int) -> float:
    """The share of the tiles' columns that rows of w columns fill."""
    return w / (cdiv(w, _columns(w)) * _columns(w))


def _width(channels: int) -> int:
    """W: of the multiples of C from 128 on, for wide loads, one that nearly fills its tiles."""
    multiples = [channels * k for k in range(1, 2048 // channels + 9)]
    widths = [w for w in multiples if w >= 128 and w % 8 == 0]
    return next((w for w in widths if _filled(w) >= 0.9), max(widths, key=_filled))
