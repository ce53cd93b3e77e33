"""Strided convolution and its transpose, with gradients that stay on the fast paths.

The maths. With stride s, padding p and a k x k kernel, three maps are bilinear and each is a
transpose of another:

    convolve(x, w) -> y             [B,H,W,I] x [k,k,I,O] -> [B,h,w,O],  h = (H + 2p - k) // s + 1
    spread(y, w)   -> x             the transpose of `convolve` in x: the transposed convolution
    correlate(x, y) -> w            the transpose of `convolve` in w: the kernel gradient

so the derivatives of each are the other two, at any order. They are JAX primitives of their own,
because the automatic derivative of a transposed convolution convolves zero-dilated images: on a CPU
its kernel gradient is ten times slower than `correlate`; on a GPU it misses cuDNN's backward-data
and backward-filter calls.

Which way they are computed, on which platform and for which operands, is in `convolution_ways`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxgan.kernels.convolution_ways import (
    Compute,
    convolve_gemm,
    convolve_on_cpu,
    convolve_on_gpu,
    convolve_xla,
    correlate_gemm,
    correlate_on_cpu,
    correlate_on_gpu,
    correlate_xla,
    spread_gemm,
    spread_on_cpu,
    spread_on_gpu,
    spread_xla,
)
from jaxgan.kernels.launch import resolve
from jaxgan.kernels.primitive import evaluate_compiled, refuse_varying


# The primitives. Operands carry a leading axis of lanes, the members of an ensemble: x [L,B,H,W,I],
# w [L,k,k,I,O], y [L,B,h,w,O].
def _lanes(compute: Compute, *operands: Array, **params: Any) -> Array:
    if operands[0].shape[0] == 1:
        return compute(*[a[0] for a in operands], **params)[None]
    return jax.vmap(functools.partial(compute, **params))(*operands)


def _lowered(
    xla: Compute,
    gemm: Compute,
    choose: Callable[[Any, Any], Compute],
    platform: str,
    a: Array,
    b: Array,
    **params: Any,
) -> Array:
    way = xla
    if (params["stride"], params["padding"], params["width"]) == (2, 1, 4):
        if a.shape[0] == 1:
            way = choose(a, b)
        elif platform == "cpu":
            way = gemm
    return _lanes(way, a, b, **params)


def _define(
    name: str,
    xla: Compute,
    gemm: Compute,
    choice: dict[str, Callable[[Any, Any], Compute]],
    shape: Callable[..., tuple[int, ...]],
) -> Primitive:
    """A primitive with its shape rule and its lowerings.

    XLA's convolution serves every platform. For the layers that double or halve, `choice` of the
    platform gives the way that is fastest there for the operands (a, b); an ensemble on CPUs takes
    "gemm".
    """
    primitive = Primitive(name)

    def shaped(a: Any, b: Any, **params: Any) -> ShapedArray:
        refuse_varying("convolution", (a, b))
        return ShapedArray(shape(a, b, **params), a.dtype)

    primitive.def_abstract_eval(shaped)
    evaluate_compiled(primitive)
    anywhere = functools.partial(_lanes, xla)
    mlir.register_lowering(primitive, mlir.lower_fun(anywhere, multiple_results=False))
    for platform, choose in choice.items():
        there = functools.partial(_lowered, xla, gemm, choose, platform)
        lowering = mlir.lower_fun(there, multiple_results=False)
        mlir.register_lowering(primitive, lowering, platform=platform)
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    return primitive


def _batch(primitive: Primitive, operands: Any, dims: Any, **params: Any) -> tuple[Array, int]:
    """vmap: images alone join the batch; anything else becomes lanes."""
    (a, b), (a_dim, b_dim) = operands, dims
    if b_dim is None and primitive is not _correlate_p:
        a = jnp.moveaxis(a, a_dim, 1)  # [L,N,B,...]
        n, batch = a.shape[1:3]
        out = primitive.bind(a.reshape(a.shape[0], n * batch, *a.shape[3:]), b, **params)
        return out.reshape(out.shape[0], n, batch, *out.shape[2:]), 1
    n = a.shape[a_dim] if a_dim is not None else b.shape[b_dim]
    a = jnp.broadcast_to(a, (n, *a.shape)) if a_dim is None else jnp.moveaxis(a, a_dim, 0)
    b = jnp.broadcast_to(b, (n, *b.shape)) if b_dim is None else jnp.moveaxis(b, b_dim, 0)
    out = primitive.bind(*(t.reshape(n * t.shape[1], *t.shape[2:]) for t in (a, b)), **params)
    return out.reshape(n, out.shape[0] // n, *out.shape[1:]), 0


def _length(n: int, width: int, stride: int, padding: int) -> int:
    return (n + 2 * padding - width) // stride + 1


def _convolve_shape(x, w, *, width, stride, padding, size) -> tuple[int, ...]:
    return (*x.shape[:2], *(_length(n, width, stride, padding) for n in size), w.shape[-1])


def _spread_shape(y, w, *, size, **_: Any) -> tuple[int, ...]:
    return (*y.shape[:2], *size, w.shape[3])


def _correlate_shape(x, y, *, width, **_: Any) -> tuple[int, ...]:
    return (x.shape[0], width, width, x.shape[-1], y.shape[-1])


_convolve_p = _define(
    "gan_convolve",
    convolve_xla,
    convolve_gemm,
    {"cpu": convolve_on_cpu, "cuda": convolve_on_gpu},
    _convolve_shape,
)
_spread_p = _define(
    "gan_spread",
    spread_xla,
    spread_gemm,
    {"cpu": spread_on_cpu, "cuda": spread_on_gpu},
    _spread_shape,
)
_correlate_p = _define(
    "gan_correlate",
    correlate_xla,
    correlate_gemm,
    {"cpu": correlate_on_cpu, "cuda": correlate_on_gpu},
    _correlate_shape,
)

# The transposes of the bilinear maps above, in their first and in their second operand.
ad.defbilinear(
    _convolve_p,
    lambda ct, x, w, **params: _spread_p.bind(ct, w, **params),
    lambda ct, x, w, **params: _correlate_p.bind(x, ct, **params),
)
ad.defbilinear(
    _spread_p,
    lambda ct, y, w, **params: _convolve_p.bind(ct, w, **params),
    lambda ct, y, w, **params: _correlate_p.bind(ct, y, **params),
)
ad.defbilinear(
    _correlate_p,
    lambda ct, x, y, **params: _spread_p.bind(y, ct, **params),
    lambda ct, x, y, **params: _convolve_p.bind(x, ct, **params),
)


def convolution(
    x: Array,
    kernel: Array,
    *,
    stride: int = 2,
    padding: int = 1,
    implementation: str | None = None,
) -> Array:
    """A two-dimensional convolution with square kernel and zero padding.

    Differentiable to any order.

    Args:
      x: images [B,H,W,I].
      kernel: [k,k,I,O], of x's dtype.
      stride: step between outputs, in pixels.
      padding: zeros added on each side, in pixels.
      implementation: "plain" for XLA's convolution with JAX's own derivatives; all others of
        `launch.IMPLEMENTATIONS`, and None as there, for the primitives of this file, which have no
        Triton kernels.

    Returns:
      [B,h,w,O] with h = (H + 2 * padding - k) // stride + 1; PyTorch's
      `Conv2d(I, O, k, stride, padding, bias=False)`.

    Raises:
      ValueError: where the ranks, channels or sizes do not fit.
    """
    _check(x, kernel, 2, "the kernel's third axis", stride, padding)
    size = tuple(x.shape[1:3])
    if min(size) + 2 * padding < kernel.shape[0]:
        raise ValueError(
            f"a {kernel.shape[0]}-pixel kernel does not fit an image of {size} pixels padded by "
            f"{padding}; use a larger image"
        )
    params: dict[str, Any] = dict(width=kernel.shape[0], stride=stride, padding=padding, size=size)
    if resolve(implementation) == "plain":
        return convolve_xla(x, kernel, **params)
    return _convolve_p.bind(x[None], kernel[None], **params)[0]


def transposed_convolution(
    y: Array,
    kernel: Array,
    *,
    stride: int = 2,
    padding: int = 1,
    implementation: str | None = None,
) -> Array:
    """The transpose of `convolution` in its images: it makes images larger.

    Differentiable to any order.

    Args:
      y: images [B,h,w,I].
      kernel: [k,k,O,I]: the kernel of the convolution that this transposes, of y's dtype.
      stride: the factor by which images grow.
      padding: pixels cut from each side.
      implementation: as of `convolution`.

    Returns:
      [B,H,W,O] with H = (h - 1) * stride + k - 2 * padding; PyTorch's
      `ConvTranspose2d(I, O, k, stride, padding, bias=False)`.

    Raises:
      ValueError: where the ranks, channels or sizes do not fit.
    """
    _check(y, kernel, 3, "the kernel's last axis", stride, padding)
    width = kernel.shape[0]
    size = tuple((n - 1) * stride + width - 2 * padding for n in y.shape[1:3])
    if min(size) < 1:
        raise ValueError(
            f"a transposed convolution of {y.shape[1:3]} pixels with padding {padding} leaves "
            "nothing; use less padding"
        )
    params: dict[str, Any] = dict(width=width, stride=stride, padding=padding, size=size)
    if resolve(implementation) == "plain":
        return spread_xla(y, kernel, **params)
    return _spread_p.bind(y[None], kernel[None], **params)[0]


def _check(images: Array, kernel: Array, axis: int, name: str, stride: int, padding: int) -> None:
    if not isinstance(stride, int) or not isinstance(padding, int) or stride < 1 or padding < 0:
        raise ValueError(
            f"stride={stride} and padding={padding} must be whole numbers of at least 1 and 0"
        )
    if (
        images.ndim != 4
        or kernel.ndim != 4
        or kernel.shape[0] != kernel.shape[1]
        or not kernel.shape[0]
    ):
        raise ValueError(
            f"expected images [B,H,W,C] and a kernel [k,k,..], got shapes {images.shape} and "
            f"{kernel.shape}"
        )
    if images.shape[-1] != kernel.shape[axis]:
        raise ValueError(
            f"images have {images.shape[-1]} channels but {name} is {kernel.shape[axis]}; "
            "make them equal"
        )
    if images.dtype != kernel.dtype:
        raise ValueError(
            f"images are {images.dtype} but the kernel is {kernel.dtype}; cast one of them"
        )
