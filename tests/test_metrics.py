"""The Frechet distance against closed forms."""

import numpy as np
import pytest

from jaxgan.metrics import frechet_distance


def features(seed, count, mean, covariance):
    return np.random.default_rng(seed).multivariate_normal(mean, covariance, count)


def test_equal_sets_have_distance_zero():
    x = features(0, 500, np.zeros(3), np.eye(3))
    assert abs(frechet_distance(x, x)) < 1e-9  # float64 eigenvalues of size 1


def test_a_shift_adds_its_square():
    x = features(0, 500, np.zeros(3), np.eye(3))
    np.testing.assert_allclose(frechet_distance(x, x + np.array([3.0, 0.0, 4.0])), 25.0, rtol=1e-9)


def test_commuting_covariances_give_the_sum_of_squared_differences_of_deviations():
    x = features(0, 500, np.zeros(2), np.eye(2))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T  # covariance exactly 1
    np.testing.assert_allclose(
        frechet_distance(x * [2.0, 5.0], x * [1.0, 9.0]), 1.0 + 16.0, rtol=1e-9
    )


def test_it_does_not_depend_on_the_order_of_the_sets_nor_on_rotation():
    x, y = (
        features(0, 300, np.zeros(3), np.diag([1.0, 2.0, 3.0])),
        features(1, 400, np.ones(3), np.ones((3, 3)) + np.eye(3)),
    )
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(frechet_distance(y, x), frechet_distance(x, y), rtol=1e-9)
    np.testing.assert_allclose(
        frechet_distance(x @ rotation, y @ rotation), frechet_distance(x, y), rtol=1e-9
    )


def test_features_that_collapse_to_a_point_are_no_failure():
    x = features(0, 300, np.zeros(4), np.eye(4))
    np.testing.assert_allclose(
        frechet_distance(x, np.zeros((5, 4))),
        (x.mean(0) ** 2).sum() + np.trace(np.cov(x.T)),
        rtol=1e-9,
    )


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 4\)"):
        frechet_distance(np.zeros((3, 2)), np.zeros((3, 4)))
