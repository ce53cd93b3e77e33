"""Parts of a source into files, by as many cores as serve: here, in threads, in processes."""

import contextlib
import functools
import os
import pathlib
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgan.data.entries import bytes_of, checksum_of
from jaxgan.data.reading import checked_read, cores
from jaxgan.data.source import Source
from jaxgan.files import opened

_TIMED = 64  # examples that tell how long one takes
# Threads take turns at the interpreter: with less to decode in an example than the first they slow
# each other, and with less than the second they wait for each other, which processes do not.
_SECONDS_WORTH_A_THREAD, _SECONDS_WORTH_THREADS_ALONE = 3e-4, 3e-3
_SECONDS_WORTH_PROCESSES = 5.0  # of work left; a process begins in one or two
_MOST = 64

Part = tuple[int, int]  # the examples from the first on up to the second
Reader = Callable[[Part], dict[str, int]]
Reopened = Callable[[], Source]


class Places(NamedTuple):
    """Where the numbers of each feature go.

    Attributes:
      files: by feature.
      begins: bytes in each before its numbers.
    """

    files: Mapping[str, pathlib.Path]
    begins: Mapping[str, int]


@contextlib.contextmanager
def reader_of(source: Source, places: Places) -> Iterator[Reader]:
    """read(part) -> checksums by feature, after writing the part to its places. Any threads may
    call it.

    Written by `pwrite`: on a full disk that fails, where a write through a map would end the
    process.
    """
    descriptors: dict[str, int] = {}

    def read(part: Part) -> dict[str, int]:
        first, last = part
        checksums = {}
        for key, leaf in checked_read(source, np.arange(first, last)).items():
            begin = places.begins[key] + first * (leaf.nbytes // len(leaf))
            _write_at(descriptors[key], bytes_of(leaf), begin)
            checksums[key] = checksum_of(leaf)
        return checksums

    try:
        for key, path in places.files.items():
            descriptors[key] = opened(path, os.O_WRONLY)
        yield read
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _write_at(descriptor: int, content: memoryview, place: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, place)
        content, place = content[written:], place + written


def read_all(
    source: Source, places: Places, parts: Sequence[Part], reopened: Reopened | None
) -> Generator[tuple[Part, dict[str, int]], None, None]:
    """Reads and writes all parts, and gives the checksums of each as it is done, in any order.

    Args:
      source: the examples.
      places: where they go.
      parts: of the source.
      reopened: opens the source in another process, and is pickled; None where that cannot be.

    Raises:
      RunError: for examples that cannot be read.
      OSError: for what cannot be written.
    """
    many, first = min(cores(), len(parts), _MOST), parts[0]
    few = np.arange(first[0], min(first[1], first[0] + _TIMED))
    began = time.perf_counter()
    checked_read(source, few)
    each = (time.perf_counter() - began) / len(few)
    task, left = None, each * parts[-1][1]
    if reopened and each < _SECONDS_WORTH_THREADS_ALONE and left > _SECONDS_WORTH_PROCESSES:
        with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError):
            task = pickle.dumps((reopened, places))
    with reader_of(source, places) as read:
        here: Any = functools.partial(contextlib.nullcontext, read)
        others = here
        if task:
            others = functools.partial(_in_process, task, read)
        elif each < _SECONDS_WORTH_A_THREAD:
            many = 1
        with contextlib.closing(_spread(parts, [here, *[others] * (many - 1)])) as done:
            yield from done


def _spread(
    parts: Iterable[Part], readers: Sequence[Callable[[], Any]]
) -> Generator[Any, None, None]:
    """Reads all parts by a thread for each reader, which takes the next part when it has time.

    Args:
      parts: what is read.
      readers: () -> a context in which there is a `Reader`.
    """
    waiting, taking, done, stop = iter(parts), threading.Lock(), queue.SimpleQueue(), False

    def take() -> Part | None:
        with taking:
            return None if stop else next(waiting, None)

    def work(reader: Callable[[], Any]) -> None:
        try:
            with reader() as read:
                while (part := take()) is not None:
                    done.put((part, read(part)))
            done.put(None)
        except BaseException as error:
            done.put(error)

    threads = [threading.Thread(target=work, args=(reader,), daemon=True) for reader in readers]
    for thread in threads:
        thread.start()
    ended = 0
    try:
        while ended < len(threads):
            got = done.get()
            if isinstance(got, BaseException):
                raise got
            if got is None:
                ended += 1
            else:
                yield got
    finally:
        stop = True
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def _in_process(task: bytes, here: Reader) -> Iterator[Reader]:
    """A reader in a process of its own; where there is none, or it dies, it reads `here`.

    No fork, which threads do not bear, and no `multiprocessing`, which would begin the user's
    script again.
    """
    path = os.pathsep.join([word for word in sys.path if word])
    words = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
    try:
        process = subprocess.Popen(
            words,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the process that waits for it
        )
    except OSError:
        yield here
        return
    to, back = process.stdin, process.stdout
    assert to and back
    alive = True

    def read(part: Part) -> dict[str, int]:
        nonlocal alive
        answer: Any = None
        if alive:
            try:
                pickle.dump(part, to)
                to.flush()
                answer = pickle.load(back)
            except (OSError, EOFError, ValueError, pickle.UnpicklingError):
                alive = False
        if isinstance(answer, BaseException):
            raise answer
        return here(part) if answer is None else answer

    try:
        try:
            to.write(task)
            to.flush()
        except OSError:
            alive = False
        yield read
    finally:
        with contextlib.suppress(OSError):
            to.close()
        process.kill()
        process.wait()
        back.close()


def serve() -> None:
    """What the other process does: opens the source, reads the parts that it is told to, and ends
    when nobody is there any more."""
    stdin, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a package prints is no answer
    with contextlib.suppress(EOFError, BrokenPipeError), contextlib.ExitStack() as held:
        reopened, places = pickle.load(stdin)
        read = None
        while True:
            part = pickle.load(stdin)
            try:
                read = read or held.enter_context(reader_of(reopened(), places))
                answer: Any = read(part)
            except Exception as error:
                answer = error
            pickle.dump(answer, answers)
            answers.flush()
