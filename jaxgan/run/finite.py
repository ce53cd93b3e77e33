"""Whether the numbers of a run are finite: its metrics, and each array of its state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.errors import RunError

_FIX = (
    "lower --optimizer.generator-rate and --optimizer.discriminator-rate, or set "
    "--optimizer.clip-norm, in a new --workdir"
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
        raise RunError(f"the state became not finite {where}: {name}; {kept(saved)}; {_FIX}")


def checked_metrics(pending: list[Any], step: int, saved: int) -> dict[str, float]:
    """The metrics of the last of the pending steps, after looking at all of them.

    This is where the host waits for the device.

    Args:
      pending: metrics of the steps up to `step`, each {name: [K]}.
      step: the last of these steps.
      saved: the step of the last checkpoint, 0 for none.

    Raises:
      RunError: where one of them is not finite.
    """
    pending = jax.device_get(pending)
    if not pending:
        return {}
    series = {name: np.concatenate([metrics[name] for metrics in pending]) for name in pending[0]}
    first = step - len(next(iter(series.values()))) + 1
    for name, values in series.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise RunError(
                f"{name} became {values[bad[0]]} at step {first + bad[0]}, within steps {first} to "
                f"{step}; {kept(saved)}; {_FIX}"
            )
    return {name: float(values[-1]) for name, values in series.items()}


def kept(saved: int) -> str:
    """Which checkpoint an error leaves."""
    return f"the checkpoint of step {saved} is kept" if saved else "no checkpoint was made yet"
