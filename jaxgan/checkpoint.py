"""Checkpoints that a killed run can rely on. The one file that imports Orbax.

A checkpoint holds the whole `GANState`, the reader's position, and a checksum of every array, because a damaged chunk can still
decompress to wrong numbers. Orbax writes to a temporary folder and renames it, so a folder named by a step is complete.
"""

import logging
import pathlib
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np

from jaxgan.errors import RunError
from jaxgan.game import GANState


class Checkpoints(NamedTuple):
    """An open folder of checkpoints, see `open_checkpoints`.

    Attributes:
      save: (state, position) -> None. Copies the state to the host and writes in the background.
      wait: () -> None. Returns when all is written; raises `RunError` where it was not.
      close: () -> None.
    """

    save: Callable[[GANState, Any], None]
    wait: Callable[[], None]
    close: Callable[[], None]


class Restored(NamedTuple):
    """A state read back; damaged: what was passed over, a line each."""

    state: GANState
    position: Any
    damaged: list[str]


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps of the complete checkpoints, oldest first."""
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit() and p.is_dir()) if folder.is_dir() else []


def open_checkpoints(folder: pathlib.Path, keep: int) -> Checkpoints:
    """Opens a folder for writing; of the checkpoints in it the newest `keep` are kept.

    Raises (as do the functions that it returns):
      RunError: where a checkpoint cannot be written; those written before stay as they are.
    """
    orbax = _orbax()
    options = orbax.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True, cleanup_tmp_directories=True)
    manager = orbax.CheckpointManager(folder.absolute(), options=options, item_names=("state", "meta"))

    def guarded(action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # Orbax and TensorStore share no error type
            complete = steps_in(folder)
            kept = f"the checkpoint of step {complete[-1]} is complete" if complete else "no checkpoint is complete"
            raise RunError(f"a checkpoint could not be written to {folder}: {_cause(error)}; {kept}; make room and run again") from None

    def save(state: GANState, position: Any) -> None:
        arrays = _to_arrays(state)
        meta = {"position": position, "checksums": _checksums(arrays)}
        args = orbax.args.Composite(state=orbax.args.StandardSave(arrays), meta=orbax.args.JsonSave(meta))
        guarded(lambda: manager.save(int(arrays["step"]), args=args, force=True))

    return Checkpoints(save, lambda: guarded(manager.wait_until_finished), manager.close)


def restore(folder: pathlib.Path, template: GANState) -> Restored | None:
    """The newest checkpoint that is whole; None where there is none at all.

    Newer ones that are damaged are renamed to `damaged_<step>`, so that training can write those steps again.

    Args:
      folder: where the checkpoints are.
      template: a state of the same structure; its arrays are not read.

    Raises:
      RunError: where there are checkpoints and all of them are damaged.
    """
    damaged = []
    for step in reversed(steps_in(folder)):
        try:
            state, position = _read(folder / str(step), template)
        except Exception as error:  # Orbax and TensorStore share no error type
            damaged.append(step)
            reason = _cause(error)
            if step == steps_in(folder)[0]:
                raise RunError(
                    f"none of the {len(damaged)} checkpoints in {folder} can be read, the last: {reason}; restore them from a copy, or "
                    "move the folder away to begin anew"
                ) from None
            continue
        lines = []
        for bad in damaged:
            moved = folder / f"damaged_{bad}"
            number = 0
            while moved.exists():
                number += 1
                moved = folder / f"damaged_{bad}_{number}"
            (folder / str(bad)).rename(moved)
            lines.append(f"checkpoint {bad} is damaged ({reason}); kept as {moved.name}, going back to step {step}")
        return Restored(state, position, lines)
    return None


def _read(path: pathlib.Path, template: GANState) -> tuple[GANState, Any]:
    orbax = _orbax()
    abstract = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), _to_arrays(jax.eval_shape(lambda: template), copy=False))
    with orbax.Checkpointer(orbax.CompositeCheckpointHandler()) as reader:
        args = orbax.args.Composite(state=orbax.args.StandardRestore(abstract), meta=orbax.args.JsonRestore())
        found = reader.restore(path.absolute(), args=args)
    arrays = found.state
    wrong = [name for name, checksum in _checksums(arrays).items() if found.meta["checksums"].get(name) != checksum]
    if wrong:
        raise RunError(f"the checksum of {wrong[0]} is wrong")
    state = flax.serialization.from_state_dict(template.replace(key=0), arrays)
    return state.replace(key=jax.random.wrap_key_data(arrays["key"])), found.meta["position"]


def _to_arrays(state: GANState, copy: bool = True) -> Any:
    """The state as nested dicts of NumPy arrays, the key as its data."""
    key_data = jax.eval_shape(jax.random.key_data, state.key) if not copy else jax.random.key_data(state.key)
    arrays = flax.serialization.to_state_dict(state.replace(key=key_data))
    return jax.device_get(arrays) if copy else arrays


def _checksums(arrays: Any) -> dict[str, int]:
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return {jax.tree_util.keystr(path): zlib.crc32(np.ascontiguousarray(leaf)) for path, leaf in leaves}


def _cause(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(error).split())[:200] or type(error).__name__


def _orbax() -> Any:
    """Orbax, imported late because it takes a second, and without its log lines."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    import orbax.checkpoint

    return orbax.checkpoint
