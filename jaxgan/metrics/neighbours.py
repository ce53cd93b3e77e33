"""Nearest neighbours in feature space, in blocks: nowhere are all distances held at once."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxgan.metrics import arrays

BLOCK = 1024  # rows whose distances to as many are held
_ROUNDING = 1e-12  # of the squares of which a distance is the difference


class Neighbours(NamedTuple):
    """The k nearest of each row, from near to far.

    Attributes:
      index: int64 [N,k], of rows of the others.
      distance: float64 [N,k], Euclidean.
    """

    index: np.ndarray
    distance: np.ndarray


def nearest_neighbours(queries: Any, others: Any, k: int = 1) -> Neighbours:
    """The k rows of `others` that are nearest to each of `queries`, such as the training examples
    nearest to each sample.

    Held are about 8 blocks of 1024 x 1024 numbers of 8 bytes, and 2048 F.

    Args:
      queries: features [N,F].
      others: features [M,F], M >= k.
      k: how many.

    Raises:
      ValueError: shapes that do not fit, numbers that are not finite, or less than k rows.
    """
    k = arrays.whole("k", k, 1)
    queries, others = arrays.finite_pair(queries, others, 1)
    arrays.check_rows("second features", len(others), k)
    index = np.zeros((len(queries), k), np.int64)
    squares = np.full((len(queries), k), np.inf)
    for rows, columns, found in blocks(queries, others):
        near = np.argpartition(found, k - 1, axis=1)[:, :k] if k < found.shape[1] else None
        near = np.broadcast_to(np.arange(found.shape[1]), found.shape) if near is None else near
        both = np.concatenate([squares[rows], np.take_along_axis(found, near, axis=1)], axis=1)
        names = np.concatenate([index[rows], columns.start + near], axis=1)
        best = np.argpartition(both, k - 1, axis=1)[:, :k]
        squares[rows] = np.take_along_axis(both, best, axis=1)
        index[rows] = np.take_along_axis(names, best, axis=1)
    order = np.lexsort((index, squares))
    return Neighbours(
        np.take_along_axis(index, order, axis=1),
        np.sqrt(np.take_along_axis(squares, order, axis=1)),
    )


def radii(features: np.ndarray, k: int) -> np.ndarray:
    """The squared distance of each row [N,F] to the k-th nearest other, float64 [N]."""
    found = np.full((len(features), k), np.inf)
    for rows, columns, squares in blocks(features, features):
        if rows == columns:
            np.fill_diagonal(squares, np.inf)  # a row is no neighbour of its own
        if k < squares.shape[1]:
            squares.partition(k - 1, axis=1)
        both = np.concatenate([found[rows], squares[:, :k]], axis=1)
        found[rows] = np.partition(both, k - 1, axis=1)[:, :k]
    return found.max(axis=1)


def blocks(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """(rows, columns, squared distances float64 [rows,columns]) of all of [N,F] to all of [M,F].

    Squares are |x|^2 + |y|^2 - 2 x . y about the mean, as one matrix product; what is within the
    rounding of that, as of equal rows, is 0.
    """
    middle = arrays.mean_of(second)
    for rows in _slices(len(first)):
        x = first[rows].astype(np.float64) - middle
        of_x = np.square(x).sum(axis=1, keepdims=True)
        left = np.concatenate([x, of_x, np.ones_like(of_x)], axis=1)
        for columns in _slices(len(second)):
            y = second[columns].astype(np.float64) - middle
            of_y = np.square(y).sum(axis=1, keepdims=True)
            y *= -2.0
            squares = left @ np.concatenate([y, np.ones_like(of_y), of_y], axis=1).T
            squares[squares < _ROUNDING * (of_x + of_y.max())] = 0.0
            yield rows, columns, squares


def _slices(count: int) -> Iterator[slice]:
    return (slice(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK))
