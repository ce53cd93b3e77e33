"""Reading checkpoints back: the newest that is whole.

Only what does not hold what was written is damaged. A checkpoint that cannot be read because there
is no memory, no free descriptor or no connection to its disk is left where it is.
"""

import errno
import pathlib
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np

from jaxgan import files
from jaxgan.errors import RunError, UserError
from jaxgan.game import GANState
from jaxgan.run import manifest
from jaxgan.run.arrays import read_arrays
from jaxgan.run.checkpoint import cause_of, steps_in
from jaxgan.run.states import check_same_arrays, named_shapes, shapes

# What the system says of files that are gone, or are none.
_SAYS_DAMAGED = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EFBIG)


class Restored(NamedTuple):
    """A state read back, with what was saved beside it; damaged: what was passed over, a line
    each."""

    state: GANState
    position: Any
    damaged: list[str]
    records: Any = None


def restore(
    folder: pathlib.Path,
    template: GANState,
    set_aside: bool = True,
    step: int | None = None,
    run_id: str | None = None,
) -> Restored | None:
    """The newest checkpoint that is whole, or that of a step; None where there is none at all.

    Args:
      folder: where the checkpoints are.
      template: a state of the same structure; its arrays are not read.
      set_aside: rename newer ones that are damaged to `damaged_<step>`, so that training can write
        those steps again. Only the process that trains in the folder may.
      step: of the checkpoint to read; None for the newest.
      run_id: of the run; None where it is not known.

    Raises:
      UserError: a step of which there is none, a checkpoint of another run or game.
      RunError: where there are checkpoints and all of them are damaged, or that of the step is.
    """
    if step is not None:
        return _of_step(folder, template, step, run_id)
    failed: list[tuple[int, str]] = []
    while waiting := set(steps_in(folder)) - {step for step, _ in failed}:
        step = max(waiting)
        try:
            about = _whole(folder, step)
            state = _read(folder / str(step), about, template, run_id)
        except (Damaged, RunError) as error:
            if step not in steps_in(folder):  # a newer one took its place meanwhile
                continue
            if isinstance(error, RunError):
                raise
            failed.append((step, str(error)))
            continue
        lines = []
        for bad, reason in failed:
            damaged = folder / str(bad)
            name = files.set_aside(damaged, f"damaged_{bad}") if set_aside else str(bad)
            lines.append(
                f"checkpoint {bad} is damaged ({reason}); kept as {name}, going back to step {step}"
            )
        return Restored(state, about["position"], lines, about.get("records"))
    if failed:
        raise RunError(
            f"none of the {len(failed)} checkpoints in {folder} can be read, the oldest: "
            f"{failed[-1][1]}; restore them from a copy, or move the folder away to begin anew"
        )
    return None


def _of_step(folder: pathlib.Path, template: GANState, step: int, run_id: str | None) -> Restored:
    """The checkpoint of a step."""
    steps = steps_in(folder)
    if step not in steps:
        held = ", ".join(map(str, steps)) or "none"
        raise UserError(f"there is no checkpoint of step {step!r} in {folder}; there are: {held}")
    try:
        about = _whole(folder, step)
    except Damaged as error:
        others = ", ".join(str(other) for other in steps if other != step) or "none"
        raise RunError(
            f"the checkpoint of step {step} in {folder} cannot be read: {error}; the others: "
            f"{others}"
        ) from None
    state = _read(folder / str(step), about, template, run_id)
    return Restored(state, about["position"], [], about.get("records"))


class Damaged(Exception):
    """A checkpoint that does not hold what was written; its text says why."""


def _whole(folder: pathlib.Path, step: int) -> dict[str, Any]:
    """What the manifest of a checkpoint says, all of whose files are as they were written.

    Raises:
      Damaged: where they are not.
      RunError: where that cannot be found out here and now; the checkpoint may be whole.
    """
    try:
        about = manifest.read(folder / str(step))
        about["position"]  # which a whole one has
        return about
    except OSError as error:
        if error.errno not in _SAYS_DAMAGED:
            raise RunError(_not_now(folder, step, error.strerror or str(error))) from None
        raise Damaged(" ".join(str(error).split())[:200]) from None
    except (RunError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(" ".join(str(error).split())[:200] or type(error).__name__) from None


def _not_now(folder: pathlib.Path, step: int, reason: str) -> str:
    return (
        f"the checkpoint of step {step} in {folder} cannot be read here and now: {reason}; nothing "
        "was changed; mend that and run again"
    )


def _read(
    path: pathlib.Path, about: dict[str, Any], template: GANState, run_id: str | None
) -> GANState:
    """The state of a checkpoint that is whole.

    Raises:
      UserError: another run's or game's.
      RunError: where it cannot be read here and now.
    """
    if run_id and about.get("run_id") not in (run_id, None):
        raise UserError(
            f"{path} is a checkpoint of another run than this workdir's; move it out of there"
        )
    needed, given = str(jax.random.key_impl(jax.random.key(0))), about.get("key")
    if given and given != needed:
        raise UserError(
            f"{path} holds a key of {given}, here keys are {needed}; set "
            f"JAX_DEFAULT_PRNG_IMPL={given}"
        )
    abstract = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), shapes(template))
    if "arrays" in about:  # older ones do not name them
        check_same_arrays(path, about["arrays"], named_shapes(abstract))
    try:
        arrays = read_arrays(path, abstract)
    except MemoryError:
        raise
    except Exception as error:  # Orbax and TensorStore share no error type
        raise RunError(_not_now(path.parent, int(path.name), cause_of(error))) from None
    check_same_arrays(path, named_shapes(arrays), named_shapes(abstract))
    state: Any = flax.serialization.from_state_dict(template.replace(key=0), arrays)
    return state.replace(key=jax.random.wrap_key_data(arrays["key"], impl=given or needed))
