"""How a network is called in training, sampling and the first state: the place that knows Linen."""

import contextlib
import dataclasses
import functools
import inspect
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
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
      variables: of each module by name, `params` and further collections, which `state` replaces.
      dtype: of floating inputs. Floating outputs are float32.
      train: given to modules that take it.
      key: for modules that draw by `make_rng` under any name, such as dropout. They draw once for
        all examples of a device; what an example shall draw by itself belongs into the latents.
      fields: set in every module, however deep, that looks across the batch (see `Traits`) and
        has a field of that name: `axis_name` makes batch statistics those of all devices,
        `momentum=0.0` keeps those of the last batch.
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
                rngs=None if key is None else _streams(fold_in_name(key, name)),
                mutable=[collection for collection in held if collection != "params"],
                **train_option(modules[name], train, options),
                **options,
            )
        return cast_floats(output, jnp.float32), dict(state)

    return apply


def begin(module: nn.Module, key: Array, inputs: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The first variables of a module, for inputs of these shapes and dtypes."""

    def placeholder(spec: Any) -> Array:
        if jnp.issubdtype(spec.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(key, spec.shape)
        return jnp.zeros(spec.shape, spec.dtype)

    inputs = jax.tree.map(placeholder, inputs)
    options = options | train_option(module, True, options)
    return dict(module.init(_streams(key), *inputs, **options))


class Traits(NamedTuple):
    """What the modules behind a function do with a batch.

    Attributes:
      across_batch: an example's output depends on the other examples. A module may say so by a
        class attribute or field of this name. Of the others, those do that have a field
        `axis_name`, as Flax's batch norm has; but not Flax's norms of single examples.
      pack: so many examples share one output: the largest class attribute or field of this name.
    """

    across_batch: bool
    pack: int


def traits(function: Callable, *arguments: Any) -> Traits:
    """The traits of the modules that a function of arrays calls, however deep. Computes nothing."""
    across_batch, packs = [False], [1]

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        across_batch.append(_looks_across(context.module))
        pack = _own(context.module, "pack")
        packs.append(pack if isinstance(pack, int) else 1)  # some name a method so
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(functools.partial(function), *arguments)
    return Traits(any(across_batch), max(packs))


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


def train_option(
    module: nn.Module, train: bool, options: dict[str, Any] | None = None
) -> dict[str, bool]:
    """`train`, for a method that takes it and was not given it."""
    options = options or {}
    method = options.get("method") or "__call__"
    if isinstance(method, str):
        method = getattr(module.nnx_class if _is_bridge(module) else module, method)
    takes = "train" in inspect.signature(method).parameters and "train" not in options
    return {"train": train} if takes else {}


_OF_SINGLE_EXAMPLES = nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm


def _looks_across(module: nn.Module) -> bool:
    """Whether a module says, or has a field that tells, that it looks across the batch."""
    told = _own(module, "across_batch")
    if isinstance(told, bool):
        return told
    if _normalises_in_nnx(module):
        return True
    return "axis_name" in _fields(module) and not isinstance(module, _OF_SINGLE_EXAMPLES)


def _is_bridge(module: nn.Module) -> bool:
    """Whether this holds a module of nnx. Importing nnx to look would take a while."""
    return type(module).__name__ == "ToLinen"


def _normalises_in_nnx(module: nn.Module) -> bool:
    """Whether this holds a module of nnx with batch norm, which Linen does not see."""
    return _is_bridge(module) and "batch_stats" in module.variables


def _own(module: nn.Module, name: str) -> Any:
    """A field or class attribute, or None; without `__getattr__`, which would call the module."""
    try:
        return object.__getattribute__(module, name)
    except AttributeError:
        return None


def _fields(module: nn.Module) -> set[str]:
    return {field.name for field in dataclasses.fields(module)}


@contextlib.contextmanager
def _fields_set(fields: dict[str, Any]) -> Iterator[None]:
    """Sets these fields, during each call, in modules that look across the batch and have them."""

    def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if fields.get("axis_name") and _normalises_in_nnx(module):
            raise UserError(
                "the batch norm of a module of flax.nnx does not see the other devices; use that of "
                "flax.linen, or train on one device"
            )
        names = _fields(module) & set(fields) if _looks_across(module) else ()
        before = {name: _own(module, name) for name in names}
        for name in names:  # a bound module is frozen, but it is this call's own copy
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
