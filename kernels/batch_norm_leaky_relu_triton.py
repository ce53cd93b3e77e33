"""Triton kernels of `batch_norm_leaky_relu`, and their launches.

Operands are x, g [lanes, ..., C] and vectors [lanes, C]; n counts the elements of a lane. Every
kernel walks the tiles of `ColumnTiles`: W, ROWS, COLUMNS, PROGRAMS and TURNS say how.
"""

from typing import Any

import triton
import triton.language as tl
from jax import Array

from jaxgan.kernels.arrays import like
from jaxgan.kernels.launch import call
from jaxgan.kernels.tiles import ColumnTiles
from jaxgan.kernels.tiles_triton import columns_of_program, elements_of_tile, store_sums

# Programs that a multiprocessor's registers let run at once; those of the backward pass take up to
# 95 registers a thread.
PROGRAMS_PER_MULTIPROCESSOR = 8
PROGRAMS_PER_MULTIPROCESSOR_BACKWARD = 5


@triton.jit
def _channels(v_ptr, C: tl.constexpr, W: tl.constexpr, COLUMNS: tl.constexpr):
    """The values of a tile's columns in a vector [lanes, C], as [1, COLUMNS]."""
    of_columns = v_ptr + tl.program_id(2).to(tl.int64) * C + columns_of_program(W, COLUMNS) % C
    return tl.load(of_columns).to(tl.float32)[None, :]


@triton.jit
def _four(
    h_ptr,
    k_ptr,
    scale_ptr,
    bias_ptr,
    C: tl.constexpr,
    W: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """h, k, scale and bias of a tile's columns."""
    h, k = _channels(h_ptr, C, W, COLUMNS), _channels(k_ptr, C, W, COLUMNS)
    return h, k, _channels(scale_ptr, C, W, COLUMNS), _channels(bias_ptr, C, W, COLUMNS)


@triton.jit
def moments_kernel(
    x_ptr,
    sum_ptr,
    square_ptr,
    n: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PROGRAMS: tl.constexpr,
    TURNS: tl.constexpr,
):
    """Column sums of x and of x^2."""
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    squares = tl.zeros((ROWS, COLUMNS), tl.float32)
    for turn in range(TURNS):
        at, inside = elements_of_tile(turn, n, W, ROWS, COLUMNS, PROGRAMS)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        total += x
        squares += x * x
    store_sums(sum_ptr, total, W, COLUMNS, PROGRAMS)
    store_sums(square_ptr, squares, W, COLUMNS, PROGRAMS)


@triton.jit
def forward_kernel(
    x_ptr,
    h_ptr,
    k_ptr,
    scale_ptr,
    bias_ptr,
    y_ptr,
    slope: tl.constexpr,
    gain: tl.constexpr,
    C: tl.constexpr,
    n: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PROGRAMS: tl.constexpr,
    TURNS: tl.constexpr,
):
    """y = s(z) z with z = scale (x h + k) + bias."""
    h, k, scale, bias = _four(h_ptr, k_ptr, scale_ptr, bias_ptr, C, W, COLUMNS)
    for turn in range(TURNS):
        at, inside = elements_of_tile(turn, n, W, ROWS, COLUMNS, PROGRAMS)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        z = (x * h + k) * scale + bias
        y = tl.where(z > 0, z * gain, z * (gain * slope))
        tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def reduce_kernel(
    g_ptr,
    x_ptr,
    h_ptr,
    k_ptr,
    scale_ptr,
    bias_ptr,
    sum_ptr,
    product_ptr,
    slope: tl.constexpr,
    gain: tl.constexpr,
    C: tl.constexpr,
    n: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PROGRAMS: tl.constexpr,
    TURNS: tl.constexpr,
):
    """Column sums of s(z) g and of s(z) g n."""
    h, k, scale, bias = _four(h_ptr, k_ptr, scale_ptr, bias_ptr, C, W, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    for turn in range(TURNS):
        at, inside = elements_of_tile(turn, n, W, ROWS, COLUMNS, PROGRAMS)
        g = tl.load(g_ptr + at, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        normal = x * h + k
        g = tl.where(normal * scale + bias > 0, g * gain, g * (gain * slope))
        total += g
        products += g * normal
    store_sums(sum_ptr, total, W, COLUMNS, PROGRAMS)
    store_sums(product_ptr, products, W, COLUMNS, PROGRAMS)


@triton.jit
def distribute_kernel(
    g_ptr,
    a_ptr,
    b_ptr,
    x_ptr,
    h_ptr,
    k_ptr,
    scale_ptr,
    bias_ptr,
    out_ptr,
    slope: tl.constexpr,
    gain: tl.constexpr,
    C: tl.constexpr,
    n: tl.constexpr,
    W: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PROGRAMS: tl.constexpr,
    TURNS: tl.constexpr,
):
    """out = scale h s(z) g + a + b n."""
    h, k, scale, bias = _four(h_ptr, k_ptr, scale_ptr, bias_ptr, C, W, COLUMNS)
    a, b = _channels(a_ptr, C, W, COLUMNS), _channels(b_ptr, C, W, COLUMNS)
    for turn in range(TURNS):
        at, inside = elements_of_tile(turn, n, W, ROWS, COLUMNS, PROGRAMS)
        g = tl.load(g_ptr + at, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        normal = x * h + k
        g = tl.where(normal * scale + bias > 0, g * gain, g * (gain * slope))
        out = g * (scale * h) + a + b * normal
        tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=inside)


def _launch_sums(
    kernel: Any, x: Array, operands: tuple[Array, ...], at_once: int, **constants: Any
) -> list[Array]:
    """A kernel that gives two sums over the rows of x, each [lanes, C]."""
    tiles = ColumnTiles.of(x.shape, at_once)
    outputs = (tiles.partial(), tiles.partial())
    partials = call(kernel, operands, outputs, tiles.grid, **tiles.constants, **constants)
    return [tiles.summed(p) for p in partials]


def _launch_elements(
    kernel: Any, x: Array, operands: tuple[Array, ...], at_once: int, **constants: Any
) -> list[Array]:
    """A kernel that gives an array of x's shape."""
    tiles = ColumnTiles.of(x.shape, at_once)
    return call(kernel, operands, (like(x),), tiles.grid, **tiles.constants, **constants)


def _constants(x: Array, slope: float, gain: float) -> dict[str, Any]:
    return dict(slope=slope, gain=gain, C=x.shape[-1])


def launch_moments(x: Array, **_: Any) -> list[Array]:
    return _launch_sums(moments_kernel, x, (x,), PROGRAMS_PER_MULTIPROCESSOR)


def launch_forward(x: Array, *channels: Array, slope: float, gain: float, **_: Any) -> list[Array]:
    constants = _constants(x, slope, gain)
    operands = (x, *channels)
    return _launch_elements(forward_kernel, x, operands, PROGRAMS_PER_MULTIPROCESSOR, **constants)


def launch_reduce(
    g: Array, x: Array, *channels: Array, slope: float, gain: float, **_: Any
) -> list[Array]:
    constants = _constants(x, slope, gain)
    operands = (g, x, *channels)
    at_once = PROGRAMS_PER_MULTIPROCESSOR_BACKWARD
    return _launch_sums(reduce_kernel, x, operands, at_once, **constants)


def launch_distribute(
    g: Array, a: Array, b: Array, x: Array, *channels: Array, slope: float, gain: float, **_: Any
) -> list[Array]:
    constants = _constants(x, slope, gain)
    operands = (g, a, b, x, *channels)
    at_once = PROGRAMS_PER_MULTIPROCESSOR_BACKWARD
    return _launch_elements(distribute_kernel, x, operands, at_once, **constants)
