"""Whether samples are nearer to the training examples than unseen examples are."""

from typing import Any, NamedTuple

import numpy as np

from jaxgan.metrics import arrays
from jaxgan.metrics.neighbours import nearest_neighbours


class Memorisation(NamedTuple):
    """How the distances of samples to the nearest training example stand to those of held-out
    examples.

    Attributes:
      nearer: share of the pairs of a sample and a held-out example in which the sample is nearer,
        ties by half: 0.5 where nothing is copied, 1 where all is.
      z: standard deviations by which samples are nearer than by chance; about normal, of mean 0 and
        deviation 1, where samples and held-out examples are of one distribution. Above 3 is a sign
        of copying, far below 0 one of samples that lie off the data.
    """

    nearer: float
    z: float


def memorisation(made: Any, train: Any, held_out: Any) -> Memorisation:
    """The data-copying test of Meehan et al., over all of space as one cell: the U of Mann and
    Whitney of distances to the nearest training example, with its sign turned.

    Samples that lie off the data hide others that are copied, as the test is of ranks. By cells the
    test sees more: `per_class` makes a cell of each class. Three rows are the least for which the
    normal approximation means anything; use hundreds.

    Held are about 8 blocks of 1024 x 1024 numbers of 8 bytes, 2048 F, and 10 (N + M).

    Args:
      made: features of samples [N,F].
      train: features of the examples that were trained on [T,F].
      held_out: features of others of the same distribution [M,F].

    Raises:
      ValueError: shapes that do not fit, numbers that are not finite, or less than 3 rows.

    References:
      Meehan, Chaudhuri and Dasgupta, A Non-Parametric Test to Detect Data-Copying in Generative
      Models, 2020.
    """
    made = arrays.table("first features", made, 3)
    held_out = arrays.table("held-out features", held_out, 3)
    distances = [nearest_neighbours(x, train).distance[:, 0] for x in (made, held_out)]
    n, m = len(made), len(held_out)
    both = np.concatenate(distances)
    _, place, ties = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - 0.5 * (ties - 1))[place]  # of equal ones their mean, from 1 on
    farther = ranks[:n].sum() - n * (n + 1) / 2  # pairs in which the sample is farther
    # Ties, as of copies at distance 0, take from the variance.
    ties = (ties.astype(np.float64) ** 3 - ties).sum() / ((n + m) * (n + m - 1))
    deviation = np.sqrt(n * m / 12 * (n + m + 1 - ties))
    z = (n * m / 2 - farther) / deviation if deviation else 0.0
    return Memorisation(float(1.0 - farther / (n * m)), float(z))
