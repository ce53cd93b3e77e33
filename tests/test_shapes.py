"""The drawn shapes: the same bits everywhere, what labels say, and that they need nothing else."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from jaxgan import data
from jaxgan.data import DataOptions, Feature, shapes
from jaxgan.errors import UserError


@pytest.mark.parametrize(
    ("split", "size", "channels", "digest"),
    [
        ("train", 28, 1, "a9a1ebd5888d5fe1"),
        ("train", 32, 3, "b9c16054040c1f18"),
        ("test", 20, 3, "1db357d8604f6704"),
    ],
)
def test_the_images_are_the_same_bits_on_all_machines(split, size, channels, digest):
    drawn = shapes.read(split, size, channels, np.arange(500))
    assert drawn["image"].shape == (500, size, size, channels) and drawn["image"].dtype == np.uint8
    content = drawn["image"].tobytes() + drawn["label"].astype("<i4").tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == digest


def test_an_image_does_not_depend_on_those_drawn_with_it():
    whole = shapes.read("train", 16, 3, np.arange(400))
    some = shapes.read("train", 16, 3, np.array([399, 7, 7]))
    np.testing.assert_array_equal(some["image"], whole["image"][[399, 7, 7]])
    np.testing.assert_array_equal(some["label"], whole["label"][[399, 7, 7]])


def test_the_area_of_a_figure_is_that_of_the_kind_its_label_names():
    """The figure's share of its bounding box.

    No place, size or colour changes it, and turning changes it little.
    """
    drawn = shapes.read("train", 64, 1, np.arange(1200))
    shares: dict[int, list[float]] = {label: [] for label in range(len(shapes.KINDS))}
    for image, label in zip(drawn["image"][..., 0].astype(float), drawn["label"]):
        ground = image[0, 0]  # figures lie within the image and away from its corners
        cover = np.abs(image - ground) / np.abs(image - ground).max()
        rows, columns = np.flatnonzero(cover.max(1) > 0.5), np.flatnonzero(cover.max(0) > 0.5)
        shares[int(label)].append(cover.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
    found = {kind: np.mean(shares[label]) for label, kind in enumerate(shapes.KINDS)}
    # pi / 4 and, with the hole of a ring from 0.53 to 0.97 radii, pi / 4 (1 - (0.53 / 0.97)^2),
    # each within the pixels' roughness.
    assert abs(found["disc"] - 0.785) < 0.03 and abs(found["ring"] - 0.551) < 0.03
    assert (
        0.5 < found["square"] < 1
        and 0.35 < found["triangle"] < 0.55
        and 0.2 < found["star"] < 0.4 < found["cross"] < 0.65
    )
    counts = [len(s) for s in shares.values()]
    assert min(counts) > 150  # of 1200 / 6; less has a chance below 1e-4


def test_figures_stand_out_from_their_background():
    for channels in (1, 3):
        images = shapes.read("train", 32, channels, np.arange(1000))["image"].astype(int)
        contrast = np.abs(images - images[:, :1, :1]).max((1, 2, 3))
        assert contrast.min() >= 0.25 * 255


def opened(**options):
    return data.open_source(DataOptions(name="shapes", **options))


def test_splits_differ_and_others_are_refused():
    train, test = (opened(image_size=8, split=split) for split in ("train", "test"))
    assert train.count == 10_000 and test.count == 2_000 and train.version != test.version
    first, second = (source.read(np.arange(100))["image"] for source in (train, test))
    assert (first != second).any((1, 2, 3)).all()
    text = r"data\.split='train\[:50%\]' of shapes: there is no such split; use one of train, test"
    with pytest.raises(UserError, match=text):
        opened(split="train[:50%]")


def test_shapes_are_drawn_as_asked_or_refused():
    source = opened(image_size=16)
    assert source.features == {
        "image": Feature((16, 16, 3), np.dtype(np.uint8)),
        "label": Feature((), np.dtype(np.int32), 6),
    }
    assert opened(channels=1).features["image"].shape == (28, 28, 1)
    for options, text in [
        ({"channels": 4}, r"data\.channels=4 of shapes: they are drawn in 1 or 3"),
        ({"height": 8, "width": 16}, "squares of a size to be given; pass --data.image-size"),
        ({"image_size": None}, "squares of a size to be given; pass --data.image-size"),
    ]:
        with pytest.raises(UserError, match=text):
            opened(**options)


def test_shapes_too_large_for_the_device_stream_the_same_batches():
    source = opened(image_size=16)
    resident, streamed = (data.make_feed(source, 64, 0, resident_limit_mb=mb) for mb in (2048, 0))
    for step in range(2):
        batch, item = resident.fetch(resident.resident, resident.item(step)), streamed.item(step)
        for key in ("image", "label"):
            np.testing.assert_array_equal(batch[key], item[key])


READERS = ["tensorflow_datasets", "grain", "sklearn", "tensorflow", "array_record"]


def test_drawn_data_need_none_of_the_packages_that_read_data_sets():
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({READERS}))\n"
        "from jaxgan.data import DataOptions, make_feed, open_source\n"
        "for name in ('shapes', 'ring', 'grid'):\n"
        "    source = open_source(DataOptions(name=name))\n"
        "    for limit in (2048, 0):\n"
        "        print(len(make_feed(source, 64, 0, resident_limit_mb=limit).item(0)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.split() == ["64", "2"] * 3, done.stderr
