"""Batch normalisation with the batch's own statistics, and LeakyReLU: two passes each way.

The maths. Over N rows (of all replicas), per channel, with means m and v of x and of (x - m)^2,

    h = 1 / sqrt(v + epsilon),    n = (x - m) h,    z = scale n + bias,    y = s(z) z,

with s(z) = gain where z > 0 and gain * slope elsewhere. A movement dx moves y by

    dy = s(z) (scale h (dx - E[dx] - n E[dx n]) + n d_scale + d_bias).

Read from right to left this is the backward pass. With the sums G0 of s(z) g and G1 of s(z) g n,

    d_bias = G0,    d_scale = G1,    dx = scale h (s(z) g - G0 / N - n G1 / N),

one pass over (g, x) for the sums, one over (g, x) for dx: 10 bytes an element in bfloat16. The sign
of z is computed anew from x, so that only x is kept. Four linear maps make this up, two and two
transposes of each other, with the statistics in between:

    distribute(g, a, b)   scale h s(z) g + a + b n
    project(d)            (scale h s(z) d, sum of d, sum of d n)
    reduce(g)             (sum of s(z) g, sum of s(z) g n)
    expand(a, b)          s(z) (a + b n)

    dy = u + expand(d_bias - scale h E0, d_scale - scale h E1),    (u, N E0, N E1) = project(dx),

whose transpose is `reduce`, then `distribute`. `project` and `expand`, which only forward mode and
second order meet, have no kernels of their own; neither have the derivatives in x of the four,
which are those of the references.

References:
  Ioffe and Szegedy, Batch Normalization, 2015.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgan.kernels.arrays import along_channels, check_positive, floating, over_rows, wide
from jaxgan.kernels.launch import in_triton, resolve
from jaxgan.kernels.primitive import define, dense, transpose


# The references: x, g, d [..., C]; h, k, scale, bias, a, b [C], with n = x h + k.
def _moments(x: Array, **_: Any) -> list[Array]:
    x = wide(x)
    return [over_rows(x), over_rows(x * x)]


def _moments_at_once(x: Array, **_: Any) -> list[Array]:
    x = wide(x)
    return _both_over_rows(x, x * x)


def _both_over_rows(x: Array, y: Array) -> list[Array]:
    """The sums over rows of x and y as one reduction: XLA sums many rows in two kernels, which of
    two reductions are three or four. (On a CPU it is ten times slower than two.)"""

    def add(first: Any, second: Any) -> tuple[Array, Array]:
        return first[0] + second[0], first[1] + second[1]

    zero = np.zeros((), x.dtype)
    return list(lax.reduce((x, y), (zero, zero), add, tuple(range(x.ndim - 1))))


def _normal(x: Array, h: Array, k: Array) -> Array:
    return wide(x) * along_channels(h, x) + along_channels(k, x)


def _scaled(n: Array, scale: Array, bias: Array) -> Array:
    return n * along_channels(scale, n) + along_channels(bias, n)


def _factor(n: Array, scale: Array, bias: Array, slope: float, gain: float) -> Array:
    """s(z)."""
    return jnp.where(_scaled(n, scale, bias) > 0, gain, gain * slope).astype(n.dtype)


def _forward(x, h, k, scale, bias, *, slope: float, gain: float, **_: Any) -> list[Array]:
    z = _scaled(_normal(x, h, k), scale, bias)
    return [jnp.where(z > 0, z * gain, z * (gain * slope)).astype(x.dtype)]


def _distribute(g, a, b, x, h, k, scale, bias, *, slope, gain, **_: Any) -> list[Array]:
    n = _normal(x, h, k)
    through = wide(g) * _factor(n, scale, bias, slope, gain) * along_channels(scale * h, x)
    return [(through + along_channels(a, x) + along_channels(b, x) * n).astype(g.dtype)]


def _distribute_apart(g, a, b, x, h, k, scale, bias, *, slope, gain, **_: Any) -> list[Array]:
    # The same products, written otherwise than in `_reduce`: else XLA stores s(z) g for both.
    n, g_wide = _normal(x, h, k), wide(g)
    gated = jnp.where(_scaled(n, scale, bias) > 0, g_wide * gain, g_wide * (gain * slope))
    through = gated * along_channels(scale * h, x)
    return [(through + along_channels(a, x) + along_channels(b, x) * n).astype(g.dtype)]


def _project(d, x, h, k, scale, bias, *, slope, gain, **_: Any) -> list[Array]:
    n, d_wide = _normal(x, h, k), wide(d)
    through = d_wide * _factor(n, scale, bias, slope, gain) * along_channels(scale * h, x)
    return [through.astype(d.dtype), over_rows(d_wide), over_rows(d_wide * n)]


def _reduce(g, x, h, k, scale, bias, *, slope, gain, **_: Any) -> list[Array]:
    n = _normal(x, h, k)
    through = wide(g) * _factor(n, scale, bias, slope, gain)
    return [over_rows(through), over_rows(through * n)]


def _reduce_at_once(g, x, h, k, scale, bias, *, slope, gain, **_: Any) -> list[Array]:
    n = _normal(x, h, k)
    through = wide(g) * _factor(n, scale, bias, slope, gain)
    return _both_over_rows(through, through * n)


def _expand(a, b, x, h, k, scale, bias, *, slope, gain, **_: Any) -> list[Array]:
    n = _normal(x, h, k)
    sums = along_channels(a, x) + along_channels(b, x) * n
    return [(sums * _factor(n, scale, bias, slope, gain)).astype(x.dtype)]


# The rules of differentiation.
_define = functools.partial(define, operation="batch_norm_leaky_relu")
_launch = functools.partial(in_triton, "batch_norm_leaky_relu_triton")
_moments_p = _define("moments", _moments, _launch("launch_moments"), on_gpus=_moments_at_once)
_forward_p = _define("batch_norm_leaky_relu", _forward, _launch("launch_forward"))
_distribute_p = _define(
    "batch_norm_distribute",
    _distribute,
    _launch("launch_distribute"),
    linear=(0, 1, 2),
    on_gpus=_distribute_apart,
)
_project_p = _define("batch_norm_project", _project, linear=(0,))
_reduce_p = _define(
    "batch_norm_reduce",
    _reduce,
    _launch("launch_reduce"),
    linear=(0,),
    on_gpus=_reduce_at_once,
)
_expand_p = _define("batch_norm_expand", _expand, linear=(0, 1))

_NONE = (None,) * 5  # the cotangents of x, h, k, scale and bias, in which no map is linear


def _transpose_of_project(cotangents: Any, d: Any, *others: Array, **params: Any) -> Any:
    return *_distribute_p.bind(*map(dense, cotangents), *others, **params), *_NONE


def _transpose_of_distribute(
    cotangents: Any, g: Any, a: Any, b: Any, *others: Array, **params: Any
) -> Any:
    return *_project_p.bind(cotangents[0], *others, **params), *_NONE


def _transpose_of_expand(cotangents: Any, a: Any, b: Any, *others: Array, **params: Any) -> Any:
    return *_reduce_p.bind(cotangents[0], *others, **params), *_NONE


def _transpose_of_reduce(cotangents: Any, g: Any, *others: Array, **params: Any) -> Any:
    return *_expand_p.bind(*map(dense, cotangents), *others, **params), *_NONE


transpose(_project_p, _transpose_of_project)
transpose(_distribute_p, _transpose_of_distribute)
transpose(_expand_p, _transpose_of_expand)
transpose(_reduce_p, _transpose_of_reduce)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4, 5))
def _normalised(
    x: Array, scale: Array, bias: Array, epsilon: float, axis_name: Any, params: tuple
) -> tuple[Array, Array, Array]:
    """y [1,...,C] and the mean and variance [1,C]."""
    mean, variance = _statistics(x, axis_name, dict(params))
    h = lax.rsqrt(variance + epsilon)
    (y,) = _forward_p.bind(x, h, -mean * h, scale, bias, **dict(params))
    return y, mean, variance


def _statistics(x: Array, axis_name: Any, params: dict[str, Any]) -> tuple[Array, Array]:
    # One pass over x: E[x^2] - E[x]^2, clipped because rounding can take it below 0.
    mean, square = _mean(_moments_p.bind(x, **params), math.prod(x.shape[1:-1]), axis_name)
    return mean, jnp.maximum(square - mean * mean, 0.0)


def _mean(sums: Any, rows: int, axis_name: Any) -> list[Array]:
    means = [s / rows for s in sums]
    return means if axis_name is None else lax.pmean(means, axis_name)


@_normalised.defjvp
def _derivative(epsilon: float, axis_name: Any, params: tuple, primals: Any, tangents: Any) -> Any:
    (x, scale, bias), (dx, d_scale, d_bias), options = primals, tangents, dict(params)
    y, mean, variance = _normalised(x, scale, bias, epsilon, axis_name, params)
    h = lax.rsqrt(variance + epsilon)
    others = (x, h, -mean * h, scale, bias)
    through, *sums = _project_p.bind(dx, *others, **options)
    e0, e1 = _mean(sums, math.prod(x.shape[1:-1]), axis_name)
    a, b = d_bias - scale * h * e0, d_scale - scale * h * e1
    (around,) = _expand_p.bind(a, b, *others, **options)
    return (y, mean, variance), (through + around, e0, 2.0 * e1 / h)  # n = (x - m) h


def _plain(
    x: Array, scale: Array, bias: Array, epsilon: float, slope: float, gain: float, axis_name: Any
) -> tuple[Array, Array, Array]:
    """y [...,C] and the mean and variance [C] by their definition, with two passes over x."""

    def average(values: Array) -> Array:
        mean = jnp.mean(values, tuple(range(x.ndim - 1)))
        return mean if axis_name is None else lax.pmean(mean, axis_name)

    mean = average(wide(x))
    centred = wide(x) - along_channels(mean, x)
    variance = average(centred**2)
    normal = centred * along_channels(lax.rsqrt(variance + epsilon), x)
    y = jax.nn.leaky_relu(_scaled(normal, scale, bias), slope)
    return (y if gain == 1.0 else y * gain).astype(x.dtype), mean, variance


def batch_norm_leaky_relu(
    x: Array,
    scale: Array,
    bias: Array,
    running_mean: Array,
    running_variance: Array,
    *,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    slope: float = 0.2,
    gain: float = 1.0,
    axis_name: Any = None,
    implementation: str | None = None,
) -> tuple[Array, Array, Array]:
    """gain * leaky_relu(scale * (x - mean) / sqrt(variance + epsilon) + bias), in training mode.

    Args:
      x: [..., C], float32, bfloat16 or float16; statistics and the result are computed in float32,
        and rounded once.
      scale, bias: [C] float32.
      running_mean, running_variance: [C] float32, which move towards the batch's by 1 - momentum.
      momentum: of the running statistics; 0 stores the batch's own.
      epsilon: added to the variance.
      slope, gain: of the LeakyReLU, greater than 0; slope 1 makes it batch norm alone.
      axis_name: the mapped axis, of `pmap`, `shard_map(check_vma=False)` or `vmap`, whose replicas
        share the statistics; each replica has the same number of rows.
      implementation: one of `launch.IMPLEMENTATIONS`, or None; see `jaxgan.kernels.launch`.

    Returns:
      (y of x's shape and dtype, the new running mean [C], the new running variance [C]). The
      variance is that of the batch, over N and not N - 1; it is E[x^2] - E[x]^2, which loses digits
      where the mean is hundreds of times the deviation (that of "plain" takes a second pass and
      does not). No gradient flows through the running statistics. An x without rows leaves them as
      they were.

    Raises:
      ValueError: for shapes that do not fit, or an implementation that cannot run.
    """
    x, scale, bias = floating("x", x), jnp.asarray(scale), jnp.asarray(bias)
    running = jnp.asarray(running_mean), jnp.asarray(running_variance)
    names = ("scale", "bias", "running_mean", "running_variance")
    for name, vector in zip(names, (scale, bias, *running)):
        if not x.ndim or vector.shape != x.shape[-1:]:
            raise ValueError(
                f"x is {x.shape} and {name} {vector.shape}; use x [..., C] and {name} [C]"
            )
    check_positive(slope, gain)
    if not 0 <= epsilon < math.inf or not 0 <= momentum <= 1:
        raise ValueError(
            f"epsilon={epsilon} must be at least 0, and momentum={momentum} from 0 to 1"
        )
    if not x.size:
        return x, *running
    chosen = resolve(implementation)
    scale, bias = (v.astype(wide(x).dtype) for v in (scale, bias))
    if chosen == "plain":
        y, *statistics = _plain(x, scale, bias, epsilon, slope, gain, axis_name)
    else:
        params = dict(slope=float(slope), gain=float(gain), implementation=chosen)
        y, *statistics = (
            lane[0]
            for lane in _normalised(
                x[None], scale[None], bias[None], float(epsilon), axis_name, tuple(params.items())
            )
        )
    mean, variance = (
        momentum * old + (1.0 - momentum) * lax.stop_gradient(new)
        for old, new in zip(running, statistics)
    )
    return y, mean, variance
