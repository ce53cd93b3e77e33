"""Bias, LeakyReLU and gain in one pass, with the output as the only residual.

The maths. y = gain * leaky_relu(x + b), with slope > 0 and gain > 0, so that y > 0 exactly where x + b > 0: the backward pass
needs y and neither x nor b. (Where y underflows to 0, as float16 does below 6e-8, the slope is taken for the negative one.)
Let s(r) = gain where r > 0, gain * slope elsewhere. Four maps, per element and channel c:

    act(x, b)       y  = s(x + b) * (x + b)
    gate(g; r)      g' = s(r) * g                          linear in g, its own transpose
    push(u, c; r)   u' = s(r) * (u + c)                    linear in (u, c); the transpose of `pull`
    pull(g; r)      (s(r) * g, sum over rows of s(r) * g)  linear in g; the backward pass and the bias gradient at once

The derivative of `act` is push(dx, db; y), or gate(dx; y) where the bias is not differentiated. The derivatives of the other
three in g are themselves; in r they are zero. So derivatives of any order are these four maps again.

At x + b = 0 the derivative is taken from the left: s(0) = gain * slope. (`jax.nn.leaky_relu` takes it from the right.)

Sums are in float32, in a fixed order, without atomics: two runs give the same bits.
"""

import functools
import math
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.interpreters import ad

from jaxgan.kernels.column_tiles import ColumnTiles, elements_of_tile, store_sums
from jaxgan.kernels.launch import call, cdiv, check_positive, floating, jit, like, resolve, tl, wide
from jaxgan.kernels.primitive import Zero, define, dense, transpose, zero_like


# ------------------------------------------------------------------------------- the reference: x, g, r, u [..., C]; b, c [C]
def _gated(z: Array, r: Array, slope: float, gain: float) -> Array:
    return jnp.where(r > 0, z * gain, z * (slope * gain))


def _gate(g: Array, r: Array, *, slope: float, gain: float, **_: Any) -> list[Array]:
    return [_gated(wide(g), r, slope, gain).astype(g.dtype)]


def _act(x: Array, *b: Array, slope: float, gain: float, **_: Any) -> list[Array]:
    z = wide(x)
    if b:
        z = z + wide(b[0])
    return [_gated(z, z, slope, gain).astype(x.dtype)]


def _push(u: Array, c: Array, r: Array, *, slope: float, gain: float, **_: Any) -> list[Array]:
    return [_gated(wide(u) + c, r, slope, gain).astype(u.dtype)]


def _pull(g: Array, r: Array, *, slope: float, gain: float, **_: Any) -> list[Array]:
    d = _gated(wide(g), r, slope, gain)
    return [d.astype(g.dtype), jnp.sum(d, axis=range(d.ndim - 1))]


# ----------------------------------------------------------------------------------------------------------------- the kernels
@jit
def offsets(n: tl.constexpr, BLOCK: tl.constexpr):
    """The elements of this program, as 64-bit numbers where there are too many for 32."""
    program = tl.program_id(0)
    if n > 2**31 - BLOCK:
        program = program.to(tl.int64)
    return program * BLOCK + tl.arange(0, BLOCK)


@jit
def gate_kernel(
    g_ptr,
    r_ptr,
    out_ptr,
    n: tl.constexpr,
    slope: tl.constexpr,
    gain: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = offsets(n, BLOCK)
    inside = at < n
    g = tl.load(g_ptr + at, mask=inside, other=0.0).to(tl.float32)
    r = tl.load(r_ptr + at, mask=inside, other=0.0).to(tl.float32)
    out = tl.where(r > 0, g * gain, g * (slope * gain))
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=inside)


@jit
def act_kernel(
    x_ptr, y_ptr, n: tl.constexpr, slope: tl.constexpr, gain: tl.constexpr, BLOCK: tl.constexpr
):
    at = offsets(n, BLOCK)
    inside = at < n
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    y = tl.where(x > 0, x * gain, x * (slope * gain))
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@jit
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
    at = offsets(n, BLOCK)
    inside = at < n
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    lane = at // (R * C)
    b = tl.load(b_ptr + lane * C + at % C, mask=inside, other=0.0).to(tl.float32)
    z = x + b
    y = tl.where(z > 0, z * gain, z * (slope * gain))
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@jit
def pull_kernel(
    g_ptr, r_ptr, d_ptr, partial_ptr, n: tl.constexpr, slope: tl.constexpr, gain: tl.constexpr,
    W: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PROGRAMS: tl.constexpr, TURNS: tl.constexpr,
):  # fmt: skip
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for turn in range(TURNS):
        at, inside = elements_of_tile(turn, n, W, ROWS, COLUMNS, PROGRAMS)
        g = tl.load(g_ptr + at, mask=inside, other=0.0).to(tl.float32)
        r = tl.load(r_ptr + at, mask=inside, other=0.0).to(tl.float32)
        d = tl.where(r > 0, g * gain, g * (slope * gain))
        tl.store(d_ptr + at, d.to(d_ptr.dtype.element_ty), mask=inside)
        total += d
    store_sums(partial_ptr, total, W, COLUMNS, PROGRAMS)


BLOCK = 1024


def _launch_gate(g: Array, r: Array, *, slope: float, gain: float, **_: Any) -> list[Array]:
    constants = dict(n=g.size, slope=slope, gain=gain, BLOCK=BLOCK)
    return call(gate_kernel, (g, r), (like(g),), (cdiv(g.size, BLOCK),), **constants)


def _launch_act(x: Array, *b: Array, slope: float, gain: float, **_: Any) -> list[Array]:
    constants = dict(n=x.size, slope=slope, gain=gain, BLOCK=BLOCK)
    if not b:
        return call(act_kernel, (x,), (like(x),), (cdiv(x.size, BLOCK),), **constants)
    return call(
        bias_act_kernel,
        (x, *b),
        (like(x),),
        (cdiv(x.size, BLOCK),),
        R=math.prod(x.shape[1:-1]),
        C=x.shape[-1],
        **constants,
    )


def _launch_pull(g: Array, r: Array, *, slope: float, gain: float, **_: Any) -> list[Array]:
    tiles = ColumnTiles.of(g.shape)
    d, partial = call(
        pull_kernel,
        (g, r),
        (like(g), tiles.partial()),
        tiles.grid,
        slope=slope,
        gain=gain,
        **tiles.constants,
    )
    return [d, tiles.summed(partial)]


# ------------------------------------------------------------------------------------------------------- differentiation rules
_define = functools.partial(define, operation="bias_leaky_relu")
gate_p = _define("gate", _gate, _launch_gate, linear=(0,), constant=(1,))
act_p = _define("bias_leaky_relu", _act, _launch_act)
push_p = _define("push", _push, linear=(0, 1), constant=(2,))
pull_p = _define("pull", _pull, _launch_pull, linear=(0,), constant=(1,))


def _derivative_of_act(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    (y,) = act_p.bind(*primals, **params)
    dx, *db = tangents
    if all(type(t) is Zero for t in tangents):
        return [y], [zero_like(y)]
    if not db or type(db[0]) is Zero:
        return [y], gate_p.bind(dx, y, **params)
    return [y], push_p.bind(dense(dx), dense(db[0]).astype(wide(y).dtype), y, **params)


def _transpose_of_pull(cotangents: Any, g: Any, r: Array, **params: Any) -> Any:
    of_elements, of_sums = cotangents
    if type(of_sums) is Zero:
        return gate_p.bind(of_elements, r, **params)[0], None
    return push_p.bind(dense(of_elements), of_sums, r, **params)[0], None


def _transpose_of_push(cotangents: Any, u: Any, c: Any, r: Array, **params: Any) -> Any:
    if not ad.is_undefined_primal(c):
        return gate_p.bind(cotangents[0], r, **params)[0], None, None
    return *pull_p.bind(cotangents[0], r, **params), None


ad.primitive_jvps[act_p] = _derivative_of_act
transpose(
    gate_p, lambda cotangents, g, r, **params: (gate_p.bind(cotangents[0], r, **params)[0], None)
)
transpose(push_p, _transpose_of_push)
transpose(pull_p, _transpose_of_pull)


# ------------------------------------------------------------------------------------------------------------ public functions
def bias_leaky_relu(
    x: Array,
    bias: Array | None = None,
    slope: float = 0.2,
    gain: float = 1.0,
    implementation: str | None = None,
) -> Array:
    """gain * leaky_relu(x + bias), differentiable to any order.

    Args:
      x: [..., C], float32, bfloat16 or float16; computed in float32 and rounded once.
      bias: [C], or None for none.
      slope: of the negative side, greater than 0.
      gain: greater than 0; sqrt(2) keeps the variance of zero-mean numbers at about 1.
      implementation: None, "xla" or "triton"; see `jaxgan.kernels.launch`.

    Returns:
      Of x's shape and dtype. Only the result is kept for the backward pass.

    Raises:
      ValueError: for a slope or gain that is not positive, shapes that do not fit, or an implementation that cannot run.

    References:
      Maas, Hannun and Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013; Karras et al., Analyzing and
      Improving the Image Quality of StyleGAN, 2020, for the output as residual.
    """
    x, bias = floating("x", x), None if bias is None else jnp.asarray(bias)
    check_positive(slope, gain)
    if bias is not None and (not x.ndim or bias.shape != x.shape[-1:]):
        raise ValueError(f"x is {x.shape} and bias {bias.shape}; use x [..., C] and bias [C]")
    operands = (x[None], *([] if bias is None else [bias[None]]))
    (y,) = act_p.bind(
        *operands, slope=float(slope), gain=float(gain), implementation=resolve(implementation)
    )
    return y[0]


def leaky_relu(
    x: Array, slope: float = 0.2, gain: float = 1.0, implementation: str | None = None
) -> Array:
    """`bias_leaky_relu` without bias."""
    return bias_leaky_relu(x, None, slope, gain, implementation)
