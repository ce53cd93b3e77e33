"""A folder of images as a source; the folders directly in it are labels."""

import functools
import hashlib
import os
import pathlib
import stat
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from jaxgan import terminal
from jaxgan.data import pixels
from jaxgan.data.names import chosen
from jaxgan.data.source import Feature, Source
from jaxgan.errors import RunError, UserError
from jaxgan.names import listed
from jaxgan.paths import shown

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_BYTES_SEEN = 4096  # at either end of a file
_THREADS = 4  # that look at files; more wait longer for a disk than they help


class _Found(NamedTuple):
    """An image file: where it is, relative to the folder, and what its header says."""

    path: str
    size: int = 0  # bytes
    checksum: int = 0  # of its beginning and end
    channels: int = 0
    height: int = 0
    width: int = 0
    fault: str = ""  # why it cannot be read


def opened(
    folder: pathlib.Path,
    wanted: Iterable[str] = (),
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    skip_damaged: bool = False,
    progress: bool = False,
) -> Source:
    """The images below a folder, in the order of their paths.

    Args:
      folder: where they are, in any depth. Links are followed; hidden files and folders are not
        looked at.
      wanted: of the features `image` and `label`; by default what there is. Labels are the sorted
        names of the folders directly in this one.
      size: (h, w) that images are cropped and resized to; None wants all of one size.
      channels: that images are converted to; by default 1 where all are grey, 4 where all have
        transparency, 3 otherwise.
      skip_damaged: decode each once and leave out those that cannot be read.
      progress: show a bar.

    Raises:
      UserError: for a folder without images, or with one that is damaged by the look of its header.
    """
    name = title(folder)
    paths, others = image_paths(folder)
    if not paths:
        beside = f", only {others} files of other kinds" if others else ""
        raise UserError(
            f"{name} holds no image{beside}; images end in {', '.join(SUFFIXES)}, in any depth"
        )
    labels = _labels(paths)
    if labels is None and "label" in (wanted := tuple(wanted)):
        raise UserError(f"{name} has no folders in it to be labels; leave data.features out")
    names = chosen(wanted, ("image",) if labels is None else ("image", "label"), name)
    if labels is not None and "label" in names and "" in labels:
        beside = sum("/" not in path for path in paths)
        raise UserError(
            f"{name}: {beside} of {len(paths)} images lie beside the folders that would be labels "
            f"({listed(filter(None, labels))}); move them into one, or pass --data.features image"
        )
    found = _looked_at(folder, paths, skip_damaged, progress)
    kept = [file for file in found if not file.fault]
    damaged = [file for file in found if file.fault]
    if damaged and (not skip_damaged or not kept):
        first = damaged[0]
        more = f" ({len(damaged)} such files)" if len(damaged) > 1 else ""
        raise UserError(
            f"{name}: {shown(first.path)} {first.fault}{more}; replace it, or pass "
            "--data.skip-damaged true"
        )
    if damaged:
        first = damaged[0]
        terminal.complain(
            f"{name}: {len(damaged)} of {len(found)} images are left out, the first: "
            f"{shown(first.path)} {first.fault}"
        )
    shape = _shape(name, kept, size, channels)
    features = {}
    if "image" in names:
        features["image"] = Feature(shape, np.dtype(np.uint8))
    kinds = None
    if labels is not None and "label" in names:
        features["label"] = Feature((), np.dtype(np.int32), len(labels))
        kinds = np.array([labels.index(_top(file.path)) for file in kept], np.int32)
    read = functools.partial(
        _read,
        name,
        folder,
        tuple(file.path for file in kept),
        kinds,
        features,
        size,
    )
    return Source(shown(folder.name), len(kept), read, features, _hash(kept))


def title(folder: pathlib.Path) -> str:
    """What messages call it."""
    return f"data.folder={shown(folder)}"


def image_paths(folder: pathlib.Path) -> tuple[list[str], int]:
    """The sorted paths of image files below a folder, and how many other files there are.

    Raises:
      UserError: for what is no folder, or cannot be listed.
    """
    name = title(folder)
    if not folder.is_dir():
        if folder.exists():
            raise UserError(f"{name} is a file; use data.file for arrays, or unpack an archive")
        raise UserError(f"{name} does not exist; name a folder of images")
    paths, others = [], 0
    try:
        for path in _files(folder):
            if path.lower().endswith(SUFFIXES):
                paths.append(path)
            else:
                others += 1
    except OSError as error:
        where = shown(error.filename or folder)
        raise UserError(f"{name}: {where} cannot be read: {error.strerror}; mend that") from None
    return sorted(paths, key=os.fsencode), others


def _files(folder: pathlib.Path) -> Iterator[str]:
    """Paths of all that is no folder, relative to the folder; a folder is visited once."""
    seen, waiting = set(), [""]
    while waiting:
        within = waiting.pop()
        status = os.stat(folder / within)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above or beside
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder / within) as entries:
            # Sorted, so that of two links to one folder the same is visited on all machines.
            for entry in sorted(entries, key=lambda entry: os.fsencode(entry.name), reverse=True):
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                path = f"{within}/{entry.name}" if within else entry.name
                if entry.is_dir():
                    waiting.append(path)
                else:
                    yield path


def _top(path: str) -> str:
    """The folder directly in the data's that a file is in; empty for none."""
    return path.partition("/")[0] if "/" in path else ""


def _labels(paths: list[str]) -> list[str] | None:
    """The sorted folders that hold images, "" for this one; None where it is the only one."""
    tops = sorted({_top(path) for path in paths}, key=os.fsencode)
    return None if tops == [""] else tops


def _looked_at(folder: pathlib.Path, paths: list[str], whole: bool, progress: bool) -> list[_Found]:
    look = functools.partial(_look, folder, whole)
    doing = "Decoding" if whole else "Looking at"
    with ThreadPoolExecutor(_THREADS) as pool:
        bar = terminal.bar(
            iterable=pool.map(look, paths),
            total=len(paths),
            desc=f"{doing} {shown(folder.name)}",
            unit=" images",
            leave=False,
            disable=not progress,
        )
        return list(bar)


def _look(folder: pathlib.Path, whole: bool, path: str) -> _Found:
    """What a file's header says, or why it cannot be read; with all its pixels where `whole`."""
    try:
        status = os.stat(folder / path)
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            return _Found(path, fault="is no plain file")
        checksum = _checksum(folder / path, status.st_size)
        with pixels.opened(folder / path) as picture:
            channels = pixels.channels_of(picture)
            height, width = picture.height, picture.width
            if pixels.is_turned(picture):
                height, width = width, height
        if whole:
            pixels.fitted(pixels.decoded(folder / path), (1, 1), channels)
    except OSError as error:
        return _Found(path, fault=f"cannot be read: {error.strerror or error}")
    except pixels.PixelError as error:
        return _Found(path, fault=f"cannot be decoded: {error}")
    return _Found(path, status.st_size, checksum, channels, height, width)


def _checksum(path: pathlib.Path, size: int) -> int:
    """Of a file's first and last bytes: all of it, of a large picture, would be read for long."""
    with path.open("rb") as file:
        checksum = zlib.crc32(file.read(_BYTES_SEEN))
        file.seek(max(size - _BYTES_SEEN, 0))
        return zlib.crc32(file.read(_BYTES_SEEN), checksum)


def _shape(
    name: str, files: list[_Found], size: tuple[int, int] | None, channels: int | None
) -> tuple[int, int, int]:
    first = files[0]
    if size is None:
        for file in files:
            if (file.height, file.width) != (first.height, first.width):
                raise UserError(
                    f"{name}: {shown(file.path)} is {file.height} x {file.width} pixels, "
                    f"{shown(first.path)} is {first.height} x {first.width}; give all one size by "
                    "data.image_size, or by data.height and data.width"
                )
    if channels is None:
        found = {file.channels for file in files}
        channels = found.pop() if len(found) == 1 else 3
    return (*(size or (first.height, first.width)), channels)


def _read(
    name: str,
    folder: pathlib.Path,
    paths: tuple[str, ...],
    labels: np.ndarray | None,
    features: dict[str, Feature],
    size: tuple[int, int] | None,
    indices: np.ndarray,
) -> dict[str, np.ndarray]:
    """Examples as `image` uint8 [n,h,w,C], one file at a time, and `label` int32 [n]."""
    leaves = {}
    if "image" in features:
        shape = features["image"].shape
        images = leaves["image"] = np.empty((len(indices), *shape), np.uint8)
        for place, index in enumerate(indices.tolist()):
            try:
                picture = pixels.decoded(folder / paths[index], upright=True)
                image = pixels.fitted(picture, size, shape[2])
            except OSError as error:
                raise RunError(
                    f"{name}: {shown(paths[index])} cannot be read: {error.strerror or error}; a "
                    "disk, a mount or the folder may have failed or changed since it was opened: "
                    "mend that and go on"
                ) from None
            except pixels.PixelError as error:
                raise RunError(
                    f"{name}: {shown(paths[index])} cannot be decoded: {error}; replace it, or "
                    "pass --data.skip-damaged true to a new run"
                ) from None
            if image.shape != shape:
                raise RunError(
                    f"{name}: {shown(paths[index])} is now {image.shape}, was {shape} when the "
                    "folder was opened; put the old file back"
                )
            images[place] = image
    if labels is not None:
        leaves["label"] = labels[indices]
    return leaves


def _hash(files: list[_Found]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(file.path) + f"\0{file.size} {file.checksum};".encode())
    return digest.hexdigest()[:16]
