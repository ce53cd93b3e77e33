"""States as nested dicts of NumPy arrays, which checkpoints hold, and their shapes by name."""

import pathlib
from typing import Any

import flax.serialization
import jax
import numpy as np

from jaxgan.errors import UserError
from jaxgan.game import GANState


def named_shapes(arrays: Any) -> dict[str, list[int]]:
    """`players.generator.params.Dense_0.kernel` and the like to shapes."""
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): list(np.shape(leaf))
        for path, leaf in leaves
    }


def check_same_arrays(
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


def same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    second = np.asarray(second)
    return (first.dtype, first.shape, first.tobytes()) == (
        second.dtype,
        second.shape,
        second.tobytes(),
    )


def to_arrays(state: GANState) -> Any:
    """The state as nested dicts of NumPy arrays, the key as its data."""
    arrays = flax.serialization.to_state_dict(state.replace(key=jax.random.key_data(state.key)))
    # On a CPU device_get may give views of buffers that the next step, to which the state is
    # donated, writes over.
    return jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(arrays))


def shapes(template: GANState) -> Any:
    """As `to_arrays`, of shapes."""
    key = jax.eval_shape(jax.random.key_data, template.key)
    return flax.serialization.to_state_dict(template.replace(key=key))
