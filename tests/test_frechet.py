"""The Frechet distance against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxgan.metrics import arrays, frechet_distance, merged, moments, streamed


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


def test_of_gaussians_on_a_line_it_is_the_squared_distance_of_means_and_deviations():
    x = features(0, 500, np.zeros(1), np.eye(1))
    x = (x - x.mean()) / x.std(ddof=1)  # mean 0, deviation 1, exactly
    found = frechet_distance(0.5 + 2.0 * x, -1.0 + 0.3 * x)
    np.testing.assert_allclose(found, 1.5**2 + 1.7**2, rtol=1e-9)


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


@pytest.mark.parametrize("sizes", [(300, 400), (5, 400), (400, 5), (5, 6)])
def test_fewer_samples_than_features_and_more_give_the_distance_of_the_definition(sizes):
    """tr((C1 C2)^(1/2)) is the sum of the singular values of X1 X2^T, of centred X."""
    x, y = (features(i, n, np.zeros(8), np.diag(np.arange(1.0, 9.0))) for i, n in enumerate(sizes))
    centred = [(a - a.mean(0)) / np.sqrt(len(a) - 1) for a in (x, y)]
    cross = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    spread = sum((a**2).sum() for a in centred)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + spread - 2.0 * cross
    # Roots of eigenvalues that should be 0 are those of float64's rounding, 1e-8 of the largest.
    np.testing.assert_allclose(frechet_distance(x, y), expected, rtol=1e-6)


def test_more_rows_than_are_looked_at_together_give_the_same(monkeypatch):
    x, y = (features(i, 100, np.zeros(3), np.eye(3)) for i in range(2))
    whole = frechet_distance(x, y)
    monkeypatch.setattr(arrays, "ROWS", 7)
    np.testing.assert_allclose(frechet_distance(x, y), whole, rtol=1e-9)  # sums in another order


def test_lists_integers_and_arrays_of_jax_are_taken_as_float64():
    x, y = (np.random.default_rng(i).integers(0, 100, (50, 3)) for i in range(2))
    expected = frechet_distance(x.astype(np.float64), y.astype(np.float64))
    # Whole numbers below 256 are exact in bfloat16; float32 would round the squares.
    for kind in (np.asarray, np.uint8, np.ndarray.tolist, jnp.asarray, jnp.bfloat16, np.float32):
        assert frechet_distance(kind(x), kind(y)) == expected
    assert x.dtype == np.int64  # and what was given is as it was


def test_what_was_given_is_not_changed():
    x = features(0, 50, np.ones(3), np.eye(3))
    before = x.copy()
    frechet_distance(x, x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_counted_and_named(value):
    x = features(0, 50, np.zeros(3), np.eye(3))
    bad = x.copy()
    bad[[3, 4, 4], [0, 1, 2]] = value
    with pytest.raises(ValueError, match="the first features are not finite in 2 of 50 rows"):
        frechet_distance(bad, x)
    with pytest.raises(ValueError, match="the second features are not finite in 2 of 50 rows"):
        frechet_distance(x, bad)


@pytest.mark.parametrize("bad", [[[1, 2], [3]], [["1", "2"]] * 2, np.ones((3, 2), complex), None])
def test_what_is_no_array_of_real_numbers_is_named(bad):
    with pytest.raises(ValueError, match="the second features are no array of real numbers"):
        frechet_distance(np.zeros((3, 2)), bad)


def test_moments_of_parts_in_any_order_are_those_of_all():
    x = features(0, 100, np.full(3, 1e6), np.eye(3)).astype(np.float32)  # far from 0
    whole = np.cov(x.astype(np.float64).T)
    first, second, third = moments(x[:7]), moments(x[7:8]), moments(x[8:])
    for found in (
        moments(x),
        streamed(iter((x[:7], x[7:8], x[8:]))),
        merged(third, merged(second, first)),
    ):
        assert found.count == 100
        # Sums of squares about 1e12 would leave 1e-4 of this.
        np.testing.assert_allclose(found.covariance, whole, rtol=1e-8)
        np.testing.assert_allclose(found.mean, x.mean(0, dtype=np.float64), rtol=1e-14)
    with pytest.raises(ValueError, match="moments of 3 and of 2 features"):
        merged(first, moments(np.zeros((5, 2))))
    with pytest.raises(ValueError, match="there are no features"):
        streamed([])


def test_moments_stand_for_the_features_and_the_root_of_scipy_gives_the_same():
    x, y = (features(i, 200, np.full(4, i), np.diag([1.0, 2.0, 3.0, 4.0]) + i) for i in range(2))
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(
        np.cov(x.T) + np.cov(y.T) - 2.0 * scipy.linalg.sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    )
    for pair in ((x, y), (moments(x), y), (x, moments(y)), (moments(x), moments(y))):
        np.testing.assert_allclose(frechet_distance(*pair), expected, rtol=1e-9)
    with pytest.raises(ValueError, match="features of one size, got 4 and 3"):
        frechet_distance(moments(x), y[:, :3])
    with pytest.raises(ValueError, match="have 1 rows, and 2 or more"):
        frechet_distance(moments(x[:1]), y)
