"""Checkpoints that a killed run can rely on.

A checkpoint holds the whole `GANState`, the reader's position, what the next record is made from,
and a manifest of its files with their checksums. It is written to a hidden folder, in the
background, and renamed when all of it is on the disk: a folder named by a step is complete, however
the run was killed. The manifest is checked before anything is read, because a damaged chunk can
still decompress to wrong numbers.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np

from jaxgan import files
from jaxgan.errors import RunError, UserError
from jaxgan.game import GANState
from jaxgan.run.arrays import read_arrays, write_arrays

_MANIFEST = "manifest.json"


class Checkpoints(NamedTuple):
    """An open folder of checkpoints, see `open_checkpoints`.

    Attributes:
      save: (state, position, records=None) -> None. Copies the state to the host and writes in the
        background; the other two are JSON.
      wait: () -> None. Returns when all is written; raises `RunError` where it was not.
      close: () -> None.
      latest: () -> the step last given to `save`, or else of the newest checkpoint; 0 for none.
    """

    save: Callable[..., None]
    wait: Callable[[], None]
    close: Callable[[], None]
    latest: Callable[[], int]


def _save_nothing(state: GANState, position: Any, records: Any = None) -> None: ...


def _return() -> None: ...


NOWHERE = Checkpoints(
    _save_nothing, _return, _return, lambda: 0
)  # for a process that does not write


class Restored(NamedTuple):
    """A state read back, with what was saved beside it; damaged: what was passed over, a line
    each."""

    state: GANState
    position: Any
    damaged: list[str]
    records: Any = None


def _is_step(name: str) -> bool:
    """Whether a folder of this name is one of ours: neither `007` nor digits of other scripts."""
    return len(name) < 12 and name.isascii() and name.isdigit() and str(int(name)) == name


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


def open_checkpoints(folder: pathlib.Path, keep: int) -> Checkpoints:
    """Opens a folder for writing; of the checkpoints in it the newest `keep` are kept.

    The first that is written is read back before it gets its name.

    Raises (as do the functions that it returns):
      RunError: where a checkpoint cannot be written; those written before stay as they are.
    """
    for leftover in folder.glob(".writing_*"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    writer = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
    under_way: list[concurrent.futures.Future] = []
    before = steps_in(folder)
    saved = [before[-1] if before else 0]

    def wait() -> None:
        try:
            while under_way:
                under_way.pop().result()
        except Exception as error:  # Orbax and TensorStore share no error type
            complete = steps_in(folder)
            kept = f"the checkpoint of step {complete[-1]} is" if complete else "no checkpoint is"
            raise RunError(
                f"a checkpoint could not be written to {folder}: {_cause(error)}; {kept} complete; "
                "make room and run again"
            ) from None

    def save(state: GANState, position: Any, records: Any = None) -> None:
        arrays, kind = _to_arrays(state), str(jax.random.key_impl(state.key))
        wait()
        manifest = {
            "position": position,
            "records": records,
            "key": kind,
            "arrays": _named_shapes(arrays),
        }
        under_way.append(writer.submit(_write, folder, arrays, manifest, keep, len(saved) == 1))
        saved.append(int(arrays["step"]))

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
    folder: pathlib.Path, arrays: Any, manifest: dict[str, Any], keep: int, read_back: bool
) -> None:
    step = int(arrays["step"])
    writing = folder / f".writing_{step}"
    try:
        writing.mkdir()
        write_arrays(writing, arrays)
        if read_back:  # a file system or a version that cannot hold states shows in the first
            found = read_arrays(writing, jax.tree.map(np.empty_like, arrays))
            if not jax.tree.all(jax.tree.map(_same_bits, arrays, found)):
                raise OSError("other numbers are read back than were written")
        checksums = {p.relative_to(writing).as_posix(): _checksum(p) for p in _files(writing)}
        manifest = {**manifest, "files": checksums}
        (writing / _MANIFEST).write_text(json.dumps(manifest))
        for path in [*_files(writing), writing, folder]:
            _to_disk(path)
        writing.rename(folder / str(step))
        _to_disk(folder)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise
    for old in steps_in(folder)[:-keep]:
        # Renamed first: a folder half removed must not look complete.
        dying = folder / f".writing_{old}"
        (folder / str(old)).rename(dying)
        shutil.rmtree(dying, ignore_errors=True)


def restore(
    folder: pathlib.Path, template: GANState, set_aside: bool = True, step: int | None = None
) -> Restored | None:
    """The newest checkpoint that is whole, or that of a step; None where there is none at all.

    Args:
      folder: where the checkpoints are.
      template: a state of the same structure; its arrays are not read.
      set_aside: rename newer ones that are damaged to `damaged_<step>`, so that training can write
        those steps again. Only the process that trains in the folder may.
      step: of the checkpoint to read; None for the newest.

    Raises:
      UserError: a step of which there is none.
      RunError: where there are checkpoints and all of them are damaged, or that of the step is.
    """
    failed: list[tuple[int, str]] = []
    if step is not None:
        return _restored(folder, template, step, steps_in(folder))
    while waiting := set(steps_in(folder)) - {step for step, _ in failed}:
        step = max(waiting)
        try:
            state, manifest = _read(folder / str(step), template)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # Orbax and TensorStore share no error type
            if step in steps_in(folder):  # and was not replaced by a newer one meanwhile
                failed.append((step, _cause(error)))
            continue
        lines = []
        for bad, reason in failed:
            damaged = folder / str(bad)
            name = files.set_aside(damaged, f"damaged_{bad}") if set_aside else str(bad)
            lines.append(
                f"checkpoint {bad} is damaged ({reason}); kept as {name}, going back to step {step}"
            )
        return Restored(state, manifest["position"], lines, manifest.get("records"))
    if failed:
        raise RunError(
            f"none of the {len(failed)} checkpoints in {folder} can be read, the oldest: "
            f"{failed[-1][1]}; restore them from a copy, or move the folder away to begin anew"
        )
    return None


def _restored(folder: pathlib.Path, template: GANState, step: int, steps: list[int]) -> Restored:
    """The checkpoint of a step, of those that there are."""
    if step not in steps:
        held = ", ".join(map(str, steps)) or "none"
        raise UserError(f"there is no checkpoint of step {step!r} in {folder}; there are: {held}")
    try:
        state, manifest = _read(folder / str(int(step)), template)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Orbax and TensorStore share no error type
        others = ", ".join(str(other) for other in steps if other != step) or "none"
        raise RunError(
            f"the checkpoint of step {step} in {folder} cannot be read: {_cause(error)}; the "
            f"others: {others}"
        ) from None
    return Restored(state, manifest["position"], [], manifest.get("records"))


def _read(path: pathlib.Path, template: GANState) -> tuple[GANState, dict[str, Any]]:
    """The state, and the manifest."""
    manifest = files.read_json(path / _MANIFEST)
    for name, checksum in manifest["files"].items():
        if ".." in pathlib.PurePath(name).parts or pathlib.PurePath(name).is_absolute():
            raise RunError(f"{name!r} is no file of a checkpoint")
        try:
            found = _checksum(path / name)
        except FileNotFoundError:
            raise RunError(f"{name} is missing") from None
        if found != checksum:
            raise RunError(f"{name} is changed or cut short")
    needed, given = str(jax.random.key_impl(jax.random.key(0))), manifest.get("key")
    if given and given != needed:
        raise UserError(
            f"{path} holds a key of {given}, here keys are {needed}; set "
            f"JAX_DEFAULT_PRNG_IMPL={given}"
        )
    abstract = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), _shapes(template))
    if "arrays" in manifest:  # older ones do not name them
        _check_same_arrays(path, manifest["arrays"], _named_shapes(abstract))
    arrays = read_arrays(path, abstract)
    _check_same_arrays(path, _named_shapes(arrays), _named_shapes(abstract))
    state: Any = flax.serialization.from_state_dict(template.replace(key=0), arrays)
    key = jax.random.wrap_key_data(arrays["key"], impl=given or needed)
    manifest["position"]  # which a whole one has
    return state.replace(key=key), manifest


def _named_shapes(arrays: Any) -> dict[str, list[int]]:
    """`players.generator.params.Dense_0.kernel` and the like to shapes."""
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): list(np.shape(leaf))
        for path, leaf in leaves
    }


def _check_same_arrays(
    path: pathlib.Path, held: dict[str, list[int]], needed: dict[str, list[int]]
) -> None:
    """Raises `UserError` for a state of another game, which is no damage."""
    fix = "train that game on, or choose another --workdir"
    for name in sorted(held.keys() | needed.keys()):
        if name not in held:
            raise UserError(f"{path} holds no {name}, which this game has; {fix}")
        if name not in needed:
            raise UserError(f"{path} holds {name}, which this game has not; {fix}")
        if held[name] != needed[name]:
            raise UserError(
                f"{path} holds {name} of shape {tuple(held[name])}, this game needs "
                f"{tuple(needed[name])}; {fix}"
            )


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    second = np.asarray(second)
    return (first.dtype, first.shape, first.tobytes()) == (
        second.dtype,
        second.shape,
        second.tobytes(),
    )


def _to_arrays(state: GANState) -> Any:
    """The state as nested dicts of NumPy arrays, the key as its data."""
    arrays = flax.serialization.to_state_dict(state.replace(key=jax.random.key_data(state.key)))
    # On a CPU device_get may give views of buffers that the next step, to which the state is
    # donated, writes over.
    return jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(arrays))


def _shapes(template: GANState) -> Any:
    """As `_to_arrays`, of shapes."""
    key = jax.eval_shape(jax.random.key_data, template.key)
    return flax.serialization.to_state_dict(template.replace(key=key))


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _checksum(path: pathlib.Path) -> int:
    with files.opened_to_read(path) as file:
        checksum = 0
        while part := file.read(2**22):
            checksum = zlib.crc32(part, checksum)
    return checksum


def _to_disk(path: pathlib.Path) -> None:
    """Waits until a file or folder is on the disk: a power cut must not lose what the rename
    announces."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        files.to_disk(descriptor)
    finally:
        os.close(descriptor)


def _cause(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    text = " ".join(str(error).split()) or type(error).__name__
    # The system's own words come last.
    return text if len(text) < 200 else f"{text[:60]} .. {text[-120:]}"
