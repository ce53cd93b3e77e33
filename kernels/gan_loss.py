"""Adversarial losses: the loss and the gradients of the real and the fake logits in one launch.

The maths, with means over all logits and softplus(l) = log(1 + e^l); t = 1 - label_smoothing:

    kind            discriminator                                                generator
    nonsaturating   E[t softplus(-r) + (1 - t) softplus(r)] + E[softplus(f)]     E[softplus(-f)]
    minimax         the same                                                     -E[softplus(f)]
    hinge           E[max(0, 1 - r)] + E[max(0, 1 + f)]                          -E[f]
    least_squares   (E[(r - t)^2] + E[f^2]) / 2                                  E[(f - 1)^2] / 2
    relativistic    E[softplus(f - r)]                                           E[softplus(r - f)]

At its corner the hinge's derivative is 0. A program of the kernel takes a block of real and a block of fake logits, and writes one
partial loss and the slopes of both, divided by their number; a last, tiny pass adds the partial losses in a fixed order. The slopes'
own derivatives, for second order, are those of the reference.

References:
  Goodfellow et al., Generative Adversarial Nets, 2014; Lim and Ye, Geometric GAN, 2017; Mao et al., Least Squares Generative
  Adversarial Networks, 2017; Jolicoeur-Martineau, The Relativistic Discriminator, 2018; Salimans et al., Improved Techniques for
  Training GANs, 2016, for one-sided label smoothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.interpreters import ad
from jax.nn import relu, softplus

from jaxgan.kernels.bias_leaky_relu import offsets
from jaxgan.kernels.launch import call, cdiv, floating, jit, resolve, tl, wide
from jaxgan.kernels.primitive import Zero, define, dense, over_lanes
from jaxgan.kernels.sigmoid_bce import BLOCK, logistic, slope_like

KINDS = ("nonsaturating", "minimax", "hinge", "least_squares", "relativistic")
SMOOTHED = ("nonsaturating", "minimax", "least_squares")


# ------------------------------------------------------------------------------------ the reference: real [n], fake [m]
def _of_discriminator(real: Array, fake: Array, kind: str, label: float) -> Array:
    if kind == "hinge":
        return jnp.mean(relu(1.0 - real)) + jnp.mean(relu(1.0 + fake))
    if kind == "least_squares":
        return (jnp.mean((real - label) ** 2) + jnp.mean(fake**2)) / 2.0
    if kind == "relativistic":
        return jnp.mean(softplus(fake - real))
    smoothed = (1.0 - label) * softplus(real) if label != 1 else 0.0
    return jnp.mean(label * softplus(-real) + smoothed) + jnp.mean(softplus(fake))


def _of_generator(fake: Array, kind: str) -> Array:
    loss = {
        "nonsaturating": lambda: softplus(-fake),
        "minimax": lambda: -softplus(fake),
        "hinge": lambda: -fake,
        "least_squares": lambda: (fake - 1.0) ** 2 / 2.0,
    }
    return jnp.mean(loss[kind]())


def _reference(*logits: Array, kind: str, player: str, label: float, **_: Any) -> list[Array]:
    def loss(*logits: Array) -> Array:
        if player == "generator" and kind != "relativistic":
            return _of_generator(logits[0], kind)
        real, fake = (
            logits if player == "discriminator" else logits[::-1]
        )  # the generator's is the discriminator's the other way round
        return _of_discriminator(real, fake, kind, label)

    value, pull_back = jax.vjp(loss, *map(wide, logits))
    slopes = pull_back(jnp.ones_like(value))
    return [value, *[s.astype(slope_like(x).dtype) for s, x in zip(slopes, logits)]]


# ----------------------------------------------------------------------------------------------------------------- the kernels
# KIND counts in KINDS.
@jit
def discriminator_kernel(
    real_ptr, fake_ptr, partial_ptr, slope_real_ptr, slope_fake_ptr, n: tl.constexpr, m: tl.constexpr, label: tl.constexpr,
    KIND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    lane = tl.program_id(1).to(tl.int64)
    at = offsets(n + m, BLOCK)
    is_real, is_fake = at < n, at < m
    real = tl.load(real_ptr + lane * n + at, mask=is_real, other=0.0).to(tl.float32)
    fake = tl.load(fake_ptr + lane * m + at, mask=is_fake, other=0.0).to(tl.float32)
    if KIND == 2:
        loss_real, slope_real = (
            tl.maximum(1.0 - real, 0.0, propagate_nan=tl.PropagateNan.ALL),
            tl.where(real < 1.0, -1.0, 0.0),
        )
        loss_fake, slope_fake = (
            tl.maximum(1.0 + fake, 0.0, propagate_nan=tl.PropagateNan.ALL),
            tl.where(fake > -1.0, 1.0, 0.0),
        )
    elif KIND == 3:
        loss_real, slope_real = (real - label) * (real - label) * 0.5, real - label
        loss_fake, slope_fake = fake * fake * 0.5, fake
    else:
        log1p_real, sigmoid, opposite = logistic(real)
        loss_real = (tl.maximum(real, 0.0) - label * real) + log1p_real
        slope_real = (1.0 - label) * sigmoid - label * opposite
        log1p_fake, slope_fake, _ = logistic(fake)
        loss_fake = tl.maximum(fake, 0.0) + log1p_fake
    tl.store(
        slope_real_ptr + lane * n + at,
        (slope_real * (1.0 / n)).to(slope_real_ptr.dtype.element_ty),
        mask=is_real,
    )
    tl.store(
        slope_fake_ptr + lane * m + at,
        (slope_fake * (1.0 / m)).to(slope_fake_ptr.dtype.element_ty),
        mask=is_fake,
    )
    loss = tl.where(is_real, loss_real * (1.0 / n), 0.0) + tl.where(
        is_fake, loss_fake * (1.0 / m), 0.0
    )
    tl.store(partial_ptr + lane * tl.num_programs(0) + tl.program_id(0), tl.sum(loss, axis=0))


@jit
def generator_kernel(
    fake_ptr, partial_ptr, slope_ptr, m: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr
):
    lane = tl.program_id(1).to(tl.int64)
    at = offsets(m, BLOCK)
    inside = at < m
    fake = tl.load(fake_ptr + lane * m + at, mask=inside, other=0.0).to(tl.float32)
    if KIND == 0:
        log1p, _, opposite = logistic(fake)
        loss, slope = tl.maximum(-fake, 0.0) + log1p, -opposite
    elif KIND == 1:
        log1p, sigmoid, _ = logistic(fake)
        loss, slope = -tl.maximum(fake, 0.0) - log1p, -sigmoid
    elif KIND == 2:
        loss, slope = -fake, tl.full((BLOCK,), -1.0, tl.float32)
    else:
        loss, slope = (fake - 1.0) * (fake - 1.0) * 0.5, fake - 1.0
    tl.store(
        slope_ptr + lane * m + at, (slope * (1.0 / m)).to(slope_ptr.dtype.element_ty), mask=inside
    )
    tl.store(
        partial_ptr + lane * tl.num_programs(0) + tl.program_id(0),
        tl.sum(tl.where(inside, loss, 0.0), axis=0) * (1.0 / m),
    )


@jit
def relativistic_kernel(
    low_ptr,
    high_ptr,
    partial_ptr,
    slope_low_ptr,
    slope_high_ptr,
    n: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """E[softplus(high - low)]."""
    lane = tl.program_id(1).to(tl.int64)
    at = offsets(n, BLOCK)
    inside = at < n
    low = tl.load(low_ptr + lane * n + at, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(high_ptr + lane * n + at, mask=inside, other=0.0).to(tl.float32)
    log1p, sigmoid, _ = logistic(high - low)
    loss, slope = tl.maximum(high - low, 0.0) + log1p, sigmoid * (1.0 / n)
    tl.store(
        slope_low_ptr + lane * n + at, (-slope).to(slope_low_ptr.dtype.element_ty), mask=inside
    )
    tl.store(slope_high_ptr + lane * n + at, slope.to(slope_high_ptr.dtype.element_ty), mask=inside)
    tl.store(
        partial_ptr + lane * tl.num_programs(0) + tl.program_id(0),
        tl.sum(tl.where(inside, loss, 0.0), axis=0) * (1.0 / n),
    )


def _launch(*logits: Array, kind: str, player: str, label: float, **_: Any) -> list[Array]:
    lanes, blocks = logits[0].shape[0], cdiv(max(x.shape[1] for x in logits), BLOCK)
    outputs = (jax.ShapeDtypeStruct((lanes, blocks), jnp.float32), *map(slope_like, logits))
    constants: dict[str, Any] = dict(BLOCK=BLOCK)
    if kind == "relativistic":
        swapped = player == "generator"
        low_high = logits[::-1] if swapped else logits
        outputs = (outputs[0], *map(slope_like, low_high))
        partial, *slopes = call(
            relativistic_kernel,
            low_high,
            outputs,
            (blocks, lanes),
            n=logits[0].shape[1],
            **constants,
        )
        return [partial.sum(axis=1), *(slopes[::-1] if swapped else slopes)]
    constants["KIND"] = KINDS.index(kind)
    if player == "discriminator":
        kernel, constants = (
            discriminator_kernel,
            constants | dict(n=logits[0].shape[1], m=logits[1].shape[1], label=label),
        )
    else:
        kernel, constants = generator_kernel, constants | dict(m=logits[0].shape[1])
    partial, *slopes = call(kernel, logits, outputs, (blocks, lanes), **constants)
    return [partial.sum(axis=1), *slopes]


# ------------------------------------------------------------------------------------------------------- differentiation rules
_loss_p = define("gan_loss", _reference, _launch, operation="gan_loss")


def _derivative(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    loss, *slopes = _loss_p.bind(*primals, **params)
    moved = sum(
        jnp.sum(wide(s) * wide(t), axis=1) for s, t in zip(slopes, tangents) if type(t) is not Zero
    )
    moved_slopes = jax.jvp(
        lambda *logits: over_lanes(_reference, *logits, **params)[1:],
        list(primals),
        [dense(t) for t in tangents],
    )[1]
    return [loss, *slopes], [moved, *moved_slopes]


ad.primitive_jvps[_loss_p] = _derivative


# ------------------------------------------------------------------------------------------------------------ public functions
def gan_discriminator_loss(
    real_logits: Array,
    fake_logits: Array,
    kind: str,
    label_smoothing: float = 0.0,
    implementation: str | None = None,
) -> Array:
    """What the discriminator minimises, by the table at the head of this file; differentiable to any order.

    Args:
      real_logits: of any shape; float32, bfloat16 or float16.
      fake_logits: of any shape; as many as real ones where the kind pairs them (relativistic).
      kind: one of `KINDS`.
      label_smoothing: one-sided, in [0, 1): the real label is 1 minus this. For the kinds in `SMOOTHED`.
      implementation: None, "xla" or "triton"; see `jaxgan.kernels.launch`.

    Returns:
      A float32 scalar; NaN where there are no logits.

    Raises:
      ValueError: for an unknown kind, smoothing that has no meaning, unequal numbers of paired logits, or an implementation that
        cannot run.
    """
    real_logits, fake_logits = _checked(kind, label_smoothing, real_logits, fake_logits)
    return _bind(
        (real_logits, fake_logits), kind, "discriminator", 1.0 - label_smoothing, implementation
    )


def gan_generator_loss(
    real_logits: Array | None, fake_logits: Array, kind: str, implementation: str | None = None
) -> Array:
    """What the generator minimises: as `gan_discriminator_loss`. Only relativistic losses look at the real logits."""
    if kind != "relativistic":
        return _bind(_checked(kind, 0.0, fake_logits), kind, "generator", 1.0, implementation)
    if real_logits is None:
        raise ValueError(
            "the relativistic generator loss compares with real logits; give real_logits"
        )
    return _bind(
        _checked(kind, 0.0, real_logits, fake_logits), kind, "generator", 1.0, implementation
    )


def _bind(
    logits: tuple[Array, ...], kind: str, player: str, label: float, implementation: str | None
) -> Array:
    flat = [x.reshape(1, -1) for x in logits]
    return _loss_p.bind(
        *flat, kind=kind, player=player, label=float(label), implementation=resolve(implementation)
    )[0][0]


def _checked(kind: str, label_smoothing: float, *given: Any) -> tuple[Array, ...]:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; use {', '.join(KINDS)}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing} is not in [0, 1); use 0.1, say")
    if label_smoothing and kind not in SMOOTHED:
        raise ValueError(
            f"label_smoothing={label_smoothing} has no meaning for {kind}; use 0, or {', '.join(SMOOTHED)}"
        )
    logits = tuple(floating("logits", x) for x in given)
    sizes = [x.size for x in logits]
    if kind == "relativistic" and sizes[0] != sizes[-1]:
        raise ValueError(
            f"relativistic losses pair {sizes[0]} real with {sizes[-1]} fake logits; make their numbers equal"
        )
    return logits
