"""Checkpoints that a killed run can rely on.

A checkpoint holds the whole `GANState`, the reader's position, what the next record is made from,
and a manifest of its files with their checksums. It is written to a hidden folder, in the
background, and renamed when all of it is on the disk: a folder named by a step is complete, however
the run was killed. The manifest is checked before anything is read, because a damaged chunk can
still decompress to wrong numbers.
"""

import concurrent.futures
import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgan import files
from jaxgan.errors import RunError, UserError
from jaxgan.game import GANState
from jaxgan.run import manifest
from jaxgan.run.arrays import read_arrays, write_arrays
from jaxgan.run.states import named_shapes, same_bits, to_arrays

_WRITING = ".writing_"  # and the step, of a folder that is not complete
_SYSTEM = [
    *files.NO_ROOM,
    *(os.strerror(n) for n in (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE)),
]


class Checkpoints(NamedTuple):
    """An open folder of checkpoints, see `open_checkpoints`.

    Attributes:
      save: (state, position, records=None) -> lines for the user. Copies the state to the host and
        writes in the background; the other two are JSON.
      wait: () -> lines for the user. Returns when all is written; raises `RunError` where it was
        not.
      close: () -> None.
      latest: () -> the step last given to `save`, or else of the newest checkpoint; 0 for none.
    """

    save: Callable[..., list[str]]
    wait: Callable[[], list[str]]
    close: Callable[[], None]
    latest: Callable[[], int]


def _save_nothing(state: GANState, position: Any, records: Any = None) -> list[str]:
    return []


def _no_lines() -> list[str]:
    return []


def _return() -> None: ...


# For a process that does not write.
NOWHERE = Checkpoints(_save_nothing, _no_lines, _return, lambda: 0)


def _is_step(name: str) -> bool:
    """Whether a folder of this name is one of ours: neither `007` nor digits of other scripts."""
    return len(name) < 12 and name.isascii() and name.isdigit() and str(int(name)) == name


def _is_writing(name: str) -> bool:
    """Whether a folder of this name is a checkpoint of ours that is not complete."""
    return name.startswith(_WRITING) and _is_step(name.removeprefix(_WRITING))


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps of the complete checkpoints, oldest first; [] where there is no such folder.

    Raises:
      RunError: where the folder cannot be read, which must not look like an empty one.
    """
    try:
        with os.scandir(folder) as entries:
            folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(
            f"{folder} cannot be read: {error.strerror}; nothing in it was changed; make it "
            "readable and run again"
        ) from None
    return sorted(int(name) for name in folders if _is_step(name))


def check_names(folder: pathlib.Path) -> None:
    """Raises `UserError` where something that is no folder has the name of a checkpoint, before a
    run is trained that could not save."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            ours = _is_step(entry.name) or _is_writing(entry.name)
            if ours and not entry.is_dir(follow_symlinks=False):
                raise UserError(
                    f"{folder / entry.name} is no folder, and has the name of a checkpoint; move "
                    "it away"
                )


def open_checkpoints(folder: pathlib.Path, keep: int, run_id: str | None = None) -> Checkpoints:
    """Opens a folder for writing; of the checkpoints in it `keep` are kept, the one that is written
    and the newest of the others.

    The first that is written is read back before it gets its name.

    Args:
      folder: where they are.
      keep: how many.
      run_id: of the run, which its checkpoints tell.

    Raises (as do the functions that it returns):
      RunError: where a checkpoint cannot be written; those written before stay as they are.
    """
    for leftover in folder.iterdir():  # of a run that was killed
        if _is_writing(leftover.name):
            shutil.rmtree(leftover, ignore_errors=True)
    writer = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
    under_way: list[concurrent.futures.Future] = []
    before = steps_in(folder)
    saved, told = [before[-1] if before else 0], set[str]()

    def wait() -> list[str]:
        lines = []
        try:
            while under_way:
                lines += under_way.pop().result()
        except Exception as error:  # Orbax and TensorStore share no error type
            complete = steps_in(folder)
            kept = f"the checkpoint of step {complete[-1]} is" if complete else "no checkpoint is"
            cause = cause_of(error)
            fix = "make room" if any(words in cause for words in files.NO_ROOM) else "mend that"
            raise RunError(
                f"a checkpoint could not be written to {folder}: {cause}; {kept} complete; {fix} "
                "and run again"
            ) from None
        new = [line for line in lines if line not in told]
        told.update(new)
        return new

    def save(state: GANState, position: Any, records: Any = None) -> list[str]:
        arrays, kind = to_arrays(state), str(jax.random.key_impl(state.key))
        lines, step = wait(), int(arrays["step"])
        about = {
            "step": step,
            "run_id": run_id,
            "position": position,
            "records": records,
            "key": kind,
            "arrays": named_shapes(arrays),
        }
        under_way.append(writer.submit(_write, folder, arrays, about, keep, len(saved) == 1))
        saved.append(step)
        return lines

    return Checkpoints(save, wait, writer.shutdown, lambda: saved[-1])


@contextlib.contextmanager
def closing(saver: Checkpoints) -> Iterator[None]:
    """Waits for the writes under way also when the block ends by an error, which then is the one to
    tell."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(RunError):
            saver.wait()
        raise
    finally:
        saver.close()


def _write(
    folder: pathlib.Path, arrays: Any, about: dict[str, Any], keep: int, read_back: bool
) -> list[str]:
    """Writes a checkpoint, and removes older ones; gives a line for what could not be removed."""
    step = about["step"]
    writing = folder / f"{_WRITING}{step}"
    try:
        writing.mkdir()
        write_arrays(writing, arrays)
        if read_back:  # a file system or a version that cannot hold states shows in the first
            found = read_arrays(writing, jax.tree.map(np.empty_like, arrays))
            if not jax.tree.all(jax.tree.map(same_bits, arrays, found)):
                raise OSError("other numbers are read back than were written")
        manifest.write(writing, about)
        for path in [*manifest.files_of(writing), writing, folder]:
            _to_disk(path)
        writing.rename(folder / str(step))
        _to_disk(folder)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise
    lines = []
    others = [other for other in steps_in(folder) if other != step]
    for old in others[: len(others) - keep + 1] if len(others) >= keep else []:
        dying = folder / f"{_WRITING}{old}"
        try:
            # Renamed first: a folder half removed must not look complete.
            (folder / str(old)).rename(dying)
            shutil.rmtree(dying)
        except OSError as error:
            lines.append(
                f"older checkpoints in {folder} cannot be removed: {error.strerror}; training goes "
                "on, and they stay"
            )
    return lines


def _to_disk(path: pathlib.Path) -> None:
    """Waits until a file or folder is on the disk: a power cut must not lose what the rename
    announces."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        files.to_disk(descriptor)
    finally:
        os.close(descriptor)


def cause_of(error: BaseException) -> str:
    """The innermost cause, in one line: the system's words, where it has any."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) < 200:
        return text
    said = [words for words in _SYSTEM if words in text]  # TensorStore's texts are long
    return f"{text[:60]} .. {said[0] if said else text[-120:]}"
