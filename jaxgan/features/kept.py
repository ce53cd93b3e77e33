"""Classifiers on the disk: a file each, of the weights and of a header that says what they are."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxgan import array_files, caches, files, terminal
from jaxgan.errors import RunError, UserError
from jaxgan.paths import shown

_OURS = "classifier of jaxgan"


class Unsound(ValueError):
    """Why a file is of no use; the text goes on after "it" or the like."""


class Kept(NamedTuple):
    """A classifier.

    Attributes:
      about: what it was made of and by, as JSON takes it; its weights are found again by that.
      preprocessing: what becomes of images before the weights see them, as JSON takes it.
      weights: by name.
      accuracy: share of the held-out examples named right.
      held_out: how many these were, and which, in words.
      seconds: that the training took.
      made: seconds since 1970.
    """

    about: dict[str, Any]
    preprocessing: dict[str, Any]
    weights: dict[str, np.ndarray]
    accuracy: float
    held_out: str
    seconds: float
    made: float

    @property
    def digest(self) -> str:
        """sha256 of weights and preprocessing, hex."""
        return array_files.digest_of(json.dumps(self.preprocessing, sort_keys=True), self.weights)


class Entry(NamedTuple):
    """A file, and what it holds."""

    path: pathlib.Path
    kept: Kept


def root() -> pathlib.Path | None:
    """Where classifiers are kept; None where there is no home folder."""
    folder = caches.classifiers()
    return pathlib.Path(folder).absolute() if folder else None


def name_of(about: dict[str, Any]) -> str:
    """The name of the file: readable, and another for anything else."""
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=6).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9._]+", "_", str(about.get("data", "")))[:60].lstrip(".")
    return f"{readable or 'data'}-{digest}.npz"


def write(path: pathlib.Path, kept: Kept) -> None:
    """Writes a file whole; what has its name and is none of ours is given another first.

    Raises:
      RunError: where it cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        try:
            read(path)
        except Unsound as error:
            other = files.set_aside(path)
            terminal.complain(f"{shown(path)} is of no use ({error}); it is now called {other}")
    header = {"what": _OURS, "digest": kept.digest, **kept._asdict()}
    del header["weights"]
    array_files.write(path, header, kept.weights)


def read(path: pathlib.Path) -> Kept:
    """What a file holds.

    Raises:
      FileNotFoundError: where there is none.
      Unsound: for a file of another kind, and for one that is damaged.
    """
    try:
        header, arrays = array_files.read(path)
        if header.pop("what") != _OURS:
            raise Unsound("it is none of ours")
        digest = header.pop("digest")
        kept = Kept(weights=arrays, **header)
        if not all(isinstance(n, float) for n in (kept.accuracy, kept.seconds, kept.made)):
            raise Unsound("its header is damaged")
        if kept.digest != digest:
            raise Unsound("its weights are not those that were written")
        return kept
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unsound(f"it cannot be read: {error.strerror or error}") from None
    except Unsound:
        raise
    except Exception as error:  # of the archive, of its arrays, or JSON of another shape
        raise Unsound(f"it is damaged or none of ours ({type(error).__name__})") from None


def all_in(folder: pathlib.Path) -> Iterator[Entry]:
    """The classifiers of a folder, by name; none where it cannot be listed."""
    for path in _files(folder):
        with contextlib.suppress(Unsound, OSError):
            yield Entry(path, read(path))


def of_no_use(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
    """Files that have a name as ours and cannot be read, with the reason."""
    for path in _files(folder):
        try:
            read(path)
        except FileNotFoundError:  # removed meanwhile
            continue
        except Unsound as error:
            yield path, str(error)


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return []
    return [folder / name for name in names if re.fullmatch(r"[^.].*-[0-9a-f]{12}\.npz", name)]


@contextlib.contextmanager
def alone(path: pathlib.Path) -> Iterator[None]:
    """Waits while another process makes the same file; with a line, as that takes minutes.

    Raises:
      OSError: where the folder cannot be written.
    """
    files.make_folder(path.parent)
    lock = path.parent / f".{path.name}.lock"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.locked(lock))
        except BlockingIOError:
            terminal.complain(f"another process trains {path.stem}; waiting for it")
            held.enter_context(files.locked(lock, wait=True))
        yield


def remove(path: pathlib.Path) -> None:
    """Removes a classifier and its lock.

    Raises:
      UserError: while another process trains it.
      RunError: where it cannot be removed.
    """
    lock = path.parent / f".{path.name}.lock"
    try:
        with files.locked(lock):
            for ours in (path, lock):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(ours)
    except BlockingIOError:
        raise UserError(f"{shown(path)} is being trained by another process; wait for it") from None
    except OSError as error:
        raise RunError(
            f"{shown(path)} cannot be removed: {error.strerror or error}; {files.fix_of(error)}"
        ) from None
