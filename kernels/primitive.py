"""How an operation becomes a JAX primitive: one reference, at most one launch, and its rules.

Why primitives: a Triton call has no derivative, no transpose and no vmap, and `jax.custom_vjp`
gives it one derivative only. A primitive with a jvp, a transpose and a batching rule of its own
goes through all of JAX, to any order.

Every operand and every result of a primitive has a leading axis of lanes, into which vmap folds the
mapped axis: the members of an ensemble are lanes of one launch. A reference knows nothing of it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxgan.kernels.launch import uses_triton

Zero = ad.Zero
Compute = Callable[..., Sequence[Any]]  # (*operands, **params) -> results

_OTHER_PLATFORMS = ("cuda", "tpu", "rocm")


def define(
    name: str,
    reference: Compute,
    launch: Compute | None = None,
    *,
    operation: str,
    linear: tuple[int, ...] = (),
    constant: tuple[int, ...] = (),
    on_gpus: Compute | None = None,
) -> Primitive:
    """A primitive of several results.

    Args:
      name: of the primitive. reference: in jax.numpy, for operands without the axis of lanes.
      launch: the same by Triton kernels, for operands with it; None where only the reference
      exists. operation: the public name, which the choice of an implementation goes by. linear:
      positions of the operands in which, taken together, the results are linear. constant:
      positions of operands whose derivative is zero almost everywhere. on_gpus: the reference in
      the form of which XLA makes the fewest kernels there; by default as everywhere.

    The params hold `implementation`, resolved. Derivatives in the linear operands bind the
    primitive again; those in the remaining operands go through the reference. `transpose` and
    `ad.primitive_jvps` give other rules.
    """
    primitive = Primitive(f"gan_{name}")
    primitive.multiple_results = True
    computed = functools.partial(over_lanes, reference)
    primitive.def_abstract_eval(functools.partial(_shapes, operation, computed))
    evaluate_compiled(primitive)
    for platform in (None, *_OTHER_PLATFORMS):
        form = on_gpus if on_gpus and platform in ("cuda", "rocm") else reference
        here = functools.partial(over_lanes, form)
        compute = functools.partial(_computed, operation, here, launch, platform or "cpu")
        lowering = mlir.lower_fun(compute, multiple_results=True)
        mlir.register_lowering(primitive, lowering, platform=platform)
    rule = functools.partial(_derivative, primitive, computed, linear, constant)
    ad.primitive_jvps[primitive] = rule
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    return primitive


def transpose(primitive: Primitive, rule: Callable[..., Sequence[Any]]) -> None:
    """Gives a linear primitive its transpose.

    Args:
      primitive: linear in some of its operands.
      rule: (cotangents, *operands, **params) -> cotangents of the operands, None for those that are
        not linear. Not all cotangents are symbolic zeros, and `dense` makes arrays of those that
        are; of linear operands only the shape is known.
    """

    def transposed(cotangents: Any, *operands: Any, **params: Any) -> list[Any]:
        if all(type(c) is Zero for c in cotangents):
            return [Zero(o.aval) if ad.is_undefined_primal(o) else None for o in operands]
        results = rule(cotangents, *operands, **params)
        return [r if ad.is_undefined_primal(o) else None for o, r in zip(operands, results)]

    ad.primitive_transposes[primitive] = transposed


def evaluate_compiled(primitive: Primitive) -> None:
    """Lets a primitive run outside of `jax.jit`, compiled once for its params and shapes."""

    @functools.cache
    def compiled(params: tuple[tuple[str, Any], ...]) -> Any:
        return jax.jit(functools.partial(primitive.bind, **dict(params)))

    def evaluate(*operands: Any, **params: Any) -> Any:
        # Within disable_jit the compiled function would come back here.
        with jax.disable_jit(False):
            return compiled(tuple(sorted(params.items())))(*operands)

    primitive.def_impl(evaluate)


def refuse_varying(name: str, operands: Sequence[Any]) -> None:
    """Raises `ValueError` under shard_map(check_vma=True).

    Its automatic sums know nothing of these rules: gradients of replicated parameters would
    silently lack the other devices' share.
    """
    if any(
        getattr(getattr(o, "mat", o), "varying", None) or getattr(o, "vma", None) for o in operands
    ):
        raise ValueError(
            f"{name} does not run under shard_map(check_vma=True); "
            "use shard_map(..., check_vma=False) and average yourself"
        )


def zero_like(x: Any) -> Any:
    """The symbolic zero tangent of x."""
    return Zero(jax.typeof(x).to_tangent_aval())


def dense(tangent: Any) -> Any:
    """A tangent or cotangent as an array."""
    return ad.instantiate_zeros(tangent)


def over_lanes(reference: Compute, *operands: Any, **params: Any) -> list[Any]:
    """The reference, for operands and results with the axis of lanes."""
    if operands[0].shape[0] == 1:  # no axis at all: XLA:CPU fuses less well through one of length 1
        return [r[None] for r in reference(*[o[0] for o in operands], **params)]
    return list(jax.vmap(functools.partial(reference, **params))(*operands))


def _shapes(operation: str, computed: Compute, *operands: Any, **params: Any) -> list[ShapedArray]:
    refuse_varying(operation, operands)
    results = jax.eval_shape(functools.partial(computed, **params), *operands)
    return [ShapedArray(r.shape, r.dtype) for r in results]


def _computed(
    operation: str,
    computed: Compute,
    launch: Compute | None,
    platform: str,
    *operands: Any,
    **params: Any,
) -> list[Any]:
    """What is lowered: the launch where Triton is chosen and exists, else the reference."""
    triton = uses_triton(operation, params["implementation"], platform, operands)
    compute = launch if launch and triton else computed
    return list(compute(*operands, **params))


def _derivative(
    primitive: Primitive,
    computed: Compute,
    linear: tuple[int, ...],
    constant: tuple[int, ...],
    primals: Any,
    tangents: Any,
    **params: Any,
) -> tuple[Any, Any]:
    results = primitive.bind(*primals, **params)
    moving = [i for i, t in enumerate(tangents) if type(t) is not Zero and i not in constant]
    others = [i for i in moving if i not in linear]
    parts = []
    if len(others) < len(moving):
        operands = [dense(tangents[i]) if i in linear else p for i, p in enumerate(primals)]
        parts.append(primitive.bind(*operands, **params))
    if others:

        def of_others(*values: Any) -> list[Any]:
            replaced = dict(zip(others, values))
            return list(computed(*[replaced.get(i, p) for i, p in enumerate(primals)], **params))

        at, towards = [primals[i] for i in others], [tangents[i] for i in others]
        parts.append(jax.jvp(of_others, at, towards)[1])
    if not parts:
        return results, [zero_like(r) for r in results]
    return results, [functools.reduce(jnp.add, summands) for summands in zip(*parts)]


def _batch(primitive: Primitive, operands: Any, dims: Any, **params: Any) -> tuple[Any, Any]:
    """Folds the mapped axis of n members, in front, into the lanes."""
    n = next(o.shape[d] for o, d in zip(operands, dims) if d is not None)
    lanes = operands[0].shape[int(dims[0] == 0)]
    front = [
        jnp.broadcast_to(o, (n, *o.shape)) if d is None else jnp.moveaxis(o, d, 0)
        for o, d in zip(operands, dims)
    ]
    results = primitive.bind(*[o.reshape(n * o.shape[1], *o.shape[2:]) for o in front], **params)
    return [r.reshape(n, lanes, *r.shape[1:]) for r in results], [0] * len(results)
