"""Triton kernels of `gan_loss`, and their launches.

Real logits are [lanes, n], fake ones [lanes, m]. Program (block, lane) takes BLOCK of each, and
writes its share of the loss to partial [lanes, programs], and slopes divided by n and m. With
softplus(l) = log(1 + e^l) and t the label:

    kind            discriminator                                             generator
    NONSATURATING   E[t softplus(-r) + (1 - t) softplus(r)] + E[softplus(f)]  E[softplus(-f)]
    MINIMAX         the same                                                  -E[softplus(f)]
    HINGE           E[max(0, 1 - r)] + E[max(0, 1 + f)]                       -E[f]
    LEAST_SQUARES   (E[(r - t)^2] + E[f^2]) / 2                               E[(f - 1)^2] / 2
    relativistic    E[softplus(f - r)]                                        E[softplus(r - f)]

At its corner the hinge's derivative is 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
import triton
import triton.language as tl
from jax import Array

from jaxgan.kernels.gan_loss import recognised
from jaxgan.kernels.launch import call
from jaxgan.kernels.sigmoid_bce import slope_like
from jaxgan.kernels.sigmoid_bce_triton import logistic
from jaxgan.kernels.tiles import BLOCK, cdiv
from jaxgan.kernels.tiles_triton import elements_of_block
from jaxgan.objectives import Objective

NONSATURATING = tl.constexpr(0)
MINIMAX = tl.constexpr(1)
HINGE = tl.constexpr(2)
LEAST_SQUARES = tl.constexpr(3)
KIND_OF = {
    "nonsaturating": NONSATURATING,
    "minimax": MINIMAX,
    "hinge": HINGE,
    "least_squares": LEAST_SQUARES,
}


@triton.jit
def discriminator_kernel(
    real_ptr,
    fake_ptr,
    partial_ptr,
    slope_real_ptr,
    slope_fake_ptr,
    n: tl.constexpr,
    m: tl.constexpr,
    label: tl.constexpr,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The discriminator's loss of KIND, and the slopes of real and fake logits."""
    lane = tl.program_id(1).to(tl.int64)
    at = elements_of_block(n + m, BLOCK)
    is_real, is_fake = at < n, at < m
    real = tl.load(real_ptr + lane * n + at, mask=is_real, other=0.0).to(tl.float32)
    fake = tl.load(fake_ptr + lane * m + at, mask=is_fake, other=0.0).to(tl.float32)
    if KIND == HINGE:
        loss_real = tl.maximum(1.0 - real, 0.0, propagate_nan=tl.PropagateNan.ALL)
        loss_fake = tl.maximum(1.0 + fake, 0.0, propagate_nan=tl.PropagateNan.ALL)
        slope_real = tl.where(real < 1.0, -1.0, 0.0)
        slope_fake = tl.where(fake > -1.0, 1.0, 0.0)
    elif KIND == LEAST_SQUARES:
        loss_real, slope_real = (real - label) * (real - label) * 0.5, real - label
        loss_fake, slope_fake = fake * fake * 0.5, fake
    else:
        log1p_real, sigmoid, opposite = logistic(real)
        loss_real = (tl.maximum(real, 0.0) - label * real) + log1p_real
        slope_real = (1.0 - label) * sigmoid - label * opposite
        log1p_fake, slope_fake, _ = logistic(fake)
        loss_fake = tl.maximum(fake, 0.0) + log1p_fake
    slope_real = (slope_real * (1.0 / n)).to(slope_real_ptr.dtype.element_ty)
    slope_fake = (slope_fake * (1.0 / m)).to(slope_fake_ptr.dtype.element_ty)
    tl.store(slope_real_ptr + lane * n + at, slope_real, mask=is_real)
    tl.store(slope_fake_ptr + lane * m + at, slope_fake, mask=is_fake)
    of_real = tl.where(is_real, loss_real * (1.0 / n), 0.0)
    of_fake = tl.where(is_fake, loss_fake * (1.0 / m), 0.0)
    at_partial = lane * tl.num_programs(0) + tl.program_id(0)
    tl.store(partial_ptr + at_partial, tl.sum(of_real + of_fake, axis=0))


@triton.jit
def generator_kernel(
    fake_ptr,
    partial_ptr,
    slope_ptr,
    m: tl.constexpr,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The generator's loss of KIND, and the slopes of the fake logits."""
    lane = tl.program_id(1).to(tl.int64)
    at = elements_of_block(m, BLOCK)
    inside = at < m
    fake = tl.load(fake_ptr + lane * m + at, mask=inside, other=0.0).to(tl.float32)
    if KIND == NONSATURATING:
        log1p, _, opposite = logistic(fake)
        loss, slope = tl.maximum(-fake, 0.0) + log1p, -opposite
    elif KIND == MINIMAX:
        log1p, sigmoid, _ = logistic(fake)
        loss, slope = -tl.maximum(fake, 0.0) - log1p, -sigmoid
    elif KIND == HINGE:
        loss, slope = -fake, tl.full((BLOCK,), -1.0, tl.float32)
    else:
        loss, slope = (fake - 1.0) * (fake - 1.0) * 0.5, fake - 1.0
    slope = (slope * (1.0 / m)).to(slope_ptr.dtype.element_ty)
    tl.store(slope_ptr + lane * m + at, slope, mask=inside)
    at_partial = lane * tl.num_programs(0) + tl.program_id(0)
    total = tl.sum(tl.where(inside, loss, 0.0), axis=0)
    tl.store(partial_ptr + at_partial, total * (1.0 / m))


@triton.jit
def relativistic_kernel(
    low_ptr,
    high_ptr,
    partial_ptr,
    slope_low_ptr,
    slope_high_ptr,
    n: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """E[softplus(high - low)], and the slopes of both."""
    lane = tl.program_id(1).to(tl.int64)
    at = elements_of_block(n, BLOCK)
    inside = at < n
    low = tl.load(low_ptr + lane * n + at, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(high_ptr + lane * n + at, mask=inside, other=0.0).to(tl.float32)
    log1p, sigmoid, _ = logistic(high - low)
    loss, slope = tl.maximum(high - low, 0.0) + log1p, sigmoid * (1.0 / n)
    slope_low = (-slope).to(slope_low_ptr.dtype.element_ty)
    slope_high = slope.to(slope_high_ptr.dtype.element_ty)
    tl.store(slope_low_ptr + lane * n + at, slope_low, mask=inside)
    tl.store(slope_high_ptr + lane * n + at, slope_high, mask=inside)
    at_partial = lane * tl.num_programs(0) + tl.program_id(0)
    total = tl.sum(tl.where(inside, loss, 0.0), axis=0)
    tl.store(partial_ptr + at_partial, total * (1.0 / n))


def launch_loss(*logits: Array, objective: Objective, player: str, **_: Any) -> list[Array]:
    known = recognised(objective)
    assert known is not None  # `fused` binds no others
    if known.kind == "relativistic":
        # The generator's loss is the discriminator's with real and fake exchanged.
        if player == "discriminator":
            return _launch(relativistic_kernel, logits, n=logits[0].shape[1])
        loss, of_fake, of_real = _launch(relativistic_kernel, logits[::-1], n=logits[0].shape[1])
        return [loss, of_real, of_fake]
    constants: dict[str, Any] = dict(KIND=KIND_OF[known.kind].value, m=logits[-1].shape[1])
    if player == "generator":
        return _launch(generator_kernel, logits, **constants)
    constants |= dict(n=logits[0].shape[1], label=known.label)
    return _launch(discriminator_kernel, logits, **constants)


def _launch(kernel: Any, logits: tuple[Array, ...], **constants: Any) -> list[Array]:
    """The summed loss [lanes], and the slopes of all logits."""
    lanes, blocks = logits[0].shape[0], cdiv(max(x.shape[1] for x in logits), BLOCK)
    partial = jax.ShapeDtypeStruct((lanes, blocks), jnp.float32)
    outputs = (partial, *map(slope_like, logits))
    loss, *slopes = call(kernel, logits, outputs, (blocks, lanes), BLOCK=BLOCK, **constants)
    return [loss.sum(axis=1), *slopes]
