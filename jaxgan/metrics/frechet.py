"""The Frechet distance between two sets of features."""

import numpy as np


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """||m1 - m2||^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): the distance of the Gaussians that fit the two
    sets.

    It is called FID only with Inception's features; with others, say which. It depends on the
    number of samples.

    Args:
      first: features [N,F], N > 1.
      second: features [M,F], M > 1.

    Returns:
      The squared distance, in the square of the features' unit, in float64.

    Raises:
      ValueError: where the shapes do not fit.

    References:
      Dowson and Landau, The Frechet distance between multivariate normal distributions, 1982;
      Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
      Equilibrium, 2017.
    """
    if (
        first.ndim != 2
        or second.ndim != 2
        or first.shape[1] != second.shape[1]
        or min(len(first), len(second)) < 2
    ):
        raise ValueError(
            f"expected features [N,F] and [M,F] of at least two rows, got shapes {first.shape} "
            f"and {second.shape}"
        )
    first, second = first.astype(np.float64), second.astype(np.float64)
    size = first.shape[1]
    difference = first.mean(0) - second.mean(0)
    c1, c2 = np.cov(first.T).reshape(size, size), np.cov(second.T).reshape(size, size)
    # tr((C1 C2)^(1/2)) = tr((S C2 S)^(1/2)) with S = C1^(1/2): symmetric, so its eigenvalues are
    # real and not below 0.
    values, vectors = np.linalg.eigh(c1)
    root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ c2 @ root), 0.0, None)).sum()
    return float(difference @ difference + np.trace(c1) + np.trace(c2) - 2.0 * cross)
