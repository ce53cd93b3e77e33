"""Examples in batches: dicts of features, leaves [B, ...], and what each draws from its own key."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgan.calling import fold_in_name
from jaxgan.errors import UserError, blamed


def drawn(draw: Callable[[Array], Any], keys: Array, use: str) -> Any:
    """draw(key) for each example, leaves [B, ...]; draws of different uses are independent.

    Args:
      draw: key -> a pytree of one example.
      keys: [B], such as those of a `Play`.
      use: any name, of what is drawn.
    """
    return jax.vmap(lambda key: draw(fold_in_name(key, use)))(keys)


def feature_of(batch: Any, name: str) -> Any:
    """A feature of a batch, which a game is given.

    Raises:
      UserError: where the batch has none of that name.
    """
    try:
        return batch[name]
    except KeyError:
        raise UserError(
            f"the game is given the feature {name!r}, the batch holds "
            f"{', '.join(map(repr, batch)) or 'none'}; name features of the data"
        ) from None


def keys_of(key: Array, count: int, axis_name: str | None = None) -> Array:
    """A key for each of the `count` examples of this device, the same on any number of devices."""
    index = jnp.arange(count) + (lax.axis_index(axis_name) * count if axis_name else 0)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(index)


def changed(
    change: Callable | None, batch: dict[str, Any], key: Array, axis_name: str | None = None
) -> dict[str, Any]:
    """The examples as a game's moves see them.

    Args:
      change: `Game.examples`.
      batch: of this device.
      key: of the step.
      axis_name: of the devices.

    Raises:
      UserError: for a change that gives anything but features of as many examples.
    """
    if change is None:
        return batch
    count = len(jax.tree.leaves(batch)[0])
    with jax.named_scope("input"), blamed("the game's function of examples"):
        keys = keys_of(fold_in_name(key, "examples"), count, axis_name)
        found = change(batch, keys)
    if not isinstance(found, dict) or not all(
        jnp.shape(leaf)[:1] == keys.shape for leaf in jax.tree.leaves(found)
    ):
        shapes = jax.tree.map(jnp.shape, found)
        raise UserError(
            f"the game's function of examples gives {shapes} for a batch of {len(keys)}; return a "
            "dict of features [B, ...], such as batch | {'image': ..}"
        )
    return found


def scaled(batch: dict[str, Any]) -> dict[str, Any]:
    """Pixels, uint8 [B, ...] of two axes or more beside the batch's, [0, 255], as float32 in
    [-1, 1], and other floats as float32.

    The rest is as it is: uint8 [B, L] are the bytes of texts, and uint8 [B] labels.
    """

    def feature(x: Array) -> Array:
        if x.dtype == jnp.uint8 and x.ndim > 2:
            return x.astype(jnp.float32) / 127.5 - 1.0
        return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(feature, batch)
