"""What measures take: arrays of numbers, looked at before anything is computed of them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

ROWS = 4096  # that are float64 at once


class TooFew(ValueError):
    """Too few rows for a measure, which is then not defined."""


class Estimate(NamedTuple):
    """A number, and its standard error."""

    value: float
    error: float


def table(name: str, given: Any, fewest: int = 1) -> np.ndarray:
    """An array of real numbers [N,F] as NumPy has it, of any real dtype; nothing is copied that is
    an array already.

    Args:
      name: for messages, such as "first features".
      given: an array of NumPy or JAX, or nested lists.
      fewest: rows.

    Raises:
      ValueError: for what is no such array.
      TooFew: for less rows.
    """
    array = real(name, given)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"expected {name} [N,F], got shape {array.shape}")
    check_rows(name, len(array), fewest)
    return array


def finite(name: str, given: Any, fewest: int = 1) -> np.ndarray:
    """As `table`, of numbers that are all finite."""
    array = table(name, given, fewest)
    blocks = (array[first : first + ROWS] for first in range(0, len(array), ROWS))
    check_bad(name, sum(map(bad_rows, blocks)), len(array))
    return array


def pair(first: Any, second: Any, fewest: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Features [N,F] and [M,F], not looked at for numbers that are not finite; raises as
    `table`."""
    one, other = real("first features", first), real("second features", second)
    shapes = f"got shapes {one.shape} and {other.shape}"
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or not one.shape[1]:
        raise ValueError(f"expected features [N,F] and [M,F] of at least {fewest} rows, {shapes}")
    if min(len(one), len(other)) < fewest:
        raise TooFew(f"expected features [N,F] and [M,F] of at least {fewest} rows, {shapes}")
    return one, other


def finite_pair(first: Any, second: Any, fewest: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """As `pair`, of numbers that are all finite."""
    one, other = pair(first, second, fewest)
    return finite("first features", one), finite("second features", other)


def real(name: str, given: Any) -> np.ndarray:
    """The array as NumPy has it; raises `ValueError` for what are no real numbers."""
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):  # rows of different lengths
        array = np.array(None)
    if array.dtype.kind in "OUSMmc" or array.dtype.names:
        raise ValueError(
            f"the {name} are no array of real numbers but {type(given).__name__} of "
            f"{array.dtype}; give [N,F]"
        )
    return array


def check_rows(name: str, count: int, fewest: int) -> None:
    """Raises `TooFew` for less rows than are needed."""
    if count < fewest:
        raise TooFew(f"the {name} have {count} rows, and {fewest} or more are needed; give more")


def bad_rows(part: np.ndarray) -> int:
    """How many rows [n,F] have a number that is not finite."""
    return int(np.count_nonzero(~np.isfinite(part).all(axis=1)))


def check_bad(name: str, bad: int, count: int) -> None:
    """Raises `ValueError` where some rows are not finite."""
    if bad:
        raise ValueError(
            f"the {name} are not finite in {bad} of {count} rows; leave those rows out, or look "
            "for what made them"
        )


def parts(features: np.ndarray) -> Iterator[np.ndarray]:
    """The rows one block after the other, as new arrays float64 [n,F]."""
    for first in range(0, len(features), ROWS):
        yield features[first : first + ROWS].astype(np.float64)


def mean_of(features: np.ndarray) -> np.ndarray:
    """float64 [F]."""
    total = np.zeros(features.shape[1])
    for part in parts(features):
        total += part.sum(axis=0)
    return total / len(features)


def labels_of(name: str, given: Any, count: int | None = None) -> np.ndarray:
    """Labels int64 [N] from 0 on.

    Raises:
      ValueError: for what is none, and for another N than `count`.
    """
    labels = np.asarray(given)
    if labels.ndim != 1 or labels.dtype.kind not in "iub" or (labels < 0).any():
        raise ValueError(
            f"expected {name} [N] of whole numbers from 0 on, got {labels.dtype} of shape "
            f"{labels.shape}"
        )
    if count is not None and len(labels) != count:
        raise ValueError(f"{len(labels)} {name} do not go with {count} rows; give one for each")
    return labels.astype(np.int64)


def jackknife_error(without: Any) -> float:
    """The standard error of a number, from its values without each of several parts in turn.

    References:
      Tukey, Bias and Confidence in Not-Quite Large Samples, 1958.
    """
    values = np.asarray(without, np.float64)
    return float(np.sqrt(np.square(values - values.mean()).sum() * (len(values) - 1) / len(values)))


def whole(name: str, value: Any, low: int) -> int:
    """A whole number from `low` on; raises `ValueError` for another."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ValueError(f"{name}={value!r}; give a whole number of {low} or more")
    return int(value)
