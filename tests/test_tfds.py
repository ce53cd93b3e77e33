"""Data sets of TFDS: what is prepared and from what, which features, and what is refused."""

import concurrent.futures
import gzip
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits
from tensorflow_datasets.core import registered

from jaxgan import data
from jaxgan.data import DataOptions, builders
from jaxgan.data.tfds_preparing import data_dir
from jaxgan.errors import RunError, UserError

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def everything(options):
    """The source of the options and all its leaves."""
    source = data.open_source(options)
    return source, source.read(np.arange(source.count))


def write_idx(folder: pathlib.Path, seed: int, counts=(300, 100)) -> dict[str, np.ndarray]:
    """Four files as MNIST's, of random images; gives the images of both splits."""
    rng, kept = np.random.default_rng(seed), {}
    folder.mkdir(parents=True)

    def header(magic, *dims):
        return np.array([magic, *dims], ">i4").tobytes()

    for (split, names), count in zip(FILES.items(), counts):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count, np.uint8)
        content = header(2051, count, 28, 28) + images.tobytes()
        (folder / names[0]).write_bytes(gzip.compress(content))
        (folder / names[1]).write_bytes(gzip.compress(header(2049, count) + labels.tobytes()))
        kept[split] = images
    return kept


@pytest.fixture
def official(tmp_path, monkeypatch):
    """Small files in `mnist/` and `fashion/`, declared to be the official ones of both sets."""
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


def options_for(tmp_path, name, manual=None, **others):
    manual = str(tmp_path / manual) if manual else None
    return DataOptions(name=name, dir=str(tmp_path / "data"), manual_dir=manual, **others)


def prepare(root: pathlib.Path, set_name: str, features: dict, examples: list[dict]) -> None:
    """A data set of one's own, prepared under `root` as any other tool might."""
    with registered.skip_registration():

        class Own(tfds.core.GeneratorBasedBuilder):
            name = set_name
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                yield from enumerate(examples)

    tfds.disable_progress_bar()
    Own(data_dir=root, file_format="array_record").download_and_prepare()


def encoded(picture: Image.Image, kind="png") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def test_the_digits_are_those_of_scikit_learn():
    source, leaves = everything(DataOptions(image_size=8))
    assert source.count == 1797 and leaves["image"].shape == (1797, 8, 8, 1)
    assert source.features["label"].classes == 10
    digits = load_digits()

    # TFDS shuffles when it prepares, so compare the two as sets of (image, label).
    def as_set(images, labels):
        return {
            (tuple(np.round(i).astype(int).ravel()), int(label)) for i, label in zip(images, labels)
        }

    found = as_set(leaves["image"][..., 0] * (16 / 255), leaves["label"])
    assert found == as_set(digits.images, digits.target)


def test_images_are_the_same_bits_as_ever():
    """Those of the first releases, so that an old run goes on with the same data."""
    source = data.open_source(DataOptions())
    leaves = data.make_feed(source, 64, 0).resident
    assert leaves["image"].shape == (1797, 28, 28, 1) and leaves["image"].dtype == np.uint8
    in_order = hashlib.sha256()
    for image, label in sorted(
        (image.tobytes(), int(label)) for image, label in zip(leaves["image"], leaves["label"])
    ):
        in_order.update(image + bytes([label]))
    assert in_order.hexdigest()[:16] == "fa8ff80d13ce2fee"


def test_the_version_names_the_data_set_and_the_split():
    whole, half = (data.open_source(DataOptions(split=s)) for s in ("train", "train[:50%]"))
    assert whole.version == "digits/1.0.0 train" and half.version != whole.version
    assert half.count in (898, 899)


def test_mnist_and_fashion_mnist_are_prepared_from_files_and_never_mixed_up(tmp_path, official):
    def as_set(images):
        return {image.tobytes() for image in images}

    for name, folder in [("mnist", "mnist"), ("fashion_mnist", "fashion")]:
        source, leaves = everything(options_for(tmp_path, name, folder))
        assert source.count == 300
        assert as_set(leaves["image"][..., 0]) == as_set(official[folder]["train"])
    # What was prepared is what TFDS itself reads under that name.
    source = tfds.data_source(
        "mnist",
        split="test",
        data_dir=tmp_path / "data",
        builder_kwargs={"file_format": "array_record"},
    )
    assert len(source) == 100


def test_files_of_another_data_set_are_refused(tmp_path, official):
    text = r"has \d+ bytes, fashion_mnist's has \d+|is not fashion_mnist's file: sha256"
    with pytest.raises(UserError, match=text):
        data.open_source(options_for(tmp_path, "fashion_mnist", "mnist"))
    assert not (tmp_path / "data" / "fashion_mnist").exists()


@pytest.mark.parametrize("damage", [b"", b"not gzip at all"])
def test_damaged_files_are_refused_by_name(tmp_path, official, damage):
    path = tmp_path / "mnist" / FILES["train"][0]
    path.write_bytes(damage)
    text = rf"{path.name} has {len(damage)} bytes, mnist's has \d+; download it again"
    with pytest.raises(UserError, match=text):
        data.open_source(options_for(tmp_path, "mnist", "mnist"))


def test_a_changed_byte_is_noticed(tmp_path, official):
    path = tmp_path / "mnist" / FILES["train"][0]
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="is not mnist's file: sha256"):
        data.open_source(options_for(tmp_path, "mnist", "mnist"))


def test_two_runs_that_prepare_the_same_do_not_disturb_each_other(tmp_path):
    code = (
        "import sys; from jaxgan.data import DataOptions, open_source\n"
        "print(open_source(DataOptions(dir=sys.argv[1])).count)"
    )

    def run(_):
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120
        )

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in pool.map(run, range(2)):
            assert done.stdout.strip() == "1797", done.stderr


def test_file_systems_without_locks_are_prepared_on(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    assert data.open_source(DataOptions(dir=str(tmp_path))).count == 1797


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / ".digits.lock").symlink_to(other)
    with pytest.raises(UserError, match=r"\.digits\.lock cannot be opened as a lock"):
        data.open_source(DataOptions(dir=str(tmp_path)))
    assert other.read_text() == "precious"


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
    text = r"cannot be reached.*train-images-idx3-ubyte.gz.*--data.manual-dir.*--data.name digits"
    with pytest.raises(UserError, match=text) as error:
        data.open_source(options_for(tmp_path, "mnist"))
    assert "\n" not in str(error.value)


def test_a_network_that_never_answers_is_given_up(tmp_path, monkeypatch):
    """The wait is bounded however long looking up a name takes."""
    hang = threading.Event()
    waited = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: hang.wait() and io.BytesIO())
    monkeypatch.setattr(threading.Thread, "join", lambda self, timeout=None: waited.append(timeout))
    with pytest.raises(UserError, match="cannot be reached"):
        data.open_source(options_for(tmp_path, "mnist"))
    hang.set()
    assert sum(waited) <= 10


def test_incomplete_files_without_a_network_are_named(tmp_path, official, monkeypatch):
    (tmp_path / "mnist" / FILES["test"][1]).unlink()
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: (_ for _ in ()).throw(OSError()))
    with pytest.raises(UserError, match="lacks some of its files"):
        data.open_source(options_for(tmp_path, "mnist", "mnist"))


def test_a_data_set_that_only_tensorflow_prepares_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None)
    with pytest.raises(UserError, match=r"'cifar10' is not prepared.*pip install tensorflow-cpu"):
        data.open_source(options_for(tmp_path, "cifar10"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "minst"}, r"data\.name: unknown data set 'minst'; did you mean mnist"),
        ({"name": "zzzzz"}, r"unknown data set 'zzzzz'; use \w+(, \w+){11} and \d+ more$"),
        ({"name": "shape"}, r"unknown data set 'shape'; did you mean .*shapes\b"),
        ({"name": ":"}, r"data\.name=':' names no data set"),
        ({"name": "mnist:9.9.9"}, r"data\.name='mnist:9\.9\.9': mnist comes in one version here"),
        ({"split": "validation"}, r"data\.split='validation' of digits.*use one of train"),
        ({"manual_dir": "/nowhere"}, r"data\.manual_dir=/nowhere is not a folder"),
        ({"name": "../w/faces"}, r"data\.name=\.\./w/faces is a path; .*--data\.folder"),
        ({"name": "/some/faces"}, r"data\.name=/some/faces is a path; .*--data\.folder"),
        ({"name": "faces.npz"}, r"data\.name=faces\.npz is a path; .*--data\.file"),
        ({"dir": "gs://bucket/sets"}, r"data\.dir=gs://bucket/sets is an address"),
        ({"features": "lable"}, r"digits: unknown feature 'lable'; did you mean label\?"),
    ],
)
def test_data_that_cannot_be_had_is_named_in_one_line(tmp_path, changes, text):
    with pytest.raises(UserError, match=text) as error:
        data.open_source(DataOptions(**{"dir": str(tmp_path), **changes}))
    message = str(error.value)
    assert "\n" not in message and len(message) < 600
    assert "remove" not in message  # nothing here is ours


def test_a_damaged_description_of_a_data_set_is_named(tmp_path):
    options = DataOptions(dir=str(tmp_path))
    data.open_source(options)
    (tmp_path / "digits" / "1.0.0" / "dataset_info.json").write_text("{")
    text = r"data\.name='digits' cannot be opened: .* prepared anew in another --data\.dir"
    with pytest.raises(UserError, match=text):
        data.open_source(options)


def test_only_a_folder_of_our_own_is_advised_to_be_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data.open_source(DataOptions())
    folder = tmp_path / "jaxgan" / "datasets" / "digits"
    (record,) = folder.rglob("*.array_record*")
    record.write_bytes(b"")
    with pytest.raises(UserError, match=rf"cannot be read: .*remove {folder} to have it prepared"):
        data.open_source(DataOptions())
    elsewhere = DataOptions(dir=str(tmp_path / "jaxgan" / "datasets"))  # perhaps somebody else's
    with pytest.raises(UserError, match=r"prepared anew in another --data\.dir") as error:
        data.open_source(elsewhere)
    assert "remove" not in str(error.value)


def test_records_that_break_while_open_are_an_error_of_the_run(tmp_path):
    source = data.open_source(DataOptions(dir=str(tmp_path), cache=None))
    (record,) = (tmp_path / "digits").rglob("*.array_record*")
    record.write_bytes(record.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"digits: .*example.* cannot be read: .*disk, a mount") as e:
        source.read(np.arange(1000))
    assert "remove" not in str(e.value) and "\n" not in str(e.value)


def test_data_in_another_format_say_which_and_how_to_convert_them(tmp_path):
    prepare(
        tmp_path,
        "faces",
        {"image": tfds.features.Image(shape=(8, 8, 3))},
        [{"image": encoded(Image.new("RGB", (8, 8)))}],
    )
    info = tmp_path / "faces" / "1.0.0" / "dataset_info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "fileFormat": "tfrecord"}))
    text = (
        r"'faces' is prepared in .*1\.0\.0 as tfrecord, .*tfds convert_format .*--data\.dir OTHER"
    )
    with pytest.raises(UserError, match=text) as error:
        data.open_source(DataOptions(name="faces", dir=str(tmp_path)))
    assert "remove" not in str(error.value)


def test_a_data_set_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    data.open_source(DataOptions(dir=str(tmp_path)))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(tmp_path / "digits"))

    monkeypatch.setattr(builders.Digits, "is_prepared", refuse)
    with pytest.raises(UserError, match=r"digits may not be read; give yourself the right to"):
        data.open_source(DataOptions(dir=str(tmp_path), cache=None))


def sixteen_bits() -> bytes:
    return encoded(Image.fromarray(np.full((8, 8), 40_000, np.uint16)))


def palette() -> bytes:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 250, 100, 50])
    return encoded(picture)


KINDS = {
    "colour": (encoded(Image.new("RGB", (8, 8), (10, 20, 30))), (10, 20, 30)),
    "palette": (palette(), (250, 100, 50)),
    "grey": (encoded(Image.new("L", (8, 8), 77)), (77, 77, 77)),
    "16 bits": (sixteen_bits(), (156, 156, 156)),  # 40000 / 257, not 40000 modulo 256 = 64
    "transparent": (encoded(Image.new("RGBA", (8, 8), (9, 9, 9, 0))), (255, 255, 255)),
    "CMYK": (encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "jpeg"), (0, 255, 255)),
}


def test_pictures_of_any_kind_in_one_set_are_the_pixels_they_show(tmp_path):
    prepare(
        tmp_path,
        "odd",
        {"image": tfds.features.Image(shape=(None, None, 3)), "kind": tfds.features.Text()},
        [{"image": image, "kind": kind} for kind, (image, _) in KINDS.items()],
    )
    source, leaves = everything(DataOptions(name="odd", dir=str(tmp_path), image_size=None))
    assert source.features == {"image": data.Feature((8, 8, 3), np.dtype(np.uint8))}
    found = [tuple(image[4, 4].tolist()) for image in leaves["image"]]
    expected = [pixel for _, pixel in KINDS.values()]
    for pixel in expected:  # JPEG may be off by a few levels
        assert min(np.abs(np.subtract(pixel, other)).max() for other in found) <= 3, (pixel, found)
    _, grey = everything(DataOptions(name="odd", dir=str(tmp_path), channels=1))
    assert grey["image"].shape == (6, 28, 28, 1)


def test_an_image_that_cannot_be_decoded_is_named_by_its_place(tmp_path):
    whole = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "jpeg")
    images = [whole] * 7 + [whole[: len(whole) // 2]]
    prepare(
        tmp_path,
        "cut",
        {"image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg")},
        [{"image": image} for image in images],
    )
    source = data.open_source(DataOptions(name="cut", dir=str(tmp_path), cache=None))
    with pytest.raises(RunError, match=r"cut: image of example \d .*truncated") as error:
        source.read(np.arange(8))
    assert "remove" not in str(error.value)


def test_any_feature_of_numbers_can_be_asked_for(tmp_path):
    prepare(
        tmp_path,
        "people",
        {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.Text(),
            "attributes": tfds.features.FeaturesDict({"tall": np.bool_, "age": np.int64}),
            "box": tfds.features.BBoxFeature(),
            "words": tfds.features.Sequence(np.int64),
            "film": tfds.features.Sequence(tfds.features.Image(shape=(8, 8, 1))),
            "depth": tfds.features.Tensor(shape=(2, 2), dtype=np.float64),
        },
        [
            {
                "image": encoded(Image.new("L", (8, 8), i)),
                "label": "someone",
                "attributes": {"tall": i == 1, "age": 30 + i},
                "box": tfds.features.BBox(0.0, 0.0, 0.5, 1.0),
                "words": list(range(i)),
                "film": [],
                "depth": np.full((2, 2), i, np.float64),
            }
            for i in range(2)
        ],
    )

    def options(features=""):
        return DataOptions(name="people", dir=str(tmp_path), features=features, image_size=8)

    assert list(data.open_source(options()).features) == ["image"]  # a label of text is left out
    source, leaves = everything(options("depth, attributes/age,attributes/tall,box,label"))
    assert list(source.features) == ["depth", "attributes/age", "attributes/tall", "box", "label"]
    assert data.texts_of(leaves.pop("label")) == ["someone"] * 2
    assert {key: (leaf.dtype.name, leaf.shape) for key, leaf in leaves.items()} == {
        "depth": ("float32", (2, 2, 2)),
        "attributes/age": ("int32", (2,)),
        "attributes/tall": ("int32", (2,)),
        "box": ("float32", (2, 4)),
    }
    np.testing.assert_array_equal(leaves["attributes/age"] - 30, leaves["attributes/tall"])
    np.testing.assert_array_equal(leaves["depth"][:, 0, 0], leaves["attributes/tall"])
    usable = "some of attributes/age, attributes/tall, box, depth, image, label"
    for asked, reason in [
        ("words", "words is of varying shape"),
        ("film", "film is a sequence of images"),
    ]:
        with pytest.raises(UserError, match=f"data.name=people: {reason}.*{usable}"):
            data.open_source(options(asked))


def test_a_data_set_without_images_says_what_it_has(tmp_path):
    prepare(
        tmp_path,
        "table",
        {"row": tfds.features.Tensor(shape=(3,), dtype=np.float32), "label": np.int64},
        [{"row": np.arange(3, dtype=np.float32), "label": 5}],
    )
    options = DataOptions(name="table", dir=str(tmp_path))
    with pytest.raises(UserError, match=r"data\.name=table has no feature 'image'.*label, row"):
        data.open_source(options)
    _, leaves = everything(DataOptions(name="table", dir=str(tmp_path), features="row"))
    np.testing.assert_array_equal(leaves["row"], [[0, 1, 2]])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, [0, 255]), (-1.0, 1.0, [0, 255]), (0.0, 255.0, [0, 255]), (0.0, 900.0, None)],
)
def test_floating_images_are_scaled_by_their_range_or_refused(tmp_path, low, high, expected):
    values = np.full((8, 8, 1), low, np.float32)
    values[4:] = high
    prepare(
        tmp_path,
        "floating",
        {"image": tfds.features.Image(shape=(8, 8, 4))},
        [{"image": encoded(Image.fromarray(values.view(np.uint8)))}],
    )
    # TFDS stores floating images so, but encodes them with TensorFlow only.
    description = tmp_path / "floating" / "1.0.0" / "features.json"
    text = description.read_text().replace('"uint8"', '"float32"').replace('"4"', '"1"')
    description.write_text(text)
    options = DataOptions(name="floating", dir=str(tmp_path), image_size=8)
    assert tfds.builder("floating", data_dir=tmp_path).info.features["image"].np_dtype == np.float32
    if expected is None:
        with pytest.raises(UserError, match=r"image of example 0 holds float32 from 0 to 900"):
            data.open_source(options)
    else:
        _, leaves = everything(options)
        assert leaves["image"].shape == (1, 8, 8, 1)
        np.testing.assert_array_equal(leaves["image"][0, [0, 7], 0, 0], expected)


def test_an_image_that_is_a_tensor_is_an_image(tmp_path):
    prepare(
        tmp_path,
        "tensors",
        {"image": tfds.features.Tensor(shape=(6, 6), dtype=np.uint8)},
        [{"image": np.full((6, 6), 9, np.uint8)}],
    )
    _, leaves = everything(DataOptions(name="tensors", dir=str(tmp_path), image_size=None))
    assert leaves["image"].shape == (1, 6, 6, 1) and leaves["image"].dtype == np.uint8


def test_other_data_under_the_same_name_are_told_apart(tmp_path):
    for count in (3, 5):
        prepare(
            tmp_path / str(count),
            "mine",
            {"image": tfds.features.Image(shape=(8, 8, 1))},
            [{"image": encoded(Image.new("L", (8, 8)))}] * count,
        )
    first, second = (
        data.open_source(DataOptions(name="mine", dir=str(tmp_path / str(count))))
        for count in (3, 5)
    )
    assert (first.count, first.version) != (second.count, second.version)


@pytest.mark.skipif(
    not os.environ.get("JAXGAN_MNIST"),
    reason="JAXGAN_MNIST names no folder with MNIST's four original files",
)
def test_the_real_mnist_is_prepared_without_tensorflow(tmp_path):
    options = DataOptions(name="mnist", dir=str(tmp_path), manual_dir=os.environ["JAXGAN_MNIST"])
    feed = data.make_feed(data.open_source(options), 64, 0)
    assert feed.num_examples == 60000 and feed.steps_per_epoch == 937
    counts = np.bincount(feed.resident["label"])
    np.testing.assert_array_equal(
        counts, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    )


def test_prepared_data_live_in_the_cache_by_default():
    cache = pathlib.Path(os.environ["XDG_CACHE_HOME"])
    assert data_dir(DataOptions()) == cache / "jaxgan" / "datasets"


def test_without_a_home_one_line_says_what_to_pass(monkeypatch):
    def nobody(uid):
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(UserError, match=r"no home folder .*; pass --data\.dir, or set HOME"):
        data_dir(DataOptions())


def test_data_sets_say_that_they_need_a_reader(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    text = r"data\.name=digits needs tensorflow-datasets .*; install it, or train on --data\.name"
    with pytest.raises(UserError, match=text):
        data.open_source(DataOptions(cache=None))
