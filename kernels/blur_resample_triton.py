"""The Triton kernel of `blur_resample`, and its launch.

Images are [lanes, B, H, W, C]; the lanes count as images, and only a bias [lanes, C] knows them. A
program makes a tile of ROWS output pixels, counted over all images, by COLUMNS channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
import triton
import triton.language as tl
from jax import Array

from jaxgan.kernels.blur_resample import Pads, length
from jaxgan.kernels.launch import call
from jaxgan.kernels.tiles import cdiv, power_of_two

_TILE = 1024  # elements of a tile: 8 for each of 128 threads


@triton.jit
def resample_kernel(
    x_ptr,
    taps_ptr,
    b_ptr,
    y_ptr,
    IMAGES: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    C: tl.constexpr,
    OUT_H: tl.constexpr,
    OUT_W: tl.constexpr,
    LANE: tl.constexpr,
    K: tl.constexpr,
    UP: tl.constexpr,
    DOWN: tl.constexpr,
    TOP: tl.constexpr,
    LEFT: tl.constexpr,
    slope: tl.constexpr,
    gain: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Filters [IMAGES, H, W, C] into [IMAGES, OUT_H, OUT_W, C].

    LANE is the number of output pixels to one bias vector; K that of taps; TOP and LEFT are the
    zeros before. Where there is a bias, it is added and the LeakyReLU applied.
    """
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    if IMAGES * C * (H * W + OUT_H * OUT_W) > 2**30:
        pixel = pixel.to(tl.int64)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    exists = pixel < IMAGES * OUT_H * OUT_W
    image = pixel // (OUT_H * OUT_W)
    # The first tap at or after which a pixel, not an inserted zero, lies under the filter; then
    # every UP-th.
    y0 = (pixel // OUT_W) % OUT_H * DOWN - TOP
    x0 = pixel % OUT_W * DOWN - LEFT
    y_first = (y0 % UP + UP) % UP * (UP - 1)
    x_first = (x0 % UP + UP) % UP * (UP - 1)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for j in tl.static_range((K + UP - 1) // UP):  # pyright: ignore[reportGeneralTypeIssues]
        y_tap = y_first + j * UP
        row = (y0 + y_tap) // UP
        row_exists = exists & (y0 + y_tap >= 0) & (row < H) & (y_tap < K)
        of_row = tl.zeros((ROWS, COLUMNS), tl.float32)
        for i in tl.static_range((K + UP - 1) // UP):  # pyright: ignore[reportGeneralTypeIssues]
            x_tap = x_first + i * UP
            column = (x0 + x_tap) // UP
            inside = row_exists & (x0 + x_tap >= 0) & (column < W) & (x_tap < K)
            at = ((image * H + row) * W + column) * C
            mask = inside[:, None] & (channel < C)[None, :]
            x = tl.load(x_ptr + at[:, None] + channel[None, :], mask=mask, other=0.0)
            tap = tl.load(taps_ptr + x_tap, mask=x_tap < K, other=0.0)
            of_row += x.to(tl.float32) * tap[:, None]
        total += of_row * tl.load(taps_ptr + y_tap, mask=y_tap < K, other=0.0)[:, None]
    stored = exists[:, None] & (channel < C)[None, :]
    if b_ptr is not None:
        of_bias = b_ptr + (pixel // LANE * C)[:, None] + channel[None, :]
        total += tl.load(of_bias, mask=stored, other=0.0).to(tl.float32)
        total = tl.where(total > 0, total * gain, total * (slope * gain))
    of_y = y_ptr + (pixel * C)[:, None] + channel[None, :]
    tl.store(of_y, total.to(y_ptr.dtype.element_ty), mask=stored)


def launch_resample(
    x: Array,
    *b: Array,
    taps: tuple[float, ...],
    up: int,
    down: int,
    pads: Pads,
    slope: float = 1.0,
    gain: float = 1.0,
    **_: Any,
) -> list[Array]:
    lanes, batch, h, w, c = x.shape
    out_h, out_w = (length(n, len(taps), up, down, pad) for n, pad in zip((h, w), pads))
    columns = min(power_of_two(c), 128)
    rows = _TILE // columns
    weights = jnp.asarray(taps, jnp.float32)
    without_bias: dict[str, Any] = {} if b else dict(b_ptr=None)
    return call(
        resample_kernel,
        (x, weights, *b),
        (jax.ShapeDtypeStruct((lanes, batch, out_h, out_w, c), x.dtype),),
        (cdiv(lanes * batch * out_h * out_w, rows), cdiv(c, columns)),
        IMAGES=lanes * batch,
        H=h,
        W=w,
        C=c,
        OUT_H=out_h,
        OUT_W=out_w,
        LANE=batch * out_h * out_w,
        K=len(taps),
        UP=up,
        DOWN=down,
        TOP=pads[0][0],
        LEFT=pads[1][0],
        slope=slope,
        gain=gain,
        ROWS=rows,
        COLUMNS=columns,
        **without_bias,
    )
