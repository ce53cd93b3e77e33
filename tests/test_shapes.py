"""The drawn data set: the same bits everywhere, what its labels say, and that it needs nothing else."""

import hashlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, small_flags

from jaxgan import data
from jaxgan.config import Config, replace
from jaxgan.data import shapes
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
    """The figure's share of its bounding box, which no place, size or colour changes, and turning changes little."""
    drawn = shapes.read("train", 64, 1, np.arange(1200))
    shares: dict[int, list[float]] = {label: [] for label in range(len(shapes.KINDS))}
    for image, label in zip(drawn["image"][..., 0].astype(float), drawn["label"]):
        ground = image[0, 0]  # figures lie within the image and away from its corners
        cover = np.abs(image - ground) / np.abs(image - ground).max()
        rows, columns = np.flatnonzero(cover.max(1) > 0.5), np.flatnonzero(cover.max(0) > 0.5)
        shares[int(label)].append(cover.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
    found = {kind: np.mean(shares[label]) for label, kind in enumerate(shapes.KINDS)}
    # pi / 4 and, with the hole of a ring from 0.53 to 0.97 radii, pi / 4 (1 - (0.53 / 0.97)^2), each within the pixels' roughness.
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


def test_splits_differ_and_others_are_refused():
    train, test = (
        data.load(replace(Config(), {"data.name": "shapes", "data.image_size": 8, "data.split": s}))
        for s in ("train", "test")
    )
    assert train.num_examples == 10_000 and test.num_examples == 2_000
    assert (train.resident["image"][:100] != test.resident["image"][:100]).any((1, 2, 3)).all()
    with pytest.raises(
        UserError,
        match=r"data\.split='train\[:50%\]' of shapes: there is no such split; use one of train, test",
    ):
        data.load(replace(Config(), {"data.name": "shapes", "data.split": "train[:50%]"}))
    with pytest.raises(UserError, match="batch_size=10001 exceeds the 10000 examples of shapes"):
        data.load(
            replace(Config(), {"data.name": "shapes", "data.image_size": 8, "batch_size": 10001})
        )


def test_shapes_too_large_for_the_device_stream_the_same_batches():
    config = replace(Config(), {"data.name": "shapes", "data.image_size": 16, "model.channels": 3})
    resident, streamed = (
        data.load(config),
        data.load(replace(config, {"data.resident_limit_mb": 0})),
    )
    for step in range(2):
        batches = [
            f.fetch(f.resident, jax.tree.map(lambda x: x[0], f.items(step, 1)))
            for f in (resident, streamed)
        ]
        jax.tree.map(np.testing.assert_array_equal, *batches)


READERS = ["tensorflow_datasets", "grain", "sklearn", "tensorflow", "array_record"]


def test_training_on_shapes_needs_none_of_the_packages_that_read_data_sets(tmp_path):
    code = f"import sys; sys.modules.update(dict.fromkeys({READERS})); from jaxgan.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [
        "train",
        "--workdir",
        str(tmp_path),
        "--data.name",
        "shapes",
        "--model.channels",
        "3",
        *small_flags(steps=5),
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert (
        "10000 images of shapes" in done.stdout
        and (tmp_path / "samples" / "step_00000005.png").exists()
    )


def test_other_data_sets_say_that_they_need_a_reader(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(
        UserError,
        match=r"data\.name=digits needs tensorflow-datasets .*; install it, or train on --data\.name shapes",
    ):
        data.load(Config())
    with pytest.raises(
        UserError,
        match=r"data\.resident_limit_mb=0 is too small for shapes .* streaming needs grain .*; install it",
    ):
        data.load(replace(Config(), {"data.name": "shapes", "data.resident_limit_mb": 0}))


def test_a_name_close_to_shapes_is_told(tmp_path):
    with pytest.raises(UserError, match=r"unknown data set 'shape'; did you mean .*shapes\b"):
        data.load(replace(Config(), {"data.name": "shape", "data.dir": str(tmp_path)}))
