"""The one door to files of our own: written whole or not at all, and read plainly.

Others may write in the same folder. What lies under one of our names is opened only where it is a
plain file: a link would lead elsewhere, a pipe would be waited for.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxgan.errors import RunError

# What file systems say that have nothing to wait for.
_CANNOT_WAIT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ROOM = tuple(os.strerror(number) for number in _FULL)  # as errors say it that have no number
UNFINISHED = ".writing_"  # begins the name of a file until it is whole
_LARGEST = 2**26  # bytes that are read where nobody says more


def opened(path: pathlib.Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a plain file, as `os.open` gives it; files that it makes can be read by all.

    Raises:
      OSError: also for what is a link, a folder, a pipe or a device.
    """
    safe = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, safe, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise OSError(error.errno, "it is a link", str(path)) from None
        if error.errno in (errno.EISDIR, errno.ENXIO):
            raise OSError(error.errno, "it is no plain file", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return descriptor


def opened_to_read(path: pathlib.Path) -> Any:
    """A plain file, open for its bytes; raises as `opened`."""
    return os.fdopen(opened(path), "rb")


def read(path: pathlib.Path, most: int = _LARGEST) -> bytes:
    """The bytes of a plain file.

    Raises:
      OSError: as `opened`, and for more than `most` bytes.
    """
    with opened_to_read(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return content


def read_json(path: pathlib.Path) -> Any:
    """What a file of JSON says.

    Raises:
      OSError: as `read`.
      ValueError: for what is no JSON.
    """
    try:
        return json.loads(read(path))
    except RecursionError:
        raise ValueError("it nests too deep") from None


def make_folder(path: pathlib.Path) -> None:
    """Makes a folder of ours, and those above it, where it is not there.

    Raises:
      OSError: also where something else has its name, a link to a folder, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link", str(path)) from None
        if not path.is_dir():
            raise OSError(errno.ENOTDIR, "it is no folder", str(path)) from None


@contextlib.contextmanager
def written_whole(path: pathlib.Path) -> Iterator[Any]:
    """A file to write bytes to, which takes its name when the block ends, in place of the file that
    had it before.

    Raises:
      RunError: where it cannot be written, or what has the name is no plain file; that is as it
        was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_plain(path)
        # A new name of its own: nothing is written through a link that lies in the folder.
        options: dict[str, Any] = dict(
            dir=path.parent, prefix=UNFINISHED, suffix=path.suffix, delete=False
        )
        with tempfile.NamedTemporaryFile(**options) as file:
            try:
                yield file
                file.flush()
                to_disk(file.fileno())
                file.close()
                os.chmod(file.name, 0o666 & ~umask())
                os.replace(file.name, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}; {fix_of(error)}, or choose "
            "another place"
        ) from None


def _check_plain(path: pathlib.Path) -> None:
    """An `OSError` where a path is that of something else than a plain file, or of nothing."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, "it is a link", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON; raises as `written_whole`."""
    with written_whole(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def fix_of(error: OSError) -> str:
    """What helps against an error of writing, in a word."""
    return "make room" if error.errno in _FULL else "mend that"


def clear_unfinished(folder: pathlib.Path) -> None:
    """Removes what a process that was killed left of files that were to be written whole. Only who
    holds the folder may."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(UNFINISHED) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def set_aside(path: pathlib.Path, as_name: str | None = None) -> str:
    """Gives what has this path another name in the same folder, which nothing has yet; returns it.

    Args:
      path: whatever lies there; nothing need.
      as_name: to be called, and with a number from 2 on where that is taken; by default `.old` is
        added.
    """
    name = first = as_name or f"{path.name}.old"
    number = 1
    while os.path.lexists(path.with_name(name)):
        number += 1
        name = f"{first}_{number}"
    if os.path.lexists(path):
        os.rename(path, path.with_name(name))
    return name


def to_disk(descriptor: int) -> None:
    """Waits until a file or folder is on the disk: a power cut must not lose what a rename
    announces.

    Raises:
      OSError: where it cannot be kept; network file systems and quotas tell that only here.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_WAIT:
            raise


class Lock(NamedTuple):
    """A lock that is held.

    Attributes:
      missing: why there is none, such as "Function not implemented" on a file system that has no
        locks; empty where there is one.
      is_ours: () -> whether the file is still there, and the one that was locked.
    """

    missing: str
    is_ours: Callable[[], bool]


@contextlib.contextmanager
def locked(path: pathlib.Path, wait: bool = False) -> Iterator[Lock]:
    """Holds a file as a lock.

    Args:
      path: of the lock, which is made where it is not there, and stays.
      wait: for another process that holds it.

    Raises:
      BlockingIOError: where another process holds it.
      OSError: where the file cannot be opened, see `opened`.
    """
    descriptor, missing = _locked(path, wait)
    try:
        while not is_still(path, descriptor):  # who held it before has removed it
            os.close(descriptor)
            descriptor, missing = _locked(path, wait)
        yield Lock(missing, lambda: is_still(path, descriptor))
    finally:
        os.close(descriptor)


def _locked(path: pathlib.Path, wait: bool) -> tuple[int, str]:
    descriptor = opened(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError as error:
        return descriptor, error.strerror or str(error)
    return descriptor, ""


def is_still(path: pathlib.Path, descriptor: int) -> bool:
    """Whether a file that was opened is what has its path now."""
    try:
        found, ours = os.lstat(path), os.fstat(descriptor)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
