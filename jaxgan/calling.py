"""How a network is called, in training, in sampling and in the first state: the one place that
knows Linen."""

import contextlib
import functools
import inspect
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgan.errors import UserError

Apply = Callable[..., tuple[Any, Any]]


def applier(
    modules: dict[str, nn.Module],
    variables: dict[str, Any],
    dtype: Any,
    *,
    train: bool,
    key: Array | None = None,
    **fields: Any,
) -> Apply:
    """The `apply` of a `Play`: (name, *inputs, state=None, **options) -> (output, state).

    Args:
      modules: by name.
      variables: of each module by name, `params` and further collections; `state` replaces the
        latter.
      dtype: of floating inputs. Floating outputs are float32.
      train: given to modules that take it.
      key: for modules that draw by `make_rng` under any name, such as dropout. They draw once for
        all examples of a device; what an example shall draw by itself belongs into the game's
        `latent`.
      fields: set in every module, however deep, that has a field of that name: `axis_name` makes
        batch statistics those of all devices, `momentum=0.0` keeps those of the last batch.
    """

    def apply(name: str, *inputs: Any, state: Any = None, **options: Any) -> tuple[Any, Any]:
        if name not in modules:
            known = ", ".join(map(repr, modules))
            raise UserError(f"a loss calls player {name!r}; this game has {known}")
        held = {**variables[name], **(state or {})}
        with _fields_set(fields):
            output, state = modules[name].apply(
                held,
                *cast_floats(inputs, dtype),
                rngs=None if key is None else {"params": fold_in_name(key, name)},
                mutable=[collection for collection in held if collection != "params"],
                **_with_train(modules[name], train, options),
                **options,
            )
        return cast_floats(output, jnp.float32), dict(state)

    return apply


def begun(
    modules: dict[str, nn.Module], dtype: Any, key: Array, losses: Callable, batch: Any
) -> dict[str, dict[str, Any]]:
    """The first variables of each module, by name: it comes to life for what it is first called
    with.

    Args:
      modules, dtype: as of `applier`.
      key: consumed; a module's own is `fold_in_name(key, name)`.
      losses: (apply, states, batch) -> whatever; calls the modules. Nothing of it is computed.
      batch: arrays or shapes.

    Raises:
      UserError: a module that is not called.
    """
    first_calls: dict[str, Any] = {}

    def begin(name: str) -> dict[str, Any]:
        inputs, options = first_calls[name]
        own, module = fold_in_name(key, name), modules[name]
        inputs = jax.tree.map(functools.partial(_placeholder, own), inputs)
        return dict(module.init(own, *inputs, **_with_train(module, True, options), **options))

    def traced(batch: Any) -> None:
        variables: dict[str, Any] = {}
        states: dict[str, Any] = {}

        def apply(name: str, *inputs: Any, **options: Any) -> tuple[Any, Any]:
            if name in modules and name not in variables:
                shapes = jax.tree.map(jax.typeof, cast_floats(inputs, dtype))
                first_calls[name] = shapes, {k: v for k, v in options.items() if k != "state"}
                shapes = jax.eval_shape(lambda: begin(name))
                variables[name] = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
                states[name] = {k: v for k, v in variables[name].items() if k != "params"}
            return applier(modules, variables, dtype, train=True, key=key)(name, *inputs, **options)

        losses(apply, states, batch)

    jax.eval_shape(traced, batch)
    for name in modules:
        if name not in first_calls:
            raise UserError(
                f"player {name!r} is called by no loss; call it in a move, or leave it out"
            )
    return {name: begin(name) for name in modules}


def _placeholder(key: Array, spec: Any) -> Array:
    if jnp.issubdtype(spec.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(key, spec.shape)
    return jnp.zeros(spec.shape, spec.dtype)


class Traits(NamedTuple):
    """What modules say of themselves by class attributes or fields of these names.

    Attributes:
      across_batch: an example's output depends on the other examples.
      pack: so many examples share one output.
    """

    across_batch: bool
    pack: int


def traits(function: Callable, *arguments: Any) -> Traits:
    """The traits of the modules, however deep, that a function of arrays calls. Nothing is
    computed."""
    across_batch, pack = [], {}

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        across_batch.append(getattr(module, "across_batch", isinstance(module, nn.BatchNorm)))
        pack[module.path] = getattr(module, "pack", 1)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(functools.partial(function), *arguments)
    return Traits(any(across_batch), max(pack.values(), default=1))


def cast_floats(tree: Any, dtype: Any) -> Any:
    """The floating leaves in `dtype`, the others as they are."""

    def cast(leaf: Any) -> Any:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)


def fold_in_name(key: Array, name: str) -> Array:
    """A key of its own for each name."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _with_train(module: nn.Module, train: bool, options: dict[str, Any]) -> dict[str, bool]:
    """`train`, for a method that takes it and was not given it."""
    method = options.get("method") or "__call__"
    method = getattr(module, method) if isinstance(method, str) else method
    takes = "train" in inspect.signature(method).parameters and "train" not in options
    return {"train": train} if takes else {}


@contextlib.contextmanager
def _fields_set(fields: dict[str, Any]) -> Iterator[None]:
    """Sets these fields in each module that is called and has them."""

    def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        before = {name: getattr(module, name) for name in fields if hasattr(module, name)}
        for name in before:  # a bound module is frozen, but it is this call's own copy
            object.__setattr__(module, name, fields[name])
        try:
            return call(*args, **kwargs)
        finally:
            for name, value in before.items():
                object.__setattr__(module, name, value)

    if not fields:
        yield
        return
    with nn.intercept_methods(interceptor):
        yield
