"""How examples come out of a source: checked, where a reader gives them, or straight from arrays
that lie ready."""

import concurrent.futures
import math
import os
import time
from collections.abc import Callable, Mapping

import numpy as np

from jaxgan import terminal
from jaxgan.data.rows import one_line
from jaxgan.data.source import Feature, Source
from jaxgan.errors import RunError

_READ_AT_ONCE = 1024  # examples: one call for many is several times faster than one for each
_BYTES_AT_ONCE = 2**25  # of large examples, fewer
_MOST_THREADS = 8
# Threads take turns at the interpreter: with less to decode in an example they slow each other.
_SECONDS_WORTH_A_THREAD = 3e-4
_TIMED = 64  # examples that tell
_ALIGNMENT = 64  # bytes; XLA:CPU uses memory that begins at a multiple as it is, and copies other

Leaves = dict[str, np.ndarray]


def bytes_of_one(features: Mapping[str, Feature]) -> int:
    """Bytes of an example."""
    return sum(int(np.prod(f.shape)) * np.dtype(f.dtype).itemsize for f in features.values())


def empty(features: Mapping[str, Feature], *axes: int) -> Leaves:
    """New memory for examples, leaves [*axes, ...], which devices that are the processor take as it
    is: so it is written once."""
    return {name: _aligned((*axes, *f.shape), np.dtype(f.dtype)) for name, f in features.items()}


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)


def filler(source: Source) -> Callable[[np.ndarray, Leaves], None]:
    """fill(indices [n, B], leaves [n, B, ...]): writes the examples of these numbers."""
    if source.arrays is None:

        def fill(indices: np.ndarray, leaves: Leaves) -> None:
            for i, of_batch in enumerate(indices):  # a reader is asked for a batch at a time
                checked_read(
                    source, of_batch.astype(np.int64), {k: x[i] for k, x in leaves.items()}
                )

        return fill
    # A map's own type looks itself up in each operation.
    arrays = {name: np.asarray(array).view(np.ndarray) for name, array in source.arrays.items()}

    def gather(indices: np.ndarray, leaves: Leaves) -> None:
        for name, leaf in leaves.items():
            if not arrays[name].flags.c_contiguous:  # `take` would copy it whole
                leaf[...] = arrays[name][indices]
                continue
            # In any other mode NumPy gathers into memory of its own, and copies that.
            np.take(arrays[name], indices, axis=0, out=leaf, mode="clip")

    return gather


def checked_read(source: Source, indices: np.ndarray, into: Leaves | None = None) -> Leaves:
    """What a source reads, after comparing it with what the source says of itself: the one door to
    a reader, before the first step and after it.

    Args:
      source: the examples.
      indices: which, int64 [n].
      into: memory for them, leaves [n, ...]; new by default. What a reader gives is its own: it may
        write over it in the next call.

    Raises:
      RunError: examples that cannot be read; other features, shapes or dtypes.
    """
    try:
        leaves = source.read(indices)
        if not isinstance(leaves, Mapping):
            raise TypeError(f"read gives {type(leaves).__name__}, and not a dict of arrays")
        leaves = {name: np.asarray(leaf) for name, leaf in leaves.items()}
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
    into = empty(source.features, len(indices)) if into is None else into
    for name, leaf in leaves.items():
        into[name][...] = leaf
    return into


def loaded(source: Source, read_threads: int, progress: bool) -> Leaves:
    """All examples, leaves [N, ...], in memory of their own."""
    leaves = empty(source.features, source.count)
    bar = terminal.bar(
        total=source.count,
        desc=f"Loading {source.name}",
        unit=" examples",
        leave=False,
        disable=not progress,
    )
    in_bytes = max(1, _BYTES_AT_ONCE // bytes_of_one(source.features))
    at_once = min(_READ_AT_ONCE, in_bytes) if source.arrays is None else in_bytes
    threads = max(read_threads, min(cores(), _MOST_THREADS))

    def load(first: int, last: int) -> int:
        into = {name: leaf[first:last] for name, leaf in leaves.items()}
        if source.arrays is None:
            checked_read(source, np.arange(first, last), into)
        else:
            for name, leaf in into.items():
                leaf[...] = source.arrays[name][first:last]
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


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
