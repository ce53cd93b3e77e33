"""The Triton kernel of `sigmoid_bce`, and its launch.

Logits are [lanes, n]. Program (block, lane) takes BLOCK logits of a lane.
"""

from typing import Any

import jax
import jax.numpy as jnp
import triton
import triton.language as tl
from jax import Array

from jaxgan.kernels.launch import call
from jaxgan.kernels.sigmoid_bce import slope_like
from jaxgan.kernels.tiles import BLOCK, cdiv
from jaxgan.kernels.tiles_triton import elements_of_block


@triton.jit
def logistic(z):
    """log(1 + e^-|z|), sigmoid(z) and sigmoid(-z) from one exponential."""
    e = tl.exp(-tl.abs(z))
    u = 1.0 + e
    # log(1 + e) without losing a small e: Kahan's log(u) e / (u - 1).
    log1p = tl.where(u == 1.0, e, tl.log(u) * (e / tl.where(u == 1.0, 1.0, u - 1.0)))
    return log1p, tl.where(z >= 0, 1.0, e) / u, tl.where(z >= 0, e, 1.0) / u


@triton.jit
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
    """The losses and slopes of n logits a lane; without targets in memory all have one.

    With MEAN, loss is [lanes, programs], each the sum of a block over n.
    """
    lane = tl.program_id(1).to(tl.int64)
    at = elements_of_block(n, BLOCK)
    inside = at < n
    l = tl.load(l_ptr + lane * n + at, mask=inside, other=0.0).to(tl.float32)
    if t_ptr is not None:  # a choice of the compiler, not of each element
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


def launch_bce(l: Array, *t: Array, target: float | None, mean: bool, **_: Any) -> list[Array]:
    lanes, n = l.shape
    blocks = cdiv(n, BLOCK)
    losses = jax.ShapeDtypeStruct((lanes, blocks if mean else n), jnp.float32)
    constants: dict[str, Any] = dict(n=n, target=float(target or 0.0), MEAN=mean, BLOCK=BLOCK)
    if not t:
        constants["t_ptr"] = None
    loss, slope = call(bce_kernel, (l, *t), (losses, slope_like(l)), (blocks, lanes), **constants)
    return [loss.sum(axis=1) if mean else loss, slope]
