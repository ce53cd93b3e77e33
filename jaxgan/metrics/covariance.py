"""Mean and covariance of features that come in parts: one pass, and parts may be merged in any
order."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxgan.metrics import arrays


class Moments(NamedTuple):
    """Of N rows of features.

    Attributes:
      count: N.
      mean: float64 [F].
      scatter: the sum of (x - mean) (x - mean)^T, float64 [F,F].
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """float64 [F,F], of N - 1 degrees of freedom."""
        arrays.check_rows("features", self.count, 2)
        return self.scatter / (self.count - 1)


def moments(features: Any, name: str = "features") -> Moments:
    """The moments of features [N,F] of any real dtype, in float64.

    Holds 4096 F + 3 F^2 numbers of 8 bytes beside the features.

    Raises:
      ValueError: for no such array, and for numbers that are not finite, which are counted.
    """
    rows = arrays.table(name, features)
    bad, found = 0, None
    for part in arrays.parts(rows):
        bad += arrays.bad_rows(part)
        if not bad:  # what comes after is looked at alone
            mean = part.mean(0)
            part -= mean
            of_part = Moments(len(part), mean, part.T @ part)
            found = of_part if found is None else merged(found, of_part)
    arrays.check_bad(name, bad, len(rows))
    assert found is not None
    return found


def merged(first: Moments, second: Moments) -> Moments:
    """The moments of the rows of both.

    References:
      Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample
      variances, 1979.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            f"moments of {len(first.mean)} and of {len(second.mean)} features cannot be merged"
        )
    count = first.count + second.count
    apart = second.mean - first.mean
    scatter = np.outer(apart, apart)
    scatter *= first.count * second.count / count
    scatter += first.scatter
    scatter += second.scatter
    return Moments(count, first.mean + apart * (second.count / count), scatter)


def streamed(parts: Iterable[Any]) -> Moments:
    """The moments of features that come in parts [n,F], none of which is kept.

    Raises:
      ValueError: as `moments`, and where there is no part.
    """
    each = map(moments, parts)
    first = next(each, None)
    if first is None:
        raise ValueError("there are no features; give a part or more")
    return functools.reduce(merged, each, first)
