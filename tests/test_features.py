"""Extractors: classifiers of data sets, how they are kept, and functions of user files."""

import re

import numpy as np
import pytest

from jaxgan import features
from jaxgan.cli import main
from jaxgan.data import DataOptions, shapes
from jaxgan.errors import UserError
from jaxgan.features import classifiers, kept, network
from jaxgan.features.network import Settings

TINY = Settings(widths=(2,), features=4, batch_size=16, fewest=3, most=3)
DIGITS = DataOptions(image_size=8)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of the test's own for classifiers; data stay where the session has them."""
    monkeypatch.setattr(kept.caches, "classifiers", lambda: str(tmp_path / "classifiers"))
    return tmp_path / "classifiers"


def bars(count, size=12):
    """Images of a bar whose height is the class, of four."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, count)
    images = rng.integers(0, 40, (count, size, size, 1), np.uint8)
    for image, label in zip(images, labels):
        image[3 * label : 3 * label + 2] = 200
    return images, labels.astype(np.int32)


def write(path, images, labels, **more):
    np.savez(path, image=images, label=labels, **more)
    return DataOptions(file=str(path), image_size=None, cache=None)


def test_a_classifier_learns_and_tells_its_accuracy_on_what_it_has_not_seen(home, tmp_path):
    options = write(tmp_path / "bars.npz", *bars(400))
    settings = Settings(widths=(4,), features=16, fewest=30, most=30, shift=0, rate=1e-2)
    made = features.classifier(options, settings)
    assert made.name == "classifier of bars.npz" and re.fullmatch("[0-9a-f]{64}", made.digest)
    assert made.accuracy > 0.9  # chance is 0.25
    images, labels = bars(400)
    described = made.describe(images)
    assert described.features.shape == (400, 16) and described.features.dtype == np.float32
    assert (described.features >= 0).all()
    np.testing.assert_allclose(described.probabilities.sum(1), 1.0, atol=1e-5)
    right = described.probabilities.argmax(1) == labels
    # The tenth by index that is held out.
    assert made.accuracy == pytest.approx(right[9::10].mean())


def test_the_same_digits_and_settings_give_the_same_weights_and_others_others(home, monkeypatch):
    first = features.classifier(DIGITS, TINY)
    (path,) = home.glob("*.npz")
    path.unlink()
    assert features.classifier(DIGITS, TINY).digest == first.digest
    other = features.classifier(DIGITS, TINY._replace(seed=1))
    assert other.digest != first.digest
    monkeypatch.setattr(network, "trained", None)  # is not called
    known = features.classifier(DIGITS, TINY)
    assert (known.digest, known.accuracy) == (first.digest, first.accuracy)
    half = features.classifier(DataOptions(image_size=8, split="train[:50%]"), TINY)
    assert half.digest == first.digest  # it is of the data set
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(known.describe(images).features, first.describe(images).features)


def test_all_of_a_data_set_makes_its_classifier_whichever_split_is_asked_for(home, monkeypatch):
    monkeypatch.setattr(shapes, "EXAMPLES", {"train": 40, "test": 20})
    options = DataOptions(name="shapes", image_size=8, channels=1, cache=None)
    of_train = features.classifier(options, TINY)
    of_test = features.classifier(DataOptions(**{**vars(options), "split": "test"}), TINY)
    assert of_test.digest == of_train.digest
    (entry,) = kept.all_in(home)
    assert entry.kept.held_out == "20 held-out images, the split test"


def test_large_images_are_seen_small_and_others_are_made_to_fit(home, tmp_path):
    images, labels = bars(40, 48)
    made = features.classifier(write(tmp_path / "large.npz", images, labels), TINY)
    (entry,) = kept.all_in(home)
    assert entry.kept.preprocessing["shape"] == [32, 32, 1]
    in_colour = np.repeat(images[:2, :, 4:44], 3, axis=3)
    assert made.describe(in_colour).features.shape == (2, 4)
    alone, together = made.describe(images[:1]), made.describe(images)
    np.testing.assert_array_equal(alone.features[0], together.features[0])
    for wrong, told in (
        (images / 255.0, "images are float64, and only uint8 is described"),
        (images[0], r"images have shape \(48, 48, 1\)"),
    ):
        with pytest.raises(UserError, match=told):
            made.describe(wrong)


def test_a_damaged_file_is_set_aside_and_the_classifier_trained_anew(home, tmp_path, capsys):
    options = write(tmp_path / "bars.npz", *bars(40))
    first = features.classifier(options, TINY)
    (path,) = home.glob("*.npz")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(kept.Unsound, match="it is damaged or none of ours"):
        kept.read(path)
    capsys.readouterr()
    assert features.classifier(options, TINY).digest == first.digest
    assert f"it is now called {path.name}.old" in capsys.readouterr().err
    assert (home / f"{path.name}.old").stat().st_size == len(content) // 2
    entry = kept.read(path)
    entry.weights["params/Dense_1/bias"][0] += 1.0  # which the digest tells
    assert entry.digest != first.digest


def test_where_nothing_can_be_kept_a_line_says_so(tmp_path, monkeypatch, capsys):
    options = write(tmp_path / "bars.npz", *bars(40))
    (tmp_path / "a_file").touch()
    for place, told in (("", "set HOME"), (str(tmp_path / "a_file" / "x"), "a_file")):
        monkeypatch.setattr(kept.caches, "classifiers", lambda place=place: place)
        assert classifiers.found(options, TINY)[1] == ""
        said = capsys.readouterr().err
        assert "the classifier of bars.npz cannot be kept: " in said and told in said


@pytest.mark.parametrize(
    "change, told",
    [
        (dict(images=bars(19)[0], labels=bars(19)[1]), "19 labelled images; .* 20 or more"),
        (dict(labels=np.zeros(40, np.int32)), "labels from 0 to 0, 1 of them different"),
        (dict(labels=bars(40)[1] - 1), "labels from -1 to 2"),
        (dict(labels=np.zeros((40, 2), np.int32)), "learns from one image and a whole number"),
    ],
)
def test_data_that_no_classifier_can_learn_from_are_told(change, told, home, tmp_path):
    images, labels = bars(40)
    options = write(tmp_path / "bars.npz", **{"images": images, "labels": labels, **change})
    with pytest.raises(UserError, match=told):
        features.classifier(options, TINY)


FILE = """
import numpy as np

def describe(images):
    return images.mean(axis=(1, 2)), np.full((len(images), 2), 0.5)

def plain(images):
    return images.reshape(len(images), -1)

def failing(images):
    return images / {}

def short(images):
    return images[:1].mean(axis=(1, 2))

def unsure(images):
    return describe(images)[0], np.ones((len(images), 2))

def infinite(images):
    return np.full((len(images), 2), np.inf)
"""


def test_a_function_of_a_file_is_an_extractor_known_by_the_files_text(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    made = features.of_file(f"{file}:describe")
    assert made.name == "mine.py:describe" and made.accuracy is None
    images = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 3), np.uint8)  # of two blocks
    described = made.describe(images)
    np.testing.assert_allclose(described.features, images.mean((1, 2)), rtol=1e-6)
    assert described.features.dtype == np.float32 and described.probabilities.shape == (300, 2)
    assert features.of_file(f"{file}:plain").describe(images).probabilities is None
    assert features.of_file(f"{file}:plain").digest != made.digest
    file.write_text(FILE + "\n")
    assert features.of_file(f"{file}:describe").digest != made.digest


@pytest.mark.parametrize(
    "function, told",
    [
        ("failing", r"mine.py line 11: TypeError"),
        ("short", r"gives features of shape \(1, 3\) for 5 images; return \[5,F\]"),
        ("unsure", "probabilities from 1 that sum to 1 but for 1"),
        ("infinite", "features that are not finite"),
        ("missing", "unknown function 'missing'"),
    ],
)
def test_what_a_function_of_a_file_gives_is_looked_at(function, told, tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    with pytest.raises(UserError, match=told):
        features.of_file(f"{tmp_path}/mine.py:{function}").describe(np.zeros((5, 2, 2, 3), "u1"))


def test_the_command_trains_once_lists_and_removes(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(network, "Settings", lambda seed: TINY._replace(seed=seed))
    options = write(tmp_path / "bars.npz", *bars(40))
    words = ["features", "train", "--data.file", options.file, "--data.image-size", "none"]
    words += ["--data.cache", "none"]
    assert main(["features", "list"]) == 0
    assert capsys.readouterr().out == f"0 classifiers in {kept.shown(home)}: 0 bytes\n"
    for seed in ("0", "0", "1"):
        assert main([*words, "--seed", seed]) == 0
    said = capsys.readouterr()
    assert said.err.count("training a classifier of bars.npz: 36 images of 12 x 12 x 1") == 2
    assert "4 held-out images, every tenth by index" in said.out
    assert main(["features", "list"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and last.startswith("2 classifiers in ")
    (home / "notes-0123456789ab.npz").write_text("mine")
    assert main(["features", "remove", "bars.npz"]) == 0
    assert [path.name for path in home.glob("*.npz")] == ["notes-0123456789ab.npz"]
    capsys.readouterr()
    for wrong, told in (
        (["remove"], "takes names or --all"),
        (["remove", "mnist"], "no classifier is kept"),
        (["train", "mnist", "--data.file", "x.npz"], "name two data sets"),
        (["train", "digits", "--seed", "x"], "seed='x' is not a whole number"),
        (["train", "--sead", "1"], "unknown option '--sead'; did you mean --seed"),
    ):
        assert main(["features", *wrong]) == 2
        assert told in capsys.readouterr().err
