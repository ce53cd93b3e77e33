"""Trees of arrays on the disk. The one file that imports Orbax."""

import contextlib
import functools
import glob
import logging
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import jax


def write_arrays(folder: pathlib.Path, arrays: Any) -> None:
    """Writes a tree of NumPy arrays into an existing folder."""
    with _plain_path(folder) as plain, _checkpointer() as checkpointer:
        checkpointer.save(plain / "state", args=_orbax().args.StandardSave(arrays))


def read_arrays(folder: pathlib.Path, abstract: Any) -> Any:
    """The arrays of a folder, of the structure of `abstract`. Errors are Orbax's, which share no
    type."""
    with _plain_path(folder) as plain, _checkpointer() as checkpointer:
        return checkpointer.restore(plain / "state", args=_orbax().args.StandardRestore(abstract))


@contextlib.contextmanager
def _plain_path(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """An absolute path of an existing folder in which no character is a pattern.

    Orbax looks for its own files with `glob` on the whole path: below `runs [lr=1e-3]` it finds
    none, and writes a checkpoint without the file that names its arrays. There it goes through a
    link of a plain name.
    """
    folder = folder.absolute()
    if not glob.has_magic(str(folder)) and "\\" not in str(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="jaxgan-") as place:
        link = pathlib.Path(place, "folder")
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _checkpointer() -> Any:
    """Orbax's writer and reader of one tree. Of several processes only the first has checkpoints,
    and must not wait for the others."""
    active = {0} if jax.process_count() > 1 else None
    alone = _orbax().options.MultiprocessingOptions(active_processes=active)
    handler = _orbax().StandardCheckpointHandler(multiprocessing_options=alone)
    return _orbax().Checkpointer(handler, multiprocessing_options=alone)


@functools.cache
def _orbax() -> Any:
    """Orbax, imported late because it takes a second, and made to report by exceptions alone."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # After one failed write, TensorStore's other writes call back a loop that Orbax has closed;
        # each would print a traceback.
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    import orbax.checkpoint

    return orbax.checkpoint
