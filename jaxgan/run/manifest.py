"""The manifest of a checkpoint: what it holds, and the checksums of its files and of itself."""

import json
import pathlib
import zlib
from typing import Any

from jaxgan import files
from jaxgan.errors import RunError

_NAME = "manifest.json"


def write(folder: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes what a folder holds: `content`, as JSON, which tells its step, and its files.

    Raises:
      OSError: where it cannot be written.
    """
    checksums = {p.relative_to(folder).as_posix(): _checksum(p) for p in files_of(folder)}
    content = {**content, "files": checksums}
    (folder / _NAME).write_text(json.dumps({**content, "checksum": _of_itself(content)}))


def read(folder: pathlib.Path) -> dict[str, Any]:
    """What a checkpoint's folder, named by its step, says that it holds, after looking at all of
    its files.

    Raises:
      RunError: where something was changed.
      OSError, ValueError: where something cannot be read.
    """
    content = files.read_json(folder / _NAME)
    checksum = content.pop("checksum", None)
    if checksum is not None and checksum != _of_itself(content):  # older ones have none
        raise RunError(f"{_NAME} is changed")
    if str(content.get("step", folder.name)) != folder.name:
        raise RunError(f"it is the state of step {content['step']}")
    for name, expected in content["files"].items():
        if ".." in pathlib.PurePath(name).parts or pathlib.PurePath(name).is_absolute():
            raise RunError(f"{name!r} is no file of a checkpoint")
        try:
            found = _checksum(folder / name)
        except FileNotFoundError:
            raise RunError(f"{name} is missing") from None
        if found != expected:
            raise RunError(f"{name} is changed or cut short")
    return content


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a checkpoint, in any depth."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _of_itself(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content).encode())


def _checksum(path: pathlib.Path) -> int:
    with files.opened_to_read(path) as file:
        checksum = 0
        while part := file.read(2**22):
            checksum = zlib.crc32(part, checksum)
    return checksum
