"""Binary cross-entropy of logits, with its gradient in the same pass.

The maths. For a logit l and a target t in [0, 1], with s = sigmoid(l),

    loss(l, t) = -t log s - (1 - t) log(1 - s) = max(l, 0) - t l + log(1 + e^-|l|),    d loss / dl = s - t,    d loss / dt = -l.

One exponential gives both: no sigmoid is taken the logarithm of, so nothing overflows or rounds to log 0 at any finite logit. The
slope is formed as (1 - t) sigmoid(l) - t sigmoid(-l), which keeps small slopes. The pass that reads the logits writes the loss and
the slope; the backward pass is then a product. The slope's own derivatives, for second order, are those of the reference.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.interpreters import ad

from jaxgan.kernels.bias_leaky_relu import offsets
from jaxgan.kernels.launch import call, cdiv, floating, jit, resolve, tl, wide, wide_dtype
from jaxgan.kernels.primitive import Zero, define, dense, over_lanes

BLOCK = 1024


def slope_like(logits: Any) -> jax.ShapeDtypeStruct:
    """What slopes are kept in: float32 also for float16, in which a slope divided by a million elements is 0."""
    return jax.ShapeDtypeStruct(
        logits.shape, logits.dtype if logits.dtype == jnp.bfloat16 else wide_dtype(logits)
    )


# ------------------------------------------------------------------------- the reference: logits [n], targets [n] or a number
def _reference(l: Array, *t: Array, target: float | None, mean: bool, **_: Any) -> list[Array]:
    z = wide(l)
    goal: Any = wide(t[0]) if t else target
    loss = jnp.maximum(z, 0.0) - goal * z + jnp.log1p(jnp.exp(-jnp.abs(z)))
    slope = (1.0 - goal) * jax.nn.sigmoid(z) - goal * jax.nn.sigmoid(-z)
    if mean:
        loss, slope = jnp.mean(loss), slope / max(l.size, 1)
    return [loss, slope.astype(slope_like(l).dtype)]


# ----------------------------------------------------------------------------------------------------------------- the kernels
@jit
def logistic(z):
    """log(1 + e^-|z|), sigmoid(z) and sigmoid(-z) from one exponential."""
    e = tl.exp(-tl.abs(z))
    u = 1.0 + e
    # log(1 + e) without losing a small e: Kahan's log(u) e / (u - 1).
    log1p = tl.where(u == 1.0, e, tl.log(u) * (e / tl.where(u == 1.0, 1.0, u - 1.0)))
    return log1p, tl.where(z >= 0, 1.0, e) / u, tl.where(z >= 0, e, 1.0) / u


@jit
def bce_kernel(
    l_ptr,
    t_ptr,
    loss_ptr,
    slope_ptr,
    n: tl.constexpr,
    target: tl.constexpr,
    MEAN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """target < 0 stands for targets in memory. With MEAN, loss is [lanes, programs], each the sum of a block over n."""
    lane = tl.program_id(1).to(tl.int64)
    at = offsets(n, BLOCK)
    inside = at < n
    l = tl.load(l_ptr + lane * n + at, mask=inside, other=0.0).to(tl.float32)
    if target < 0:  # noqa: SIM108 (a choice of the compiler, not of each element)
        t = tl.load(t_ptr + lane * n + at, mask=inside, other=0.0).to(tl.float32)
    else:
        t = target
    log1p, sigmoid, opposite = logistic(l)
    loss = (tl.maximum(l, 0.0) - t * l) + log1p
    slope = (1.0 - t) * sigmoid - t * opposite
    if MEAN:
        slope = slope * (1.0 / n)
        tl.store(
            loss_ptr + lane * tl.num_programs(0) + tl.program_id(0),
            tl.sum(tl.where(inside, loss, 0.0), axis=0) * (1.0 / n),
        )
    else:
        tl.store(loss_ptr + lane * n + at, loss, mask=inside)
    tl.store(slope_ptr + lane * n + at, slope.to(slope_ptr.dtype.element_ty), mask=inside)


def _launch(l: Array, *t: Array, target: float | None, mean: bool, **_: Any) -> list[Array]:
    lanes, n = l.shape
    blocks = cdiv(n, BLOCK)
    losses = jax.ShapeDtypeStruct((lanes, blocks if mean else n), jnp.float32)
    # Without targets in memory the logits stand in for their pointer, and nothing is read through it.
    inputs = (l, *(t or (l,)))
    loss, slope = call(
        bce_kernel,
        inputs,
        (losses, slope_like(l)),
        (blocks, lanes),
        n=n,
        target=-1.0 if t else float(target or 0.0),
        MEAN=mean,
        BLOCK=BLOCK,
    )
    return [loss.sum(axis=1) if mean else loss, slope]


# ------------------------------------------------------------------------------------------------------- differentiation rules
_bce_p = define("sigmoid_bce", _reference, _launch, operation="sigmoid_bce")


def _derivative(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    loss, slope = _bce_p.bind(*primals, **params)
    l, dt = primals[0], tangents[1] if len(tangents) > 1 else None
    moved = wide(slope) * wide(dense(tangents[0]))
    if dt is not None and type(dt) is not Zero:
        moved -= wide(l) * wide(dt) / (l.shape[1] if params["mean"] else 1)
    tangents = [dense(t) for t in tangents]
    moved_slope = jax.jvp(
        lambda *operands: over_lanes(_reference, *operands, **params)[1], list(primals), tangents
    )[1]
    return [loss, slope], [jnp.sum(moved, axis=1) if params["mean"] else moved, moved_slope]


ad.primitive_jvps[_bce_p] = _derivative


# ------------------------------------------------------------------------------------------------------------- public function
def sigmoid_bce(
    logits: Array, target: Array | float, reduction: str = "mean", implementation: str | None = None
) -> Array:
    """-t log sigmoid(l) - (1 - t) log(1 - sigmoid(l)), stable at any finite logit, differentiable to any order in both.

    Args:
      logits: l, of any shape; float32, bfloat16 or float16.
      target: t in [0, 1], the probability that the answer is yes: a number, or an array that broadcasts to the logits' shape.
      reduction: "mean" for the mean over all logits, "none" for the loss of each.
      implementation: None, "xla" or "triton"; see `jaxgan.kernels.launch`.

    Returns:
      Nats, in float32: a scalar, or an array of the logits' shape. The mean of no logits is NaN.

    Raises:
      ValueError: for targets that do not fit, an unknown reduction, or an implementation that cannot run.
    """
    logits = floating("logits", logits)
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction={reduction!r} is unknown; use 'mean' or 'none'")
    params: dict[str, Any] = dict(mean=reduction == "mean", implementation=resolve(implementation))
    if isinstance(target, int | float):
        if not 0 <= target <= 1:
            raise ValueError(f"target={target} is not a probability; use a number from 0 to 1")
        operands, params["target"] = (logits.reshape(1, -1),), float(target)
    else:
        targets = floating("target", target)
        try:
            fits = jnp.broadcast_shapes(targets.shape, logits.shape) == logits.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"the target's shape {targets.shape} does not broadcast to the logits' {logits.shape}"
            )
        operands, params["target"] = (
            (logits.reshape(1, -1), jnp.broadcast_to(targets, logits.shape).reshape(1, -1)),
            None,
        )
    loss, _ = _bce_p.bind(*operands, **params)
    return loss[0] if reduction == "mean" else loss.reshape(logits.shape)
