"""Folders: what lies in caches, what room there is, and what their file systems can do."""

import fcntl
import json
import os
import pathlib
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

_MOST, _SECONDS = 50_000, 1.5  # entries of a cache that are looked at, and for how long
_LARGEST_JSON = 2**20
_MOST_DATA_SETS = 30
_DEEPEST = 4  # name/config/version/dataset_info.json


def walk(root: pathlib.Path, most: int = _MOST, seconds: float = _SECONDS) -> Iterator[Any]:
    """The plain files below a folder, as `os.DirEntry`; None where it is too much. No link is
    followed, but that the folder itself may be."""
    waiting, seen, until = [os.fspath(root)], 0, time.monotonic() + seconds
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen > most or time.monotonic() > until:
                        yield None
                        return
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        yield entry
        except OSError:
            if seen == 0:  # not even the folder itself
                raise


def cache(root: pathlib.Path, most: int = _MOST) -> dict[str, Any]:
    """How many files lie in a cache and how large they are; `complete` where all were looked at."""
    found: dict[str, Any] = {"path": str(root), "files": 0, "bytes": 0, "complete": True}
    if not root.exists():
        writable = os.access(nearest(root), os.W_OK) and not obstacle(root)
        return {**found, "there": False, "writable": writable}
    found |= {"there": True, "writable": root.is_dir() and os.access(root, os.W_OK | os.X_OK)}
    try:
        for entry in walk(root, most):
            if entry is None:
                found["complete"] = False
                break
            try:
                found["bytes"] += entry.stat(follow_symlinks=False).st_size
                found["files"] += 1
            except OSError:  # it has been removed since
                continue
    except OSError as error:
        found["error"] = f"cannot be read: {error.strerror or error}"
    return found


def data_sets(root: pathlib.Path) -> list[dict[str, Any]]:
    """The data sets that are prepared: name, version, file format, examples and bytes."""
    found, top = [], len(root.parts)
    for entry in walk(root) if root.is_dir() else ():
        if entry is None or len(found) == _MOST_DATA_SETS:
            break
        path = pathlib.Path(entry.path)
        if entry.name == "dataset_info.json" and len(path.parts) - top <= _DEEPEST:
            try:
                with path.open("rb") as file:
                    found.append(_data_set(json.loads(file.read(_LARGEST_JSON))))
            except (OSError, ValueError, TypeError, AttributeError, RecursionError):
                found.append({"name": path.parent.parent.name, "error": "its description is bad"})
    return sorted(found, key=lambda one: (one["name"], one.get("version") or ""))


def _data_set(told: dict[str, Any]) -> dict[str, Any]:
    splits = told.get("splits", [])
    return {
        "name": str(told.get("name", "")),
        "version": str(told.get("version", "")),
        "format": str(told.get("fileFormat", "")),
        "examples": sum(int(n) for split in splits for n in split.get("shardLengths", ())),
        "bytes": sum(int(split.get("numBytes", 0)) for split in splits),
    }


def nearest(path: pathlib.Path) -> pathlib.Path:
    """The folder itself, or the nearest above it that is there."""
    path = path.absolute()
    return next((p for p in (path, *path.parents) if p.is_dir()), pathlib.Path("/"))


def obstacle(path: pathlib.Path) -> str:
    """Why this folder could not be made where it is not there; empty where it could, as far as its
    path goes."""
    for place in (path.absolute(), *path.absolute().parents):
        try:
            return "" if stat.S_ISDIR(os.stat(place).st_mode) else "Not a directory"
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:  # such as a mount whose server is gone
            return error.strerror or str(error)
    return ""


def room(path: pathlib.Path) -> dict[str, Any]:
    """Bytes of the disk that a folder is on, or would be."""
    usage = shutil.disk_usage(nearest(path))
    return {"path": str(path), "free": usage.free, "total": usage.total}


def abilities(path: pathlib.Path) -> dict[str, Any]:
    """What the file system of a folder, or of the nearest above it, can do: True, or why not.

    All is tried in a folder of its own, which is removed again.
    """
    place = nearest(path)
    found: dict[str, Any] = {"path": str(path), "type": _type_of(place)}
    if reason := obstacle(path):
        return {**found, "writable": reason}
    try:
        own = pathlib.Path(tempfile.mkdtemp(prefix=".jaxgan-doctor-", dir=place))
    except OSError as error:
        return {**found, "writable": error.strerror or str(error)}
    try:
        found["writable"] = True
        for name, attempt in ATTEMPTS.items():
            try:
                (own / name).mkdir()
                attempt(own / name)
                found[name] = True
            except OSError as error:
                found[name] = error.strerror or str(error)
        found["clock"] = round(own.stat().st_mtime - time.time(), 1)
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return found


def _lock(own: pathlib.Path) -> None:
    with (own / "a").open("w") as one, (own / "a").open("w") as other:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        raise OSError("two may hold the same lock")


def _link(own: pathlib.Path) -> None:
    (own / "a").write_text("a")
    os.link(own / "a", own / "b")


def _symlink(own: pathlib.Path) -> None:
    (own / "b").symlink_to("a")


def _rename(own: pathlib.Path) -> None:
    (own / "a").mkdir()
    (own / "a").rename(own / "b")


def _replace(own: pathlib.Path) -> None:
    for name in ("a", "b"):
        with (own / name).open("w") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())
    os.replace(own / "a", own / "b")
    if (own / "b").read_text() != "a" or (own / "a").exists():
        raise OSError("a file that was replaced is the old one")


ATTEMPTS: dict[str, Callable[[pathlib.Path], None]] = {
    "lock": _lock,
    "link": _link,
    "symlink": _symlink,
    "rename": _rename,
    "replace": _replace,
}


def _type_of(place: pathlib.Path) -> str | None:
    """Such as ext4 or nfs4, where the system tells."""
    best, kind = "", None
    try:
        lines = pathlib.Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return None
    where = os.path.realpath(place)
    for line in lines:
        _, mount, found, *_ = [*line.split(), "", "", ""]
        mount = mount.replace("\\040", " ")
        inside = where == mount or where.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind
