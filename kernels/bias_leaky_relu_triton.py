"""Triton kernels of `bias_leaky_relu`, and their launches.

Operands are [lanes, ..., C], a bias [lanes, C]; n counts elements. `gate` and `act` need no sums,
so a program takes one block of BLOCK elements of all lanes; `pull` sums over rows and walks
`ColumnTiles`.
"""

import math
from typing import Any

import triton
import triton.language as tl
from jax import Array

from jaxgan.kernels.arrays import like
from jaxgan.kernels.launch import call
from jaxgan.kernels.tiles import BLOCK, ColumnTiles, cdiv
from jaxgan.kernels.tiles_triton import elements_of_block, elements_of_tile, store_sums


@triton.jit
def gate_kernel(
    g_ptr,
    r_ptr,
    out_ptr,
    n: tl.constexpr,
    slope: tl.constexpr,
    gain: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out = s(r) g, of all lanes alike."""
    at = elements_of_block(n, BLOCK)
    inside = at < n
    g = tl.load(g_ptr + at, mask=inside, other=0.0).to(tl.float32)
    r = tl.load(r_ptr + at, mask=inside, other=0.0).to(tl.float32)
    out = tl.where(r > 0, g * gain, g * (slope * gain))
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def act_kernel(
    x_ptr,
    y_ptr,
    n: tl.constexpr,
    slope: tl.constexpr,
    gain: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """y = s(x) x, of all lanes alike."""
    at = elements_of_block(n, BLOCK)
    inside = at < n
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    y = tl.where(x > 0, x * gain, x * (slope * gain))
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def bias_act_kernel(
    x_ptr,
    b_ptr,
    y_ptr,
    n: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    slope: tl.constexpr,
    gain: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """y = s(x + b) (x + b); x [lanes, R, C], b [lanes, C]."""
    at = elements_of_block(n, BLOCK)
    inside = at < n
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    lane = at // (R * C)
    b = tl.load(b_ptr + lane * C + at % C, mask=inside, other=0.0).to(tl.float32)
    z = x + b
    y = tl.where(z > 0, z * gain, z * (slope * gain))
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def pull_kernel(
    g_ptr,
    r_ptr,
    d_ptr,
    partial_ptr,
    n: tl.constexpr,
    slope: tl.constexpr,
    gain: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PROGRAMS: tl.constexpr,
    TURNS: tl.constexpr,
):
    """d = s(r) g, and its column sums; n elements in a lane."""
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for turn in range(TURNS):
        at, inside = elements_of_tile(turn, n, W, ROWS, COLUMNS, PROGRAMS)
        g = tl.load(g_ptr + at, mask=inside, other=0.0).to(tl.float32)
        r = tl.load(r_ptr + at, mask=inside, other=0.0).to(tl.float32)
        d = tl.where(r > 0, g * gain, g * (slope * gain))
        tl.store(d_ptr + at, d.to(d_ptr.dtype.element_ty), mask=inside)
        total += d
    store_sums(partial_ptr, total, W, COLUMNS, PROGRAMS)


def launch_gate(g: Array, r: Array, *, slope: float, gain: float, **_: Any) -> list[Array]:
    constants: dict[str, Any] = dict(n=g.size, slope=slope, gain=gain, BLOCK=BLOCK)
    return call(gate_kernel, (g, r), (like(g),), (cdiv(g.size, BLOCK),), **constants)


def launch_act(x: Array, *b: Array, slope: float, gain: float, **_: Any) -> list[Array]:
    constants: dict[str, Any] = dict(n=x.size, slope=slope, gain=gain, BLOCK=BLOCK)
    grid = (cdiv(x.size, BLOCK),)
    if not b:
        return call(act_kernel, (x,), (like(x),), grid, **constants)
    constants |= dict(R=math.prod(x.shape[1:-1]), C=x.shape[-1])
    return call(bias_act_kernel, (x, *b), (like(x),), grid, **constants)


def launch_pull(g: Array, r: Array, *, slope: float, gain: float, **_: Any) -> list[Array]:
    tiles = ColumnTiles.of(g.shape)
    outputs = (like(g), tiles.partial())
    constants: dict[str, Any] = dict(slope=slope, gain=gain, **tiles.constants)
    d, partial = call(pull_kernel, (g, r), outputs, tiles.grid, **constants)
    return [d, tiles.summed(partial)]
