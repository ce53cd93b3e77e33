"""Makes prepared data: in a hidden folder, which takes its name when all is written."""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator

import numpy as np

from jaxgan import files, memory, terminal
from jaxgan.data import entries
from jaxgan.data.entries import Entry, Header, Unsound
from jaxgan.data.feeds import bytes_of_one
from jaxgan.data.parts import Places, Reopened, read_all
from jaxgan.data.source import Source
from jaxgan.errors import RunError
from jaxgan.paths import shown

_BLOCK_BYTES, _MOST_BLOCK = 2**25, 1024  # and examples, of what is read at once
_UNFINISHED = re.compile(re.escape(files.UNFINISHED) + r"(.+-[0-9a-f]{12})_[^-]*")
_SPARE = 2**20  # bytes beside the arrays
_BYTES_COMPARED = 2**31  # of larger data only the lengths are looked at where they are found again


class NotKept(Exception):
    """Why prepared data cannot be written, in words that go on after "prepared data"."""


def _always() -> bool:
    return True


def block_of(source: Source) -> int:
    """Examples that are read at once, and that one checksum covers."""
    return min(_MOST_BLOCK, max(1, _BLOCK_BYTES // bytes_of_one(source.features)))


def prepared(
    root: pathlib.Path,
    header: Header,
    source: Source,
    reopened: Reopened | None = None,
    tell: Callable[[str], None] | None = terminal.complain,
    progress: bool = False,
    is_unchanged: Callable[[], bool] = _always,
) -> Entry:
    """The entry that a header describes, made of the source where it is not there.

    Args:
      root: where entries lie; made where it is not there.
      header: without checksums.
      source: what is read.
      reopened: see `read_all`.
      tell: gets the line that says what is prepared and how large it is; None for nobody.
      progress: show a bar.
      is_unchanged: () -> whether the originals still are what the header says; asked when all are
        read.

    Raises:
      NotKept: where it cannot be written, or the originals changed meanwhile; nothing is left.
      RunError: for examples that cannot be read.
    """
    name = entries.name_of(header)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _only_one(root / f".{name}.lock", name) as alone:
            try:
                return sound(root / name)
            except FileNotFoundError:
                pass
            except Unsound as error:
                _cleared(root / name, str(error))
            if alone:
                _clear_unfinished(root, name)
            _check_room(root, header, tell)
            return _made(root, name, header, source, reopened, progress, is_unchanged)
    except OSError as error:
        where = shown(error.filename or root)
        raise NotKept(
            f"cannot be written: {where}: {error.strerror or error}; {files.fix_of(error)}, or "
            "choose another --data.cache"
        ) from None


def sound(path: pathlib.Path) -> Entry:
    """The entry of a folder, after looking at its arrays; raises as `entries.read`."""
    entry = entries.read(path)
    arrays = entries.arrays_of(entry)
    if entry.header.bytes <= _BYTES_COMPARED:
        entries.check(entry, arrays)
    return entry


@contextlib.contextmanager
def _only_one(path: pathlib.Path, name: str) -> Iterator[bool]:
    """Waits while another process prepares the same; whether that is so sure that what lies about
    unfinished is nobody's. Without locks both prepare, and the first to end wins."""
    with contextlib.ExitStack() as held:
        try:
            lock = held.enter_context(files.locked(path))
        except BlockingIOError:
            terminal.complain(f"another process prepares {name}; waiting for it")
            lock = held.enter_context(files.locked(path, wait=True))
        yield not lock.missing


def _cleared(path: pathlib.Path, reason: str) -> None:
    """Makes room for an entry in place of what is of no use. What is ours is removed, and anything
    else is given another name."""
    if entries.is_ours(path):
        terminal.complain(f"{shown(path)} is prepared anew: {reason}")
        with contextlib.suppress(OSError):
            entries.remove(path)
    if os.path.lexists(path):
        kept = files.set_aside(path)
        terminal.complain(f"{shown(path)} is no prepared data ({reason}); it is now called {kept}")


def remove(path: pathlib.Path) -> bool:
    """Removes prepared data, and what was left unfinished of the same; returns whether nothing of
    the user's lies in their folder, so that it is gone.

    Raises:
      BlockingIOError: while another process prepares them.
      OSError: where they cannot be removed.
    """
    root, name = path.parent, path.name
    lock = root / f".{name}.lock"
    with files.locked(lock) as held:
        is_gone = entries.remove(path)
        if not held.missing:
            _clear_unfinished(root, name)
        with contextlib.suppress(OSError):
            os.unlink(lock)
    return is_gone


def remove_unfinished(root: pathlib.Path) -> int:
    """Removes what killed processes left unfinished; how many bytes that frees."""
    freed = 0
    for path in unfinished(root):
        name = _UNFINISHED.fullmatch(path.name)
        if not name:
            continue
        lock = root / f".{name[1]}.lock"
        with contextlib.suppress(OSError), files.locked(lock) as held:
            if not held.missing:
                size = sum(file.lstat().st_size for file in path.iterdir())
                freed += size if entries.remove(path) else 0
                os.unlink(lock)
    return freed


def _clear_unfinished(root: pathlib.Path, name: str) -> None:
    """Removes what a process that was killed left of an entry; only who holds its lock may."""
    for path in unfinished(root, f"{name}_"):
        with contextlib.suppress(OSError):
            entries.remove(path)


def unfinished(root: pathlib.Path, name: str = "") -> list[pathlib.Path]:
    """Folders of entries that are being prepared, or were when their process was killed."""
    with contextlib.suppress(OSError), os.scandir(root) as found:
        return sorted(
            pathlib.Path(e.path)
            for e in found
            if e.name.startswith(f"{files.UNFINISHED}{name}") and e.is_dir(follow_symlinks=False)
        )
    return []


def _check_room(root: pathlib.Path, header: Header, tell: Callable[[str], None] | None) -> None:
    size, free = header.bytes, shutil.disk_usage(root).free
    many = f"{header.count:,} examples, {memory.shown(size)}"
    if size + _SPARE > free:
        raise NotKept(
            f"of {header.name} ({many}) find no room in {shown(root)}, which has "
            f"{memory.shown(free)}; make room, or choose another --data.cache"
        )
    if tell:
        tell(f"preparing {header.name}: {many} in {shown(root)} ({memory.shown(free)} free)")


def _made(
    root: pathlib.Path,
    name: str,
    header: Header,
    source: Source,
    reopened: Reopened | None,
    progress: bool,
    is_unchanged: Callable[[], bool],
) -> Entry:
    folder = pathlib.Path(tempfile.mkdtemp(dir=root, prefix=f"{files.UNFINISHED}{name}_"))
    try:
        os.chmod(folder, 0o777 & ~files.umask())
        checksums = _written(folder, header, source, reopened, progress)
        if not is_unchanged():  # of the old and the new: nobody could tell which
            raise NotKept(
                f"of {header.name} are of no use: its files changed while they were read; begin "
                "again when nothing is written there"
            )
        try:
            entries.write_header(folder, header._replace(checksums=checksums))
        except RunError as error:
            raise NotKept(f"cannot be kept: {error}") from None
        _to_disk(folder)
        try:
            os.rename(folder, root / name)
        except OSError:
            if not os.path.lexists(root / name):
                raise
            return sound(root / name)  # another process was faster, where there are no locks
        _to_disk(root)
    except Unsound as error:
        raise NotKept(f"in {shown(root / name)} are of no use: {error}") from None
    finally:
        if folder.exists():
            with contextlib.suppress(OSError):
                entries.remove(folder)
    return entries.read(root / name)


def _written(
    folder: pathlib.Path,
    header: Header,
    source: Source,
    reopened: Reopened | None,
    progress: bool,
) -> dict[str, list[int]]:
    """Writes the arrays of a folder; their checksums."""
    begins, paths = {}, {}
    for key, file_name in entries.file_names(header.features).items():
        feature = header.features[key]
        content = entries.beginning_of_file((header.count, *feature.shape), feature.dtype)
        paths[key], begins[key] = folder / file_name, len(content)
        with os.fdopen(files.opened(paths[key], os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as f:
            f.write(content)
    firsts = range(0, header.count, header.block)
    parts = [(first, min(first + header.block, header.count)) for first in firsts]
    checksums = {key: np.zeros(len(parts), np.int64) for key in header.features}
    bar = terminal.bar(
        total=header.count,
        desc=f"Preparing {header.name}",
        unit=" examples",
        leave=False,
        disable=not progress,
    )
    done = read_all(source, Places(paths, begins), parts, reopened)
    with bar, contextlib.closing(done):
        for (first, last), of_part in done:
            for key, checksum in of_part.items():
                checksums[key][first // header.block] = checksum
            bar.update(last - first)
    for path in paths.values():
        _to_disk(path)
    return {key: values.tolist() for key, values in checksums.items()}


def _to_disk(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        files.to_disk(descriptor)
    finally:
        os.close(descriptor)
