"""Data: what is prepared, the order, the two feeds, and what is said when data cannot be had."""

import gzip
import hashlib
import io
import os
import pathlib
import subprocess
import sys
import threading
import urllib.request

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from jaxgan import data
from jaxgan.config import Config, replace
from jaxgan.data import builders, feeds
from jaxgan.data.tfds import data_dir
from jaxgan.errors import RunError, UserError

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def batch_of(feed, step):
    return feed.fetch(feed.resident, jax.tree.map(lambda x: x[0], feed.items(step, 1)))


def write_idx(folder: pathlib.Path, seed: int, counts=(300, 100)) -> dict[str, np.ndarray]:
    """Four files as MNIST's, of random images; gives the training images."""
    rng, kept = np.random.default_rng(seed), {}
    folder.mkdir(parents=True)
    for (split, names), count in zip(FILES.items(), counts):
        images, labels = (
            rng.integers(0, 256, (count, 28, 28), np.uint8),
            rng.integers(0, 10, count, np.uint8),
        )
        header = lambda magic, *dims: np.array([magic, *dims], ">i4").tobytes()
        (folder / names[0]).write_bytes(
            gzip.compress(header(2051, count, 28, 28) + images.tobytes())
        )
        (folder / names[1]).write_bytes(gzip.compress(header(2049, count) + labels.tobytes()))
        kept[split] = images
    return kept


@pytest.fixture
def official(tmp_path, monkeypatch):
    """Small files in `mnist/` and `fashion/`, declared to be the official ones of the two data sets."""
    images = {}
    for builder, folder, seed in [
        (builders.MNIST, "mnist", 0),
        (builders.FashionMNIST, "fashion", 1),
    ]:
        images[folder] = write_idx(tmp_path / folder, seed)
        infos = {}
        for url, info in builder.url_infos.items():
            content = (tmp_path / folder / info.filename).read_bytes()
            infos[url] = type(info)(
                size=len(content),
                checksum=hashlib.sha256(content).hexdigest(),
                filename=info.filename,
            )
        monkeypatch.setattr(builder, "url_infos", infos)
    return images


def config_for(tmp_path, name, manual, **changes):
    manual = str(tmp_path / manual) if manual else None
    return replace(
        Config(),
        {
            "data.name": name,
            "data.dir": str(tmp_path / "data"),
            "data.manual_dir": manual,
            **changes,
        },
    )


def test_the_digits_are_those_of_scikit_learn():
    feed = data.load(replace(Config(), {"data.image_size": 8}))
    assert feed.num_examples == 1797 and feed.resident["image"].shape == (1797, 8, 8, 1)
    digits = load_digits()
    found = feed.resident["image"][..., 0] * (16 / 255)
    # TFDS shuffles when it prepares, so compare the two as sets of (image, label).
    as_set = lambda images, labels: {
        (tuple(np.round(i).astype(int).ravel()), int(label)) for i, label in zip(images, labels)
    }
    assert as_set(found, feed.resident["label"]) == as_set(digits.images, digits.target)


def test_images_are_resized_to_the_models_size():
    feed = data.load(Config())
    assert (
        feed.resident["image"].shape == (1797, 28, 28, 1)
        and feed.resident["image"].dtype == np.uint8
    )
    small = data.load(replace(Config(), {"data.image_size": 8})).resident["image"]
    means = feed.resident["image"].mean((1, 2, 3)), small.mean((1, 2, 3))
    assert (
        np.abs(means[0] - means[1]).max() < 12
    )  # bicubic keeps the mean, up to clipping at 0 and 255


def test_an_image_that_is_no_square_is_cropped_about_its_middle():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 2:6] = 200
    np.testing.assert_array_equal(feeds._resized(image, 4), np.full((4, 4, 3), 200))


def test_an_epoch_has_each_example_once_and_another_order_than_the_next():
    orders = [data.epoch_order(0, epoch, 1000) for epoch in range(3)] + [
        data.epoch_order(1, 0, 1000)
    ]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    for i, first in enumerate(orders):
        for second in orders[i + 1 :]:
            assert (first == second).mean() < 0.02  # of 1,000 places one is expected to agree


def test_the_order_is_the_recorded_one():
    """A resumed run under other versions must see the same order."""
    np.testing.assert_array_equal(data.epoch_order(7, 3, 8), [2, 5, 7, 3, 0, 6, 4, 1])


def test_batches_of_an_epoch_do_not_overlap_and_leave_out_the_rest():
    seen = np.concatenate([feeds.batch_indices(0, step, 64, 1797) for step in range(28)])
    assert len(np.unique(seen)) == 28 * 64
    assert not np.array_equal(
        feeds.batch_indices(0, 28, 64, 1797), feeds.batch_indices(0, 0, 64, 1797)
    )


def test_streamed_batches_equal_resident_ones_across_an_epochs_edge():
    config = replace(Config(), {"data.image_size": 8, "batch_size": 512})  # 3 steps an epoch
    resident, streamed = (
        data.load(config),
        data.load(replace(config, {"data.resident_limit_mb": 0})),
    )
    assert streamed.resident == {} and resident.steps_per_epoch == streamed.steps_per_epoch == 3
    for step in range(5):
        first, second = batch_of(resident, step), batch_of(streamed, step)
        for name in ("image", "label"):
            np.testing.assert_array_equal(first[name], second[name])
            assert first[name].dtype == second[name].dtype


def test_the_streams_position_is_restored():
    config = replace(Config(), {"data.image_size": 8, "data.resident_limit_mb": 0})
    first, second = data.load(config), data.load(config)
    for step in range(3):
        first.items(step, 1)
    second.seek(first.position())
    np.testing.assert_array_equal(first.items(3, 2)["image"], second.items(3, 2)["image"])
    with pytest.raises(RuntimeError, match="the reader is at step 5, not at 9"):
        first.items(9, 1)


def test_a_read_that_fails_leaves_the_position_at_the_last_whole_step(monkeypatch):
    config = replace(Config(), {"data.image_size": 8, "data.resident_limit_mb": 0})
    whole, read, broken = data.load(config), feeds._read, [True]
    whole.seek({"next_index": 2})
    expected = whole.items(2, 3)["image"]
    bad = feeds.batch_indices(config.seed, 4, config.batch_size, 1797)

    def read_or_fail(*arguments):
        if broken and np.array_equal(arguments[-1], bad):
            raise RunError("the disk is gone")
        return read(*arguments)

    monkeypatch.setattr(feeds, "_read", read_or_fail)
    feed = data.load(config)
    feed.items(0, 2)
    with pytest.raises(RunError, match="the disk is gone"):
        feed.items(2, 3)  # two of the three batches can be read
    assert feed.position()["next_index"] == 2
    broken.clear()
    np.testing.assert_array_equal(feed.items(2, 3)["image"], expected)


def test_mnist_and_fashion_mnist_are_prepared_from_files_and_never_mixed_up(tmp_path, official):
    for name, folder in [("mnist", "mnist"), ("fashion_mnist", "fashion")]:
        feed = data.load(config_for(tmp_path, name, folder))
        expected = official[folder]["train"]
        assert feed.num_examples == 300
        as_set = lambda images: {image.tobytes() for image in images}
        assert as_set(feed.resident["image"][..., 0]) == as_set(expected)
    # What was prepared is what TFDS itself reads under that name.
    source = tfds.data_source(
        "mnist",
        split="test",
        data_dir=tmp_path / "data",
        builder_kwargs={"file_format": "array_record"},
    )
    assert len(source) == 100


def test_files_of_another_data_set_are_refused(tmp_path, official):
    with pytest.raises(
        UserError,
        match=r"has \d+ bytes, fashion_mnist's has \d+|is not fashion_mnist's file: sha256",
    ):
        data.load(config_for(tmp_path, "fashion_mnist", "mnist"))
    assert not (tmp_path / "data" / "fashion_mnist").exists()


@pytest.mark.parametrize("damage", [b"", b"not gzip at all"])
def test_damaged_files_are_refused_by_name(tmp_path, official, damage):
    path = tmp_path / "mnist" / FILES["train"][0]
    path.write_bytes(damage)
    with pytest.raises(
        UserError,
        match=rf"{path.name} has {len(damage)} bytes, mnist's has \d+; download it again",
    ):
        data.load(config_for(tmp_path, "mnist", "mnist"))


def test_a_changed_byte_is_noticed(tmp_path, official):
    path = tmp_path / "mnist" / FILES["train"][0]
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="is not mnist's file: sha256"):
        data.load(config_for(tmp_path, "mnist", "mnist"))


def test_two_runs_that_prepare_the_same_do_not_disturb_each_other(tmp_path):
    import concurrent.futures

    code = (
        "import sys; from jaxgan import data; from jaxgan.config import Config, replace\n"
        "print(data.load(replace(Config(), {'data.dir': sys.argv[1]})).num_examples)"
    )
    run = lambda _: subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in pool.map(run, range(2)):
            assert done.stdout.strip() == "1797", done.stderr


def test_a_damaged_description_of_a_data_set_is_named(tmp_path):
    config = replace(Config(), {"data.dir": str(tmp_path)})
    data.load(config)
    (tmp_path / "digits" / "1.0.0" / "dataset_info.json").write_text("{")
    with pytest.raises(
        UserError,
        match=r"data\.name='digits' cannot be opened: .*remove .*digits to prepare it anew",
    ):
        data.load(config)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"x", "is not a readable gzip file"),
        (gzip.compress(b"abcd", mtime=0), "does not begin with the IDX number 2051"),
    ],
)
def test_idx_files_are_checked(tmp_path, content, text):
    (tmp_path / "f.gz").write_bytes(content)
    with pytest.raises(builders.IDXFormatError, match=text):
        builders.read_idx(tmp_path / "f.gz", 2051)


def test_an_idx_file_that_is_too_short_is_named(tmp_path):
    (tmp_path / "f.gz").write_bytes(gzip.compress(np.array([2049, 10], ">i4").tobytes() + b"123"))
    with pytest.raises(builders.IDXFormatError, match="holds 3 bytes, its header promises 10"):
        builders.read_idx(tmp_path / "f.gz", 2049)


def test_without_a_network_one_line_says_which_files_to_bring(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(
        UserError,
        match=r"cannot be reached.*train-images-idx3-ubyte.gz.*--data.manual-dir.*--data.name digits",
    ) as error:
        data.load(config_for(tmp_path, "mnist", None))
    assert "\n" not in str(error.value)


def test_a_network_that_never_answers_is_given_up(tmp_path, monkeypatch):
    """The wait is bounded however long looking up a name takes."""
    hang = threading.Event()
    waited = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: hang.wait() and io.BytesIO())
    monkeypatch.setattr(threading.Thread, "join", lambda self, timeout=None: waited.append(timeout))
    with pytest.raises(UserError, match="cannot be reached"):
        data.load(config_for(tmp_path, "mnist", None))
    hang.set()
    assert sum(waited) <= 10


def test_incomplete_files_without_a_network_are_named(tmp_path, official, monkeypatch):
    (tmp_path / "mnist" / FILES["test"][1]).unlink()
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: (_ for _ in ()).throw(OSError()))
    with pytest.raises(UserError, match="lacks some of its files"):
        data.load(config_for(tmp_path, "mnist", "mnist"))


def test_a_data_set_that_only_tensorflow_prepares_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None)
    with pytest.raises(UserError, match=r"'cifar10' is not prepared.*pip install tensorflow-cpu"):
        data.load(config_for(tmp_path, "cifar10", None))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data.name": "minst"}, r"data\.name: unknown data set 'minst'; did you mean mnist"),
        (
            {"model.channels": 3},
            r"model\.channels=3 but the images of digits have 1; use --model\.channels 1",
        ),
        (
            {"batch_size": 1798},
            "batch_size=1798 exceeds the 1797 examples of digits; use 1797 or less",
        ),
        ({"data.split": "validation"}, r"data\.split='validation' of digits.*use one of train"),
        (
            {"data.manual_dir": "/nowhere", "data.name": "mnist"},
            r"data\.manual_dir=/nowhere is not a folder",
        ),
    ],
)
def test_data_that_does_not_fit_is_named(tmp_path, changes, text):
    with pytest.raises(UserError, match=text):
        data.load(replace(Config(), {"data.dir": str(tmp_path), **changes}))


def test_a_split_can_be_cut():
    assert data.load(
        replace(Config(), {"data.split": "train[:50%]", "data.image_size": 8})
    ).num_examples in (898, 899)


def test_a_damaged_record_file_is_named(tmp_path):
    config = replace(Config(), {"data.dir": str(tmp_path), "data.image_size": 8})
    data.load(config)
    (record,) = (tmp_path / "digits").rglob("*.array_record*")
    content = record.read_bytes()
    for damaged in (content[: len(content) // 2], b""):
        record.write_bytes(damaged)
        with pytest.raises(
            RunError,
            match=r"data set digits cannot be read: example \d+: .*the disk or mount of .*digits",
        ):
            data.load(config)


@pytest.mark.skipif(
    not os.environ.get("JAXGAN_MNIST"),
    reason="JAXGAN_MNIST names no folder with MNIST's four original files",
)
def test_the_real_mnist_is_prepared_without_tensorflow(tmp_path):
    config = replace(
        config_for(tmp_path, "mnist", None), {"data.manual_dir": os.environ["JAXGAN_MNIST"]}
    )
    feed = data.load(config)
    assert feed.num_examples == 60000 and feed.steps_per_epoch == 937
    counts = np.bincount(feed.resident["label"])
    np.testing.assert_array_equal(
        counts, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    )


def test_neither_tensorflow_nor_torch_comes_into_the_process():
    code = (
        "import sys; from jaxgan import data; from jaxgan.config import Config\n"
        "data.load(Config())\n"
        "print([m for m in ('tensorflow', 'torch', 'triton') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ},
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_prepared_data_lives_in_the_cache_by_default():
    assert (
        data_dir(Config().data)
        == pathlib.Path(os.environ["XDG_CACHE_HOME"]) / "jaxgan" / "datasets"
    )


@pytest.mark.parametrize("limit", [2048, 0])
def test_a_share_of_the_batches_is_that_part_of_each(small, limit):
    """Of several processes each reads its own."""
    config = replace(small, {"data.resident_limit_mb": limit})
    whole, shares = (
        data.load(config),
        [data.load(config, share=slice(first, first + 4)) for first in (0, 4)],
    )
    for step in (0, 225):
        for feed in (whole, *shares):
            feed.seek({"next_index": step})
        items = [feed.items(step, 2) for feed in (whole, *shares)]
        jax.tree.map(
            lambda all_, a, b: np.testing.assert_array_equal(all_, np.concatenate([a, b], axis=1)),
            *items,
        )
