"""Files of arrays as a source: `.npz`, each array a feature, and `.npy`, mapped into memory."""

import functools
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from jaxgan.data import arrays
from jaxgan.data.names import chosen
from jaxgan.data.rows import one_line
from jaxgan.data.source import Source, as_source
from jaxgan.errors import RunError, UserError
from jaxgan.paths import shown


def opened(
    path: pathlib.Path,
    wanted: Iterable[str] = (),
    size: tuple[int, int] | None = None,
    channels: int | None = None,
) -> Source:
    """The arrays of a file.

    Args:
      path: of a file that ends in .npz or .npy.
      wanted: the features to read; all by default. Others are not loaded.
      size: (h, w) of images; None leaves them as they are.
      channels: of images; None leaves them as they are.

    Raises:
      UserError: for a file that cannot be read or whose arrays are of no use.
    """
    name, kind = f"data.file={shown(path)}", path.suffix.lower()
    if path.is_dir():
        raise UserError(f"{name} is a folder; use data.folder, or name a .npz or .npy file")
    if kind not in (".npz", ".npy"):
        raise UserError(f"{name} ends neither in .npz nor in .npy; save it by numpy.savez")
    if not path.is_file():
        what = "is no plain file" if path.exists() else "does not exist"
        raise UserError(f"{name} {what}; name a .npz or .npy file")
    try:
        status = path.stat()
        if kind == ".npy":
            data = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as content:
                _check_members(name, content.files)
                data = {key: content[key] for key in chosen(wanted, content.files, name)}
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(
            f"{name} does not fit into memory: {one_line(error)}; save its arrays as .npy files, "
            "which are read as they are needed, or choose some by data.features"
        ) from None
    except Exception as error:  # of the file system, the archive, its compression or the format
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise UserError(
                f"{name} holds objects of Python, which are not loaded; save arrays of numbers"
            ) from None
        raise UserError(
            f"{name} cannot be read: {one_line(error)}; save it again, or restore it from a copy"
        ) from None
    source = as_source(data, name, features=wanted, size=size, channels=channels)
    version = source.version
    if status.st_size > arrays.BYTES_HASHED:  # of which not all is looked at
        version += f" {status.st_size} {int(status.st_mtime)}"
    source = source._replace(name=shown(path.name), version=version)
    if kind == ".npz":  # which is in memory
        return source
    return source._replace(read=functools.partial(_read_unchanged, path, status, source))


def _read_unchanged(
    path: pathlib.Path, opened: os.stat_result, source: Source, indices: np.ndarray
) -> dict[str, np.ndarray]:
    """Reads a file that is mapped, unless it is no longer the one that was opened: behind the end
    of one that was cut short the system would end the process."""
    now = path.stat()
    if (now.st_size, now.st_mtime_ns) != (opened.st_size, opened.st_mtime_ns):
        raise RunError(
            f"data.file={shown(path)} was written while it was read: it has {now.st_size} bytes, "
            f"and had {opened.st_size}; put the old file back and go on"
        )
    return source.read(indices)


def _check_members(name: str, members: list[str]) -> None:
    for member in members:
        if not member.isprintable():
            raise UserError(f"{name} holds an array named {shown(member)}; give it a plain name")
        if members.count(member) > 1:
            raise UserError(f"{name} holds two arrays named {member}; save it again with one")
