"""Measures of features against other implementations, and on sets whose answer is known."""

import tracemalloc

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import sklearn.metrics.pairwise
import sklearn.neighbors

from jaxgan import metrics
from jaxgan.metrics import arrays, neighbours


def normal(seed, count, size=3, shift=0.0):
    return np.random.default_rng(seed).normal(size=(count, size)) + shift


@pytest.fixture
def in_small_blocks(monkeypatch):
    monkeypatch.setattr(arrays, "ROWS", 11)
    monkeypatch.setattr(neighbours, "BLOCK", 7)


# Kernel distance


def test_the_kernel_distance_is_that_of_scikit_learns_kernel_without_the_diagonal():
    x, y = normal(0, 40), normal(1, 50, shift=0.5)
    rng, parts = np.random.default_rng(5), []
    first, second = x[rng.permutation(40)], y[rng.permutation(50)]
    for i in (0, 20):
        a, b = first[i : i + 20], second[i : i + 20]
        kernels = [
            sklearn.metrics.pairwise.polynomial_kernel(*pair, 3, 1 / 3, 1.0)
            for pair in ((a, a), (b, b), (a, b))
        ]
        within = [k[~np.eye(20, dtype=bool)].mean() for k in kernels[:2]]
        parts.append(sum(within) - 2 * kernels[2].mean())
    found = metrics.kernel_distance(x, y, subset_size=20, seed=5)
    assert found.value == pytest.approx(np.mean(parts), rel=1e-12)
    assert found.error == pytest.approx(abs(parts[0] - parts[1]) / 2, rel=1e-12)


def test_of_one_distribution_the_kernel_distance_is_nothing_but_its_error():
    found = [
        metrics.kernel_distance(normal(2 * i, 100, 2), normal(2 * i + 1, 100, 2))
        for i in range(200)
    ]
    values, errors = np.transpose(found)
    # Five deviations of a mean of 200.
    assert abs(values.mean()) < 5 * values.std() / np.sqrt(200)
    # Of ten subsets values over errors are near Student's t of 9 degrees, of deviation 1.13; of
    # 200 it is told to 5 %.
    assert 0.9 < (values / errors).std() < 1.4
    far = metrics.kernel_distance(normal(0, 100), normal(1, 100, shift=2.0))
    assert far.value > 5 * far.error


# Classifier score


def test_the_classifier_score_is_that_of_scipys_entropies(in_small_blocks):
    p = scipy.special.softmax(3 * normal(0, 60, 5), axis=1)
    of_all = np.exp(scipy.stats.entropy(p.T, p.mean(0)[:, None]).mean())
    found = metrics.classifier_score(p)
    assert found.value == pytest.approx(of_all, rel=1e-12)
    parts = [np.delete(p, np.s_[i::10], axis=0) for i in range(10)]
    without = [np.exp(scipy.stats.entropy(q.T, q.mean(0)[:, None]).mean()) for q in parts]
    assert found.error == pytest.approx(np.std(without) * np.sqrt(9), rel=1e-9)


def test_sure_and_even_samples_have_the_number_of_classes_and_unsure_ones_have_one():
    sure = metrics.classifier_score(np.eye(4)[np.arange(400) // 10 % 4])
    assert sure.value == pytest.approx(4.0) and sure.error < 0.02
    unsure = metrics.classifier_score(np.full((40, 4), 0.25, np.float32))
    assert unsure == pytest.approx((1.0, 0.0))
    with pytest.raises(ValueError, match="sum to 1 but for 1"):
        metrics.classifier_score(np.ones((20, 2)))


# Neighbours and what is made of them


def test_neighbours_are_those_of_scikit_learn(in_small_blocks):
    x, y = normal(0, 30), normal(1, 40, shift=1.0)
    found = metrics.nearest_neighbours(x, y, 5)
    distance, index = sklearn.neighbors.NearestNeighbors(n_neighbors=5).fit(y).kneighbors(x)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12)


def test_equal_rows_are_at_no_distance_wherever_they_lie():
    x = normal(0, 50, 64, shift=1e4).astype(np.float32)
    found = metrics.nearest_neighbours(x[::-1], x)
    np.testing.assert_array_equal(found.distance, 0.0)
    np.testing.assert_array_equal(found.index[:, 0], np.arange(50)[::-1])


def balls(x, k):
    """The distance to the k-th other row."""
    return np.sort(scipy.spatial.distance.cdist(x, x), axis=1)[:, k]


def test_balls_hold_what_they_hold_by_all_distances(in_small_blocks):
    real, made = normal(0, 40), normal(1, 30, shift=0.7)
    apart = scipy.spatial.distance.cdist(real, made)
    precision = (apart <= balls(real, 3)[:, None]).any(0).mean()
    recall = (apart <= balls(made, 3)).any(1).mean()
    assert 0.2 < precision < 1 and metrics.precision_recall(real, made) == (precision, recall)
    inside = apart <= balls(real, 5)[:, None]
    expected = inside.sum() / (5 * 30), inside.any(1).mean()
    assert metrics.density_coverage(real, made) == pytest.approx(expected)


def test_samples_of_the_distribution_have_the_density_and_coverage_of_theory():
    found = [metrics.density_coverage(normal(2 * i, 100), normal(2 * i + 1, 80)) for i in range(40)]
    density, coverage = np.transpose(found)
    for values, expected in ((density, 1.0), (coverage, metrics.expected_coverage(100, 80))):
        assert abs(values.mean() - expected) < 5 * values.std() / np.sqrt(40)
    assert metrics.expected_coverage(10**9, 10**9) == pytest.approx(1 - 2**-5)


def test_a_missing_mode_costs_recall_and_coverage_and_a_wrong_one_precision_and_density():
    left, right = normal(0, 60), normal(1, 60, shift=100.0)
    both = np.concatenate([left, right])
    assert metrics.precision_recall(both, normal(2, 60)).recall < 0.5
    assert metrics.density_coverage(both, normal(2, 60)).coverage <= 0.5
    assert metrics.precision_recall(left, both) == (0.5, 1.0)
    assert metrics.density_coverage(left, right) == (0.0, 0.0)


def test_the_z_of_memorisation_is_that_of_mann_and_whitney_with_ties():
    train = np.arange(0.0, 40.0)[:, None]
    # Of eighths all is exact, so that ties are ties.
    made, held_out = (np.round(8 * normal(i, n, 1, 20.0)) / 8 for i, n in ((0, 30), (1, 20)))
    distances = [np.abs(x - train.T).min(1) for x in (made, held_out)]
    test = scipy.stats.mannwhitneyu(
        *distances, alternative="less", method="asymptotic", use_continuity=False
    )
    found = metrics.memorisation(made, train, held_out)
    assert found.nearer == pytest.approx(1 - test.statistic / 600)
    assert scipy.stats.norm.sf(found.z) == pytest.approx(test.pvalue, rel=1e-9)


def test_memorisation_is_chance_without_copies_and_sure_with_them():
    found = [
        metrics.memorisation(normal(i, 50), normal(i + 500, 60), normal(i + 900, 40)).z
        for i in range(200)
    ]
    assert abs(np.mean(found)) < 5 / np.sqrt(200) and 0.8 < np.std(found) < 1.2
    train = normal(0, 100)
    copied = metrics.memorisation(train[:50], train, normal(1, 40))
    assert copied.nearer == 1.0 and copied.z > 6
    assert metrics.memorisation(normal(2, 50, shift=9.0), train, normal(1, 40)).z < -6
    assert metrics.memorisation(train, train, train) == (0.5, 0.0)


# Labels


def test_a_histogram_of_labels_has_the_modes_and_the_kl_of_its_counts():
    found = metrics.label_histogram([0, 0, 0, 2], 3)
    assert list(found.counts) == [3, 0, 1] and found.modes == 2 and found.rarest == 0
    assert found.kl == pytest.approx(scipy.stats.entropy([3, 0, 1], [1, 1, 1]))
    beside = metrics.label_histogram([0, 1, 1, 1], 2, [0, 1])
    assert beside.kl == pytest.approx(scipy.stats.entropy([1, 3], [1, 1]))
    assert metrics.label_histogram([0, 1], 2, [0, 0]).kl == np.inf
    with pytest.raises(ValueError, match="labels reach to 3, and there are 3 classes"):
        metrics.label_histogram([3], 3)
    with pytest.raises(ValueError, match="whole numbers from 0 on, got float64"):
        metrics.label_histogram([0.5], 3)


# Sliced Wasserstein


def test_along_one_feature_the_distance_is_scipys_whatever_the_counts(in_small_blocks):
    x, y = normal(0, 12, 1), normal(1, 20, 1, shift=0.3)
    found = metrics.sliced_wasserstein(x, y, order=1, directions=20)
    assert found.value == pytest.approx(scipy.stats.wasserstein_distance(x[:, 0], y[:, 0]))
    assert found.error == pytest.approx(0.0, abs=1e-12)  # all directions are the same


def test_a_shift_is_seen_at_the_root_of_a_share_of_its_length():
    x = normal(0, 50, 8)
    found = metrics.sliced_wasserstein(x, x + np.full(8, 3.0), directions=400)
    assert abs(found.value - 3.0) < 5 * found.error < 1.0  # |shift| / sqrt(8)
    assert metrics.sliced_wasserstein(x, x) == (0.0, 0.0)


# Paths


def test_straight_paths_through_a_matrix_are_as_long_as_it_makes_them():
    matrix, first, second = normal(0, 4, 6), normal(1, 300, 4), normal(2, 300, 4)
    squares = np.square((second - first) @ matrix).sum(1)
    found = metrics.path_length(
        lambda z: z.astype(np.float64) @ matrix, first, second, spherical=False, trim=0.0, block=64
    )
    # Latents are float32: a step of 1e-4 has 3 digits.
    assert found.value == pytest.approx(squares.mean(), rel=2e-3)
    assert found.error == pytest.approx(squares.std(ddof=1) / np.sqrt(300), rel=2e-3)
    low, high = np.quantile(squares, (0.1, 0.9), method="nearest")
    within = squares[(squares >= low) & (squares <= high)].mean()
    trimmed = metrics.path_length(
        lambda z: z.astype(np.float64) @ matrix, first, second, spherical=False, trim=0.1
    )
    assert trimmed.value == pytest.approx(within, rel=1e-2)  # others at the ends


def test_great_circles_go_at_the_speed_of_their_angle():
    first, second = (x / np.linalg.norm(x, axis=1)[:, None] for x in (normal(1, 50), normal(2, 50)))
    first[0], second[1] = second[0], -first[1]  # no angle, and two right ones
    angles = np.arccos(np.clip((first * second).sum(1), -1, 1))
    found = metrics.path_length(lambda z: z, first[2:], second[2:], trim=0.0, epsilon=1e-3)
    assert found.value == pytest.approx(np.square(angles[2:]).mean(), rel=2e-3)
    assert np.isfinite(metrics.path_length(lambda z: z, first, second, trim=0.0).value)


def test_a_function_of_paths_that_gives_no_features_is_told():
    x = normal(0, 20)
    with pytest.raises(ValueError, match="features are not finite in 20 of 20 rows"):
        metrics.path_length(lambda z: z * np.nan, x, x)
    with pytest.raises(ValueError, match=r"gives features \(10, 3\) and \(10, 3\) for 20 latents"):
        metrics.path_length(lambda z: z[:10], x, x)
    with pytest.raises(ValueError, match="as many ends of paths as starts, got 20 and 19"):
        metrics.path_length(lambda z: z, x, x[:19])


# By class


def test_by_class_is_the_measure_of_the_rows_of_the_class():
    x, y = normal(0, 60), normal(1, 50, shift=0.5)
    of_x, of_y = np.arange(60) % 3, np.minimum(np.arange(50) // 20, 2)
    found = metrics.per_class(metrics.frechet_distance, (x, of_x), (y, of_y), classes=4)
    for label in range(3):
        expected = metrics.frechet_distance(x[of_x == label], y[of_y == label])
        assert found[label] == expected
    assert found[3] is None  # which nobody has
    few = metrics.per_class(metrics.memorisation, (x, of_x), (x, of_x), (y, of_y))
    assert all(each is not None for each in few.values())
    with pytest.raises(ValueError, match="60 labels do not go with 50 rows"):
        metrics.per_class(metrics.frechet_distance, (x, of_x), (y, of_x))
    with pytest.raises(ValueError, match="labels reach to 2, and there are 2 classes"):
        metrics.per_class(metrics.classifier_score, (x, of_x), classes=2)
    x[0] = np.nan
    with pytest.raises(ValueError, match="not finite in 1 of 20 rows"):
        metrics.per_class(metrics.frechet_distance, (x, of_x), (y, of_y))


# What all have


OF_TWO = (
    metrics.frechet_distance,
    metrics.kernel_distance,
    metrics.precision_recall,
    metrics.density_coverage,
    metrics.nearest_neighbours,
    metrics.sliced_wasserstein,
)


@pytest.mark.parametrize("metric", OF_TWO)
def test_what_cannot_be_measured_is_one_line(metric):
    x, y = normal(0, 30), normal(1, 30)
    with pytest.raises(ValueError, match=r"got shapes \(30, 3\) and \(30, 2\)"):
        metric(x, y[:, :2])
    with pytest.raises(ValueError, match=r"got shapes \(30, 3\) and \(30,\)"):
        metric(x, y[:, 0])
    with pytest.raises(ValueError, match=r"of at least \d+ rows, got shapes"):
        metric(x, y[:0])
    with pytest.raises(ValueError, match="the first features are no array of real numbers"):
        metric(x + 1j, y)
    x[2, 0], x[5] = np.inf, np.nan
    with pytest.raises(ValueError, match="the first features are not finite in 2 of 30 rows"):
        metric(x, y)
    with pytest.raises(ValueError, match="the second features are not finite in 2 of 30 rows"):
        metric(y, x)


@pytest.mark.parametrize("metric", OF_TWO)
def test_no_more_is_held_than_is_said(metric):
    """Of all distances at once, 16 MB a matrix, or of all features as float64."""
    x, y = (normal(i, 1500, 4).astype(np.float32) for i in range(2))
    small = 256

    def bound(rows):
        return 8 * max(8 * rows**2, 5 * rows * (4 + 48) * 2) + 2**20

    old = neighbours.BLOCK, arrays.ROWS
    neighbours.BLOCK = arrays.ROWS = small
    tracemalloc.start()
    try:
        metric(x, y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        neighbours.BLOCK, arrays.ROWS = old
    assert peak < bound(small) < 8 * 1500**2 / 2
