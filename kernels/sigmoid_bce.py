"""Binary cross-entropy of logits, with its gradient in the same pass.

The maths. For a logit l and a target t in [0, 1], with s = sigmoid(l),

    loss(l, t) = -t log s - (1 - t) log(1 - s) = max(l, 0) - t l + log(1 + e^-|l|),
    d loss / dl = s - t,    d loss / dt = -l.

One exponential gives both: no sigmoid is taken the logarithm of, so nothing overflows or rounds to
log 0 at any finite logit. The slope is formed as (1 - t) sigmoid(l) - t sigmoid(-l), which keeps
small slopes. The pass that reads the logits writes the loss and the slope; the backward pass is
then a product. The slope's own derivatives, for second order, are those of the reference.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.interpreters import ad

from jaxgan.kernels.arrays import floating, wide, wide_dtype
from jaxgan.kernels.launch import in_triton, resolve
from jaxgan.kernels.primitive import Zero, define, dense, over_lanes


def slope_like(logits: Any) -> jax.ShapeDtypeStruct:
    """What slopes are kept in.

    float32 also for float16, in which a slope divided by a million elements is 0.
    """
    narrow = logits.dtype == jnp.bfloat16
    return jax.ShapeDtypeStruct(logits.shape, logits.dtype if narrow else wide_dtype(logits))


# The reference: logits [n], targets [n] or a number.
def _reference(l: Array, *t: Array, target: float | None, mean: bool, **_: Any) -> list[Array]:
    z = wide(l)
    goal: Any = wide(t[0]) if t else target
    loss = jnp.maximum(z, 0.0) - goal * z + jnp.log1p(jnp.exp(-jnp.abs(z)))
    slope = (1.0 - goal) * jax.nn.sigmoid(z) - goal * jax.nn.sigmoid(-z)
    if mean:
        loss, slope = jnp.mean(loss), slope / max(l.size, 1)
    return [loss, slope.astype(slope_like(l).dtype)]


# The rules of differentiation.
_bce_p = define(
    "sigmoid_bce",
    _reference,
    in_triton("sigmoid_bce_triton", "launch_bce"),
    operation="sigmoid_bce",
)


def _derivative(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    def slope_of(*operands: Array) -> Array:
        return over_lanes(_reference, *operands, **params)[1]

    loss, slope = _bce_p.bind(*primals, **params)
    l, dt = primals[0], tangents[1] if len(tangents) > 1 else None
    moved = wide(slope) * wide(dense(tangents[0]))
    if dt is not None and type(dt) is not Zero:
        moved -= wide(l) * wide(dt) / (l.shape[1] if params["mean"] else 1)
    moved_slope = jax.jvp(slope_of, list(primals), [dense(t) for t in tangents])[1]
    return [loss, slope], [jnp.sum(moved, axis=1) if params["mean"] else moved, moved_slope]


ad.primitive_jvps[_bce_p] = _derivative


def _plain(logits: Array, target: Array | float, mean: bool) -> Array:
    """By softplus, with derivatives from automatic differentiation."""
    l = wide(logits)
    loss = target * jax.nn.softplus(-l) + (1.0 - target) * jax.nn.softplus(l)
    return jnp.mean(loss) if mean else loss


def sigmoid_bce(
    logits: Array, target: Array | float, reduction: str = "mean", implementation: str | None = None
) -> Array:
    """-t log sigmoid(l) - (1 - t) log(1 - sigmoid(l)), stable at any finite logit.

    Differentiable to any order in both.

    Args:
      logits: l, of any shape; float32, bfloat16 or float16.
      target: t in [0, 1], the probability that the answer is yes: a number, or an array that
        broadcasts to the logits' shape.
      reduction: "mean" for the mean over all logits, "none" for the loss of each.
      implementation: one of `launch.IMPLEMENTATIONS`, or None; see `jaxgan.kernels.launch`.

    Returns:
      Nats, in float32: a scalar, or an array of the logits' shape. The mean of no logits is NaN.

    Raises:
      ValueError: for targets that do not fit, an unknown reduction, or an implementation that
        cannot run.
    """
    logits = floating("logits", logits)
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction={reduction!r} is unknown; use 'mean' or 'none'")
    mean, chosen = reduction == "mean", resolve(implementation)
    if isinstance(target, int | float):
        if not 0 <= target <= 1:
            raise ValueError(f"target={target} is not a probability; use a number from 0 to 1")
        if chosen == "plain":
            return _plain(logits, float(target), mean)
        operands, number = (logits,), float(target)
    else:
        targets = jnp.broadcast_to(_fitting(floating("target", target), logits), logits.shape)
        if chosen == "plain":
            return _plain(logits, wide(targets), mean)
        operands, number = (logits, targets), None
    lanes = [x.reshape(1, -1) for x in operands]
    loss, _ = _bce_p.bind(*lanes, mean=mean, implementation=chosen, target=number)
    return loss[0] if mean else loss.reshape(logits.shape)


def _fitting(targets: Array, logits: Array) -> Array:
    """The targets, where they broadcast to the logits' shape."""
    try:
        fits = jnp.broadcast_shapes(targets.shape, logits.shape) == logits.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"the target's shape {targets.shape} does not broadcast to the logits' {logits.shape}"
        )
    return targets
