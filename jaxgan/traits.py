"""What modules, however deep, tell of themselves, and fields that are set in them while they are
called."""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from jaxgan.errors import UserError


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


@contextlib.contextmanager
def fields_set(fields: dict[str, Any]) -> Iterator[None]:
    """Sets these fields, during each call, in modules that look across the batch and have them.

    `dtype` is set in every module that has the field and leaves it at None: with float32 parameters
    it would compute in float32.
    """

    def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if fields.get("axis_name") and _normalises_in_nnx(module):
            raise UserError(
                "the batch norm of a module of flax.nnx does not see the other devices; use that "
                "of flax.linen, or train on one device"
            )
        names = _fields(module) & set(fields) if _looks_across(module) else set()
        names.discard("dtype")
        if "dtype" in fields and "dtype" in _fields(module) and module.dtype is None:
            names.add("dtype")
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


@contextlib.contextmanager
def undivided(player: str, micro_batches: int) -> Iterator[None]:
    """Refuses modules, while they are called, that see a micro-batch and look at the whole batch.

    One that looks across the batch and says so by `accumulates(micro_batches, *inputs)` may be
    called with such inputs: it gives of each micro-batch what it would give of the batch, and the
    mean of the states that they leave is the state that the batch leaves.
    """

    def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        accumulates, pack = _own(module, "accumulates"), _own(module, "pack")
        if context.method_name == "accumulates":
            return call(*args, **kwargs)
        if _looks_across(module) and not (accumulates and accumulates(micro_batches, *args)):
            raise UserError(
                f"player {player!r} looks across the batch ({type(module).__name__}), which "
                f"accumulate={micro_batches} divides; use accumulate=1, more devices, or a network "
                "without it"
            )
        packs = isinstance(pack, int) and context.method_name == "__call__" and bool(args)
        count = len(jax.tree.leaves(args)[0]) if packs else 0
        if count and count % pack:
            raise UserError(
                f"player {player!r} takes packs of {pack}, which do not fill the {count} examples "
                f"of each of accumulate={micro_batches} micro-batches; use a batch size that "
                f"{pack * micro_batches} divides"
            )
        return call(*args, **kwargs)

    if micro_batches == 1:
        yield
        return
    with nn.intercept_methods(interceptor):
        yield


_OF_SINGLE_EXAMPLES = nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm


def _looks_across(module: nn.Module) -> bool:
    """Whether a module says, or has a field that tells, that it looks across the batch."""
    owner = module.nnx_class if _is_bridge(module) else module
    told = _own(owner, "across_batch")
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


def _own(module: Any, name: str) -> Any:
    """A field or class attribute, or None; without `__getattr__`, which would call the module."""
    if isinstance(module, type):
        return getattr(module, name, None)
    try:
        return object.__getattribute__(module, name)
    except AttributeError:
        return None


def _fields(module: nn.Module) -> set[str]:
    return {field.name for field in dataclasses.fields(module)}
