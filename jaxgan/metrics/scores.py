"""The classifier score: are samples of one class each, and of all classes together?"""

from typing import Any

import numpy as np

from jaxgan.metrics import arrays
from jaxgan.metrics.arrays import Estimate

_PARTS = 10


def classifier_score(probabilities: Any) -> Estimate:
    """exp(mean KL(p(class | sample) || p(class))), from 1 to K: the Inception score where Inception
    gives the probabilities.

    It looks at samples alone; one good sample of each class has the best score, K. It is of all
    samples at once, where the usual protocol averages ten tenths, which says less the fewer samples
    a tenth has. The standard error is the jackknife's over ten parts of rows in turn.

    Held are 5 blocks of 4096 K numbers of 8 bytes.

    Args:
      probabilities: of each class, [N,K], which sum to 1 in each row.

    Raises:
      ValueError: for what are no probabilities, and for less than 10 rows.

    References:
      Salimans et al., Improved Techniques for Training GANs, 2016.
    """
    given = arrays.finite("probabilities", probabilities, _PARTS)
    sums, entropies, counts = (np.zeros((_PARTS, n)) for n in (given.shape[1], 1, 1))
    first = 0
    for part in arrays.parts(given):
        off = np.abs(part.sum(axis=1) - 1.0).max()
        if part.min() < 0 or off > 1e-3:
            raise ValueError(
                f"the probabilities go from {part.min():g} on and sum to 1 but for {off:g}; give "
                "those of a softmax"
            )
        turns = np.arange(first, first + len(part)) % _PARTS
        negative = np.where(part > 0, part * np.log(np.where(part > 0, part, 1.0)), 0.0).sum(axis=1)
        np.add.at(sums, turns, part)
        np.add.at(entropies, turns, negative[:, None])
        np.add.at(counts, turns, 1.0)
        first += len(part)

    def score(sums: np.ndarray, entropies: np.ndarray, counts: np.ndarray) -> float:
        """From sums over rows: the mean of p log p, less that of the mean."""
        mean = sums / counts
        of_mean = (mean[mean > 0] * np.log(mean[mean > 0])).sum()
        return float(np.exp(entropies[0] / counts[0] - of_mean))

    totals = [each.sum(axis=0) for each in (sums, entropies, counts)]
    without = [
        score(*(total - each[i] for total, each in zip(totals, (sums, entropies, counts))))
        for i in range(_PARTS)
    ]
    return Estimate(score(*totals), arrays.jackknife_error(without))
