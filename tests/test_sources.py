"""Sources of arrays, sequences and files of arrays: what they become, and what is refused."""

import io
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxgan import data
from jaxgan.data import DataOptions, Feature, Source, arrays, as_source, make_feed, rows
from jaxgan.errors import RunError, UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (10, 8, 6, 3), np.uint8)
UINT8, INT32, FLOAT32 = (np.dtype(name) for name in ("uint8", "int32", "float32"))


def everything(source):
    return source.read(np.arange(source.count))


class Rows:
    """A sequence as data sets of Hugging Face and of Grain are; counts what is read at once."""

    def __init__(self, rows, **attributes):
        self.rows, self.read_at_once = rows, []
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class RowsAtOnce(Rows):
    def __getitems__(self, indices):
        assert all(type(index) is int for index in indices)  # others are no index to many readers
        self.read_at_once.append(len(indices))
        return [self.rows[index] for index in indices]


@pytest.mark.parametrize(
    ("array", "name", "feature"),
    [
        (IMAGES, "image", Feature((8, 6, 3), UINT8)),
        (IMAGES[..., 0], "image", Feature((8, 6, 1), UINT8)),
        (IMAGES / 255, "image", Feature((8, 6, 3), UINT8)),
        (RNG.normal(size=(10, 2)), "point", Feature((2,), FLOAT32)),
        (RNG.normal(size=(10, 2)).astype(np.float16), "point", Feature((2,), FLOAT32)),
    ],
)
def test_one_array_is_images_or_points_by_its_kind(array, name, feature):
    source = as_source(array)
    assert source.count == 10 and source.features == {name: feature}
    leaves = everything(source)
    assert leaves[name].shape == (10, *feature.shape) and leaves[name].dtype == feature.dtype
    some = source.read(np.array([9, 3, 3]))
    np.testing.assert_array_equal(some[name], leaves[name][[9, 3, 3]])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 3), np.int64),
        np.zeros(5, np.float32),
        np.zeros((5, 4, 4)),
        np.zeros((5, 2, 2, 2, 3), np.uint8),
        np.float32(1),
    ],
)
def test_an_array_that_could_be_anything_wants_a_name(array):
    with pytest.raises(UserError, match=r"name it by a dict|is one value and not an array"):
        as_source(array)
    if array.ndim:
        assert list(as_source({"volume": array}).features) == ["volume"]


def test_a_dict_of_arrays_keeps_their_names():
    source = as_source(
        {
            "image": IMAGES,
            "label": np.arange(10, dtype=np.int64) % 4,
            "sound": RNG.normal(size=(10, 16)),
            "tokens": np.ones((10, 5), np.uint16),
            "mask": RNG.random((10, 3, 3)) > 0.5,
            "volume": np.zeros((10, 2, 2, 2, 1), np.uint8),
        }
    )
    assert source.features == {
        "image": Feature((8, 6, 3), UINT8),
        "label": Feature((), INT32, 4),
        "sound": Feature((16,), FLOAT32),
        "tokens": Feature((5,), INT32),
        "mask": Feature((3, 3), INT32),
        "volume": Feature((2, 2, 2, 1), UINT8),
    }
    leaves = everything(source)
    for key, feature in source.features.items():
        assert leaves[key].shape == (10, *feature.shape) and leaves[key].dtype == feature.dtype
    np.testing.assert_array_equal(leaves["image"], IMAGES)


def test_features_are_chosen_by_name_and_the_others_not_looked_at():
    both = {"image": IMAGES, "text": np.array(["a"] * 10)}
    assert list(as_source(both, features=["image"]).features) == ["image"]
    drawn = data.open_source(DataOptions(name="ring"))
    assert list(as_source(drawn, features=["point"]).read(np.arange(2))) == ["point"]
    with pytest.raises(UserError, match="unknown feature 'imgae'; did you mean image"):
        as_source(both, features=["imgae"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array([object()] * 10), "x holds objects of Python"),
        (np.array([1j] * 10), "x holds complex numbers"),
        (np.array([["a", "b"]] * 10), "x holds text"),
        (np.zeros((10, 0)), r"x has shape \(10, 0\), which is empty"),
        (np.zeros(9), "image holds 10 examples and x 9; give arrays of one length"),
        ([[1, 2], [3]] * 5, "x is no array: its parts have 2 and 1 values"),
        (np.float32(3), r"x is one value and not an array \[N, ...\]"),
        (np.full(10, 2**40), "x holds 1099511627776 to 1099511627776, more than 32 bits hold"),
    ],
)
def test_arrays_of_no_use_are_refused_by_one_line(value, text):
    with pytest.raises(UserError, match=f"faces.*: {text}") as error:
        as_source({"image": IMAGES, "x": value}, "faces")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "data holds no array"),
        ([], "data holds no example"),
        (np.zeros((0, 8, 8), np.uint8), r"data holds no example: image has shape \(0, 8, 8\)"),
        ("faces/", "data is text and not data; .*DataOptions"),
        (3, "data is int; give an array"),
        ([1, 2], r"an example is int64 \(\), which is neither an image nor a point"),
        ([(IMAGES[0], 1)] * 3, r"its examples are tuples of 2; give dicts, such as {'image'"),
        (["a", "b"], r"an example is <U1 \(\)"),
    ],
)
def test_what_is_no_data_is_refused_by_one_line(value, text):
    with pytest.raises(UserError, match=text) as error:
        as_source(value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0, 1), (0, 255), (0, 65535)]
)
def test_pixels_in_any_usual_range_become_the_same_bytes(low, high):
    levels = np.linspace(0, 1, 256).reshape(1, 16, 16, 1)
    values, expected = low + (high - low) * levels, np.arange(256).reshape(1, 16, 16, 1)
    if isinstance(low, int):
        values = np.rint(values).astype(np.int32)
        if high == 1:  # whole numbers have two levels there
            expected = expected // 128 * 255
    leaves = everything(as_source({"image": values}))
    np.testing.assert_array_equal(leaves["image"], expected)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.linspace(0, 300, 256), "image holds float64 from 0 to 300; scale them to"),
        (np.linspace(-2, 2, 256), "image holds float64 from -2 to 2; scale them to"),
        (np.full(256, np.nan), "image holds float64 from nan to nan"),
        (np.arange(256) - 5, "image holds int64 from -5 to 250"),
        (np.arange(256) * 1000, "image holds int64 from 0 to 255000"),
    ],
)
def test_pixels_in_no_usual_range_are_refused_with_the_numbers(array, text):
    with pytest.raises(UserError, match=text):
        as_source({"image": array.reshape(1, 16, 16, 1)})


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_floating_pixels_may_overshoot_their_range_as_resized_ones_do(low, high):
    values = np.linspace(low, high, 256).reshape(1, 16, 16, 1)
    over = (high - low) / 10
    values[0, 0, 0], values[0, 15, 15] = low - over, high + over
    leaves = everything(as_source({"image": values}))
    np.testing.assert_array_equal(leaves["image"], np.arange(256).reshape(1, 16, 16, 1))


@pytest.mark.parametrize(
    ("highest", "text"),
    [
        ([2.0, 2.0], r"from 0 to 2; scale them to"),  # in [0, 255] they would all be black
        ([1.0, 255.0], "some up to 1 and others up to 255; scale them alike"),
    ],
)
def test_floating_pixels_of_no_one_range_are_refused(highest, text):
    images = np.stack([np.linspace(0, high, 256).reshape(16, 16, 1) for high in highest])
    with pytest.raises(UserError, match=text):
        as_source({"image": images})


@pytest.mark.parametrize(
    ("examples", "text"),
    [
        ([{"point": np.array([0.0, np.nan])}] * 3, "not finite in float32"),
        ([{"point": np.array([0.0, 1e300])}] * 3, "not finite in float32"),
        ([{"point": np.ma.masked_array([0.0, 1.0], [0, 1])}] * 3, "masked array with missing"),
    ],
    ids=["nan", "too large", "masked"],
)
def test_numbers_that_are_none_are_refused(examples, text):
    with pytest.raises(UserError, match=text):
        as_source(examples)


@pytest.mark.parametrize(
    "options",
    [{"size": 8}, {"size": (8,)}, {"size": (0, 8)}, {"size": "8"}, {"channels": 2}],
    ids=str,
)
def test_sizes_and_channels_that_no_image_has_are_refused(options):
    with pytest.raises(UserError, match=f"data: {next(iter(options))}="):
        as_source(IMAGES, **options)


def test_images_with_channels_first_are_told_how_to_turn():
    with pytest.raises(UserError, match=r"looks like channels first; .*numpy\.moveaxis"):
        as_source(np.zeros((5, 3, 32, 32)))


def test_images_are_resized_and_converted_where_asked():
    source = as_source(IMAGES, size=(4, 4), channels=1)
    assert everything(source)["image"].shape == (10, 4, 4, 1)
    many = RNG.integers(0, 256, (10, 8, 8, 7), np.uint8)  # satellites have as many
    assert everything(as_source({"image": many}, size=(4, 4)))["image"].shape == (10, 4, 4, 7)
    flat = np.full((2, 8, 8, 7), np.arange(7), np.uint8)
    resized = everything(as_source({"image": flat}, size=(4, 4)))["image"]
    np.testing.assert_array_equal(resized, np.full((2, 4, 4, 7), np.arange(7)))


def test_a_read_of_large_arrays_is_made_of_small_ones(monkeypatch):
    monkeypatch.setattr(arrays, "_BYTES_AT_ONCE", 3 * IMAGES[0].nbytes)
    order = RNG.permutation(10)
    np.testing.assert_array_equal(as_source(IMAGES).read(order)["image"], IMAGES[order])


def test_the_version_of_arrays_changes_with_a_byte_a_name_and_a_shape():
    changed = IMAGES.copy()
    changed[7, 3, 2, 1] ^= 1
    other_shape = IMAGES.reshape(10, 6, 8, 3)
    versions = [
        as_source(x).version for x in (IMAGES, IMAGES.copy(), changed, other_shape, IMAGES[:9])
    ]
    versions.append(as_source({"image": IMAGES, "label": np.zeros(10, int)}).version)
    assert versions[0] == versions[1] and len(set(versions)) == 5


def test_of_a_large_array_evenly_spaced_examples_are_hashed(monkeypatch):
    monkeypatch.setattr(arrays, "_BYTES_SEEN", IMAGES.nbytes // 5)
    monkeypatch.setattr(arrays, "BYTES_HASHED", IMAGES.nbytes - 1)
    changed = IMAGES.copy()
    changed[5] ^= 1  # every fifth is looked at
    assert as_source(IMAGES).version != as_source(changed).version


@pytest.mark.parametrize("kind", [Rows, RowsAtOnce])
def test_a_sequence_of_dicts_is_read_at_random(kind):
    examples = [
        {"image": IMAGES[i], "label": i, "weight": 0.5 * i, "place": [i, -i]} for i in range(10)
    ]
    source = as_source(kind(examples))
    assert source.features == {
        "image": Feature((8, 6, 3), UINT8),
        "label": Feature((), INT32),
        "weight": Feature((), FLOAT32),
        "place": Feature((2,), INT32),
    }
    leaves = source.read(np.array([9, 0, 9]))
    np.testing.assert_array_equal(leaves["image"], IMAGES[[9, 0, 9]])
    np.testing.assert_array_equal(leaves["label"], [9, 0, 9])
    np.testing.assert_array_equal(leaves["weight"], np.float32([4.5, 0, 4.5]))
    np.testing.assert_array_equal(leaves["place"], [[9, -9], [0, 0], [9, -9]])


def test_a_sequence_of_arrays_is_images_or_points():
    assert as_source(list(IMAGES)).features == {"image": Feature((8, 6, 3), UINT8)}
    assert as_source([np.ones(3)] * 4).features == {"point": Feature((3,), FLOAT32)}


def test_pictures_of_pillow_and_encoded_ones_are_images():
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(buffer, "png")
    for value in (Image.fromarray(IMAGES[0]), buffer.getvalue()):
        leaves = everything(as_source([{"image": value}]))
        np.testing.assert_array_equal(leaves["image"][0], IMAGES[0])
    assert list(as_source([Image.fromarray(IMAGES[0])]).features) == ["image"]


def test_pictures_of_several_sizes_want_one():
    rows_ = [{"image": Image.new("RGB", (8, 8))}, {"image": Image.new("L", (9, 7))}]
    with pytest.raises(UserError, match=r"image of example 1 has shape \(7, 9, 3\), the first one"):
        as_source(rows_)
    assert everything(as_source(rows_, size=(5, 5)))["image"].shape == (2, 5, 5, 3)


def test_how_many_classes_a_label_has_is_taken_from_the_data_set():
    rows_ = [{"label": 1}, {"label": 0}]
    declared = {"label": types.SimpleNamespace(num_classes=7)}
    for attributes in (
        {"features": declared},  # as Hugging Face has it
        {"dataset_info": types.SimpleNamespace(features=declared)},  # and TFDS
    ):
        assert as_source(Rows(rows_, **attributes)).features["label"].classes == 7
    assert as_source(rows_).features["label"].classes is None


def test_a_data_source_of_tfds_is_a_source():
    data.open_source(DataOptions())  # prepares it
    from jaxgan.data.tfds_preparing import data_dir

    records = tfds.data_source(
        "digits",
        split="train",
        data_dir=data_dir(DataOptions()),
        builder_kwargs={"file_format": "array_record"},
    )
    ours = data.open_source(DataOptions(image_size=8))
    for leaf, other in zip(everything(as_source(records)).values(), everything(ours).values()):
        np.testing.assert_array_equal(leaf, other)


def test_a_data_set_of_grain_is_a_source():
    grain = pytest.importorskip("grain")
    examples = grain.MapDataset.source([{"x": np.full(3, i, np.float32)} for i in range(20)])
    shuffled = examples.seed(0).shuffle()
    leaves = everything(as_source(shuffled))
    np.testing.assert_array_equal(np.sort(leaves["x"][:, 0]), np.arange(20))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"image": IMAGES[0], "label": "seven"}, "label of example 57 holds text"),
        ({"image": IMAGES[0]}, "example 57 has no label"),
        ({"image": IMAGES[0], "label": [1, 2]}, r"label of example 57 has shape \(2,\)"),
        ({"image": IMAGES[0], "label": 2**40}, "label of example 57 holds .* 32 bits"),
        ({"image": b"no image", "label": 0}, "image of example 57 is no image of the kinds"),
        ({"image": IMAGES[0] / 255, "label": 0}, "holds float64, where .* first hold whole numb"),
        ({"image": IMAGES[0, 0], "label": 0}, r"image of example 57 has shape \(6, 3, 3\)"),
    ],
)
def test_an_example_of_another_kind_than_the_first_is_named(bad, text):
    examples = [{"image": IMAGES[0], "label": 0} for _ in range(100)]
    examples[57] = bad  # which opening does not look at
    source = as_source(examples)
    with pytest.raises(RunError, match=text) as error:
        everything(source)
    assert "\n" not in str(error.value)


def test_the_first_example_that_cannot_be_read_is_named_with_causes():
    class Broken(RowsAtOnce):
        def __getitems__(self, indices):
            if 57 in indices:
                raise OSError("Input/output error\nof the disk")
            return super().__getitems__(indices)

    source = as_source(Broken([{"x": 1.0}] * 100))
    text = r"data: example 57 cannot be read: Input/output error of the disk; a disk, a mount"
    with pytest.raises(RunError, match=text):
        everything(source)
    with pytest.raises(UserError, match="its examples cannot be read: Input/output error"):
        as_source(Broken([{"x": 1.0}] * 58))  # whose last is looked at


def test_memory_of_reading_is_bounded(monkeypatch):
    """Raw examples of 3,072 bytes, of which no more than 30 kB are held at once."""
    monkeypatch.setattr(rows, "_BYTES_AT_ONCE", 30_000)
    examples = RowsAtOnce([{"image": np.zeros((32, 32, 3), np.uint8)}] * 100)
    source = as_source(examples, size=(2, 2))
    examples.read_at_once.clear()
    assert everything(source)["image"].shape == (100, 2, 2, 3)
    assert sum(examples.read_at_once) == 100 and max(examples.read_at_once) == 9


def test_small_examples_are_read_many_at_once():
    examples = RowsAtOnce([{"x": 1.0}] * 1000)
    source = as_source(examples)
    examples.read_at_once.clear()
    everything(source)
    assert len(examples.read_at_once) == 2


def test_the_version_of_a_sequence_changes_with_its_examples_and_their_number():
    def make(value, count):
        return as_source([{"x": value}] * count).version

    assert make(1.0, 5) == make(1.0, 5) and len({make(1.0, 5), make(2.0, 5), make(1.0, 6)}) == 3


@pytest.fixture
def files(tmp_path):
    labels = np.arange(10) % 3
    np.savez(tmp_path / "both.npz", image=IMAGES, label=labels)
    np.savez_compressed(tmp_path / "small.npz", point=RNG.normal(size=(10, 2)))
    np.save(tmp_path / "images.npy", IMAGES)
    return tmp_path


def open_file(path, **options):
    return data.open_source(DataOptions(file=str(path), **{"image_size": None, **options}))


def test_each_array_of_an_npz_is_a_feature(files):
    source = open_file(files / "both.npz")
    assert source.name == "both.npz" and source.count == 10
    assert source.features["label"] == Feature((), INT32, 3)
    np.testing.assert_array_equal(everything(source)["image"], IMAGES)
    assert list(open_file(files / "small.npz").features) == ["point"]
    assert list(open_file(files / "both.npz", features="label").features) == ["label"]
    assert everything(open_file(files / "both.npz", image_size=4))["image"].shape == (10, 4, 4, 3)


def test_an_npy_is_mapped_and_not_loaded(files, monkeypatch):
    loaded = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: loaded.append(load(*a, **k)) or loaded[-1])
    source = open_file(files / "images.npy")
    assert isinstance(loaded[0], np.memmap)
    np.testing.assert_array_equal(source.read(np.array([3, 1]))["image"], IMAGES[[3, 1]])


def test_the_version_of_a_file_changes_with_what_it_holds(files):
    first = open_file(files / "both.npz").version
    np.savez(files / "both.npz", image=IMAGES, label=np.arange(10) % 3)
    assert open_file(files / "both.npz").version == first
    np.savez(files / "both.npz", image=IMAGES, label=np.arange(10) % 4)
    assert open_file(files / "both.npz").version != first


def test_files_that_are_no_arrays_are_refused_by_one_line(files):
    (files / "cut.npz").write_bytes((files / "both.npz").read_bytes()[:100])
    (files / "cut.npy").write_bytes((files / "images.npy").read_bytes()[:200])
    (files / "empty.npy").write_bytes(b"")
    np.save(files / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    np.savez(files / "lengths.npz", image=IMAGES, label=np.arange(9))
    np.savez(files / "nothing.npz")
    for name, text in [
        ("cut.npz", "cannot be read: .*; save it again, or restore it from a copy"),
        ("cut.npy", "cannot be read"),
        ("empty.npy", "cannot be read"),
        ("objects.npy", "holds objects of Python, which are not loaded"),
        ("lengths.npz", "image holds 10 examples and label 9; give arrays of one length"),
        ("nothing.npz", "holds no array"),
        ("none.npz", "does not exist; name a .npz or .npy file"),
        ("images.txt", r"ends neither in \.npz nor in \.npy"),
        ("", "is a folder; use data.folder"),
    ]:
        with pytest.raises(UserError, match=text) as error:
            open_file(files / name)
        assert "\n" not in str(error.value) and "data.file=" in str(error.value), name


def test_pictures_and_tensors_at_hand_are_data():
    found = as_source([Image.fromarray(image) for image in IMAGES])
    np.testing.assert_array_equal(everything(found)["image"], IMAGES)
    torch = pytest.importorskip("torch")
    points = RNG.integers(-8, 8, (10, 2)).astype(np.float32)  # exact in bfloat16
    tensor = torch.tensor(points)
    given = [tensor, tensor.clone().requires_grad_(), tensor.bfloat16(), list(tensor)]
    for data_ in [*given, {"point": tensor}]:
        np.testing.assert_array_equal(everything(as_source(data_))["point"], points)


# Sources of the user's.
def source_of(**changes):
    fields = dict(
        name="mine",
        count=4,
        read=lambda i: {"point": np.zeros((len(i), 2), np.float32)},
        features={"point": Feature((2,), np.dtype(np.float32))},
        version="1",
    )
    return Source(**{**fields, **changes})


def test_a_source_may_use_numpys_numbers_and_types():
    sizes = {"point": Feature((np.int64(2),), "float32")}
    found = as_source(source_of(count=np.int64(4), features=sizes, name="a\nb", version=3))
    assert type(found.count) is int and found.features["point"] == Feature(
        (2,), np.dtype("float32")
    )
    assert (found.name, found.version) == ("a b", "3")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"count": 0}, "count=0; give a whole number of 1 or more"),
        ({"count": -5}, "count=-5; give a whole number"),
        ({"count": 1.5}, r"count=1\.5; give a whole number"),
        ({"count": "64"}, "count='64'; give a whole number"),
        ({"count": True}, "count=True; give a whole number"),
        ({"read": None}, "read=None, which is no function"),
        ({"features": {}}, "features={}; give a dict of Feature"),
        ({"features": ["point"]}, r"features=\['point'\]; give a dict"),
        ({"features": {"point": ((2,), np.float32)}}, "the feature 'point': .*; give a name"),
        ({"features": {"point": Feature((0,), np.dtype("f4"))}}, "the feature 'point'"),
        ({"features": {"point": Feature((), np.dtype("U3"))}}, "the feature 'point'"),
        ({"features": {3: Feature((2,), np.dtype("f4"))}}, "the feature 3"),
    ],
)
def test_a_source_that_says_nothing_of_use_is_refused_by_one_line(changes, text):
    with pytest.raises(UserError, match=f"^source mine has .*{text}") as error:
        as_source(source_of(**changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given", [None, [np.zeros(2)], {"point": [[1.0], [2.0, 3.0]]}], ids=["none", "list", "ragged"]
)
def test_what_no_reader_may_give_is_one_line(given):
    with pytest.raises(RunError, match=r"mine: examples 0, 1, 2, \.\. cannot be read: "):
        make_feed(source_of(read=lambda i: given), 4, 0)


def test_a_mapped_file_that_is_written_while_it_is_read_is_named(tmp_path):
    """Behind the end of one that was cut short the system would end the process."""
    path = tmp_path / "points.npy"
    np.save(path, np.zeros((1000, 2), np.float32))
    source = data.open_source(DataOptions(file=str(path)))
    with path.open("r+b") as file:
        file.truncate(200)
    with pytest.raises(RunError, match="was written while it was read: it has 200 bytes, and had"):
        source.read(np.arange(990, 1000))


def test_options_of_data_are_looked_at_one_by_one():
    for changes in ({"image_size": 0}, {"image_size": "a"}, {"split": None}):
        with pytest.raises(UserError, match=next(iter(changes))):
            data.open_source(DataOptions(**changes))
