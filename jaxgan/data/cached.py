"""From an origin to a source: prepared data where there are any, or can be."""

import contextlib
import functools
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgan import caches, terminal
from jaxgan.data import entries, preparing
from jaxgan.data.entries import Entry, Header, Unsound
from jaxgan.data.origins import Origin
from jaxgan.data.source import Source, as_source, select
from jaxgan.errors import UserError
from jaxgan.paths import shown, user_path

_BYTES_WORTH_A_LINE = 2**24


def root_of(cache: str | None) -> pathlib.Path | None:
    """Where prepared data lie, for `data.cache`; None where none are kept.

    Raises:
      UserError: where there is no home folder.
    """
    if cache is None:
        return None
    if cache != "auto":
        return user_path(cache, "data.cache").absolute()
    if not caches.prepared_data():
        raise UserError("there is no home folder for prepared data; pass --data.cache, or set HOME")
    return pathlib.Path(caches.prepared_data()).absolute()


def source_of(
    origin: Origin,
    cache: str | None,
    resident_limit_mb: int = 0,
    keep: bool = True,
    progress: bool = False,
) -> Source:
    """The source of an origin: prepared data, which are made where they are not there.

    Where they cannot be kept a line says so, and the originals are read.

    Args:
      origin: see `origin_of`.
      cache: `data.cache`.
      resident_limit_mb: data up to this many MiB are compared with their checksums.
      keep: make them where they are not there.
      progress: show bars.

    Raises:
      UserError, RunError: for originals that cannot be opened or read.
    """
    if cache is None:
        return origin.open()
    if found := known(origin, cache, resident_limit_mb):
        return found
    asked = origin.asked()
    source = origin.open()
    if not keep or origin.is_ready(source):
        return source
    try:
        entry = kept(origin, source, cache, asked, progress=progress)
    except (UserError, preparing.NotKept) as error:
        told = f"prepared data {error}" if isinstance(error, preparing.NotKept) else error
        terminal.complain(f"{told}; this run reads the originals")
        return source
    with contextlib.suppress(Unsound):  # which has just been seen to be sound
        return select(_source(entry, source.name, resident_limit_mb), source.features)
    return source


def known(origin: Origin, cache: str | None, resident_limit_mb: int = 0) -> Source | None:
    """The source of prepared data that are known without opening the originals; None where there
    are none. Nothing is written but when they were used."""
    try:
        root = root_of(cache)
    except UserError:
        return None
    if root is None or not root.is_dir() or not (asked := origin.asked()):
        return None
    for entry in entries.all_in(root):
        if names := entry.header.origins.get(asked):
            # What is wrong with it is told when it is prepared anew.
            with contextlib.suppress(Unsound, UserError):
                return select(_source(entry, origin.name, resident_limit_mb), names)
    return None


def kept(
    origin: Origin,
    source: Source,
    cache: str | None,
    asked: str,
    say: bool = False,
    progress: bool = False,
) -> Entry:
    """The entry of an origin that is opened, which is made where it is not there.

    Args:
      origin, source, cache, progress: as above.
      asked: of the origin, before it was opened; empty where it was not there yet.
      say: tell how large it is however small.

    Raises:
      NotKept, UserError: where it cannot be kept.
      RunError: for examples that cannot be read.
    """
    root = root_of(cache)
    assert root is not None
    asked = asked or origin.asked()
    try:
        header = _header(origin, source, origin.content(source))
    except OSError as error:
        where = shown(error.filename or origin.name)
        raise preparing.NotKept(
            f"would not be known again: {where} cannot be read: {error.strerror or error}"
        ) from None
    entry = _with_content(root, header)
    if entry is None:
        large = say or header.bytes >= _BYTES_WORTH_A_LINE
        tell, reopened = terminal.complain if large else None, origin.reopened(source)

        def is_unchanged() -> bool:
            return asked == origin.asked()

        entry = preparing.prepared(root, header, source, reopened, tell, progress, is_unchanged)
    # What was written to meanwhile is looked at again next time.
    if asked and asked not in entry.header.origins and asked == origin.asked():
        return entries.with_origin(entry, asked, list(source.features))
    return entry


def _with_content(root: pathlib.Path, header: Header) -> Entry | None:
    """A sound entry that holds all that a header describes, and perhaps further features."""
    for entry in entries.all_in(root):
        if _holds(entry.header, header):
            with contextlib.suppress(Unsound, FileNotFoundError):
                return preparing.sound(entry.path)
    return None


def prepared(
    data: Any,
    version: str = "",
    *,
    name: str = "",
    cache: str | None = "auto",
    progress: bool = False,
    **changes: Any,
) -> Source:
    """Data of Python's kept decoded and resized, for the next run to map.

    Args:
      data: as for `as_source`.
      version: of sequences and sources; prepared data are used for as long as it, the name, the
        number of examples and their features stay the same. Arrays are known by what they hold.
      name: what messages call it.
      cache: a folder, or "auto" for ~/.cache/jaxgan/prepared.
      progress: show a bar.
      changes: of `as_source`: `features`, `size`, `channels`.

    Raises:
      UserError: for a sequence without a version, and where nothing can be kept.
      RunError: for examples that cannot be read.
    """
    source = as_source(data, *([name] if name else []), **changes)
    if isinstance(data, Source) and name:
        source = source._replace(name=name)
    is_array = isinstance(data, Mapping) or hasattr(data, "dtype")
    if not (version or is_array or isinstance(data, Source)):
        raise UserError(
            f"{source.name} has no version, and what a sequence holds is not known without reading "
            "it; give one, and another when it changes, such as version='1'"
        )
    content = f"{source.version} {version}"
    if not is_array:  # two data sets may have one version
        content = f"{source.name} {content}"
    about = source.name, "python", ""
    origin = Origin(*about, str, lambda: source, lambda _: content, lambda _: False, lambda _: None)
    if root_of(cache) is None:
        return source
    try:
        return _source(kept(origin, source, cache, "", progress=progress), source.name, 0)
    except (preparing.NotKept, Unsound) as error:
        raise UserError(f"prepared data {error}") from None


def _header(origin: Origin, source: Source, content: str) -> Header:
    about = origin.name, origin.split, origin.kind, content, source.version, source.count
    block = preparing.block_of(source)
    return Header(*about, source.features, block, {}, {}, time.time())


def _holds(found: Header, wanted: Header) -> bool:
    """Whether an entry holds all that is wanted, and perhaps further features."""
    same = [(h.kind, h.split, h.content, h.version, h.count) for h in (found, wanted)]
    return same[0] == same[1] and wanted.features.items() <= found.features.items()


def _source(entry: Entry, name: str, resident_limit_mb: int) -> Source:
    """The source of an entry.

    Raises:
      Unsound: where its arrays are of no use.
    """
    arrays, header = entries.arrays_of(entry), entry.header
    if header.bytes <= resident_limit_mb * 2**20:
        entries.check(entry, arrays)
    entries.touch(entry)
    read = functools.partial(_read, arrays)
    return Source(name, header.count, read, header.features, header.version, arrays)


def _read(arrays: Mapping[str, np.ndarray], indices: np.ndarray) -> dict[str, np.ndarray]:
    return {key: array[indices] for key, array in arrays.items()}
