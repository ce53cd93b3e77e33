"""From a source to the items that training steps take."""

import concurrent.futures
import functools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxgan import terminal
from jaxgan.data.rows import one_line
from jaxgan.data.source import Feature, Source
from jaxgan.errors import RunError, UserError

_READ_AT_ONCE = 1024  # examples: one call for many is several times faster than one for each
_BYTES_AT_ONCE = 2**25  # of large examples, fewer
_AHEAD = 4  # batches that each thread reads ahead
_BYTES_AHEAD = 2**28  # of large batches, fewer
_MOST_THREADS = 8
# Threads take turns at the interpreter: with less to decode in an example they slow each other.
_SECONDS_WORTH_A_THREAD = 3e-4
_TIMED = 64  # examples that tell

Leaves = dict[str, np.ndarray]


class Feed(NamedTuple):
    """The input of a run.

    Attributes:
      resident: leaves [N, ...] that live on the device for the whole run; {} when streaming.
      item: step -> what makes its batch, of this process's share: when resident which examples,
        int32 [B], when streaming leaves [B, ...]. Steps in order are read ahead; any other can be
        asked for.
      fetch: pure (resident, item) -> batch, leaves [B, ...]; compiled into the step.
      position: () -> where the reader is, as JSON, for the checkpoint; None when resident.
      seek: begins to read ahead from a position.
      num_examples: examples in the source.
      steps_per_epoch: full batches in it; the rest, another one each epoch, is left out.
    """

    resident: Any
    item: Callable[[int], Any]
    fetch: Callable[[Any, Any], Any]
    position: Callable[[], Any]
    seek: Callable[[Any], None]
    num_examples: int
    steps_per_epoch: int


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` examples in an epoch, int64 [count]: a pure function of its arguments.

    From Philox's raw numbers, whose stream NumPy guarantees; `permutation` may change.
    """
    numbers = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(count)
    return np.argsort(numbers, kind="stable")


def batch_indices(seed: int, step: int, batch_size: int, count: int) -> np.ndarray:
    """Which examples make the batch of a step, int32 [batch_size]."""
    epoch, place = divmod(step, count // batch_size)
    order = epoch_order(seed, epoch, count)
    return order[place * batch_size : (place + 1) * batch_size].astype(np.int32)


def make_feed(
    source: Source,
    batch_size: int,
    seed: int,
    share: slice = slice(None),
    resident_limit_mb: int = 2048,
    read_threads: int = 2,
    progress: bool = False,
) -> Feed:
    """A feed of the batches that (seed, step) name.

    Args:
      source: the examples.
      batch_size: examples of a batch, over all processes.
      seed: of the order.
      share: which examples of each batch this process takes; those of the others are not read.
      resident_limit_mb: sources up to this many MiB are read whole; larger ones stream.
      read_threads: threads that read ahead when streaming, and at least how many load what is
        resident; 0 reads in the calling thread, for sources that bear no other.
      progress: show a bar while loading.

    Raises:
      UserError: for a batch larger than the source.
      RunError: for examples that cannot be read, here or when an item is asked for.
    """
    check_batch_size(source, batch_size)

    def indices(step: int) -> np.ndarray:
        return batch_indices(seed, step, batch_size, source.count)[share]

    numbers = source.count, source.count // batch_size
    fetch = fetch_of(source, resident_limit_mb)
    if fetch is gathered:
        resident = _loaded(source, read_threads, progress)
        return Feed(resident, indices, fetch, lambda: None, lambda position: None, *numbers)

    def read(step: int) -> Leaves:
        return checked_read(source, indices(step).astype(np.int64))

    each = bytes_of_one(source.features)
    at_once = max(1, _BYTES_AHEAD // (each * max(len(indices(0)), 1)))
    ahead = _ReadAhead(read, read_threads, min(_AHEAD * read_threads, max(at_once, read_threads)))
    return Feed({}, ahead.item, fetch, ahead.position, ahead.seek, *numbers)


def check_batch_size(source: Source, batch_size: int) -> None:
    """Raises `UserError` for a batch larger than the source, or a source of too many examples."""
    if source.count >= 2**31:
        raise UserError(
            f"{source.name} has {source.count} examples; use less than {2**31}, a part of it"
        )
    if batch_size > source.count:
        raise UserError(
            f"batch_size={batch_size} exceeds the {source.count} examples of {source.name}; use "
            f"{source.count} or less"
        )


def fetch_of(source: Source, resident_limit_mb: int) -> Callable[[Any, Any], Any]:
    """`gathered` for a source that lives on the device, another function for one that streams."""
    size = source.count * bytes_of_one(source.features)
    return gathered if size <= resident_limit_mb * 2**20 else _as_it_is


def gathered(resident: Mapping[str, Any], item: Any) -> dict[str, Any]:
    """The examples of these numbers, int32 [B], of leaves [N, ...]."""
    return {key: leaf[item] for key, leaf in resident.items()}


def _as_it_is(resident: Any, item: Any) -> Any:
    del resident
    return item


def bytes_of_one(features: Mapping[str, Feature]) -> int:
    """Bytes of an example."""
    return sum(int(np.prod(f.shape)) * np.dtype(f.dtype).itemsize for f in features.values())


def checked_read(source: Source, indices: np.ndarray) -> Leaves:
    """What a source reads, after comparing it with what the source says of itself: the one door to
    a reader, before the first step and after it.

    Raises:
      RunError: examples that cannot be read; other features, shapes or dtypes.
    """
    try:
        leaves = source.read(indices)
        # What a reader gives is its own: it may write over it in the next call.
        if not isinstance(leaves, Mapping):
            raise TypeError(f"read gives {type(leaves).__name__}, and not a dict of arrays")
        leaves = {name: np.array(leaf) for name, leaf in leaves.items()}
    except (RunError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # a reader of the user's may raise anything
        some = ", ".join(str(index) for index in indices[:3].tolist())
        raise RunError(
            f"{source.name}: examples {some}{', ..' * (len(indices) > 3)} cannot be read: "
            f"{type(error).__name__}: {one_line(error)}; a disk or a mount may have failed, or the "
            "data have changed: mend that and go on"
        ) from error
    found = {name: (leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
    told = {
        name: ((len(indices), *feature.shape), np.dtype(feature.dtype))
        for name, feature in source.features.items()
    }
    for name in sorted(found.keys() | told.keys(), key=str):
        if found.get(name) != told.get(name):
            raise RunError(
                f"{source.name}: read gives {name!r} as {found.get(name)}, its features promise "
                f"{told.get(name)} for {len(indices)} examples; make them equal"
            )
    return leaves


def _loaded(source: Source, read_threads: int, progress: bool) -> Leaves:
    """All examples, leaves [N, ...]."""
    leaves = {
        key: np.empty((source.count, *feature.shape), feature.dtype)
        for key, feature in source.features.items()
    }
    bar = terminal.bar(
        total=source.count,
        desc=f"Loading {source.name}",
        unit=" examples",
        leave=False,
        disable=not progress,
    )

    at_once = min(_READ_AT_ONCE, max(1, _BYTES_AT_ONCE // bytes_of_one(source.features)))
    threads = max(read_threads, min(_cores(), _MOST_THREADS))

    def load(first: int, last: int) -> int:
        for key, leaf in checked_read(source, np.arange(first, last)).items():
            leaves[key][first:last] = leaf
        return last - first

    with bar:
        first, began = min(_TIMED, at_once, source.count), time.perf_counter()
        bar.update(load(0, first))
        slow = time.perf_counter() - began > _SECONDS_WORTH_A_THREAD * first
        if not (slow and read_threads):
            for place in range(first, source.count, at_once):
                bar.update(load(place, min(place + at_once, source.count)))
            return leaves
        at_once = min(at_once, -(-source.count // (8 * threads)))  # so that none waits for long
        firsts = range(first, source.count, at_once)
        lasts = [min(place + at_once, source.count) for place in firsts]
        pool = concurrent.futures.ThreadPoolExecutor(threads)
        try:
            for count in pool.map(load, firsts, lasts):
                bar.update(count)
        finally:
            pool.shutdown(cancel_futures=True)
    return leaves


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _ReadAhead:
    """Batches of steps, read ahead by threads: whole ones, as a read costs a hop between them."""

    def __init__(self, read: Callable[[int], Leaves], threads: int, ahead: int):
        self._read = read
        self._pool = concurrent.futures.ThreadPoolExecutor(threads) if threads else None
        self._ahead = ahead
        self._next = 0
        self._waiting: dict[int, concurrent.futures.Future[Leaves]] = {}

    def item(self, step: int) -> Leaves:
        if step != self._next:
            self.seek({"next_index": step})
        if self._pool is None:
            leaves = self._read(step)
        else:
            for later in range(step, step + self._ahead):
                if later not in self._waiting:
                    self._waiting[later] = self._pool.submit(self._read, later)
            leaves = self._waiting.pop(step).result()
        self._next = step + 1
        return leaves

    def position(self) -> dict[str, int]:
        return {"next_index": self._next}

    def seek(self, position: Any) -> None:
        self._next = int(position["next_index"])
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()
