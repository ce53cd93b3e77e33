"""Blur with a separable filter while doubling, halving or keeping the size of images.

With an optional bias and LeakyReLU.

The maths. With U x the images with up - 1 zeros after each pixel, padded by (before, after), along
each of the two axes

    out[i] = sum_k taps[k] (U x)[i down + k - before].

The transpose of this map is one of its kind: up and down change places, the taps turn round, and
before' = K - 1 - before. So derivatives of any order are this map again. With the epilogue, y =
gain * leaky_relu(resample(x) + b), whose derivative is that of `bias_leaky_relu` at the residual y.

One pass reads each input pixel from memory once and writes each output pixel once; neither the
zeros nor a padded copy exist. With up = 2 only the taps that meet a pixel are visited.

References:
  Zhang, Making Convolutional Networks Shift-Invariant Again, 2019; Karras et al., Analyzing and
  Improving the Image Quality of StyleGAN, 2020.
"""

import operator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.interpreters import ad

from jaxgan.kernels.arrays import along_channels, check_positive, floating, wide
from jaxgan.kernels.bias_leaky_relu import gate_p, gated, plain_bias_leaky_relu, push_p
from jaxgan.kernels.launch import in_triton, resolve
from jaxgan.kernels.primitive import Zero, define, dense, transpose, zero_like

Pads = tuple[tuple[int, int], tuple[int, int]]


# The reference: x [B,H,W,C], b [C].
def length(n: int, taps: int, up: int, down: int, pad: tuple[int, int]) -> int:
    """How many pixels n become along an axis."""
    return (n * up + sum(pad) - taps) // down + 1


def _filtered(
    x: Array, axis: int, taps: tuple[float, ...], up: int, down: int, pad: tuple[int, int]
) -> Array:
    count = length(x.shape[axis], len(taps), up, down, pad)
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
        shape = (length(n, len(taps), up, down, pad) for n, pad in zip(x.shape[1:3], pads))
        return [jnp.zeros((x.shape[0], *shape, x.shape[3]), x.dtype)]
    rows = _filtered(wide(x), 1, taps, up, down, pads[0])
    return [_filtered(rows, 2, taps, up, down, pads[1]).astype(x.dtype)]


def _resample_act(x: Array, b: Array, *, slope: float, gain: float, **params: Any) -> list[Array]:
    z = _resample(wide(x), **params)[0]
    z = z + along_channels(wide(b), z)
    return [gated(z, z, slope, gain).astype(x.dtype)]


# The rules of differentiation.
_launch = in_triton("blur_resample_triton", "launch_resample")
_resample_p = define("resample", _resample, _launch, operation="blur_resample", linear=(0,))
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
        before, out = len(taps) - 1 - pad[0], length(n, len(taps), up, down, pad)
        # What is left over at the end: the transposed map must give back exactly n pixels.
        return before, (n - 1) * up + len(taps) - out * down - before

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


def _plain(x: Array, *, taps: tuple[float, ...], up: int, down: int, pads: Pads) -> Array:
    """A depthwise convolution of the images with zeros between their pixels, in x's dtype."""
    k, channels = len(taps), x.shape[-1]
    filters = jnp.asarray(np.outer(taps, taps), x.dtype)[:, :, None, None]
    return lax.conv_general_dilated(
        x,
        jnp.broadcast_to(filters, (k, k, 1, channels)),
        window_strides=(down, down),
        padding=[(before, after + up - 1) for before, after in pads],
        lhs_dilation=(up, up),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


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
    """Blurred images of `up` times or one `down`-th of the size.

    With `slope`, gain * leaky_relu(.. + bias) of them.

    Args:
      x: [B,H,W,C], float32, bfloat16 or float16; computed in float32 and rounded once.
      taps: 1 to 8 numbers, the filter along each axis; scaled to the sum `up`, so that a constant
        image keeps its value away from the edges, where zeros stand outside the image.
      up, down: 1 or 2, not both 2.
      padding: zeros before and after along each axis, in pixels of the larger image; negative ones
        cut. None for those which give H * up // down pixels, centred.
      bias: [C], or None for none.
      slope: of the LeakyReLU's negative side, greater than 0; None for no LeakyReLU, and then no
        bias and no gain.
      gain: greater than 0.
      implementation: one of `launch.IMPLEMENTATIONS`, or None; see `jaxgan.kernels.launch`.

    Returns:
      [B,h,w,C] of x's dtype, h = (H * up + sum(padding) - len(taps)) // down + 1.

    Raises:
      ValueError: for arguments out of these bounds, images smaller than the filter, or an
        implementation that cannot run.
    """
    x, bias = floating("x", x), None if bias is None else jnp.asarray(bias)
    if x.ndim != 4 or (bias is not None and bias.shape != x.shape[-1:]):
        given = None if bias is None else bias.shape
        raise ValueError(f"x is {x.shape} and bias {given}; use x [B,H,W,C] and bias [C]")
    if (up, down) not in ((1, 1), (2, 1), (1, 2)):
        raise ValueError(f"up={up} and down={down}: use one of (1, 1), (2, 1) and (1, 2)")
    if slope is None and (bias is not None or gain != 1.0):
        raise ValueError(f"bias and gain={gain} belong to the LeakyReLU; give its slope too")
    if slope is not None:
        check_positive(slope, gain)
    taps = _scaled_to(up, taps)
    pad = _padding(padding, x.shape[1:3], len(taps), up, down)
    chosen = resolve(implementation)
    params: dict[str, Any] = dict(taps=taps, up=up, down=down, pads=(pad, pad))
    if chosen == "plain":
        y = _plain(x, **params)
        return y if slope is None else plain_bias_leaky_relu(y, bias, slope, gain)
    params["implementation"] = chosen
    if slope is None:
        return _resample_p.bind(x[None], **params)[0][0]
    b = jnp.zeros(x.shape[-1:], jnp.float32) if bias is None else bias
    params |= dict(slope=float(slope), gain=float(gain))
    return _resample_act_p.bind(x[None], b[None], **params)[0][0]


def _scaled_to(up: int, taps: tuple[float, ...]) -> tuple[float, ...]:
    """The taps, checked and scaled to the sum `up`."""
    taps = tuple(float(t) for t in taps)
    # A sum that is rounding only counts as 0, and NaN is not greater than anything.
    if not 1 <= len(taps) <= 8 or not abs(sum(taps)) > 1e-6 * sum(map(abs, taps)):
        raise ValueError(
            f"taps has {len(taps)} numbers of sum {sum(taps)}; use 1 to 8 whose sum is not 0"
        )
    return tuple(t * up / sum(taps) for t in taps)


def _padding(padding: Any, size: tuple[int, ...], taps: int, up: int, down: int) -> tuple[int, int]:
    """The padding (before, after), checked to leave at least one pixel."""
    if padding is None:
        spare = taps - down
        padding = (spare + 1) // 2, spare // 2
    try:
        before, after = map(operator.index, padding)
    except (TypeError, ValueError):
        raise ValueError(
            f"padding={padding} is not a pair of whole numbers; use (before, after)"
        ) from None
    if min(length(n, taps, up, down, (before, after)) for n in size) < 1:
        raise ValueError(
            f"images of {size} pixels padded by {(before, after)} are smaller than {taps} taps; "
            "use more padding"
        )
    return before, after
