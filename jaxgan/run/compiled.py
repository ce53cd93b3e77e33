"""Compiled programs that are kept on the disk, so that a second run starts faster."""

import contextlib
import glob
import os
import pathlib
import re
import time
import warnings
from typing import Any

import jax

from jaxgan import paths, terminal
from jaxgan.caches import compiled_programs
from jaxgan.terminal import one_line

_READING = re.compile(r"Error reading persistent compilation cache entry for '([^']+)'")
_WRITING = re.compile(r"Error writing persistent compilation cache entry for '([^']+)': (.*)", re.S)
_WRITTEN_WITHIN = 10.0  # seconds, of the largest entry on a slow disk
_STORES = ("gs://", "s3://", "az://")  # that JAX knows


def keep_compiled_programs() -> None:
    """Turns on JAX's persistent compilation cache, where its folder can be written, so that a
    second run starts faster. Of a folder that was asked for and cannot be, a line says so."""
    folder = compiled_programs()
    if not folder:
        return
    if reason := _why_not_kept(folder):
        if "JAX_COMPILATION_CACHE_DIR" in os.environ:
            terminal.complain(_not_kept(folder, reason))
        jax.config.update("jax_compilation_cache_dir", None)
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _tell_in_lines(folder)


def _why_not_kept(folder: str) -> str:
    if paths.is_address(folder):
        return "" if folder.startswith(_STORES) else "it is no kind of store that JAX knows"
    try:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return "" if os.access(folder, os.W_OK | os.X_OK) else "it may not be written"


def _not_kept(folder: str, reason: str) -> str:
    return f"compiled programs cannot be kept in {folder}: {reason}; each start compiles anew"


def _tell_in_lines(folder: str) -> None:
    """What JAX warns of, in lines. It leaves a damaged entry where it is, and warns of it at each
    start; here it is told once, and made anew."""
    usual, told = warnings.showwarning, set[str]()

    def show(message: Any, *more: Any, **others: Any) -> None:
        reading, writing = _READING.match(str(message)), _WRITING.match(str(message))
        if reading:
            if gone := _without_damaged(pathlib.Path(folder), reading[1]):
                count = f"{gone} of the compiled programs"
                terminal.complain(f"{count} kept in {folder} could not be read")
        elif writing:
            _without_empty(pathlib.Path(folder), writing[1])
            if "writing" not in told:
                told.add("writing")
                terminal.complain(_not_kept(folder, one_line(writing[2])))
        else:
            usual(message, *more, **others)

    warnings.showwarning = show


def _without_empty(folder: pathlib.Path, name: str) -> None:
    """Removes what JAX leaves of an entry that found no room."""
    for entry in _entries(folder, name):
        with contextlib.suppress(OSError):
            if not entry.stat().st_size:
                entry.unlink()


def _entries(folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    """The entries of a program: plain files."""
    found = folder.glob(f"{glob.escape(name)}-*-cache")
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _seconds_old(entry: pathlib.Path) -> float:
    """Since it was last written; 0 for one that is gone."""
    try:
        return time.time() - entry.stat().st_mtime
    except OSError:
        return 0.0


def _without_damaged(folder: pathlib.Path, name: str) -> int:
    """Removes the entries of a program that cannot be unpacked; in a cache of our own all of its
    entries where none of them is to blame. Returns how many. Entries of the last seconds are left:
    JAX writes them in place, and another process may be at it."""
    from jax._src import compilation_cache  # which alone knows how entries are packed

    entries = [entry for entry in _entries(folder, name) if _seconds_old(entry) > _WRITTEN_WITHIN]

    def is_damaged(entry: pathlib.Path) -> bool:
        try:
            compilation_cache.decompress_executable(entry.read_bytes())
        except Exception:  # of several packers
            return True
        return False

    damaged = [entry for entry in entries if is_damaged(entry)]
    ours = "JAX_COMPILATION_CACHE_DIR" not in os.environ
    gone = damaged or (entries if ours else [])
    for entry in gone:
        with contextlib.suppress(OSError):
            entry.unlink()
    return len(gone)
