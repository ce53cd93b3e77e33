"""Whether the numbers of a run are finite: its metrics, and each array of its state."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.errors import RunError

_FIX = (
    "look for such numbers in the data, and for labels beyond a network's classes, use lower rates "
    "or clip gradients, in a new --workdir"
)


def first_not_finite(tree: Any) -> str | None:
    """The name of the first floating array that holds a NaN or an infinity; None for none.

    One compiled reduction where the arrays are; one boolean of each array comes to the host.
    Integers and keys are passed over.

    Args:
      tree: any pytree of arrays.

    Returns:
      The path of the leaf, such as `generator.params.Dense_0.kernel`.
    """
    floating = [
        (path, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.inexact)
        # Optimizers keep scalars that begin infinite, such as the best loss so far.
        and not (np.ndim(leaf) == 0 and "opt_state" in jax.tree_util.keystr(path))
    ]
    if not floating:
        return None
    leaves = [leaf for _, leaf in floating]
    if any(isinstance(leaf, jax.Array) for leaf in leaves):
        finite = np.asarray(_are_finite(leaves))
    else:  # on the host, as a restored state is
        finite = np.array([np.isfinite(leaf).all() for leaf in leaves])
    if finite.all():
        return None
    path, _ = floating[int(np.argmin(finite))]
    return jax.tree_util.keystr(path, simple=True, separator=".")


@jax.jit
def _are_finite(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves])


def check_state(state: Any, step: int, saved: int) -> None:
    """Raises `RunError` where the state after `step` is not finite.

    Args:
      state: any pytree of arrays.
      step: its finished steps.
      saved: the step of the last checkpoint, which was finite; 0 for none.
    """
    if name := first_not_finite(state):
        where = f"in step {step}" if step == saved + 1 else f"within steps {saved + 1} to {step}"
        text = f"the state became not finite {where}: {name}; {kept(saved)}; {_FIX}"
        raise NotFinite(text, step, name)


def checked_metrics(pending: list[Any], step: int, saved: int) -> dict[str, np.ndarray]:
    """The metrics of the pending steps, float64 [steps], which are all finite; {} for none.

    This is where the host waits for the device.

    Args:
      pending: metrics of the steps up to `step`, each {name: [] or [K]}.
      step: the last of these steps.
      saved: the step of the last checkpoint, 0 for none.

    Raises:
      RunError: where one of them is not finite.
    """
    pending = jax.device_get(pending)
    if not pending or not pending[0]:  # a game need not log anything
        return {}
    series = {
        name: np.concatenate([np.atleast_1d(m[name]).astype(np.float64) for m in pending])
        for name in pending[0]
    }
    first = first_of(series, step)
    for name, values in series.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise NotFinite(
                f"{name} became {values[bad[0]]} at step {first + bad[0]}, within steps {first} to "
                f"{step}; {kept(saved)}; {_FIX}",
                int(first + bad[0]),
            )
    return series


def first_of(series: dict[str, np.ndarray], step: int) -> int:
    """The first step of series, leaves [steps, ...], that end with `step`."""
    return step - len(next(iter(series.values()))) + 1


def kept(saved: int) -> str:
    """Which checkpoint an error leaves."""
    return f"the checkpoint of step {saved} is kept" if saved else "no checkpoint was made yet"


def check_restored(state: Any, workdir: pathlib.Path, records: Any = None) -> None:
    """Raises `RunError` for a state that was read and is not finite.

    Args:
      state: of a game.
      workdir: of the run.
      records: what its checkpoint keeps for the run's records.
    """
    if name := first_not_finite(state):
        folder = workdir / "checkpoints"
        raise RunError(
            f"the checkpoint of step {int(state.step)} in {workdir} is not finite: {name}; move it "
            f"out of {folder} to use the one before, or train in a new --workdir"
        )


def saved_after_reading_failed(step: int, saver: Any, save: Callable[[], None]) -> str:
    """Saves the state of the last whole step, `step`; says what is kept."""
    if step == saver.latest():
        return kept(step)
    try:
        save()
        saver.wait()
    except RunError as other:
        return f"the state of step {step} could not be saved: {other}"
    return f"step {step} is saved; when that is mended the same command resumes"


def _keeps_nothing() -> dict[str, Any]:
    return {}


class NotFinite(RunError):
    """Numbers of a run became not finite.

    Attributes:
      step: at which.
      tensor: of the state, by its path; "" where that was not looked at.
    """

    def __init__(self, text: str, step: int, tensor: str = "") -> None:
        super().__init__(text)
        self.step, self.tensor = step, tensor


class Watch(NamedTuple):
    """How a run looks after its numbers.

    Attributes:
      metrics: as `checked_metrics`.
      state: as `check_state`.
      restored: as `check_restored`.
      kept: () -> what a checkpoint keeps of it, beside other records, as JSON.
    """

    metrics: Callable[..., dict[str, np.ndarray]]
    state: Callable[[Any, int, int], None]
    restored: Callable[[Any, pathlib.Path, Any], None]
    kept: Callable[[], dict[str, Any]] = _keeps_nothing


STRICT = Watch(checked_metrics, check_state, check_restored)  # the first that is not finite ends it
