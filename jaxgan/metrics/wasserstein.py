"""The sliced Wasserstein distance: how far apart two sets are along random directions."""

from typing import Any

import numpy as np

from jaxgan.metrics import arrays
from jaxgan.metrics.arrays import Estimate

_AT_ONCE = 16  # directions


def sliced_wasserstein(
    first: Any, second: Any, order: int = 2, directions: int = 256, seed: int = 0
) -> Estimate:
    """(mean over unit directions of W_p^p of the projections)^(1/p), p the order.

    It needs no fit of Gaussians and grows with the number of features only by the directions that
    are drawn. Of two sets of N of one distribution it is not 0 but about 1/sqrt(N): tell the floor
    beside it. The standard error is that of the directions drawn alone.

    Held are 4096 F + 48 (N + M) numbers of 8 bytes.

    Args:
      first: features [N,F].
      second: features [M,F]; of another number of rows the quantile functions are compared as they
        are, steps of 1/N and 1/M.
      order: 1 or 2.
      directions: how many.
      seed: of the directions.

    Raises:
      ValueError: shapes that do not fit, numbers that are not finite, or another order.

    References:
      Rabin et al., Wasserstein Barycenter and Its Application to Texture Mixing, 2011.
    """
    if order not in (1, 2):
        raise ValueError(f"order={order!r}; use 1 or 2")
    first, second = arrays.finite_pair(first, second, 1)
    count = arrays.whole("directions", directions, 2)
    towards = np.random.default_rng(seed).normal(size=(first.shape[1], count))
    towards /= np.linalg.norm(towards, axis=0)
    found = []
    for i in range(0, count, _AT_ONCE):
        some = towards[:, i : i + _AT_ONCE]
        found += list(_apart(_projected(first, some), _projected(second, some), order))
    mean, error = np.mean(found), np.std(found, ddof=1) / np.sqrt(count)
    value = mean ** (1.0 / order)
    # The derivative of the root.
    return Estimate(float(value), float(error / order * value / mean) if mean else 0.0)


def _projected(features: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """float64 [N,directions], each column sorted."""
    made = np.concatenate([part @ towards for part in arrays.parts(features)])
    made.sort(axis=0)
    return made


def _apart(x: np.ndarray, y: np.ndarray, order: int) -> np.ndarray:
    """The integral over q of |difference of the q-quantiles|^order, float64 [directions], of sorted
    columns."""
    n, m = len(x), len(y)
    if n == m:
        return (np.abs(x - y) ** order).mean(axis=0)
    # In units of 1 / (n m) the steps end at whole numbers.
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    begins = np.concatenate([[0], ends[:-1]])
    weights = (ends - begins) / (n * m)
    return weights @ np.abs(x[begins // m] - y[begins // n]) ** order
