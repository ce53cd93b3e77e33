"""Bias, LeakyReLU and gain in one pass, with the output as the only residual.

The maths. y = gain * leaky_relu(x + b), with slope > 0 and gain > 0, so that y > 0 exactly where
x + b > 0: the backward pass needs y and neither x nor b. (Where y underflows to 0, as float16 does
below 6e-8, the slope is taken for the negative one.) Let s(r) = gain where r > 0, gain * slope
elsewhere. Four maps, per element and channel c:

    act(x, b)       y  = s(x + b) * (x + b)
    gate(g; r)      g' = s(r) * g                          linear in g, its own transpose
    push(u, c; r)   u' = s(r) * (u + c)                    linear in (u, c); transpose of `pull`
    pull(g; r)      (s(r) * g, sum over rows of s(r) * g)  linear in g: the backward pass and the
                                                           bias gradient at once

The derivative of `act` is push(dx, db; y), or gate(dx; y) where the bias is not differentiated. The
derivatives of the other three in g are themselves; in r they are zero. So derivatives of any order
are these four maps again.

At x + b = 0 the derivative is taken from the left: s(0) = gain * slope. (`jax.nn.leaky_relu`, and
so the implementation "plain", takes it from the right.)

Sums are in float32, in a fixed order, without atomics: two runs give the same bits.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.interpreters import ad

from jaxgan.kernels.arrays import along_channels, check_positive, floating, over_rows, wide
from jaxgan.kernels.launch import in_triton, resolve
from jaxgan.kernels.primitive import Zero, define, dense, transpose, zero_like


# The reference: x, g, r, u [..., C]; b, c [C].
def gated(z: Array, r: Array, slope: float, gain: float) -> Array:
    """s(r) * z."""
    return jnp.where(r > 0, z * gain, z * (slope * gain))


def _gate(g: Array, r: Array, *, slope: float, gain: float, **_: Any) -> list[Array]:
    return [gated(wide(g), r, slope, gain).astype(g.dtype)]


def _act(x: Array, *b: Array, slope: float, gain: float, **_: Any) -> list[Array]:
    z = wide(x)
    if b:
        z = z + along_channels(wide(b[0]), z)
    return [gated(z, z, slope, gain).astype(x.dtype)]


def _push(u: Array, c: Array, r: Array, *, slope: float, gain: float, **_: Any) -> list[Array]:
    return [gated(wide(u) + along_channels(c, u), r, slope, gain).astype(u.dtype)]


def _pull(g: Array, r: Array, *, slope: float, gain: float, **_: Any) -> list[Array]:
    d = gated(wide(g), r, slope, gain)
    return [d.astype(g.dtype), over_rows(d)]


# The rules of differentiation.
_define = functools.partial(define, operation="bias_leaky_relu")
_launch = functools.partial(in_triton, "bias_leaky_relu_triton")
gate_p = _define("gate", _gate, _launch("launch_gate"), linear=(0,), constant=(1,))
act_p = _define("bias_leaky_relu", _act, _launch("launch_act"))
push_p = _define("push", _push, linear=(0, 1), constant=(2,))
pull_p = _define("pull", _pull, _launch("launch_pull"), linear=(0,), constant=(1,))


def _derivative_of_act(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    (y,) = act_p.bind(*primals, **params)
    dx, *db = tangents
    if all(type(t) is Zero for t in tangents):
        return [y], [zero_like(y)]
    if not db or type(db[0]) is Zero:
        return [y], gate_p.bind(dx, y, **params)
    return [y], push_p.bind(dense(dx), dense(db[0]).astype(wide(y).dtype), y, **params)


def _transpose_of_gate(cotangents: Any, g: Any, r: Array, **params: Any) -> Any:
    return gate_p.bind(cotangents[0], r, **params)[0], None


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
transpose(gate_p, _transpose_of_gate)
transpose(push_p, _transpose_of_push)
transpose(pull_p, _transpose_of_pull)


def plain_bias_leaky_relu(x: Array, bias: Array | None, slope: float, gain: float) -> Array:
    """The same of jax.nn, computed in x's dtype."""
    z = x if bias is None else x + along_channels(bias.astype(x.dtype), x)
    y = jax.nn.leaky_relu(z, slope)
    return y if gain == 1.0 else y * gain


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
      implementation: one of `launch.IMPLEMENTATIONS`, or None; see `jaxgan.kernels.launch`.

    Returns:
      Of x's shape and dtype. Only the result is kept for the backward pass.

    Raises:
      ValueError: for a slope or gain that is not positive, shapes that do not fit, or an
        implementation that cannot run.

    References:
      Maas, Hannun and Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013;
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, for the output as
      residual.
    """
    x, bias = floating("x", x), None if bias is None else jnp.asarray(bias)
    check_positive(slope, gain)
    if bias is not None and (not x.ndim or bias.shape != x.shape[-1:]):
        raise ValueError(f"x is {x.shape} and bias {bias.shape}; use x [..., C] and bias [C]")
    chosen = resolve(implementation)
    if chosen == "plain":
        return plain_bias_leaky_relu(x, bias, slope, gain)
    operands = (x[None], *([] if bias is None else [bias[None]]))
    params = dict(slope=float(slope), gain=float(gain), implementation=chosen)
    return act_p.bind(*operands, **params)[0][0]


def leaky_relu(
    x: Array, slope: float = 0.2, gain: float = 1.0, implementation: str | None = None
) -> Array:
    """`bias_leaky_relu` without bias."""
    return bias_leaky_relu(x, None, slope, gain, implementation)
