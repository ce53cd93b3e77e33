"""Fidelity and variety told apart: balls about examples stand for where their distribution is."""

from typing import Any, NamedTuple

import numpy as np

from jaxgan.metrics import arrays
from jaxgan.metrics.neighbours import blocks, radii


class PrecisionRecall(NamedTuple):
    """Improved precision and recall.

    Attributes:
      precision: share of the samples that lie in a ball of a real example.
      recall: share of the real examples that lie in a ball of a sample.
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Density and coverage.

    Attributes:
      density: how many balls of real examples a sample lies in, over k; 1 is expected of samples
        of the real distribution, and it may be above.
      coverage: share of the real examples whose ball holds a sample.
    """

    density: float
    coverage: float


def precision_recall(real: Any, made: Any, k: int = 3) -> PrecisionRecall:
    """Precision and recall by balls that reach to the k-th nearest neighbour in the same set.

    Held are about 8 blocks of 1024 x 1024 numbers of 8 bytes, and 2048 F. The numbers depend on N
    and M: give as many of both.

    Args:
      real: features of real examples [N,F], N > k.
      made: features of samples [M,F], M > k.
      k: as above; 3 in the paper.

    Raises:
      ValueError: shapes that do not fit, numbers that are not finite, or too few rows.

    References:
      Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing Generative Models,
      2019.
    """
    real, made = _checked(real, made, k)
    of_real, of_made = radii(real, k)[:, None], radii(made, k)
    precise, recalled = np.zeros(len(made), bool), np.zeros(len(real), bool)
    for rows, columns, squares in blocks(real, made):
        precise[columns] |= (squares <= of_real[rows]).any(axis=0)
        recalled[rows] |= (squares <= of_made[columns]).any(axis=1)
    return PrecisionRecall(float(precise.mean()), float(recalled.mean()))


def density_coverage(real: Any, made: Any, k: int = 5) -> DensityCoverage:
    """Density and coverage by balls of real examples alone, which outliers among the samples do
    not move.

    Held are about 8 blocks of 1024 x 1024 numbers of 8 bytes, and 2048 F.

    Args:
      real: features of real examples [N,F], N > k.
      made: features of samples [M,F].
      k: as above; 5 in the paper.

    Raises:
      ValueError: shapes that do not fit, numbers that are not finite, or too few rows.

    References:
      Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, 2020.
    """
    real, made = _checked(real, made, k)
    reach, inside = radii(real, k)[:, None], 0
    covered = np.zeros(len(real), bool)
    for rows, _, squares in blocks(real, made):
        within = squares <= reach[rows]
        inside += np.count_nonzero(within)
        covered[rows] |= within.any(axis=1)
    return DensityCoverage(inside / (k * len(made)), float(covered.mean()))


def expected_coverage(real: int, made: int, k: int = 5) -> float:
    """The coverage that so many samples of the real distribution itself have in the mean: the
    chance that of all others the k nearest are not all real. For k = 5 it is 0.97 where both are
    many and as many."""
    missed = np.prod([(real - 1 - i) / (real + made - 1 - i) for i in range(k)])
    return float(1.0 - missed)


def _checked(real: Any, made: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    return arrays.finite_pair(real, made, arrays.whole("k", k, 1) + 1)
