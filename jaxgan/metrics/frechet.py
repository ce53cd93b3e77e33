"""The Frechet distance between two sets of features."""

from typing import Any, NamedTuple

import numpy as np

from jaxgan.metrics import arrays
from jaxgan.metrics.covariance import Moments, moments


def frechet_distance(first: Any, second: Any) -> float:
    """||m1 - m2||^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): the distance of the Gaussians that fit the two
    sets.

    It is called FID only with Inception's features; with others, say which. It depends on the
    number of samples. Beside what is given, 4096 F + 8 F^2 numbers of 8 bytes are held.

    Args:
      first: features [N,F], N > 1: an array of any real dtype, of NumPy or JAX, or nested lists; or
        their `Moments`, such as those of real examples that were kept.
      second: features [M,F], M > 1, or their `Moments`.

    Returns:
      The squared distance, in the square of the features' unit, in float64.

    Raises:
      ValueError: where the shapes do not fit, or where features are not finite or no real numbers.

    References:
      Dowson and Landau, The Frechet distance between multivariate normal distributions, 1982;
      Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
      Equilibrium, 2017.
    """
    if not isinstance(first, Moments) and not isinstance(second, Moments):
        first, second = arrays.pair(first, second)
    sets = _set("first features", first), _set("second features", second)
    sizes = [len(each.moments.mean) for each in sets]
    if sizes[0] != sizes[1]:
        raise ValueError(f"expected features of one size, got {sizes[0]} and {sizes[1]}")
    small, large = sorted(sets, key=_count)
    difference = small.moments.mean - large.moments.mean
    root, covariance = _root(small), large.moments.covariance
    # tr((C1 C2)^(1/2)) = tr((R C2 R^T)^(1/2)) for any R with R^T R = C1: symmetric, so its
    # eigenvalues are real and not below 0.
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ covariance @ root.T), 0.0, None)).sum()
    traces = np.square(root).sum() + np.trace(covariance)
    # Rounding may leave less than 0 of equal sets.
    return max(0.0, float(difference @ difference + traces - 2.0 * cross))


class _Set(NamedTuple):
    """Moments, and the rows that they are of where these are no more than there are features."""

    moments: Moments
    rows: np.ndarray | None = None


def _set(name: str, given: Any) -> _Set:
    if isinstance(given, Moments):
        return _Set(given)
    rows = arrays.table(name, given, 2)
    return _Set(moments(rows, name), rows if len(rows) <= rows.shape[1] else None)


def _count(features: _Set) -> int:
    return features.moments.count


def _root(features: _Set) -> np.ndarray:
    """R [min(N, F), F] with R^T R the covariance."""
    if features.rows is not None:
        centred = features.rows.astype(np.float64) - features.moments.mean
        return centred / np.sqrt(features.moments.count - 1)
    covariance = features.moments.covariance
    try:  # a tenth of the time of eigenvectors
        return np.linalg.cholesky(covariance).T
    except np.linalg.LinAlgError:  # features that lie in a subspace
        values, vectors = np.linalg.eigh(covariance)
        return np.sqrt(np.clip(values, 0.0, None))[:, None] * vectors.T
