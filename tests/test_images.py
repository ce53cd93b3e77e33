"""Pictures: grids with a line between, points in their square, and files written whole."""

import numpy as np
import pytest
from PIL import Image

from jaxgan import images
from jaxgan.errors import RunError


def test_a_grid_holds_every_image_with_a_line_between():
    values = np.arange(1, 6, dtype=np.uint8)[:, None, None, None]
    page = images.grid(values * np.ones((5, 2, 3, 1), np.uint8))
    assert page.shape == (2 * 3 - 1, 3 * 4 - 1, 1)
    expected = np.zeros((5, 11), np.uint8)
    for i in range(5):
        r, c = divmod(i, 3)
        expected[3 * r : 3 * r + 2, 4 * c : 4 * c + 3] = i + 1
    np.testing.assert_array_equal(page[..., 0], expected)
    assert images.grid(values * np.ones((5, 2, 3, 1), np.uint8), 5).shape == (2, 5 * 4 - 1, 1)


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1 image"):
        images.grid(np.zeros((0, 2, 2, 1), np.uint8))
    with pytest.raises(ValueError, match="1 column"):
        images.grid(np.zeros((2, 2, 2, 1), np.uint8), 0)


def test_points_are_drawn_where_they_are():
    """The first axis goes to the right, the second up."""
    points = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    page = images.scatter(points, side=101)[..., 0]
    assert page.shape == (101, 101) and page.dtype == np.uint8
    rows, columns = np.nonzero(page < 225)  # darker than the axes
    # The picture reaches to 2, the next round number beyond the points; a dot is 3 x 3.
    for row, column in ((50, 50), (50, 75), (25, 50)):
        near = (np.abs(rows - row) <= 1) & (np.abs(columns - column) <= 1)
        assert near.sum() == 9
    assert len(rows) == 27


def test_pictures_of_points_in_one_run_have_one_scale():
    points = np.random.default_rng(0).normal(size=(500, 2))
    first, second = (images.scatter(points * factor) for factor in (1.0, 1.1))
    # A point at the edge of the data moves by a tenth of its distance, and the axes stay.
    assert np.mean(first[240] == second[240]) > 0.9
    assert np.any(first != second)


@pytest.mark.parametrize("points", [[[3e38, 3e38], [-3e38, 0]], [[1, 1]], [[1, 1], [1, 1]]])
def test_any_finite_points_have_a_picture(points):
    page = images.scatter(np.array(points, np.float32))
    assert page.shape == (480, 480, 1) and (page < 255).any()


def test_a_picture_shows_each_feature_that_can_be_shown():
    grey, colour = np.zeros((4, 2, 2, 1), np.uint8), np.full((4, 3, 3, 3), 9, np.uint8)
    page = images.picture({"image": grey, "points": np.zeros((4, 2), np.float32)})
    assert page.shape == (5 + 1 + 480, 480, 1)
    page = images.picture({"image": grey, "other": colour})
    assert page.shape == (5 + 1 + 7, 7, 3)
    assert (page[-7:] == images.grid(colour)).all()


@pytest.mark.parametrize(
    "feature",
    [
        np.zeros((4, 2, 2, 2), np.uint8),
        np.zeros((4, 2, 2, 1), np.float32),
        np.zeros((4, 3, 3, 3, 1), np.float32),
        np.zeros((4, 3), np.float32),
        np.full((4, 2), np.nan, np.float32),
    ],
    ids=["two channels", "floating", "volume", "in space", "not finite"],
)
def test_what_has_no_picture_is_written_as_arrays_alone(tmp_path, feature):
    assert images.picture({"x": feature}) is None
    with pytest.raises(RunError, match=r"no picture of examples of shapes .*; write an \.npz"):
        images.save(tmp_path / "a.png", {"x": feature})
    assert not images.save(tmp_path / "a.npz", {"x": feature})
    with np.load(tmp_path / "a.npz") as content:
        np.testing.assert_array_equal(content["x"], feature)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_files_hold_the_images(tmp_path, channels):
    batch = np.random.default_rng(0).integers(0, 256, (4, 8, 8, channels), np.uint8)
    assert not images.save(tmp_path / "a.png", {"image": batch})
    assert images.save(tmp_path / "a.png", {"image": batch})  # says that it replaced
    images.save(tmp_path / "a.npz", {"image": batch})
    with np.load(tmp_path / "a.npz") as file, Image.open(tmp_path / "a.png") as page:
        np.testing.assert_array_equal(file["image"], batch)
        shown = np.asarray(page).reshape(17, 17, channels)
        np.testing.assert_array_equal(shown, images.grid(batch))
    # And nothing half written beside them.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "a.png"]


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_lost(tmp_path, monkeypatch):
    batch = {"image": np.zeros((1, 2, 2, 1), np.uint8)}
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"a\.png cannot be written"):
        images.save(tmp_path / "file" / "a.png", batch)
    (tmp_path / "b.png").write_text("what was there")

    def fail(file, page):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(images, "write_png", fail)
    with pytest.raises(RunError, match=r"b\.png cannot be written: No space left on device"):
        images.save(tmp_path / "b.png", batch)
    assert (tmp_path / "b.png").read_text() == "what was there"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.png", "file"]
