"""How an operation becomes a JAX primitive: one reference, at most one Triton launch, and the rules of transformation.

Why primitives: a Triton call has no derivative, no transpose and no vmap, and `jax.custom_vjp` gives it one derivative only. A
primitive with a jvp, a transpose and a batching rule of its own goes through all of JAX, to any order.

Every operand and every result of a primitive has a leading axis of lanes, into which vmap folds the mapped axis. A reference knows
nothing of it.
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


def define(
    name: str,
    reference: Callable[..., Sequence[Any]],
    launch: Callable[..., Sequence[Any]] | None = None,
    *,
    linear: tuple[int, ...] = (),
    constant: tuple[int, ...] = (),
    operation: str = "",
) -> Primitive:
    """A primitive of several results.

    Args:
      name: of the primitive.
      reference: (*operands, **params) -> results, in jax.numpy, for operands without the axis of lanes.
      launch: the same by Triton kernels, for operands with it; None where only the reference exists.
      linear: positions of the operands in which, taken together, the results are linear.
      constant: positions of operands whose derivative is zero almost everywhere.
      operation: the public name, which the choice of an implementation goes by.

    The params hold `implementation`, one of `launch.IMPLEMENTATIONS`. Derivatives in the linear operands bind the primitive
    again; those in the remaining operands go through the reference. `transpose` and `jvp` give other rules.
    """
    primitive = Primitive(f"gan_{name}")
    computed = functools.partial(over_lanes, reference)
    primitive.multiple_results = True

    def shapes(*operands: Any, **params: Any) -> list[ShapedArray]:
        refuse_varying(operation or name, operands)
        results = jax.eval_shape(functools.partial(computed, **params), *operands)
        return [ShapedArray(r.shape, r.dtype) for r in results]

    def lowered_for(platform: str) -> Any:
        def lowered(*operands: Any, **params: Any) -> list[Any]:
            triton = uses_triton(operation or name, params["implementation"], platform, operands)
            compute = launch if launch and triton else computed
            return list(compute(*operands, **params))

        return mlir.lower_fun(lowered, multiple_results=True)

    @functools.cache
    def compiled(params: tuple) -> Any:
        return jax.jit(lambda *operands: primitive.bind(*operands, **dict(params)))

    def rule(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
        results = primitive.bind(*primals, **params)
        moved = []
        if any(type(tangents[i]) is not Zero for i in linear):
            moved.append(
                primitive.bind(
                    *[
                        ad.instantiate_zeros(tangents[i]) if i in linear else p
                        for i, p in enumerate(primals)
                    ],
                    **params,
                )
            )
        others = [
            i for i, t in enumerate(tangents) if i not in linear + constant and type(t) is not Zero
        ]
        if others:

            def of_others(*values: Any) -> list[Any]:
                replaced = dict(zip(others, values))
                return list(
                    computed(*[replaced.get(i, p) for i, p in enumerate(primals)], **params)
                )

            moved.append(
                jax.jvp(of_others, [primals[i] for i in others], [tangents[i] for i in others])[1]
            )
        if not moved:
            return results, [zero_like(r) for r in results]
        return results, [functools.reduce(jnp.add, parts) for parts in zip(*moved)]

    def impl(*operands: Any, **params: Any) -> Any:
        with jax.disable_jit(
            False
        ):  # within disable_jit the compiled function would come back here
            return compiled(tuple(sorted(params.items())))(*operands)

    primitive.def_impl(impl)
    primitive.def_abstract_eval(shapes)
    mlir.register_lowering(primitive, lowered_for("cpu"))
    mlir.register_lowering(primitive, lowered_for("cuda"), platform="cuda")
    for other in ("tpu", "rocm"):
        mlir.register_lowering(primitive, lowered_for(other), platform=other)
    ad.primitive_jvps[primitive] = rule
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    return primitive


def transpose(primitive: Primitive, rule: Callable[..., Sequence[Any]]) -> None:
    """Gives a linear primitive its transpose: rule(cotangents, *operands, **params) -> cotangents of the operands, None for those
    that are not linear. Not all cotangents are symbolic zeros, and `dense` makes arrays of those that are; of linear operands only
    the shape is known."""

    def transposed(cotangents: Any, *operands: Any, **params: Any) -> list[Any]:
        if all(type(c) is Zero for c in cotangents):
            return [Zero(o.aval) if ad.is_undefined_primal(o) else None for o in operands]
        results = rule(cotangents, *operands, **params)
        return [r if ad.is_undefined_primal(o) else None for o, r in zip(operands, results)]

    ad.primitive_transposes[primitive] = transposed


def refuse_varying(name: str, operands: Sequence[Any]) -> None:
    """Raises `ValueError` under shard_map(check_vma=True), whose automatic sums these rules know nothing of: gradients of replicated
    parameters would silently lack the other devices' share."""
    if any(
        getattr(getattr(o, "mat", o), "varying", None) or getattr(o, "vma", None) for o in operands
    ):
        raise ValueError(
            f"{name} does not run under shard_map(check_vma=True); use shard_map(..., check_vma=False) and average yourself"
        )


def zero_like(x: Any) -> Any:
    """The symbolic zero tangent of x."""
    return Zero(jax.typeof(x).to_tangent_aval())


def dense(cotangent: Any) -> Any:
    """A cotangent as an array."""
    return ad.instantiate_zeros(cotangent)


def over_lanes(reference: Callable[..., Sequence[Any]], *operands: Any, **params: Any) -> list[Any]:
    """The reference, for operands and results with the axis of lanes."""
    if operands[0].shape[0] == 1:  # no axis at all: XLA:CPU fuses less well through one of length 1
        return [r[None] for r in reference(*[o[0] for o in operands], **params)]
    return list(jax.vmap(functools.partial(reference, **params))(*operands))


def _batch(primitive: Primitive, operands: Any, dims: Any, **params: Any) -> tuple[Any, Any]:
    n = next(o.shape[d] for o, d in zip(operands, dims) if d is not None)
    lanes = operands[0].shape[int(dims[0] == 0)]
    front = [
        jnp.broadcast_to(o, (n, *o.shape)) if d is None else jnp.moveaxis(o, d, 0)
        for o, d in zip(operands, dims)
    ]
    results = primitive.bind(*[o.reshape(n * o.shape[1], *o.shape[2:]) for o in front], **params)
    return [r.reshape(n, lanes, *r.shape[1:]) for r in results], [0] * len(results)
