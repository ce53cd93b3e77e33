"""Feeds: the order, the two kinds and their equality, shares, and errors of reading."""

import concurrent.futures
import hashlib
import subprocess
import sys
import threading
from typing import Any

import jax
import numpy as np
import pytest

from jaxgan import data
from jaxgan.data import DataOptions, Feature, Source, ahead, feeds, order, reading
from jaxgan.errors import RunError, UserError

BATCHES = {0, 1, 2, 3, 7, 4}  # of 3 steps an epoch: its edge, and steps out of order


def counted(count=1797, side=4, read=None) -> Source:
    """Examples that say which they are."""

    def numbers(indices):
        image = np.broadcast_to(indices[:, None, None, None] % 251, (len(indices), side, side, 1))
        return {"image": image.astype(np.uint8), "label": indices.astype(np.int32)}

    features = {
        "image": Feature((side, side, 1), np.dtype(np.uint8)),
        "label": Feature((), np.dtype(np.int32)),
    }
    return Source("numbers", count, read or numbers, features, "1")


def mapped(folder, **options) -> Any:
    """The same examples in a file that is mapped, and whose reader is not to be asked."""
    source = counted(**options)
    arrays = dict(source.read(np.arange(source.count)))
    arrays["image"].tofile(folder / "image")
    arrays["image"] = np.memmap(folder / "image", np.uint8, "r", shape=arrays["image"].shape)
    return source._replace(read=refusing, arrays=arrays)


def refusing(indices):
    raise AssertionError("the arrays lie ready")


def batch_of(feed, step):
    return feed.fetch(feed.resident, feed.item(step))


def test_an_epoch_has_each_example_once_and_another_order_than_the_next():
    orders = [data.epoch_order(0, epoch, 1000) for epoch in range(3)]
    orders.append(data.epoch_order(1, 0, 1000))
    for found in orders:
        np.testing.assert_array_equal(np.sort(found), np.arange(1000))
    for i, first in enumerate(orders):
        for second in orders[i + 1 :]:
            assert (first == second).mean() < 0.02  # of 1,000 places one is expected to agree


def test_the_order_is_the_recorded_one():
    """A resumed run under other versions must see the same order."""
    np.testing.assert_array_equal(data.epoch_order(7, 3, 8), [2, 5, 7, 3, 0, 6, 4, 1])


def test_the_batches_are_the_recorded_ones():
    digest = hashlib.sha256()
    for seed, step, size, count in [
        (0, 0, 64, 1797),
        (0, 27, 64, 1797),
        (0, 28, 64, 1797),
        (7, 4680, 128, 60000),
        (2**32 - 1, 10**6, 512, 1000),
    ]:
        digest.update(data.batch_indices(seed, step, size, count).astype("<i4").tobytes())
    assert digest.hexdigest()[:16] == "80fa8a5556f26e5a"


def test_batches_of_an_epoch_do_not_overlap_and_leave_out_the_rest():
    seen = np.concatenate([data.batch_indices(0, step, 64, 1797) for step in range(28)])
    assert len(np.unique(seen)) == 28 * 64
    first, of_the_next = (data.batch_indices(0, step, 64, 1797) for step in (0, 28))
    assert not np.array_equal(first, of_the_next)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_streamed_batches_equal_resident_ones_at_any_step(threads):
    source = counted()
    resident = data.make_feed(source, 512, 5)
    streamed = data.make_feed(source, 512, 5, resident_limit_mb=0, read_threads=threads)
    assert streamed.resident == {} and resident.steps_per_epoch == streamed.steps_per_epoch == 3
    assert resident.num_examples == streamed.num_examples == 1797
    for step in BATCHES:
        first, second = batch_of(resident, step), batch_of(streamed, step)
        np.testing.assert_array_equal(first["label"], data.batch_indices(5, step, 512, 1797))
        for name in ("image", "label"):
            np.testing.assert_array_equal(first[name], second[name])
            assert first[name].dtype == second[name].dtype


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("share", [slice(None), slice(7, 21)], ids=["whole", "share"])
def test_items_from_arrays_equal_those_of_the_reader_however_many_steps_they_hold(
    tmp_path, monkeypatch, threads, share
):
    """At epochs' edges, where the length of dispatches changes, and out of order."""
    monkeypatch.setattr(feeds, "_GATHERED_AT_ONCE", 2000)  # some steps
    options: Any = dict(share=share, resident_limit_mb=0, read_threads=threads)
    known, ready = (
        data.make_feed(source, 28, 3, **options)
        for source in (counted(100), mapped(tmp_path, count=100))
    )
    for step, count in [(0, 4), (4, 4), (8, 1), (9, 1), (10, 4), (14, 3), (2, 1), (3, 4)]:
        items = [known.item(s) for s in range(step, step + count)]
        found = ready.item(step, count)
        assert ready.position() == {"next_index": step + count}
        for name in ("image", "label"):
            wanted = np.stack([item[name] for item in items]) if count > 1 else items[0][name]
            np.testing.assert_array_equal(found[name], wanted)
            assert found[name].dtype == wanted.dtype


def test_items_keep_what_they_hold_while_later_ones_are_read(tmp_path):
    """A device may use their memory as it is."""
    feed = data.make_feed(mapped(tmp_path, count=100), 10, 0, resident_limit_mb=0)
    items = [feed.item(step) for step in range(200)]
    for step, item in enumerate(items):
        np.testing.assert_array_equal(item["label"], data.batch_indices(0, step, 10, 100))
    assert all(item["image"].ctypes.data % 16 == 0 for item in items)


def test_resident_arrays_are_loaded_into_memory_of_the_runs_own(tmp_path):
    source = mapped(tmp_path)
    resident = data.make_feed(source, 64, 0).resident
    for name, array in source.arrays.items():
        np.testing.assert_array_equal(resident[name], array)
        assert type(resident[name]) is np.ndarray and not np.may_share_memory(resident[name], array)


def test_arrays_with_gaps_are_gathered_as_they_are():
    source = counted(64)
    wide = np.repeat(source.read(np.arange(64))["image"], 2, axis=1)
    arrays = {"image": wide[:, ::2], "label": np.arange(64, dtype=np.int32)}
    feed = data.make_feed(source._replace(arrays=arrays), 16, 0, resident_limit_mb=0)
    known = data.make_feed(source, 16, 0, resident_limit_mb=0)
    np.testing.assert_array_equal(feed.item(5)["image"], known.item(5)["image"])


@pytest.mark.parametrize("threads", [0, 2])
def test_items_are_placed_ahead_and_those_that_are_not_taken_are_placed_anew(threads):
    placed = []

    def place(item, count):
        placed.append((threading.current_thread().name.startswith("jaxgan-place"), count))
        return item["label"] + 1

    feed = data.make_feed(
        counted(100), 10, 0, resident_limit_mb=0, read_threads=threads, place=place
    )
    for step, count in [(0, 2), (2, 2), (4, 1)]:
        found = feed.item(step, count).reshape(-1, 10)
        for i, row in enumerate(found):
            np.testing.assert_array_equal(row, data.batch_indices(0, step + i, 10, 100) + 1)
    feed.close()
    assert placed[0] == (False, 2) and ((True, 2) in placed) == bool(threads)


def test_an_epochs_order_is_made_before_its_first_step(monkeypatch):
    second = threading.Event()

    def noted(seed, epoch, count):
        if epoch == 1:
            second.set()
        return np.arange(count)

    monkeypatch.setattr(order, "_order", noted)
    orders = order.Orders(0, 40, 10)
    orders.indices(0, 1)
    assert second.wait(60)
    orders.close()


def test_threads_end_with_their_feed_and_what_was_not_begun_is_left():
    begun, going_on = threading.Event(), threading.Event()
    asked = []

    def read(indices):
        asked.append(len(indices))
        if len(asked) > 1:
            begun.set()
            going_on.wait()
        return counted().read(indices)

    before = set(threading.enumerate())
    feed = data.make_feed(counted(read=read), 64, 0, resident_limit_mb=0, read_threads=1)
    feed.item(0)
    begun.wait()
    closing = threading.Thread(target=feed.close)
    closing.start()
    going_on.set()
    closing.join()
    assert not set(threading.enumerate()) - before and len(asked) < 5


def test_a_batch_is_fetched_inside_a_compiled_program():
    feed = data.make_feed(counted(), 16, 0)
    np.testing.assert_array_equal(
        jax.jit(feed.fetch)(feed.resident, feed.item(2))["label"], batch_of(feed, 2)["label"]
    )


@pytest.mark.parametrize("slow", [0.0, 1e9])
def test_what_is_resident_is_loaded_whole_by_one_thread_or_many(monkeypatch, slow):
    monkeypatch.setattr(reading, "_SECONDS_WORTH_A_THREAD", slow)
    monkeypatch.setattr(reading, "_READ_AT_ONCE", 100)
    resident = data.make_feed(counted(1797), 64, 0).resident
    np.testing.assert_array_equal(resident["label"], np.arange(1797))
    assert resident["image"].shape == (1797, 4, 4, 1)


def test_the_streams_position_is_restored():
    first, second = (data.make_feed(counted(), 64, 0, resident_limit_mb=0) for _ in range(2))
    for step in range(3):
        first.item(step)
    assert first.position() == {"next_index": 3}
    second.seek(first.position())
    np.testing.assert_array_equal(first.item(3)["label"], second.item(3)["label"])
    assert second.position() == {"next_index": 4}
    resident = data.make_feed(counted(), 64, 0)
    resident.seek(resident.position())  # has no place, and bears to be told one


def test_a_stream_reads_ahead_no_more_than_it_may():
    """Of large batches few are held: two threads, two batches of 256 MiB."""
    asked = []

    def read(indices):
        asked.append(len(indices))
        return {"image": np.broadcast_to(np.uint8(0), (len(indices), 2**22))}  # of no memory

    large = Feature((2**22,), np.dtype(np.uint8))
    source = Source("large", 1000, read, {"image": large}, "1")
    feed = data.make_feed(source, 64, 0, resident_limit_mb=0, read_threads=2)
    feed.item(0)
    feed.item(1)
    assert len(asked) <= 3  # both that were asked for, and one of the next


def test_of_small_batches_some_steps_are_read_ahead_and_not_thousands():
    asked = []

    def fill(step, leaves):
        asked.append(step + len(leaves["label"]))
        return leaves

    def memory(steps):
        return {"label": np.zeros((steps, 4), np.int32)}

    reader = ahead.ReadAhead(memory, fill, 1, batch_bytes=16, block_bytes=2**22, place=None)
    for step in range(100):
        reader.item(step)
    reader.close()
    assert max(asked) <= 100 + 64 * (1 + 4)


@pytest.mark.parametrize("limit", [2048, 0])
def test_a_share_of_the_batches_is_that_part_of_each(limit):
    """Of several processes each reads its own."""

    def make(share):
        return data.make_feed(counted(), 8, 0, share, resident_limit_mb=limit)

    whole, first, second = (make(s) for s in (slice(None), slice(0, 4), slice(4, 8)))
    for step in (0, 225):
        parts = [batch_of(feed, step)["label"] for feed in (first, second)]
        np.testing.assert_array_equal(batch_of(whole, step)["label"], np.concatenate(parts))


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(
        UserError,
        match="batch_size=1798 exceeds the 1797 examples of numbers; use 1797 or less",
    ):
        data.make_feed(counted(), 1798, 0)


def failing(indices):
    if 3 in indices:
        raise RunError("numbers: example 3 cannot be read: input/output error")
    return {"image": np.zeros((len(indices), 4, 4, 1), np.uint8), "label": indices.astype(np.int32)}


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_of_a_reader_comes_out_where_the_batch_is_asked_for(threads):
    source = counted(8, read=failing)
    with pytest.raises(RunError, match="example 3 cannot be read"):
        data.make_feed(source, 4, 0, read_threads=threads)
    feed = data.make_feed(source, 4, 0, resident_limit_mb=0, read_threads=threads)
    (bad,) = (step for step in (0, 1) if 3 in data.batch_indices(0, step, 4, 8))
    feed.item(1 - bad)
    for _ in range(2):  # and again where it is asked for again
        with pytest.raises(RunError, match="example 3 cannot be read"):
            feed.item(bad)


def test_a_batch_that_failed_is_read_anew():
    """After a mount came back the run goes on."""
    works = threading.Event()

    def read(indices):
        if not works.is_set():
            raise RunError("numbers: the mount is gone")
        return counted().read(indices)

    feed = data.make_feed(counted(read=read), 64, 0, resident_limit_mb=0)
    with pytest.raises(RunError, match="the mount is gone"):
        feed.item(0)
    works.set()
    np.testing.assert_array_equal(feed.item(0)["label"], data.batch_indices(0, 0, 64, 1797))


def test_options_that_do_not_go_together_are_refused():
    for options, text in [
        (DataOptions(folder="a", file="b.npz"), "data.folder=a and data.file=b.npz name two"),
        (DataOptions(channels=2), r"data.channels=2 is none of 1 \(grey\), 3 \(RGB\) and 4"),
        (DataOptions(height=20), "data.height=20 needs data.width"),
        (DataOptions(folder="a", split="test"), "data.split='test' has no meaning for a folder"),
        (DataOptions(skip_damaged=True), "data.skip_damaged=true is for data.folder"),
        (DataOptions(name="ring", features="pont"), "unknown feature 'pont'; did you mean point"),
        (DataOptions(folder="gs://bucket/x"), r"data.folder=gs://bucket/x is an address"),
    ]:
        with pytest.raises(UserError, match=text) as error:
            data.open_source(options)
        assert "\n" not in str(error.value)


def test_data_needs_neither_tensorflow_nor_torch_nor_a_config():
    code = (
        "import sys; from jaxgan import data; from jaxgan.data import DataOptions\n"
        "data.make_feed(data.open_source(DataOptions()), 64, 0)\n"
        "print([m for m in ('tensorflow', 'torch', 'triton', 'grain') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("limit", [2048, 0], ids=["resident", "streamed"])
@pytest.mark.parametrize(
    ("read", "text"),
    [
        (lambda i: {"image": np.zeros((len(i), 4, 4, 1), np.uint8)}, "'label' as None"),
        (
            lambda i: {
                "image": np.zeros((1, 4, 4, 1), np.uint8),
                "label": np.zeros(len(i), np.int32),
            },
            r"'image' as \(\(1, 4, 4, 1\)",
        ),
        (
            lambda i: {
                "image": np.zeros((len(i), 4, 4, 1), np.uint8),
                "label": np.zeros(len(i), np.float32),
            },
            "'label' as .*float32.*promise .*int32",
        ),
    ],
    ids=["missing", "shape", "dtype"],
)
def test_a_source_that_does_not_keep_its_word_is_named(read, text, limit):
    with pytest.raises(RunError, match=f"numbers: read gives {text}"):
        data.make_feed(counted(count=100, read=read), 8, 0, resident_limit_mb=limit).item(0)


def test_a_feed_that_is_closed_waits_for_one_batch_of_a_dispatch_alone():
    halt, asked = threading.Event(), []

    def read(indices):
        asked.append(len(indices))
        halt.set()  # as `close` does, from another thread
        return {"x": indices.astype(np.int32)}

    source = Source("slow", 100, read, {"x": Feature((), np.dtype(np.int32))}, "1")
    fill = reading.filler(source, halt.is_set)
    with pytest.raises(concurrent.futures.CancelledError):
        fill(np.zeros((5, 10), np.int64), reading.empty(source.features, 5, 10))
    assert asked == [10]
    feed = data.make_feed(source, 10, 0, resident_limit_mb=0, read_threads=0)
    feed.item(0)
    feed.close()
    with pytest.raises(concurrent.futures.CancelledError):
        feed.item(1)
