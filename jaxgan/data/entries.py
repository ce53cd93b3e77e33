"""Prepared data on the disk: a folder with one `.npy` for each feature, and a header of JSON that
says what they are and carries their checksums and its own."""

import contextlib
import errno
import hashlib
import io
import json
import math
import mmap
import os
import pathlib
import re
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from jaxgan import files
from jaxgan.data.columns import Feature
from jaxgan.errors import RunError

HEADER = "header.json"
FORMAT = 1  # of the files, and of how pictures become pixels
_OURS = "prepared data of jaxgan"
_MOST_ORIGINS = 64
_MOST_THREADS = 8


class Unsound(ValueError):
    """Why prepared data are of no use; the text goes on after "they" or the like."""


class Header(NamedTuple):
    """What prepared data are.

    Attributes:
      name, split, kind: of the data, for the user; split is empty for what has none.
      content: what the originals hold, from which and from the features all pixels follow.
      version: of the source.
      count: examples.
      features: what one holds.
      block: examples that one checksum covers.
      checksums: for each feature, CRC-32 of its blocks.
      origins: what was asked for when, and where, as digests, and which features that gives.
      made: seconds since 1970.
    """

    name: str
    split: str
    kind: str
    content: str
    version: str
    count: int
    features: dict[str, Feature]
    block: int
    checksums: dict[str, list[int]]
    origins: dict[str, list[str]]
    made: float

    @property
    def bytes(self) -> int:
        """Of the arrays."""
        return self.count * sum(
            math.prod(f.shape) * f.dtype.itemsize for f in self.features.values()
        )


class Entry(NamedTuple):
    """Prepared data: the folder, and what its header says."""

    path: pathlib.Path
    header: Header


def name_of(header: Header) -> str:
    """The name of its folder: readable, and another for other pixels."""
    known = [FORMAT, header.kind, header.content, header.split, _features_as_json(header.features)]
    digest = hashlib.blake2b(json.dumps(known).encode(), digest_size=6).hexdigest()
    shape = next((f.shape for f in header.features.values() if f.shape), ())
    words = (header.name, header.split, "x".join(map(str, shape)))
    readable = "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", word)[:40] for word in words if word)
    return f"{readable.lstrip('.') or 'data'}-{digest}"


def file_names(features: Mapping[str, Feature]) -> dict[str, str]:
    """The name of each feature's file, whatever letters the feature's has."""
    names: dict[str, str] = {}
    for key in features:
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", key)[:60].lower() or "feature"
        number = 1
        while (name := f"{plain}_{number}.npy" if number > 1 else f"{plain}.npy") in names.values():
            number += 1
        names[key] = name
    return names


def _features_as_json(features: Mapping[str, Feature]) -> list[list[Any]]:
    return [[key, list(f.shape), f.dtype.name, f.classes] for key, f in features.items()]


def write_header(folder: pathlib.Path, header: Header) -> None:
    """Writes the header of a folder; raises `RunError` where that cannot be done."""
    features = _features_as_json(header.features)
    content = {"what": _OURS, "format": FORMAT, **header._asdict(), "features": features}
    files.write_json(folder / HEADER, {**content, "checksum": _digest(content)})


def _digest(content: Any) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def read(folder: pathlib.Path) -> Entry:
    """The entry of a folder, from its header alone.

    Raises:
      FileNotFoundError: where there is no such folder.
      Unsound: where there is something else, or another version's.
    """
    if folder.is_symlink():
        raise Unsound("it is a link")
    folder.lstat()
    try:
        content = files.read_json(folder / HEADER)
        checksum, what = content.pop("checksum"), content.pop("what")
        if what != _OURS:
            raise Unsound(f"{HEADER} is none of ours")
        if checksum != _digest({"what": what, **content}):
            raise Unsound(f"{HEADER} is changed")
        if content.pop("format") != FORMAT:
            raise Unsound("another version of jaxgan made it")
        content["features"] = {
            key: Feature(tuple(shape), np.dtype(dtype), classes)
            for key, shape, dtype, classes in content["features"]
        }
        return Entry(folder, _checked(Header(**content)))
    except OSError as error:
        raise Unsound(f"{HEADER} cannot be read: {error.strerror or error}") from None
    except Unsound:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):  # JSON of another shape
        raise Unsound(f"{HEADER} is damaged") from None


def _checked(header: Header) -> Header:
    """The header, whose checksum anybody can make; raises `TypeError` for other types."""
    texts = header.name, header.split, header.kind, header.content, header.version
    whole = header.count, header.block
    dtypes = {feature.dtype for feature in header.features.values()}
    sizes = [size for feature in header.features.values() for size in feature.shape]
    sound = (
        all(isinstance(text, str) for text in texts)
        and all(type(number) is int and number > 0 for number in (*whole, *sizes))
        and dtypes
        and dtypes <= {np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.float32)}
        and isinstance(header.checksums, dict)
        and isinstance(header.origins, dict)
        and isinstance(header.made, float)
    )
    if not sound:
        raise TypeError
    return header


def all_in(root: pathlib.Path) -> Iterator[Entry]:
    """The entries of a folder that can be read, by name; none where it cannot be listed."""
    for path in _folders(root):
        with contextlib.suppress(OSError, Unsound):
            yield read(path)


def of_no_use(root: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
    """What is ours in a folder and cannot be read, with the reason."""
    for path in _folders(root):
        try:
            read(path)
        except OSError:  # removed meanwhile
            continue
        except Unsound as error:
            if is_ours(path):
                yield path, str(error)


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    names = []
    with contextlib.suppress(OSError), os.scandir(root) as found:
        names = sorted(e.name for e in found if e.is_dir(follow_symlinks=False))
    return [root / name for name in names if not name.startswith(".")]


def arrays_of(entry: Entry) -> dict[str, np.ndarray]:
    """The arrays of an entry, mapped into memory: [count, ...], read-only.

    Raises:
      Unsound: where a file is not as long as it should be, or cannot be read.
    """
    header = entry.header
    arrays = {}
    for key, name in file_names(header.features).items():
        feature = header.features[key]
        try:
            arrays[key] = _mapped(entry.path / name, (header.count, *feature.shape), feature.dtype)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise Unsound(f"{name} cannot be read: {reason}") from None
    return arrays


def _mapped(path: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    with files.opened_to_read(path) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("it is of another format")
        if np.lib.format.read_array_header_1_0(file) != (shape, False, dtype):
            raise ValueError("it holds another array")
        begin, size = file.tell(), os.fstat(file.fileno()).st_size
        wanted = begin + math.prod(shape) * dtype.itemsize
        if size != wanted:
            raise ValueError(f"it has {size} bytes and not {wanted}")
        # Behind the end of a file that was cut short the system would end the process: lengths are
        # compared before anything is read.
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(content, dtype, offset=begin).reshape(shape)


def beginning_of_file(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """The bytes before the numbers of a `.npy`."""
    file = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, {**described, "shape": shape})
    return file.getvalue()


def checksum_of(leaf: np.ndarray) -> int:
    """CRC-32 of the numbers of a block."""
    return zlib.crc32(bytes_of(leaf))


def bytes_of(leaf: np.ndarray) -> memoryview:
    """The bytes of an array's numbers, in their order."""
    flat: Any = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    return memoryview(flat)


def check(entry: Entry, arrays: Mapping[str, np.ndarray]) -> None:
    """Compares all numbers with their checksums, 2 GB/s a core.

    Raises:
      Unsound: where a block is not what was written.
    """
    header, names = entry.header, file_names(entry.header.features)
    firsts = range(0, header.count, header.block)
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for key, array in arrays.items():
            blocks = (array[first : first + header.block] for first in firsts)
            if list(pool.map(checksum_of, blocks)) != header.checksums.get(key):
                raise Unsound(f"{names[key]} is changed")


def with_origin(entry: Entry, origin: str, names: list[str]) -> Entry:
    """Notes that an entry is what was asked for; where it cannot be noted it is found again by its
    content."""
    known = {key: kept for key, kept in entry.header.origins.items() if key != origin}
    newest = dict(list(known.items())[1 - _MOST_ORIGINS :])
    header = entry.header._replace(origins={**newest, origin: names})
    with contextlib.suppress(RunError):
        write_header(entry.path, header)
    return entry._replace(header=header)


def touch(entry: Entry) -> None:
    """Notes that an entry is used: the time of its header."""
    with contextlib.suppress(OSError):
        os.utime(entry.path / HEADER)


def last_used(entry: Entry) -> float:
    """When an entry was last used or made, in seconds since 1970."""
    try:
        return (entry.path / HEADER).stat().st_mtime
    except OSError:
        return entry.header.made


def is_ours(folder: pathlib.Path) -> bool:
    """Whether a folder is certainly one that we made, whatever became of its arrays."""
    try:
        if folder.is_symlink() or not folder.is_dir():
            return False
        return files.read_json(folder / HEADER)["what"] == _OURS
    except (OSError, ValueError, TypeError, KeyError):
        return False


def remove(folder: pathlib.Path) -> bool:
    """Removes a folder of ours: arrays, header, and what is half written of it. What else lies in
    it stays, and so does the folder then; returns whether it is gone.

    Raises:
      OSError: where something cannot be removed.
    """
    known: Any = None
    with contextlib.suppress(OSError, Unsound):
        known = file_names(read(folder).header.features).values()
    with os.scandir(folder) as found:
        names = [e.name for e in found if not e.is_dir(follow_symlinks=False)]
    arrays = [n for n in names if (n.endswith(".npy") if known is None else n in known)]
    ours = [*arrays, *(n for n in names if n.startswith(files.UNFINISHED))]
    for name in (*ours, *(n for n in names if n == HEADER)):  # by which it is known, last
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / name)
    try:
        os.rmdir(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
