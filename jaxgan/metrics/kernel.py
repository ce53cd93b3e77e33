"""The kernel distance between two sets of features, called KID with Inception's."""

from typing import Any

import numpy as np

from jaxgan.metrics import arrays
from jaxgan.metrics.arrays import Estimate

LARGEST = 1000  # rows of a subset
FEWEST_SUBSETS = 10


def kernel_distance(
    first: Any, second: Any, subset_size: int | None = None, seed: int = 0
) -> Estimate:
    """The squared maximum mean discrepancy of the kernel (x . y / F + 1)^3, without bias.

    Both sets are shuffled and cut into disjoint subsets, whose estimates are averaged; so these are
    independent, and their spread gives the standard error of the mean. The protocol of the paper
    draws 100 subsets of 1,000 that overlap: it has the same expectation, and the spread of its
    subsets says too little of the error.

    Held are 4 subset_size^2 numbers of 8 bytes, and 3 subset_size F.

    Args:
      first: features [N,F].
      second: features [M,F].
      subset_size: rows of a subset; 1,000 by default, less where there would be less than ten.
      seed: of the shuffles.

    Returns:
      The distance, which is about 0, and below 0 as often as above, for sets of one distribution.

    Raises:
      ValueError: shapes that do not fit, numbers that are not finite, less than 20 rows, or than
        two subsets.

    References:
      Binkowski et al., Demystifying MMD GANs, 2018.
    """
    first, second = arrays.finite_pair(first, second, 2 * FEWEST_SUBSETS)
    fewer = min(len(first), len(second))
    size = min(LARGEST, fewer // FEWEST_SUBSETS) if subset_size is None else subset_size
    size = arrays.whole("subset_size", size, 2)
    if (subsets := fewer // size) < 2:
        raise ValueError(
            f"subset_size={size} makes {subsets} subsets of {fewer} rows; use {fewer // 2} or less"
        )
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(features)) for features in (first, second)]
    found = []
    for i in range(subsets):
        rows = slice(i * size, (i + 1) * size)
        x, y = first[orders[0][rows]], second[orders[1][rows]]
        found.append(_discrepancy(x.astype(np.float64), y.astype(np.float64)))
    return Estimate(float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(subsets)))


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate of two float64 [n,F]: no example meets itself."""
    n = len(x)
    within = sum((k.sum() - np.trace(k)) / (n * (n - 1)) for k in (_kernel(x, x), _kernel(y, y)))
    return float(within - 2.0 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    products = x @ y.T
    products /= x.shape[1]
    products += 1.0
    return products**3
