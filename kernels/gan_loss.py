"""Adversarial losses: a loss and the gradients of the real and the fake logits in one launch.

`fused` gives the twin of an objective of `jaxgan.objectives`: the same functions of logits, as
primitives. Their reference is the objective's own functions; the formulas stand there, and once
more in the kernels of `gan_loss_triton`. An objective that no kernel knows is its own twin.

A program of a kernel takes a block of real and a block of fake logits, and writes one partial loss
and the slopes of both, divided by their number; a last, tiny pass adds the partial losses in a
fixed order. The slopes' own derivatives, for second order, are those of the reference.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.interpreters import ad

from jaxgan import objectives
from jaxgan.kernels.arrays import floating, wide
from jaxgan.kernels.launch import in_triton, resolve
from jaxgan.kernels.primitive import Zero, define, dense, over_lanes
from jaxgan.kernels.sigmoid_bce import slope_like
from jaxgan.objectives import Objective

SMOOTHED = {
    "nonsaturating": objectives.nonsaturating,
    "minimax": objectives.minimax,
    "least_squares": objectives.least_squares,
}
UNSMOOTHED = {"hinge": objectives.hinge, "relativistic": objectives.relativistic}
KINDS = (*SMOOTHED, *UNSMOOTHED)
PAIRED = ("relativistic",)  # whose generator looks at the real logits


class Known(NamedTuple):
    """An objective that has kernels.

    Attributes:
      kind: one of `KINDS`.
      label: of real logits, 1 minus the smoothing.
    """

    kind: str
    label: float


def recognised(objective: Objective) -> Known | None:
    """Which kernels compute an objective's two losses; None where there are none."""
    losses = (objective.discriminator, objective.generator)
    for kind, make in UNSMOOTHED.items():
        if losses == make()[:2]:
            return Known(kind, 1.0)
    discriminator = objective.discriminator
    if not isinstance(discriminator, functools.partial):
        return None
    smoothing = discriminator.keywords.get("label_smoothing")
    if isinstance(smoothing, int | float) and 0 <= smoothing < 1:
        for kind, make in SMOOTHED.items():
            if losses == make(smoothing)[:2]:
                return Known(kind, 1.0 - smoothing)
    return None


# The reference: real [n], fake [m]; the generator's of an objective that is not paired: fake [m].
def _reference(*logits: Array, objective: Objective, player: str, **_: Any) -> list[Array]:
    loss: Any = getattr(objective, player)
    if len(logits) == 1:
        loss = functools.partial(loss, None)
    value, pull_back = jax.vjp(loss, *map(wide, logits))
    slopes = pull_back(jnp.ones_like(value))
    return [value, *[s.astype(slope_like(x).dtype) for s, x in zip(slopes, logits)]]


# The rules of differentiation.
_loss_p = define(
    "gan_loss", _reference, in_triton("gan_loss_triton", "launch_loss"), operation="gan_loss"
)


def _derivative(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    def slopes_of(*logits: Array) -> list[Array]:
        return over_lanes(_reference, *logits, **params)[1:]

    loss, *slopes = _loss_p.bind(*primals, **params)
    moving = [(s, t) for s, t in zip(slopes, tangents) if type(t) is not Zero]
    moved = sum(jnp.sum(wide(s) * wide(t), axis=1) for s, t in moving)
    moved_slopes = jax.jvp(slopes_of, list(primals), [dense(t) for t in tangents])[1]
    return [loss, *slopes], [moved, *moved_slopes]


ad.primitive_jvps[_loss_p] = _derivative


def fused(objective: Objective, implementation: str | None = None) -> Objective:
    """The twin of an objective, with each loss and its gradients in one pass.

    Args:
      objective: of `jaxgan.objectives`, or your own.
      implementation: one of `launch.IMPLEMENTATIONS`, or None, which is decided when a loss is
        traced; see `jaxgan.kernels.launch`. With "plain" a loss is the objective's own.

    Returns:
      An objective whose losses take logits of any shape, float32, bfloat16 or float16, and give a
      float32 scalar, NaN where there are no logits; differentiable to any order. Equal arguments
      give the identical value. The objective itself where no kernel computes it, or with "plain".

    Raises:
      ValueError: for an implementation that cannot run; the losses, for logits that are no floats.
    """
    if implementation is not None and resolve(implementation) == "plain":
        return objective
    if recognised(objective) is None:
        return objective
    return _twin(objective, implementation)


@functools.cache
def _twin(objective: Objective, implementation: str | None) -> Objective:
    loss = functools.partial(_loss, objective, implementation)
    return objective._replace(
        discriminator=functools.partial(loss, "discriminator"),
        generator=functools.partial(loss, "generator"),
    )


def _loss(
    objective: Objective, implementation: str | None, player: str, real: Array, fake: Array
) -> Array:
    chosen = resolve(implementation)
    if chosen == "plain":
        return getattr(objective, player)(real, fake)
    known = recognised(objective)
    assert known is not None  # `fused` makes twins of no others
    alone = player == "generator" and known.kind not in PAIRED
    logits = [floating("logits", x).reshape(1, -1) for x in ([fake] if alone else [real, fake])]
    params = dict(objective=objective, player=player, implementation=chosen)
    return _loss_p.bind(*logits, **params)[0][0]
