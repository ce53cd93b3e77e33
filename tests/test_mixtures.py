"""Mixtures of Gaussians: the same bits everywhere, and the distribution that is promised."""

import hashlib
import math

import numpy as np
import pytest

from jaxgan import data
from jaxgan.data import DataOptions, Feature, mixtures
from jaxgan.errors import UserError

RECORDED = {
    ("ring", "train"): "518efec676630550",
    ("ring", "test"): "6ad4f4d4f70c0487",
    ("grid", "train"): "7281764b85498611",
    ("grid", "test"): "a874621bf8996235",
    ("mixture-1d", "train"): "8752de81298e5d7f",
    ("mixture-1d", "test"): "f6cbfdde5cdd00ae",
}


def everything(name, split="train"):
    source = data.open_source(DataOptions(name=name, split=split))
    return source.read(np.arange(source.count))


@pytest.mark.parametrize(("name", "split"), RECORDED)
def test_the_points_are_the_recorded_bits(name, split):
    leaves = everything(name, split)
    content = leaves["point"].astype("<f4").tobytes() + leaves["label"].astype("<i4").tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == RECORDED[name, split]


@pytest.mark.parametrize(("name", "split"), RECORDED)
def test_no_point_is_near_where_float32_rounds_the_other_way(name, split):
    """The nearest is 289 units in float64's last place away; libraries err by less than ten."""
    points, labels = mixtures.in_float64(name, split)
    rounded = points.astype(np.float32)
    up, down = (
        (rounded.astype(np.float64) + np.nextafter(rounded, np.float32(end))) / 2
        for end in (np.inf, -np.inf)
    )
    noise = points - mixtures.MIXTURES[name].centres[labels]
    distance = np.minimum(up - points, points - down) / (np.abs(points) + np.abs(noise))
    assert distance.min() > 250 * 2.0**-53


@pytest.mark.parametrize(
    ("name", "modes", "deviation"), [("ring", 8, 0.02), ("grid", 25, 0.05), ("mixture-1d", 4, 0.05)]
)
def test_the_modes_are_equally_likely_gaussians(name, modes, deviation):
    leaves, centres = everything(name), mixtures.MIXTURES[name].centres
    assert len(centres) == len(np.unique(np.round(centres, 9), axis=0)) == modes
    count = len(leaves["label"])
    share = np.bincount(leaves["label"], minlength=modes) / count
    # Five standard deviations of a binomial share.
    assert np.abs(share - 1 / modes).max() < 5 * np.sqrt(1 / modes / count)
    z = (leaves["point"] - centres[leaves["label"]]) / deviation
    assert np.abs(z.mean(0)).max() < 5 / np.sqrt(count)
    size = z.shape[1]
    assert np.abs(np.cov(z.T) - np.eye(size)).max() < 5 * np.sqrt(2 / count)
    for r in (0.5, 1.0, 2.0, 3.0):
        # The share within r standard deviations.
        expected = 1 - np.exp(-(r**2) / 2) if size == 2 else math.erf(r / np.sqrt(2))
        found = (np.linalg.norm(z, axis=1) < r).mean()
        assert abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / count)


def test_the_ring_is_a_circle_of_radius_two_and_the_grid_two_apart():
    ring, grid = (mixtures.MIXTURES[name].centres for name in ("ring", "grid"))
    np.testing.assert_allclose(np.linalg.norm(ring, axis=1), 2, rtol=1e-15)
    angles = np.unwrap(np.arctan2(ring[:, 1], ring[:, 0]))
    np.testing.assert_allclose(np.abs(np.diff(angles)), np.pi / 4, rtol=1e-14)
    assert set(map(tuple, grid)) == {(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)}


def test_the_line_is_one_apart_and_a_mixture_is_known_by_the_version_of_its_source():
    np.testing.assert_array_equal(
        mixtures.MIXTURES["mixture-1d"].centres[:, 0], [-1.5, -0.5, 0.5, 1.5]
    )
    for name, split in RECORDED:
        version = data.open_source(DataOptions(name=name, split=split)).version
        assert mixtures.name_of(version) == name
    assert mixtures.name_of("shapes 1 train") is mixtures.name_of(None) is None


def test_a_point_does_not_depend_on_those_drawn_with_it_and_splits_differ():
    source = data.open_source(DataOptions(name="ring"))
    assert source.features == {
        "point": Feature((2,), np.dtype(np.float32)),
        "label": Feature((), np.dtype(np.int32), 8),
    }
    whole, some = everything("ring"), source.read(np.array([99_999, 7, 7]))
    np.testing.assert_array_equal(some["point"], whole["point"][[99_999, 7, 7]])
    points, others = (
        set(map(tuple, x["point"].tolist())) for x in (whole, everything("ring", "test"))
    )
    assert not points & others
    with pytest.raises(
        UserError, match=r"data\.split='validation' of ring: there is no such split"
    ):
        data.open_source(DataOptions(name="ring", split="validation"))
