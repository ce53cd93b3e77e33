"""Folders of images: what is found, what it becomes, and what is said of what is no image."""

import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from jaxgan import data
from jaxgan.data import DataOptions, folder
from jaxgan.errors import RunError, UserError


def save(path: pathlib.Path, colour=(10, 20, 30), size=(8, 8), mode="RGB", **how) -> pathlib.Path:
    """A picture of one colour; `size` is (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size[::-1], colour).save(path, **how)
    return path


def source_of(root, **options):
    own = {"image_size": 8, "cache": None, **options}
    return data.open_source(DataOptions(folder=str(root), **own))


def everything(root, **options):
    source = source_of(root, **options)
    return source, source.read(np.arange(source.count))


def test_images_of_all_kinds_in_any_depth_are_found_in_the_order_of_their_paths(tmp_path):
    for i, name in enumerate(["b/x/y.png", "b/a.JPG", "b/c.jpeg", "a/z.webp", "a/y.bmp"]):
        save(tmp_path / name, (40 * i, 40 * i, 40 * i))
    (tmp_path / "b" / "notes.txt").write_text("no image")
    source, leaves = everything(tmp_path)
    assert source.count == 5 and source.name == tmp_path.name
    assert source.features["image"] == data.Feature((8, 8, 3), np.dtype(np.uint8))
    # a/y.bmp, a/z.webp, b/a.JPG, b/c.jpeg, b/x/y.png; lossy ones are off by a few levels
    found = leaves["image"][:, 4, 4, 0].astype(int)
    assert np.abs(found - [160, 120, 40, 80, 0]).max() <= 3


def test_the_folders_directly_in_it_are_labels_by_name(tmp_path):
    for name in ("dog/1.png", "cat/deep/2.png", "cat/3.png", "bird/4.png"):
        save(tmp_path / name)
    (tmp_path / "empty").mkdir()
    source, leaves = everything(tmp_path)
    assert source.features["label"] == data.Feature((), np.dtype(np.int32), 3)
    np.testing.assert_array_equal(leaves["label"], [0, 1, 1, 2])
    assert list(source_of(tmp_path, features="image").features) == ["image"]
    assert list(source_of(tmp_path, features="label").features) == ["label"]


def test_without_folders_in_it_there_is_no_label(tmp_path):
    save(tmp_path / "1.png")
    assert list(source_of(tmp_path).features) == ["image"]
    with pytest.raises(UserError, match="has no folders in it to be labels"):
        source_of(tmp_path, features="label")


def test_images_beside_the_folders_are_not_guessed_a_label(tmp_path):
    save(tmp_path / "1.png")
    save(tmp_path / "cat" / "2.png")
    text = (
        r"1 of 2 images lie beside the folders that would be labels \(cat\).*--data.features image"
    )
    with pytest.raises(UserError, match=text):
        source_of(tmp_path)
    assert source_of(tmp_path, features="image").count == 2


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("RGB", (10, 20, 30), "png", [10, 20, 30]),
        ("L", 77, "png", [77]),
        ("1", 1, "png", [255]),
        ("LA", (50, 128), "png", [50, 50, 50, 128]),
        ("RGBA", (10, 20, 30, 128), "png", [10, 20, 30, 128]),
        ("RGBA", (10, 20, 30, 128), "webp", [10, 20, 30, 128]),
        ("I;16", 40_000, "png", [156]),
        ("CMYK", (255, 0, 0, 0), "jpeg", [0, 255, 255]),
    ],
)
def test_the_channels_are_what_the_data_have(tmp_path, mode, colour, kind, expected):
    save(
        tmp_path / f"1.{kind}", colour, mode=mode, **({"lossless": True} if kind == "webp" else {})
    )
    source, leaves = everything(tmp_path)
    assert source.features["image"].shape == (8, 8, len(expected))
    assert np.abs(leaves["image"][0, 4, 4].astype(int) - expected).max() <= 2


def test_a_palette_is_its_colours_and_its_transparency(tmp_path):
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 250, 100, 50])
    picture.save(tmp_path / "1.png")
    _, leaves = everything(tmp_path)
    np.testing.assert_array_equal(leaves["image"][0, 4, 4], [250, 100, 50])
    picture.save(tmp_path / "1.png", transparency=1)
    _, leaves = everything(tmp_path)
    assert leaves["image"].shape[3] == 4 and leaves["image"][0, 4, 4, 3] == 0


def test_a_mixture_of_modes_is_colour_and_channels_convert(tmp_path):
    save(tmp_path / "1.png", 77, mode="L")
    save(tmp_path / "2.png", (200, 0, 0))
    save(tmp_path / "3.png", (0, 0, 0, 0), mode="RGBA")
    _, leaves = everything(tmp_path)
    np.testing.assert_array_equal(leaves["image"][:, 4, 4], [[77] * 3, [200, 0, 0], [255] * 3])
    _, grey = everything(tmp_path, channels=1)
    np.testing.assert_array_equal(grey["image"][:, 4, 4, 0], [77, 60, 255])  # 0.299 of 200
    _, clear = everything(tmp_path, channels=4)
    np.testing.assert_array_equal(clear["image"][:, 4, 4, 3], [255, 255, 0])


def test_pictures_are_turned_as_the_camera_says(tmp_path):
    picture = Image.new("RGB", (16, 8), "black")
    picture.paste("white", (0, 0, 8, 8))  # its left half
    entry = Image.Exif()
    entry[0x0112] = 6  # to be turned clockwise, so that left becomes top
    picture.save(tmp_path / "1.png", exif=entry)
    source, leaves = everything(tmp_path, image_size=None)
    assert source.features["image"].shape == (16, 8, 3)
    assert leaves["image"][0, 1, 4, 0] == 255 and leaves["image"][0, 14, 4, 0] == 0


def test_sizes_are_cropped_about_the_middle_and_resized(tmp_path):
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, 10:30] = 200  # the middle two squares
    (tmp_path / "a").mkdir()
    Image.fromarray(image).save(tmp_path / "1.png")
    save(tmp_path / "2.png", (200, 200, 200), size=(33, 17))
    source, leaves = everything(tmp_path, height=16, width=32)
    assert source.features["image"].shape == (16, 32, 3)
    np.testing.assert_array_equal(leaves["image"], np.full((2, 16, 32, 3), 200))
    text = r"2.png is 33 x 17 pixels, 1.png is 10 x 40; give all one size by data.image_size"
    with pytest.raises(UserError, match=text):
        source_of(tmp_path, image_size=None)


def test_a_folder_without_images_says_what_is_looked_for(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II")
    with pytest.raises(UserError, match=r"holds no image, only 1 files of other kinds; .*\.png"):
        source_of(tmp_path)
    with pytest.raises(UserError, match=r"does not exist; name a folder of images"):
        source_of(tmp_path / "none")
    with pytest.raises(UserError, match=r"is a file; use data\.file for arrays, or unpack"):
        source_of(tmp_path / "a.tif")


def test_hidden_files_and_folders_are_not_looked_at(tmp_path):
    save(tmp_path / "1.png")
    (tmp_path / "._1.png").write_bytes(b"resource fork")
    save(tmp_path / ".thumbnails" / "2.png")
    save(tmp_path / "__MACOSX" / "3.png")
    assert source_of(tmp_path).count == 1 and list(source_of(tmp_path).features) == ["image"]


@pytest.fixture
def damaged(tmp_path):
    """One sound image and two that are not."""
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image at all")
    (tmp_path / "c.jpg").write_bytes(b"")
    return tmp_path


def test_a_file_that_is_no_image_is_named_when_the_folder_is_opened(damaged):
    text = r"b\.png cannot be decoded: is no image .* \(2 such files\); replace it, or pass --data"
    with pytest.raises(UserError, match=text):
        source_of(damaged)


def test_damaged_images_can_be_left_out(damaged):
    assert source_of(damaged, skip_damaged=True).count == 1
    (damaged / "a.png").unlink()
    with pytest.raises(UserError, match="cannot be decoded"):  # nothing would be left
        source_of(damaged, skip_damaged=True)


def cut(path: pathlib.Path) -> None:
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["b.png", "b.jpg", "b.webp", "b.bmp"])
def test_an_image_that_is_cut_short_is_named_when_it_is_read_or_left_out(tmp_path, name):
    save(tmp_path / "a.png")
    cut(tmp_path / name)
    assert source_of(tmp_path, skip_damaged=True).count == 1
    try:
        source = source_of(tmp_path)
    except UserError as error:  # of some kinds the header tells
        assert f"{name} cannot be decoded" in str(error)
        return
    text = rf"{name} cannot be decoded: .*; replace it, or pass --data.skip-damaged true to a new"
    with pytest.raises(RunError, match=text) as error:
        source.read(np.array([0, 1]))
    assert "remove" not in str(error.value) and "\n" not in str(error.value)


def test_files_that_change_while_open_are_an_error_of_the_run(tmp_path):
    path = save(tmp_path / "a.png")
    source = source_of(tmp_path, image_size=None)
    save(path, size=(9, 8))
    with pytest.raises(RunError, match=r"a\.png is now \(9, 8, 3\), was \(8, 8, 3\) when"):
        source.read(np.array([0]))
    path.unlink()
    with pytest.raises(RunError, match=r"a\.png cannot be read: No such file.*disk, a mount"):
        source.read(np.array([0]))


def test_what_is_no_plain_file_is_not_waited_for(tmp_path):
    save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"b\.png is no plain file; replace it, or pass"):
        source_of(tmp_path)
    assert source_of(tmp_path, skip_damaged=True).count == 1


def test_links_are_followed_once(tmp_path):
    """Data sets are put together of links; a circle of them ends."""
    save(tmp_path / "elsewhere" / "1.png")
    root = tmp_path / "set"
    save(root / "cat" / "2.png")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "3.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    _, leaves = everything(root)
    np.testing.assert_array_equal(leaves["label"], [0, 0, 1])
    (root / "dog-gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"dog-gone\.png cannot be read: No such file"):
        source_of(root, features="image")


def test_the_version_changes_with_names_and_content_and_not_with_times(tmp_path):
    """A copy on another disk is the same data."""
    path = save(tmp_path / "a.png")
    versions = [source_of(tmp_path).version]
    os.utime(path, (1000, 1000))
    assert source_of(tmp_path).version == versions[0]
    path = path.rename(tmp_path / "b.png")
    versions.append(source_of(tmp_path).version)
    content = path.read_bytes()
    path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])  # of the same size
    versions.append(source_of(tmp_path).version)
    save(path, size=(40, 8))
    versions.append(source_of(tmp_path).version)
    assert len(set(versions)) == 4


def test_names_of_any_bytes_are_read_and_shown_on_one_line(tmp_path):
    strange = os.fsdecode(b"line\nbreak \xff.png")
    save(tmp_path / "plain.png").rename(tmp_path / strange)
    assert source_of(tmp_path).count == 1
    (tmp_path / strange).write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot be decoded") as error:
        source_of(tmp_path)
    assert str(error.value).isprintable()
    long = tmp_path / "/".join(["deep" * 20] * 5) / "x.png"
    (tmp_path / strange).unlink()
    long.parent.mkdir(parents=True)
    long.write_bytes(b"")
    with pytest.raises(UserError) as error:
        source_of(tmp_path)
    assert len(str(error.value)) < 500


def test_a_feed_of_a_folder_is_the_same_resident_and_streamed(tmp_path):
    for i in range(10):
        save(tmp_path / f"{i}.png", (i, i, i))
    source = source_of(tmp_path)
    resident, streamed = (data.make_feed(source, 4, 0, resident_limit_mb=mb) for mb in (1, 0))
    for step in range(3):
        np.testing.assert_array_equal(
            resident.fetch(resident.resident, resident.item(step))["image"],
            streamed.item(step)["image"],
        )


def test_one_picture_is_held_at_a_time(tmp_path, monkeypatch):
    """So that memory does not grow with the size of the originals."""
    held, most = [], []
    decoded, fitted = folder.pixels.decoded, folder.pixels.fitted

    def open_one(*args, **kwargs):
        held.append(1)
        most.append(len(held))
        return decoded(*args, **kwargs)

    def close_one(*args, **kwargs):
        held.pop()
        return fitted(*args, **kwargs)

    for i in range(5):
        save(tmp_path / f"{i}.png", size=(100, 100))
    source = source_of(tmp_path)
    monkeypatch.setattr(folder.pixels, "decoded", open_one)
    monkeypatch.setattr(folder.pixels, "fitted", close_one)
    source.read(np.arange(5))
    assert most == [1] * 5
