"""Data that are kept decoded: the same pixels and versions as without, found again at once, never
trusted when damaged, and never in the way."""

import json
import os
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading

import faults
import numpy as np
import pytest
from PIL import Image

from jaxgan import data, memory
from jaxgan.cli import main
from jaxgan.config import configured, described, differences
from jaxgan.data import DataOptions, Feature, Source, entries, folder, parts, preparing
from jaxgan.errors import RunError, UserError
from jaxgan.options import replace
from jaxgan.run.workdir import about_data


def save_images(root: pathlib.Path, count: int = 6) -> pathlib.Path:
    """Noise in two folders, as PNGs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        folder = root / ("cats", "dogs")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture
def images(tmp_path):
    return save_images(tmp_path / "images")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


def options_of(images, root, **more) -> DataOptions:
    return DataOptions(folder=str(images), cache=root and str(root), **{"image_size": 8, **more})


def everything(source) -> dict[str, np.ndarray]:
    return source.read(np.arange(source.count))


def assert_same(one: Source, other: Source) -> None:
    """Two sources of the same data, however they are read."""
    assert one._replace(read=print, arrays=None) == other._replace(read=print, arrays=None)
    ours, theirs = everything(one), everything(other)
    for key, feature in one.features.items():
        np.testing.assert_array_equal(ours[key], theirs[key])
        assert ours[key].dtype == feature.dtype


def only_entry(root) -> pathlib.Path:
    (entry,) = [path for path in root.iterdir() if not path.name.startswith(".")]
    return entry


def without_originals(monkeypatch) -> None:
    """Nothing can be opened as it was: neither a picture, nor a data set, nor an archive."""

    def fail(*_, **__):
        raise AssertionError("an original is opened")

    monkeypatch.setattr("jaxgan.data.pixels.opened", fail)
    monkeypatch.setattr("jaxgan.data.pixels.decoded", fail)
    monkeypatch.setattr("jaxgan.data.files.opened", fail)
    monkeypatch.setattr("jaxgan.data.shapes.read", fail)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)


def npz(folder: pathlib.Path) -> str:
    rng = np.random.default_rng(0)
    arrays = {"image": rng.random((9, 6, 5, 3)), "label": np.arange(9), "x": rng.normal(size=9)}
    np.savez_compressed(folder / "some.npz", **arrays)
    return str(folder / "some.npz")


@pytest.mark.parametrize("kind", ["folder", "file", "digits", "shapes"])
def test_all_kinds_are_the_same_with_and_without_and_their_originals_opened_once(
    tmp_path, root, images, kind, monkeypatch
):
    options = {
        "folder": DataOptions(folder=str(images)),
        "file": DataOptions(file=npz(tmp_path), image_size=4),
        "digits": DataOptions(split="train[:20]"),
        "shapes": DataOptions(name="shapes", image_size=8, split="test"),
    }[kind]
    plain = data.open_source(replace(options, {"cache": None}))
    own = replace(options, {"cache": str(root)})
    first = data.open_source(own)
    assert_same(first, plain)
    without_originals(monkeypatch)
    again = data.open_source(own)
    arrays = dict(again.arrays)
    assert_same(again, first._replace(read=lambda i: {k: a[i] for k, a in arrays.items()}))
    if kind != "shapes":  # which without_originals disables
        assert set(arrays) == set(plain.features)
    with pytest.raises(ValueError, match="read-only"):
        arrays[next(iter(arrays))][:] = 0


def test_what_is_ready_as_it_lies_is_not_kept_twice(tmp_path, root):
    np.save(tmp_path / "x.npy", np.zeros((4, 8, 8, 3), np.uint8))
    np.savez(tmp_path / "x.npz", image=np.zeros((4, 8, 8, 1), np.uint8), label=np.arange(4) % 2)
    for name in ("x.npy", "x.npz"):
        given = DataOptions(file=str(tmp_path / name), image_size=8, cache=str(root))
        data.open_source(given)
    data.open_source(DataOptions(name="ring", cache=str(root)))
    assert not root.exists() or not [*root.iterdir()]


def test_arrays_can_be_read_by_numpy_alone(images, root):
    source = data.open_source(options_of(images, root))
    mapped = np.load(only_entry(root) / "image.npy", mmap_mode="r")
    np.testing.assert_array_equal(mapped, everything(source)["image"])


def test_a_copy_of_a_folder_is_known_by_its_content_and_changed_ones_are_not(
    tmp_path, images, root, monkeypatch
):
    first = data.open_source(options_of(images, root))
    copy = shutil.copytree(images, tmp_path / "copy", copy_function=shutil.copyfile)
    for number, path in enumerate(sorted(copy.rglob("*.png"))):
        os.utime(path, (number, number))
    second = data.open_source(options_of(copy, root))
    assert second.version == first.version and only_entry(root)
    save_images(copy, 7)
    assert data.open_source(options_of(copy, root)).count == 7
    assert len([*entries.all_in(root)]) == 2
    without_originals(monkeypatch)
    os.rename(copy, tmp_path / "moved")
    assert data.open_source(options_of(tmp_path / "moved", root)).count == 7
    assert data.open_source(options_of(images, root)).count == 6


def save_middles(path: pathlib.Path, value: int, seconds: int) -> None:
    """A picture that no other differs from in its size, its first and its last bytes."""
    pixels = np.zeros((60, 60, 3), np.uint8)
    pixels[28:32] = value
    new = path.with_name("new.bmp")
    Image.fromarray(pixels).save(new)
    os.utime(new, (seconds, seconds))
    os.replace(new, path)


@pytest.mark.parametrize("seconds", [1, 2], ids=["as old as it was", "newer"])
def test_a_picture_that_changed_in_its_middle_is_another(tmp_path, root, seconds):
    """Of one size, and with the time of the one before it, as archives and copies leave it."""
    (images := tmp_path / "images").mkdir()
    for value, when in ((7, 1), (9, seconds)):
        save_middles(images / "0.bmp", value, when)
        source = data.open_source(DataOptions(folder=str(images), image_size=60, cache=str(root)))
        assert everything(source)["image"].max() == value


def test_files_of_one_size_and_time_are_told_apart(tmp_path, root):
    for value in (7, 9):
        path = tmp_path / f"{value}.npz"
        np.savez(path, image=np.full((4, 20, 20, 1), value, np.uint8))
        os.utime(path, (1, 1))
        source = data.open_source(DataOptions(file=str(path), image_size=8, cache=str(root)))
        assert everything(source)["image"].max() == value


def test_what_changes_while_it_is_read_is_not_kept(images, root, capsys, monkeypatch):
    decoded = folder.pixels.decoded

    def changing(path, **how):
        shutil.copy(images / "cats/0.png", images / "cats/2.png")
        return decoded(path, **how)

    monkeypatch.setattr("jaxgan.data.pixels.decoded", changing)
    data.open_source(options_of(images, root))
    assert "changed while they were read" in capsys.readouterr().err
    assert not [*entries.all_in(root)] and not preparing.unfinished(root)


def test_other_options_are_other_data_and_fewer_features_the_same(images, root):
    data.open_source(options_of(images, root))
    alone = data.open_source(options_of(images, root, features="label"))
    assert list(alone.features) == list(alone.arrays) == ["label"] and only_entry(root)
    for more in ({"image_size": 4}, {"channels": 1}):
        source = data.open_source(options_of(images, root, **more))
        assert_same(source, data.open_source(options_of(images, None, **more)))
    assert len([*entries.all_in(root)]) == 3


def damage_array(entry: pathlib.Path) -> None:
    content = bytearray((entry / "image.npy").read_bytes())
    content[-1] ^= 1
    (entry / "image.npy").write_bytes(content)


def cut_array(entry: pathlib.Path) -> None:
    (entry / "image.npy").write_bytes((entry / "image.npy").read_bytes()[:-1])


def link_array(entry: pathlib.Path) -> None:
    os.rename(entry / "image.npy", entry.parent / ".elsewhere")
    (entry / "image.npy").symlink_to(entry.parent / ".elsewhere")


def lose_array(entry: pathlib.Path) -> None:
    (entry / "image.npy").unlink()


def change_header(entry: pathlib.Path) -> None:
    content = json.loads((entry / "header.json").read_text())
    (entry / "header.json").write_text(json.dumps({**content, "count": 3}))


def another_format(entry: pathlib.Path) -> None:
    content = json.loads((entry / "header.json").read_text())
    del content["checksum"]
    content["format"] = 0
    content["checksum"] = entries._digest(content)
    (entry / "header.json").write_text(json.dumps(content))


OURS = {
    damage_array: r"image\.npy is changed",
    cut_array: r"image\.npy cannot be read: it has \d+ bytes and not \d+",
    link_array: r"image\.npy cannot be read: it is a link",
    lose_array: r"image\.npy cannot be read: No such file",
    change_header: r"header\.json is changed",
    another_format: r"another version of jaxgan made it",
}


@pytest.mark.parametrize("damage", OURS)
def test_what_is_damaged_is_prepared_anew_with_a_line(images, root, capsys, damage):
    plain = data.open_source(options_of(images, None))
    data.open_source(options_of(images, root))
    damage(only_entry(root))
    capsys.readouterr()
    assert_same(data.open_source(options_of(images, root)), plain)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is prepared anew" in said
    assert re.search(OURS[damage], said), said
    assert_same(data.open_source(options_of(images, root)), plain)
    assert not capsys.readouterr().err and only_entry(root)


def cut_header(entry: pathlib.Path) -> None:
    (entry / "header.json").write_text('{"what":')


def put_link(entry: pathlib.Path) -> None:
    os.rename(entry, entry.parent / ".elsewhere")
    entry.symlink_to(entry.parent / ".elsewhere")


def put_file(entry: pathlib.Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("precious")


def put_folder(entry: pathlib.Path) -> None:
    shutil.rmtree(entry)
    entry.mkdir()
    (entry / "thesis.npy").write_text("precious")


@pytest.mark.parametrize("put", [cut_header, put_link, put_file, put_folder])
def test_what_is_not_certainly_ours_is_set_aside_and_never_removed(images, root, capsys, put):
    plain = data.open_source(options_of(images, None))
    data.open_source(options_of(images, root))
    entry = only_entry(root)
    put(entry)
    before = os.path.islink(entry) or [p.name for p in entry.glob("*")] or entry.read_text()
    capsys.readouterr()
    assert_same(data.open_source(options_of(images, root)), plain)
    assert "is no prepared data (" in (said := capsys.readouterr().err) and said.count("\n") == 1
    aside = entry.with_name(f"{entry.name}.old")
    kept = os.path.islink(aside) or [p.name for p in aside.glob("*")] or aside.read_text()
    assert kept == before and not entry.is_symlink()


def test_a_file_of_the_users_in_an_entry_survives_it(images, root):
    data.open_source(options_of(images, root))
    (only_entry(root) / "notes.npy").write_text("precious")
    damage_array(only_entry(root))
    data.open_source(options_of(images, root))
    (aside,) = root.glob("*.old")
    assert (aside / "notes.npy").read_text() == "precious"


def test_without_room_a_line_says_so_and_the_originals_are_read(images, root, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1000))
    source = data.open_source(options_of(images, root))
    said = capsys.readouterr().err
    assert (
        "6 examples, 1.1 KiB) find no room in " in said
        and f"which has {memory.shown(1000)}; make" in said
    )
    assert said.endswith("this run reads the originals\n") and said.count("\n") == 1
    assert source.arrays is None and everything(source)["image"].shape == (6, 8, 8, 3)
    words = ["--data.folder", str(images), "--data.image-size", "8", "--data.cache", str(root)]
    assert main(["data", "prepare", "dcgan", *words]) == 2
    assert "find no room in" in capsys.readouterr().err


def test_a_disk_that_fills_up_meanwhile_says_so_and_keeps_nothing(images, root, capsys):
    with faults.files_of_at_most(700):  # the images take 1152 bytes
        source = data.open_source(options_of(images, root))
    assert "File too large; make room, or choose another --data.cache" in capsys.readouterr().err
    assert source.count == 6 and [p.name for p in root.iterdir() if p.is_dir()] == []


@pytest.mark.parametrize(
    "fault", [faults.full, faults.read_only, lambda _: faults.not_kept(), faults.unreadable]
)
def test_a_folder_that_cannot_be_written_costs_a_line(images, root, capsys, fault):
    root.mkdir()
    with fault(root):
        source = data.open_source(options_of(images, root))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "prepared data cannot be" in said, said
    assert everything(source)["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert not preparing.unfinished(root)


def test_a_folder_that_can_only_be_read_serves_what_is_there(tmp_path, images, root, capsys):
    data.open_source(options_of(images, root))
    copy = shutil.copytree(images, tmp_path / "copy", copy_function=shutil.copyfile)
    with faults.read_only(root):
        for folder in (images, copy):
            assert data.open_source(options_of(folder, root)).arrays
    assert not capsys.readouterr().err


def test_without_a_home_a_line_says_so(images, capsys, monkeypatch):
    monkeypatch.setattr("jaxgan.caches.own", lambda: "")
    assert data.open_source(options_of(images, "auto")).count == 6
    assert capsys.readouterr().err.startswith("jaxgan: there is no home folder for prepared data")


def test_an_original_that_cannot_be_decoded_is_named_and_leaves_nothing(images, root):
    path = images / "cats" / "0.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"cats/0\.png cannot be decoded: .*--data.skip-damaged"):
        data.open_source(options_of(images, root))
    assert not preparing.unfinished(root) and not [*entries.all_in(root)]
    assert data.open_source(options_of(images, root, skip_damaged=True)).count == 5
    with pytest.raises(RunError, match=r"cats/0\.png cannot be decoded"):
        data.open_source(options_of(images, root))


def numbers_of(count: int = 40, read=None) -> Source:
    def read_numbers(indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"x/y": np.stack([indices, -indices], 1).astype(np.float32)}

    features = {"x/y": Feature((2,), np.dtype(np.float32))}
    return Source("numbers", count, read or read_numbers, features, "1")


def test_two_that_prepare_at_once_do_the_work_once(root, monkeypatch):
    begun, go_on, told, reads = threading.Event(), threading.Event(), threading.Event(), []

    def complain(line):
        assert "another process prepares" in line
        told.set()

    monkeypatch.setattr(preparing.terminal, "complain", complain)

    def read(indices):
        reads.append(len(indices))
        begun.set()
        assert go_on.wait(60)
        return numbers_of().read(indices)

    got = []
    ask = [
        threading.Thread(
            target=lambda: got.append(data.prepared(numbers_of(read=read), cache=root))
        )
        for _ in range(2)
    ]
    ask[0].start()
    assert begun.wait(60)
    ask[1].start()
    assert told.wait(60)
    go_on.set()
    for thread in ask:
        thread.join()
    assert_same(*got)
    assert sum(reads) == 40 + 40  # the first are read twice, to see how long they take


def test_without_locks_both_prepare_and_either_wins(root):
    with faults.without_locks():
        waiting = [numbers_of()]

        def read(indices):
            if waiting:  # another begins and ends meanwhile
                data.prepared(waiting.pop(), cache=root)
            return numbers_of().read(indices)

        assert_same(data.prepared(numbers_of(read=read), cache=root), numbers_of())
    assert only_entry(root) and not preparing.unfinished(root)


def test_a_preparation_that_was_killed_is_begun_anew_and_its_remains_removed(root):
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2])\n"
        "import faults; from jaxgan.data import prepared\n"
        "whole, calls = faults.numbers(3000), []\n"
        "def read(indices):\n"
        "    calls.append(1)\n"
        "    if len(calls) > 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return whole.read(indices)\n"
        "prepared(whole._replace(read=read), cache=sys.argv[1])\n"
    )
    words = [sys.executable, "-c", code, str(root), str(pathlib.Path(__file__).parent)]
    assert subprocess.run(words, capture_output=True).returncode == -signal.SIGKILL
    assert len(preparing.unfinished(root)) == 1 and not [*entries.all_in(root)]
    copy = shutil.copytree(root, root.with_name("copy"))
    with preparing._only_one(next(copy.glob(".*.lock")), ""):
        assert preparing.remove_unfinished(copy) == 0  # somebody may be at work
    assert preparing.remove_unfinished(copy) > 0 and not [*copy.iterdir()]
    assert_same(data.prepared(faults.numbers(3000), cache=root), faults.numbers(3000))
    assert only_entry(root) and not preparing.unfinished(root)


def header_of(source: Source, content: str = "") -> entries.Header:
    about = (source.name, "", "python", content, "1", source.count)
    return entries.Header(*about, source.features, 100, {}, {}, 0.0)


def test_threads_and_one_reader_write_the_same(root, monkeypatch):
    """Whoever reads which part; a process that cannot begin is done without."""
    monkeypatch.setattr(parts, "cores", lambda: 3)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    source, checksums = numbers_of(3000), set()
    for way, seconds in {"one": (9, 0, 9), "threads": (0, 0, 9), "no process": (9, 9, 0)}.items():
        for name, value in zip(("A_THREAD", "THREADS_ALONE", "PROCESSES"), seconds, strict=True):
            monkeypatch.setattr(parts, f"_SECONDS_WORTH_{name}", value)
        made = preparing.prepared(root, header_of(source, way), source, faults.numbers, None)
        arrays = entries.arrays_of(made)
        entries.check(made, arrays)
        np.testing.assert_array_equal(arrays["x/y"], everything(source)["x/y"])
        checksums.add(json.dumps(made.header.checksums))
    assert len(checksums) == 1


def test_another_process_writes_what_it_is_told_to_and_its_errors_come_back(tmp_path):
    source, begins = faults.numbers(), {"point": 8}
    (tmp_path / "point.npy").touch()
    places = parts.Places({"point": tmp_path / "point.npy"}, begins)

    def never(part):
        raise AssertionError("the other process is gone")

    task = pickle.dumps((faults.numbers, places))
    with parts._in_process(task, never, parts.Halt()) as read:
        checksums = read((20, 50))
        with pytest.raises(RunError, match=r"numbers: examples 100 cannot be read"):
            read((100, 101))
        read((0, 20))
    written = np.frombuffer((tmp_path / "point.npy").read_bytes(), np.float32, offset=8)
    expected = source.read(np.arange(50))["point"]
    np.testing.assert_array_equal(written.reshape(50, 2), expected)
    assert checksums == {"point": entries.checksum_of(expected[20:])}


def test_sequences_of_pythons_need_a_version(root):
    rows = [{"x": [i, i]} for i in range(5)]
    with pytest.raises(UserError, match="rows has no version"):
        data.prepared(rows, name="rows", cache=root)
    for version, expected in (("1", 5), ("1", 5), ("2", 9)):
        made = data.prepared([{"x": [expected] * 2}] * 5, version, name="rows", cache=root)
        assert everything(made)["x"][0, 0] == expected
    assert data.prepared(np.zeros((3, 2)), cache=root).arrays["point"].shape == (3, 2)


def test_two_sources_of_one_version_are_told_apart_by_their_names(root):
    for name, value in {"a": 7, "b": 9}.items():
        source = numbers_of(3, lambda i, value=value: {"x/y": np.full((len(i), 2), value, "f4")})
        made = data.prepared(source, name=name, cache=root)
        assert everything(made)["x/y"].max() == value


def test_a_reader_that_is_not_wanted_any_more_ends_within_its_part(tmp_path):
    halt, asked = parts.Halt(), []

    def read(indices):
        asked.append(len(indices))
        halt.set()  # as Ctrl-C does, from another thread
        return {"point": np.zeros((len(indices), 2), np.float32)}

    (tmp_path / "point.npy").touch()
    places = parts.Places({"point": tmp_path / "point.npy"}, {"point": 8}, at_once=3)
    with (
        parts.reader_of(faults.numbers(read=read), places, halt.is_set) as reader,
        pytest.raises(parts.Halted),
    ):
        reader((0, 100))
    assert asked == [3]


def test_names_of_any_letters_are_shown_and_kept_safely(tmp_path, root, capsys):
    images = save_images(tmp_path / "a\n\x1b[31mb..\u202e")
    words = ["--data.folder", str(images), "--data.image-size", "8", "--data.cache", str(root)]
    assert main(["data", "prepare", *words]) == 0
    assert main(["data", "list", "--data.cache", str(root)]) == 0
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said and "\u202e" not in said and said.count("\n") == 4
    assert only_entry(root).name.isascii() and only_entry(root).name.isprintable()
    names = entries.file_names(dict.fromkeys(("a/b", "a b", "A_B", "../c", "header.json", "é")))
    assert len(set(names.values())) == 6
    assert all("/" not in n and n.endswith(".npy") for n in names.values())


def test_the_command_prepares_lists_and_removes(tmp_path, images, root, capsys, monkeypatch):
    own = ["--data.cache", str(root)]
    words = ["--data.folder", str(images), "--data.image-size", "8", *own]
    assert main(["data", "prepare", "dcgan", *words]) == 0
    out, err = capsys.readouterr()
    assert err.startswith(f"jaxgan: preparing images: 6 examples, 1.1 KiB in {root} (")
    entry = only_entry(root)
    assert out == f"images is prepared: 6 examples, 1.1 KiB, in {entry}\n"
    assert main(["data", "prepare", "dcgan", *words]) == 0
    assert capsys.readouterr().err == ""
    assert main(["data", "list", *own]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("images, 8 x 8 x 3, 6 examples, 1.1 KiB, used 20")
    assert first.endswith(f": {entry}") and last == f"1 prepared in {root}: 1.1 KiB"
    assert main(["data", "remove", "imagse", *own]) == 2
    assert "unknown name 'imagse'; did you mean images" in capsys.readouterr().err
    (root / "mine").mkdir()
    (entry / "notes").write_text("precious")
    assert main(["data", "remove", "images", *own]) == 0
    assert "files in it that are not ours stay\nfreed" in capsys.readouterr().out
    assert os.listdir(entry) == ["notes"]
    assert main(["data", "remove", "images", *own]) == 2
    assert "nothing is prepared in" in capsys.readouterr().err
    shutil.rmtree(entry)
    assert main(["data", "prepare", "dcgan", *words]) == 0
    another_format(entry)
    assert main(["data", "list", *own]) == 0
    assert f"of no use, another version of jaxgan made it: {entry}" in capsys.readouterr().out
    assert main(["data", "prepare", "dcgan", *words]) == 0
    assert main(["data", "remove", "images", *own]) == 0
    assert re.search(rf"freed [\d.]+ KiB in {root}\n$", capsys.readouterr().out)
    assert [path.name for path in root.iterdir()] == ["mine"]
    assert main(["data", "remove", "--all", *own]) == 0
    assert [path.name for path in root.iterdir()] == ["mine"]
    assert main(["data", "prepare", "--data.name", "ring", *own]) == 0
    assert capsys.readouterr().out.endswith("ring needs no preparing: it is read as it is\n")


def test_sources_say_only_what_is_true_of_their_arrays():
    source = numbers_of(4)
    whole = everything(source)
    assert data.as_source(source._replace(arrays=whole)).arrays is whole
    for bad in ({}, {"x/y": whole["x/y"][:3]}, {"x/y": whole["x/y"].astype(np.float64)}, 3):
        with pytest.raises(UserError, match=r"'x/y' in arrays as .* features promise"):
            data.as_source(source._replace(arrays=bad))
    ready = data.as_source({"image": np.zeros((3, 4, 4), np.uint8), "z": np.ones(3, np.float32)})
    assert ready.arrays["image"].shape == (3, 4, 4, 1) and ready.arrays["z"].dtype == np.float32
    for small, dtype in ((np.ones(3), np.float32), (np.arange(3), np.int32)):
        assert data.as_source({"z": small}).arrays["z"].dtype == dtype
    assert data.as_source(np.zeros((3, 4, 4, 3), np.uint8), size=(2, 2)).arrays is None


def test_runs_go_on_with_and_without_prepared_data(images, root, tmp_path):
    """What tells one run from another does not change with where its pixels come from."""
    with_, without = (data.open_source(options_of(images, r)) for r in (root, None))
    again = data.open_source(options_of(images, root))
    assert about_data(with_) == about_data(without) == about_data(again)
    new = described(configured("digits", {}))
    older = {n: v for n, v in new.items() if n not in ("data.cache", "data.text_bytes")}
    assert not differences(older, new)


def test_a_dry_run_keeps_nothing(images, root):
    assert data.open_source(options_of(images, root), keep=False).arrays is None
    assert not root.exists()
