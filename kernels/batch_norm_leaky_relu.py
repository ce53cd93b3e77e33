"""Batch normalisation with the batch's own statistics, and LeakyReLU, in two passes forward and two backward.

The maths. Over N rows (of all replicas), per channel, with means m and v of x and of (x - m)^2,

    h = 1 / sqrt(v + epsilon),    n = (x - m) h,    z = scale n + bias,    y = s(z) z,

with s(z) = gain where z > 0 and gain * slope elsewhere. A movement dx moves y by

    dy = s(z) (scale h (dx - E[dx] - n E[dx n]) + n d_scale + d_bias).

Read from right to left this is the backward pass: with G0 = sum of s(z) g and G1 = sum of s(z) g n,

    d_bias = G0,    d_scale = G1,    dx = scale h (s(z) g - G0 / N - n G1 / N),

one pass over (g, x) for the sums, one over (g, x) for dx: 10 bytes an element in bfloat16. The sign of z is computed anew from x,
so that only x is kept. Four linear maps make this up, two and two transposes of each other, with the statistics in between:

    spread(g, a, b)   scale h s(z) g + a + b n              project(d)     (scale h s(z) d, sum of d, sum of d n)
    reduce(g)         (sum of s(z) g, sum of s(z) g n)      expand(a, b)   s(z) (a + b n)

    dy = u + expand(d_bias - scale h E0, d_scale - scale h E1),    (u, N E0, N E1) = project(dx),

whose transpose is `reduce`, then `spread`. `project` and `expand`, which only forward mode and second order meet, have no kernels
of their own; neither have the derivatives in x of the four, which are those of the references.

References:
  Ioffe and Szegedy, Batch Normalization, 2015.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgan.kernels.column_tiles import (
    ColumnTiles,
    columns_of_program,
    elements_of_tile,
    store_sums,
)
from jaxgan.kernels.launch import call, check_positive, floating, jit, like, resolve, tl, wide
from jaxgan.kernels.primitive import define, dense, transpose


# -------------------------------------- the references: x, g, d [..., C]; h, k, scale, bias, a, b [C], with n = x h + k
def _moments(x: Array, **_: Any) -> list[Array]:
    x = wide(x)
    return [_over_rows(x), _over_rows(x * x)]


def _over_rows(x: Array) -> Array:
    return jnp.sum(x, axis=range(x.ndim - 1))


def _normal(x: Array, h: Array, k: Array) -> Array:
    return wide(x) * h + k


def _factor(n: Array, scale: Array, bias: Array, slope: float, gain: float) -> Array:
    return jnp.where(n * scale + bias > 0, gain, gain * slope).astype(n.dtype)


def _forward(
    x: Array, h: Array, k: Array, scale: Array, bias: Array, *, slope: float, gain: float, **_: Any
) -> list[Array]:
    z = _normal(x, h, k) * scale + bias
    return [jnp.where(z > 0, z * gain, z * (gain * slope)).astype(x.dtype)]


def _spread(g, a, b, x, h, k, scale, bias, *, slope, gain, **_: Any) -> list[Array]:
    n = _normal(x, h, k)
    through = wide(g) * _factor(n, scale, bias, slope, gain) * (scale * h)
    return [(through + a + b * n).astype(g.dtype)]


def _project(d, x, h, k, scale, bias, *, slope, gain, **_: Any) -> list[Array]:
    n, d_wide = _normal(x, h, k), wide(d)
    through = d_wide * _factor(n, scale, bias, slope, gain) * (scale * h)
    return [through.astype(d.dtype), _over_rows(d_wide), _over_rows(d_wide * n)]


def _reduce(g, x, h, k, scale, bias, *, slope, gain, **_: Any) -> list[Array]:
    n = _normal(x, h, k)
    through = wide(g) * _factor(n, scale, bias, slope, gain)
    return [_over_rows(through), _over_rows(through * n)]


def _expand(a, b, x, h, k, scale, bias, *, slope, gain, **_: Any) -> list[Array]:
    n = _normal(x, h, k)
    return [((a + b * n) * _factor(n, scale, bias, slope, gain)).astype(x.dtype)]


# ------------------------------------------------------------ the kernels: every one walks tiles as `column_tiles` says
@jit
def _channels(v_ptr, C: tl.constexpr, W: tl.constexpr, COLUMNS: tl.constexpr):
    """The values of a tile's columns in a vector [lanes, C], as [1, COLUMNS]."""
    return tl.load(v_ptr + tl.program_id(2) * C + columns_of_program(W, COLUMNS) % C).to(
        tl.float32
    )[None, :]


@jit
def _four(
    h_ptr, k_ptr, scale_ptr, bias_ptr, C: tl.constexpr, W: tl.constexpr, COLUMNS: tl.constexpr
):
    """h, k, scale and bias of a tile's columns."""
    h, k = _channels(h_ptr, C, W, COLUMNS), _channels(k_ptr, C, W, COLUMNS)
    return h, k, _channels(scale_ptr, C, W, COLUMNS), _channels(bias_ptr, C, W, COLUMNS)


@jit
def moments_kernel(
    x_ptr, sum_ptr, square_ptr, n: tl.constexpr,
    W: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PROGRAMS: tl.constexpr, TURNS: tl.constexpr,
):  # fmt: skip
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    squares = tl.zeros((ROWS, COLUMNS), tl.float32)
    for turn in range(TURNS):
        at, inside = elements_of_tile(turn, n, W, ROWS, COLUMNS, PROGRAMS)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        total += x
        squares += x * x
    store_sums(sum_ptr, total, W, COLUMNS, PROGRAMS)
    store_sums(square_ptr, squares, W, COLUMNS, PROGRAMS)


@jit
def forward_kernel(
    x_ptr, h_ptr, k_ptr, scale_ptr, bias_ptr, y_ptr, slope: tl.constexpr, gain: tl.constexpr, C: tl.constexpr, n: tl.constexpr,
    W: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PROGRAMS: tl.constexpr, TURNS: tl.constexpr,
):  # fmt: skip
    h, k, scale, bias = _four(h_ptr, k_ptr, scale_ptr, bias_ptr, C, W, COLUMNS)
    for turn in range(TURNS):
        at, inside = elements_of_tile(turn, n, W, ROWS, COLUMNS, PROGRAMS)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        z = (x * h + k) * scale + bias
        y = tl.where(z > 0, z * gain, z * (gain * slope))
        tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@jit
def reduce_kernel(
    g_ptr, x_ptr, h_ptr, k_ptr, scale_ptr, bias_ptr, sum_ptr, product_ptr,
    slope: tl.constexpr, gain: tl.constexpr, C: tl.constexpr, n: tl.constexpr,
    W: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PROGRAMS: tl.constexpr, TURNS: tl.constexpr,
):  # fmt: skip
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


@jit
def spread_kernel(
    g_ptr, a_ptr, b_ptr, x_ptr, h_ptr, k_ptr, scale_ptr, bias_ptr, out_ptr,
    slope: tl.constexpr, gain: tl.constexpr, C: tl.constexpr, n: tl.constexpr,
    W: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PROGRAMS: tl.constexpr, TURNS: tl.constexpr,
):  # fmt: skip
    h, k, scale, bias = _four(h_ptr, k_ptr, scale_ptr, bias_ptr, C, W, COLUMNS)
    a, b = _channels(a_ptr, C, W, COLUMNS), _channels(b_ptr, C, W, COLUMNS)
    for turn in range(TURNS):
        at, inside = elements_of_tile(turn, n, W, ROWS, COLUMNS, PROGRAMS)
        g = tl.load(g_ptr + at, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        normal = x * h + k
        g = tl.where(normal * scale + bias > 0, g * gain, g * (gain * slope))
        tl.store(
            out_ptr + at,
            (g * (scale * h) + a + b * normal).to(out_ptr.dtype.element_ty),
            mask=inside,
        )


_OF_BACKWARD = (
    5  # programs on a multiprocessor: those of the backward pass take up to 95 registers a thread
)


def _launch_sums(
    kernel: Any, x: Array, operands: tuple[Array, ...], at_once: int = 8, **constants: Any
) -> list[Array]:
    tiles = ColumnTiles.of(x.shape, at_once)
    partials = call(
        kernel,
        operands,
        (tiles.partial(), tiles.partial()),
        tiles.grid,
        **tiles.constants,
        **constants,
    )
    return [tiles.summed(p) for p in partials]


def _launchelements_of_tile(
    kernel: Any,
    x: Array,
    operands: tuple[Array, ...],
    at_once: int = 8,
    *,
    slope: float,
    gain: float,
) -> list[Array]:
    tiles = ColumnTiles.of(x.shape, at_once)
    return call(
        kernel,
        operands,
        (like(x),),
        tiles.grid,
        slope=slope,
        gain=gain,
        C=x.shape[-1],
        **tiles.constants,
    )


def _launch_moments(x: Array, **_: Any) -> list[Array]:
    return _launch_sums(moments_kernel, x, (x,))


def _launch_forward(x: Array, *channels: Array, slope: float, gain: float, **_: Any) -> list[Array]:
    return _launchelements_of_tile(forward_kernel, x, (x, *channels), slope=slope, gain=gain)


def _launch_reduce(
    g: Array, x: Array, *channels: Array, slope: float, gain: float, **_: Any
) -> list[Array]:
    return _launch_sums(
        reduce_kernel, x, (g, x, *channels), _OF_BACKWARD, slope=slope, gain=gain, C=x.shape[-1]
    )


def _launch_spread(
    g: Array, a: Array, b: Array, x: Array, *channels: Array, slope: float, gain: float, **_: Any
) -> list[Array]:
    return _launchelements_of_tile(
        spread_kernel, x, (g, a, b, x, *channels), _OF_BACKWARD, slope=slope, gain=gain
    )


# ------------------------------------------------------------------------------------------------------- differentiation rules
_define = functools.partial(define, operation="batch_norm_leaky_relu")
_moments_p = _define("moments", _moments, _launch_moments)
_forward_p = _define("batch_norm_leaky_relu", _forward, _launch_forward)
_spread_p = _define("batch_norm_spread", _spread, _launch_spread, linear=(0, 1, 2))
_project_p = _define("batch_norm_project", _project, linear=(0,))
_reduce_p = _define("batch_norm_reduce", _reduce, _launch_reduce, linear=(0,))
_expand_p = _define("batch_norm_expand", _expand, linear=(0, 1))

_NONE = (None,) * 5  # the cotangents of x, h, k, scale and bias, in which no map is linear


def _transpose_of_project(cotangents: Any, d: Any, *others: Array, **params: Any) -> Any:
    through, *sums = map(dense, cotangents)
    return *_spread_p.bind(through, *sums, *others, **params), *_NONE


transpose(_project_p, _transpose_of_project)
transpose(
    _spread_p,
    lambda cotangents, g, a, b, *others, **params: (
        *_project_p.bind(cotangents[0], *others, **params),
        *_NONE,
    ),
)
transpose(
    _expand_p,
    lambda cotangents, a, b, *others, **params: (
        *_reduce_p.bind(cotangents[0], *others, **params),
        *_NONE,
    ),
)
transpose(
    _reduce_p,
    lambda cotangents, g, *others, **params: (
        *_expand_p.bind(*map(dense, cotangents), *others, **params),
        *_NONE,
    ),
)


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
    (around,) = _expand_p.bind(
        d_bias - scale * h * e0, d_scale - scale * h * e1, *others, **options
    )
    return (y, mean, variance), (through + around, e0, 2.0 * e1 / h)  # n = (x - m) h


# ------------------------------------------------------------------------------------------------------------- public function
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
    """gain * leaky_relu(scale * (x - mean) / sqrt(variance + epsilon) + bias) with the batch's mean and variance: training mode.

    Args:
      x: [..., C], float32, bfloat16 or float16; statistics and the result are computed in float32, and rounded once.
      scale, bias: [C] float32.
      running_mean, running_variance: [C] float32, which move towards the batch's by 1 - momentum.
      momentum: of the running statistics; 0 stores the batch's own.
      epsilon: added to the variance.
      slope, gain: of the LeakyReLU, greater than 0; slope 1 makes it batch norm alone.
      axis_name: the mapped axis, of `pmap`, `shard_map(check_vma=False)` or `vmap`, whose replicas share the statistics; each
        replica has the same number of rows.
      implementation: None, "xla" or "triton"; see `jaxgan.kernels.launch`.

    Returns:
      (y of x's shape and dtype, the new running mean [C], the new running variance [C]). The variance is that of the batch, over
      N and not N - 1; it is E[x^2] - E[x]^2, which loses digits where the mean is hundreds of times the
      deviation. No gradient flows through the running statistics. An x without rows leaves them as they were.

    Raises:
      ValueError: for shapes that do not fit, or an implementation that cannot run.
    """
    x, scale, bias = floating("x", x), jnp.asarray(scale), jnp.asarray(bias)
    running_mean, running_variance = jnp.asarray(running_mean), jnp.asarray(running_variance)
    vectors = dict(
        scale=scale, bias=bias, running_mean=running_mean, running_variance=running_variance
    )
    for name, vector in vectors.items():
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
        return x, running_mean, running_variance
    params = dict(slope=float(slope), gain=float(gain), implementation=resolve(implementation))
    columns = (v.astype(wide(x).dtype)[None] for v in (scale, bias))
    y, mean, variance = _normalised(
        x[None], *columns, float(epsilon), axis_name, tuple(params.items())
    )
    moved = [
        momentum * old + (1.0 - momentum) * lax.stop_gradient(new[0])
        for old, new in ((running_mean, mean), (running_variance, variance))
    ]
    return y[0], *moved
