"""Compiled programs that are kept on the disk, so that a second run starts faster."""

import contextlib
import glob
import os
import pathlib
import re
import warnings
from typing import Any

import jax

from jaxgan import paths, terminal
from jaxgan.caches import compiled_programs

_DAMAGED = re.compile(r"Error reading persistent compilation cache entry for '([^']+)'")


def keep_compiled_programs() -> None:
    """Turns on JAX's persistent compilation cache, where its folder can be written, so that a
    second run starts faster."""
    folder = compiled_programs()
    if not folder:
        return
    if not paths.is_address(folder):
        try:
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError):
            return
        if not os.access(folder, os.W_OK | os.X_OK):
            return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _mend_when_damaged(folder)


def _mend_when_damaged(folder: str) -> None:
    """JAX leaves a damaged entry where it is, and warns of it at each start. Here it is told once,
    and made anew."""
    usual = warnings.showwarning

    def show(message: Any, *more: Any, **others: Any) -> None:
        found = _DAMAGED.match(str(message))
        if not found:
            usual(message, *more, **others)
        elif gone := _without_damaged(pathlib.Path(folder), found[1]):
            terminal.complain(f"{gone} of the compiled programs kept in {folder} could not be read")

    warnings.showwarning = show


def _without_damaged(folder: pathlib.Path, name: str) -> int:
    """Removes the entries of a program that cannot be unpacked; in a cache of our own all of its
    entries where none of them is to blame. Returns how many."""
    from jax._src import compilation_cache  # which alone knows how entries are packed

    entries = list(folder.glob(f"{glob.escape(name)}-*-cache"))

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
