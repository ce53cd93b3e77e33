"""Pictures: grids with a line between, points in their square, and files written whole."""

import numpy as np
import pytest
from PIL import Image

from jaxgan import images
from jaxgan.errors import RunError, UserError


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
    assert page.shape == (5 * 92 + 1 + 480, 480, 1)
    page = images.picture({"image": grey, "other": colour})
    assert page.shape == (5 * 92 + 1 + 7 * 66, 7 * 66, 3)
    assert (page[-7 * 66 :: 66, ::66] == images.grid(colour)).all()


@pytest.mark.parametrize(
    ("shape", "factor"),
    [
        ((231, 231), 2),  # 64 of 28 x 28
        ((71, 71), 7),  # 64 of 8 x 8
        ((28, 231), 17),
        ((8, 2000), 2),  # no more than 4,096 on the longer side
        ((8, 5000), 1),
        ((480, 700), 1),
        ((519, 519), 1),
    ],
)
def test_a_small_page_is_enlarged_by_whole_squares_to_a_size_that_is_seen(shape, factor):
    page = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    found = images.enlarged(page)
    assert found.shape == (shape[0] * factor, shape[1] * factor, 3)
    np.testing.assert_array_equal(found, np.kron(page, np.ones((factor, factor, 1), np.uint8)))


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


@pytest.mark.parametrize("name", ["a.PNG", "a.Npz", "a.NPZ"])
def test_the_ending_of_a_file_may_be_in_capitals(tmp_path, name):
    images.save(tmp_path / name, {"image": np.zeros((1, 2, 2, 1), np.uint8)})
    begins = (tmp_path / name).read_bytes()[:4]
    assert begins == (b"\x89PNG" if "PNG" in name else b"PK\x03\x04")
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_files_hold_the_images(tmp_path, channels):
    batch = np.random.default_rng(0).integers(0, 256, (4, 8, 8, channels), np.uint8)
    assert not images.save(tmp_path / "a.png", {"image": batch})
    assert images.save(tmp_path / "a.png", {"image": batch})  # says that it replaced
    images.save(tmp_path / "a.npz", {"image": batch})
    with np.load(tmp_path / "a.npz") as file, Image.open(tmp_path / "a.png") as page:
        np.testing.assert_array_equal(file["image"], batch)
        shown = np.asarray(page).reshape(17 * 27, 17 * 27, channels)
        np.testing.assert_array_equal(shown[::27, ::27], images.grid(batch))
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


# A folder of pictures.
def pictures(count, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 5, channels), np.uint8)


def read(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image).reshape(4, 5, -1)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("made", [False, True])
def test_a_folder_holds_each_image_in_its_own_pixels_and_nothing_else(tmp_path, channels, made):
    batch, folder = pictures(5, channels), tmp_path / "a" / "b"
    if made:
        folder.mkdir(parents=True)
    points = np.zeros((5, 2), np.float32)  # which are no images
    parts = ({"image": batch[i : i + 2], "point": points[i : i + 2]} for i in (0, 2, 4))
    images.save_each(folder, parts, 5)
    assert sorted(p.name for p in folder.iterdir()) == [f"00000{i}.png" for i in range(5)]
    for i in range(5):
        np.testing.assert_array_equal(read(folder / f"00000{i}.png"), batch[i])


def test_images_of_two_features_get_a_folder_each(tmp_path):
    first, second = pictures(2), pictures(2, 3, 1)
    images.save_each(tmp_path, [{"photo": first, "map": second}], 2)
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png"))
    assert found == ["map/000000.png", "map/000001.png", "photo/000000.png", "photo/000001.png"]
    np.testing.assert_array_equal(read(tmp_path / "map" / "000001.png"), second[1])


def test_names_have_as_many_digits_as_the_last_one_needs(tmp_path):
    images.save_each(tmp_path, [{"image": pictures(1)}], 10_000_000)
    assert [p.name for p in tmp_path.iterdir()] == ["0000000.png"]


def test_nothing_is_written_over_or_beside_what_is_there(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty, it holds mine\.txt; choose another place"):
        images.save_each(tmp_path, [{"image": pictures(1)}], 1)
    with pytest.raises(UserError, match=r"mine\.txt is a file and no folder"):
        images.save_each(tmp_path / "mine.txt", [{"image": pictures(1)}], 1)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]


def test_what_is_no_image_makes_no_folder(tmp_path):
    with pytest.raises(RunError, match=r"no images in examples of shapes .*; write an \.npz"):
        images.save_each(tmp_path / "a", [{"point": np.zeros((1, 2), np.float32)}], 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_folder_that_did_not_get_all_its_pictures_says_so(tmp_path, monkeypatch, error):
    write, written = images.write_png, []

    def fail(file, page):
        if len(written) == 2:
            file.write(b"half")
            raise error
        written.append(page)
        write(file, page)

    monkeypatch.setattr(images, "write_png", fail)
    parts = [{"image": pictures(2)}, {"image": pictures(2)}]
    with pytest.raises((RunError, KeyboardInterrupt)) as raised:
        images.save_each(tmp_path / "a", parts, 4)
    if isinstance(error, OSError):
        text = "000002.png cannot be written: No space left on device; make room"
        assert text in str(raised.value) and "is not complete, as its file INCOMPLETE" in str(
            raised.value
        )
    found = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert found == ["000000.png", "000001.png", "INCOMPLETE"]
    with pytest.raises(UserError, match=r"of a command that goes on or was stopped \(INCOMPLETE\)"):
        images.save_each(tmp_path / "a", parts, 4)
