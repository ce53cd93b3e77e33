"""How a network is called in training, sampling and the first state: the place that knows Linen."""

import zlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgan.errors import UserError, blamed
from jaxgan.rematerialisation import rematerialised
from jaxgan.traits import fields_set, train_option, undivided

Apply = Callable[..., tuple[Any, Any]]


def applier(
    modules: dict[str, nn.Module],
    variables: dict[str, Any],
    dtype: Any,
    accumulate: int = 1,
    remat: str = "none",
    *,
    train: bool,
    key: Array | None = None,
    **fields: Any,
) -> Apply:
    """The `apply` of a `Play`: (name, *inputs, state=None, **options) -> (output, state).

    Args:
      modules: by name.
      variables: of each module by name, `params` and further collections, which `state` replaces.
      dtype: of floating inputs, and of what modules compute in that do not say. Floating outputs
        are float32.
      accumulate: of how many micro-batches of a batch the inputs are one; refuses modules that
        would not see all that they look at.
      remat: what gradients of networks keep, see `jaxgan.rematerialisation`.
      train: given to modules that take it.
      key: for modules that draw by `make_rng` under any name, such as dropout. They draw once for
        all examples of a device; what an example shall draw by itself belongs into the latents.
      fields: set in every module, however deep, that looks across the batch (see `Traits`) and
        has a field of that name: `axis_name` makes batch statistics those of all devices,
        `momentum=0.0` keeps those of the last batch.
    """

    if dtype != jnp.float32:
        fields["dtype"] = dtype
    if accumulate > 1:
        fields["micro_batches"] = accumulate

    def apply(name: str, *inputs: Any, state: Any = None, **options: Any) -> tuple[Any, Any]:
        if name not in modules:
            known = ", ".join(map(repr, modules))
            raise UserError(f"a loss calls player {name!r}; this game has {known}")
        held = {**variables[name], **(state or {})}
        options |= train_option(modules[name], train, options)

        def called(held: dict[str, Any], inputs: Any) -> tuple[Any, Any]:
            output, state = modules[name].apply(
                held,
                *inputs,
                rngs=None if key is None else _streams(fold_in_name(key, name)),
                mutable=[collection for collection in held if collection != "params"],
                **options,
            )
            return cast_floats(output, jnp.float32), dict(state)

        whole = undivided(name, accumulate)
        with whole, fields_set(fields), blamed(f"player {name!r} cannot be called"):
            method = remat if held.get("params") else "none"
            return rematerialised(called, method)(held, cast_floats(inputs, dtype))

    return apply


def begun(
    modules: dict[str, nn.Module], dtype: Any, key: Array, losses: Callable, batch: Any
) -> dict[str, dict[str, Any]]:
    """The first variables of each module, by name, for what it is first called with.

    Args:
      modules, dtype: as of `applier`.
      key: consumed; a module's own is `fold_in_name(key, name)`.
      losses: (apply, states, batch) -> whatever; calls the modules. Nothing of it is computed.
      batch: arrays or shapes.

    Raises:
      UserError: a module that is not called.
    """
    first_calls: dict[str, Any] = {}

    def first(name: str) -> dict[str, Any]:
        with blamed(f"player {name!r} cannot be begun"):
            return begin(modules[name], fold_in_name(key, name), *first_calls[name])

    def traced(batch: Any) -> None:
        variables: dict[str, Any] = {}
        states: dict[str, Any] = {}

        def apply(name: str, *inputs: Any, **options: Any) -> tuple[Any, Any]:
            if name in modules and name not in variables:
                shapes = jax.tree.map(jax.typeof, cast_floats(inputs, jnp.float32))
                first_calls[name] = shapes, {k: v for k, v in options.items() if k != "state"}
                shapes = jax.eval_shape(lambda: first(name))
                variables[name] = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
                states[name] = {k: v for k, v in variables[name].items() if k != "params"}
            held = jax.tree.map(jnp.asarray, variables)
            called = applier(modules, held, dtype, train=True, key=key)
            return called(name, *inputs, **options)

        losses(apply, states, batch)

    jax.eval_shape(traced, batch)
    for name in modules:
        if name not in first_calls:
            raise UserError(
                f"player {name!r} is called by no loss; call it in a move, or leave it out"
            )
    return {name: first(name) for name in modules}


def begin(module: nn.Module, key: Array, inputs: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The first variables of a module, for inputs of these shapes and dtypes."""

    def placeholder(spec: Any) -> Array:
        if jnp.issubdtype(spec.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(key, spec.shape)
        return jnp.zeros(spec.shape, spec.dtype)

    inputs = jax.tree.map(placeholder, inputs)
    options = options | train_option(module, True, options)
    return dict(module.init(_streams(key), *inputs, **options))


def cast_floats(tree: Any, dtype: Any) -> Any:
    """The floating leaves in `dtype`, the others as they are."""

    def cast(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)


def fold_in_name(key: Array, name: str) -> Array:
    """A key of its own for each name."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _streams(key: Array) -> dict[str, Array]:
    """The streams that draws of any name fall back on, in Linen and in nnx."""
    return {"params": key, "default": key}
