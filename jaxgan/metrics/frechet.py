"""The Frechet distance between two sets of features."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

_ROWS = 4096  # that are float64 at once


def frechet_distance(first: Any, second: Any) -> float:
    """||m1 - m2||^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): the distance of the Gaussians that fit the two
    sets.

    It is called FID only with Inception's features; with others, say which. It depends on the
    number of samples.

    Args:
      first: features [N,F], N > 1: an array of any real dtype, of NumPy or JAX, or nested lists.
      second: features [M,F], M > 1.

    Returns:
      The squared distance, in the square of the features' unit, in float64.

    Raises:
      ValueError: where the shapes do not fit, or where features are not finite or no real numbers.

    References:
      Dowson and Landau, The Frechet distance between multivariate normal distributions, 1982;
      Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
      Equilibrium, 2017.
    """
    first, second = _array("first", first), _array("second", second)
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
    small, large = sorted((_centred("first", first), _centred("second", second)), key=_rows)
    difference, covariance = small.mean - large.mean, _covariance(large)
    # tr((C1 C2)^(1/2)) = tr((R C2 R^T)^(1/2)) for any R with R^T R = C1: symmetric, so its
    # eigenvalues are real and not below 0.
    root = _root(small)
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ covariance @ root.T), 0.0, None)).sum()
    traces = np.square(root).sum() + np.trace(covariance)
    # Rounding may leave less than 0 of equal sets.
    return max(0.0, float(difference @ difference + traces - 2.0 * cross))


def _array(name: str, features: Any) -> np.ndarray:
    """The features as NumPy has them; refuses what are no real numbers."""
    try:
        array = np.asarray(features)
    except (TypeError, ValueError):  # rows of different lengths
        array = np.array(None)
    if array.dtype.kind in "OUSMmc" or array.dtype.names:
        raise ValueError(
            f"the {name} features are no array of real numbers but {type(features).__name__} of "
            f"{array.dtype}; give [N,F]"
        )
    return array


class _Centred(NamedTuple):
    """rows: () -> the features less their mean, float64 [n,F] each, a part after the other, so that
    no second copy of all is held; count: N; mean: float64 [F]."""

    rows: Callable[[], Iterator[np.ndarray]]
    count: int
    mean: np.ndarray


def _centred(name: str, features: np.ndarray) -> _Centred:
    bad, total = 0, np.zeros(features.shape[1])
    for part in _parts(features):
        bad += np.count_nonzero(~np.isfinite(part).all(axis=1))
        total += part.sum(0)
    if bad:
        raise ValueError(
            f"the {name} features are not finite in {bad} of {len(features)} rows; leave those "
            "rows out, or look for what made them"
        )
    mean = total / len(features)

    def rows() -> Iterator[np.ndarray]:
        for part in _parts(features):
            part -= mean
            yield part

    return _Centred(rows, len(features), mean)


def _parts(features: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(features), _ROWS):
        yield features[first : first + _ROWS].astype(np.float64)


def _rows(features: _Centred) -> int:
    return features.count


def _covariance(features: _Centred) -> np.ndarray:
    """[F,F]"""
    products = (part.T @ part for part in features.rows())
    return functools.reduce(np.add, products) / (features.count - 1)


def _root(features: _Centred) -> np.ndarray:
    """R [min(N, F), F] with R^T R the covariance."""
    if features.count <= len(features.mean):
        return np.concatenate(list(features.rows())) / np.sqrt(features.count - 1)
    covariance = _covariance(features)
    try:  # a tenth of the time of eigenvectors
        return np.linalg.cholesky(covariance).T
    except np.linalg.LinAlgError:  # features that lie in a subspace
        values, vectors = np.linalg.eigh(covariance)
        return np.sqrt(np.clip(values, 0.0, None))[:, None] * vectors.T
