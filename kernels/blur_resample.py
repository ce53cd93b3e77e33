"""Blur with a separable filter while doubling, halving or keeping the size of images, with an optional bias and LeakyReLU.

The maths. With U x the images with up - 1 zeros after each pixel, padded by (before, after), along each of the two axes

    out[i] = sum_k taps[k] (U x)[i down + k - before].

The transpose of this map is one of its kind: up and down change places, the taps turn round, and before' = K - 1 - before. So
derivatives of any order are this map again. With the epilogue, y = gain * leaky_relu(resample(x) + b), whose derivative is that of
`bias_leaky_relu` at the residual y.

One pass reads each input pixel from memory once and writes each output pixel once; neither the zeros nor a padded copy exist. With
up = 2 only the taps that meet a pixel are visited.

References:
  Zhang, Making Convolutional Networks Shift-Invariant Again, 2019; Karras et al., Analyzing and Improving the Image Quality of
  StyleGAN, 2020.
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.interpreters import ad

from jaxgan.kernels.bias_leaky_relu import gate_p, push_p
from jaxgan.kernels.launch import (
    call,
    cdiv,
    check_positive,
    floating,
    jit,
    power_of_two,
    resolve,
    tl,
    wide,
)
from jaxgan.kernels.primitive import Zero, define, dense, transpose, zero_like

Pads = tuple[tuple[int, int], tuple[int, int]]


# ------------------------------------------------------------------------------------- the reference: x [B,H,W,C], b [C]
def _length(n: int, taps: int, up: int, down: int, pad: tuple[int, int]) -> int:
    return (n * up + sum(pad) - taps) // down + 1


def _filtered(
    x: Array, axis: int, taps: tuple[float, ...], up: int, down: int, pad: tuple[int, int]
) -> Array:
    count = _length(x.shape[axis], len(taps), up, down, pad)
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (pad[0], pad[1] + up - 1, up - 1)
    padded = lax.pad(x, jnp.zeros((), x.dtype), config)
    parts = [
        tap * lax.slice_in_dim(padded, k, k + (count - 1) * down + 1, down, axis)
        for k, tap in enumerate(taps)
    ]
    return sum(parts[1:], parts[0])


def _resample(
    x: Array, *, taps: tuple[float, ...], up: int, down: int, pads: Pads, **_: Any
) -> list[Array]:
    if not x.size:
        shape = (_length(n, len(taps), up, down, pad) for n, pad in zip(x.shape[1:3], pads))
        return [jnp.zeros((x.shape[0], *shape, x.shape[3]), x.dtype)]
    rows = _filtered(wide(x), 1, taps, up, down, pads[0])
    return [_filtered(rows, 2, taps, up, down, pads[1]).astype(x.dtype)]


def _resample_act(x: Array, b: Array, *, slope: float, gain: float, **params: Any) -> list[Array]:
    z = _resample(wide(x), **params)[0] + wide(b)
    return [jnp.where(z > 0, z * gain, z * (slope * gain)).astype(x.dtype)]


# ------------------------------------------------------------------------------------------------------------------ the kernel
@jit
def resample_kernel(
    x_ptr, taps_ptr, b_ptr, y_ptr, IMAGES: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    OUT_H: tl.constexpr, OUT_W: tl.constexpr, LANE: tl.constexpr, K: tl.constexpr, UP: tl.constexpr, DOWN: tl.constexpr,
    TOP: tl.constexpr, LEFT: tl.constexpr, ACT: tl.constexpr, slope: tl.constexpr, gain: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """ROWS output pixels of COLUMNS channels. LANE: output pixels to one bias vector. Without ACT nothing is read from b."""
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    if IMAGES * C * (H * W + OUT_H * OUT_W) > 2**30:
        pixel = pixel.to(tl.int64)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    exists = pixel < IMAGES * OUT_H * OUT_W
    image = pixel // (OUT_H * OUT_W)
    # The first tap at or after which a pixel, not an inserted zero, lies under the filter; then every UP-th.
    y0 = (pixel // OUT_W) % OUT_H * DOWN - TOP
    x0 = pixel % OUT_W * DOWN - LEFT
    y_first = (y0 % UP + UP) % UP * (UP - 1)
    x_first = (x0 % UP + UP) % UP * (UP - 1)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for j in tl.static_range((K + UP - 1) // UP):
        y_tap = y_first + j * UP
        row = (y0 + y_tap) // UP
        row_exists = exists & (y0 + y_tap >= 0) & (row < H) & (y_tap < K)
        of_row = tl.zeros((ROWS, COLUMNS), tl.float32)
        for i in tl.static_range((K + UP - 1) // UP):
            x_tap = x_first + i * UP
            column = (x0 + x_tap) // UP
            inside = row_exists & (x0 + x_tap >= 0) & (column < W) & (x_tap < K)
            at = ((image * H + row) * W + column) * C
            x = tl.load(
                x_ptr + at[:, None] + channel[None, :],
                mask=inside[:, None] & (channel < C)[None, :],
                other=0.0,
            )
            of_row += (
                x.to(tl.float32) * tl.load(taps_ptr + x_tap, mask=x_tap < K, other=0.0)[:, None]
            )
        total += of_row * tl.load(taps_ptr + y_tap, mask=y_tap < K, other=0.0)[:, None]
    stored = exists[:, None] & (channel < C)[None, :]
    if ACT:
        b = tl.load(
            b_ptr + (pixel // LANE * C)[:, None] + channel[None, :], mask=stored, other=0.0
        ).to(tl.float32)
        total += b
        total = tl.where(total > 0, total * gain, total * (slope * gain))
    tl.store(
        y_ptr + (pixel * C)[:, None] + channel[None, :],
        total.to(y_ptr.dtype.element_ty),
        mask=stored,
    )


_TILE = 1024  # elements of a tile: 8 for each of 128 threads


def _launch(
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
    out_h, out_w = (_length(n, len(taps), up, down, pad) for n, pad in zip((h, w), pads))
    columns = min(power_of_two(c), 128)
    rows = _TILE // columns
    weights = jnp.asarray(taps, jnp.float32)
    return call(
        resample_kernel,
        (x, weights, b[0] if b else weights),
        (jax.ShapeDtypeStruct((lanes, batch, out_h, out_w, c), x.dtype),),
        (cdiv(lanes * batch * out_h * out_w, rows), cdiv(c, columns)),
        IMAGES=lanes * batch, H=h, W=w, C=c, OUT_H=out_h, OUT_W=out_w, LANE=batch * out_h * out_w, K=len(taps), UP=up, DOWN=down,
        TOP=pads[0][0], LEFT=pads[1][0], ACT=bool(b), slope=slope, gain=gain, ROWS=rows, COLUMNS=columns,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------- differentiation rules
_resample_p = define("resample", _resample, _launch, linear=(0,), operation="blur_resample")
_resample_act_p = define("resample_act", _resample_act, _launch, operation="blur_resample")


def _transpose(
    cotangents: Any,
    x: Any,
    *,
    taps: tuple[float, ...],
    up: int,
    down: int,
    pads: Pads,
    **params: Any,
) -> Any:
    def turned(n: int, pad: tuple[int, int]) -> tuple[int, int]:
        before = len(taps) - 1 - pad[0]
        # What is left over at the end: the transposed map must give back exactly n pixels.
        return before, (n - 1) * up + len(taps) - _length(
            n, len(taps), up, down, pad
        ) * down - before

    pads = turned(x.aval.shape[2], pads[0]), turned(x.aval.shape[3], pads[1])
    return _resample_p.bind(cotangents[0], taps=taps[::-1], up=down, down=up, pads=pads, **params)


transpose(_resample_p, _transpose)


def _derivative_of_act(
    primals: Any, tangents: Any, *, slope: float, gain: float, **params: Any
) -> tuple[Any, Any]:
    (y,) = _resample_act_p.bind(*primals, slope=slope, gain=gain, **params)
    dx, db = tangents
    if type(dx) is Zero and type(db) is Zero:
        return [y], [zero_like(y)]
    (moved,) = _resample_p.bind(dense(dx), **params)
    options = dict(slope=slope, gain=gain, implementation=params["implementation"])
    if type(db) is Zero:
        (moved,) = gate_p.bind(moved, y, **options)
    else:
        (moved,) = push_p.bind(moved, dense(db).astype(wide(y).dtype), y, **options)
    return [y], [moved]


ad.primitive_jvps[_resample_act_p] = _derivative_of_act


# ------------------------------------------------------------------------------------------------------------- public function
def blur_resample(
    x: Array,
    taps: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0),
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] | None = None,
    bias: Array | None = None,
    slope: float | None = None,
    gain: float = 1.0,
    implementation: str | None = None,
) -> Array:
    """Blurred images of `up` times or one `down`-th of the size; with `slope`, gain * leaky_relu(.. + bias) of them.

    Args:
      x: [B,H,W,C], float32, bfloat16 or float16; computed in float32 and rounded once.
      taps: 1 to 8 numbers, the filter along each axis; scaled to the sum `up`, so that a constant image keeps its value away from
        the edges, where zeros stand outside the image.
      up, down: 1 or 2, not both 2.
      padding: zeros before and after along each axis, in pixels of the larger image; negative ones cut. None for those which give
        H * up // down pixels, centred.
      bias: [C], or None for none.
      slope: of the LeakyReLU's negative side, greater than 0; None for no LeakyReLU, and then no bias and no gain.
      gain: greater than 0.
      implementation: None, "xla" or "triton"; see `jaxgan.kernels.launch`.

    Returns:
      [B,h,w,C] of x's dtype, h = (H * up + sum(padding) - len(taps)) // down + 1.

    Raises:
      ValueError: for arguments out of these bounds, images smaller than the filter, or an implementation that cannot run.
    """
    x, bias = floating("x", x), None if bias is None else jnp.asarray(bias)
    if x.ndim != 4 or (bias is not None and bias.shape != x.shape[-1:]):
        raise ValueError(
            f"x is {x.shape} and bias {None if bias is None else bias.shape}; use x [B,H,W,C] and bias [C]"
        )
    if (up, down) not in ((1, 1), (2, 1), (1, 2)):
        raise ValueError(f"up={up} and down={down}: use one of (1, 1), (2, 1) and (1, 2)")
    taps = tuple(float(t) for t in taps)
    # A sum that is rounding only counts as 0, and NaN is not greater than anything.
    if not 1 <= len(taps) <= 8 or not abs(sum(taps)) > 1e-6 * sum(map(abs, taps)):
        raise ValueError(
            f"taps has {len(taps)} numbers of sum {sum(taps)}; use 1 to 8 whose sum is not 0"
        )
    if slope is None and (bias is not None or gain != 1.0):
        raise ValueError(f"bias and gain={gain} belong to the LeakyReLU; give its slope too")
    if slope is not None:
        check_positive(slope, gain)
    if padding is None:
        spare = len(taps) - down
        padding = (spare + 1) // 2, spare // 2
    try:
        before, after = map(operator.index, padding)
    except (TypeError, ValueError):
        raise ValueError(
            f"padding={padding} is not a pair of whole numbers; use (before, after)"
        ) from None
    padding = before, after
    lengths = [_length(n, len(taps), up, down, padding) for n in x.shape[1:3]]
    if min(lengths) < 1:
        raise ValueError(
            f"images of {x.shape[1:3]} pixels padded by {padding} are smaller than {len(taps)} taps; use more padding"
        )
    params: dict[str, Any] = dict(
        up=up, down=down, pads=(padding, padding), implementation=resolve(implementation)
    )
    params["taps"] = tuple(t * up / sum(taps) for t in taps)
    if slope is None:
        return _resample_p.bind(x[None], **params)[0][0]
    b = jnp.zeros(x.shape[-1:], jnp.float32) if bias is None else bias
    return _resample_act_p.bind(x[None], b[None], slope=float(slope), gain=float(gain), **params)[
        0
    ][0]
