"""Strided convolution and its transpose, with gradients that stay on the fast paths.

The maths. With stride s, padding p and a k x k kernel, three maps are bilinear and each is a transpose of another:

    convolve(x, w) -> y             [B,H,W,I] x [k,k,I,O] -> [B,h,w,O],  h = (H + 2p - k) // s + 1
    spread(y, w)   -> x             the transpose of `convolve` in x: the transposed convolution
    correlate(x, y) -> w            the transpose of `convolve` in w: the kernel gradient

so the derivatives of each are the other two, at any order. They are JAX primitives of their own, because the automatic
derivative of a transposed convolution convolves zero-dilated images: on a CPU its kernel gradient is ten times slower than
`correlate`; on a GPU it misses cuDNN's backward-data and backward-filter calls.

Each is XLA's convolution, but the 4 x 4, stride 2, padding 1 layers that GANs double and halve images with have other ways, which fold
each 2 x 2 block of pixels into channels. "gemm" gathers 2 x 2 neighbouring blocks, and one matrix product remains: it
serves images of one channel on CPUs; on GPUs it serves a map of one logit, where it becomes one pass over the features instead of a
call that wants them in another layout; and it is the only one that maps over an ensemble without a grouped convolution. "blocks" is a
2 x 2 convolution of stride 1 that makes the blocks of a larger image at once, where XLA:CPU's own transposed convolution would run
over an image that is three quarters zeros: it halves the time of `spread` there.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxgan.kernels.primitive import refuse_varying

_LAYOUT = ("NHWC", "HWIO", "NHWC")


# ---------------------------------------------------------------------------------------------------- with XLA's convolution
def _convolve_xla(x: Array, w: Array, *, stride: int, padding: int, **_: Any) -> Array:
    return lax.conv_general_dilated(
        x, w, (stride, stride), [(padding, padding)] * 2, dimension_numbers=_LAYOUT
    )


def _spread_xla(y: Array, w: Array, *, size: tuple[int, int], **params: Any) -> Array:
    image = jax.ShapeDtypeStruct((y.shape[0], *size, w.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _convolve_xla(x, w, **params), image)(y)[0]


def _correlate_xla(x: Array, y: Array, *, width: int, **params: Any) -> Array:
    kernel = jax.ShapeDtypeStruct((width, width, x.shape[-1], y.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda w: _convolve_xla(x, w, **params), kernel)(y)[0]


# --------------------------------------------------------------------------------------- as one matrix product (4 x 4, stride 2)
def _patches(x: Array) -> Array:
    """[B,H,W,C] -> [B,h,w,16C]: the 4 x 4 neighbourhoods, in the order (block row, block column, row, column, channel)."""
    b, h, w, c = x.shape
    rows, columns = h // 2 + 1, w // 2 + 1
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))[:, : 2 * rows, : 2 * columns]
    blocks = (
        x.reshape(b, rows, 2, columns, 2, c)
        .transpose(0, 1, 3, 2, 4, 5)
        .reshape(b, rows, columns, 4 * c)
    )
    return jnp.concatenate(
        [blocks[:, i : i + rows - 1, j : j + columns - 1] for i in (0, 1) for j in (0, 1)], axis=-1
    )


def _as_blocks(w: Array) -> Array:
    """[4,4,I,O] -> [2,2,4I,O]: (block row, block column, (row, column, channel), output)."""
    i, o = w.shape[2:]
    return w.reshape(2, 2, 2, 2, i, o).transpose(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * i, o)


def _as_matrix(w: Array) -> Array:
    """[4,4,I,O] -> [16I,O], rows in the order of `_patches`."""
    return _as_blocks(w).reshape(-1, w.shape[3])


def _convolve_gemm(x: Array, w: Array, **_: Any) -> Array:
    return _patches(x) @ _as_matrix(w)


def _spread_gemm(y: Array, w: Array, *, size: tuple[int, int], **_: Any) -> Array:
    image = jax.ShapeDtypeStruct((y.shape[0], *size, w.shape[2]), y.dtype)
    return jax.linear_transpose(_patches, image)(y @ _as_matrix(w).T)[0]


def _correlate_gemm(x: Array, y: Array, **_: Any) -> Array:
    # The barrier keeps XLA:CPU from recomputing the gather inside the product.
    patches = lax.optimization_barrier(_patches(x)).reshape(-1, 16 * x.shape[-1])
    i, o = x.shape[-1], y.shape[-1]
    matrix = y.reshape(-1, o).T @ patches  # output channels first, as cuDNN holds kernels
    return matrix.reshape(o, 2, 2, 2, 2, i).transpose(1, 3, 2, 4, 5, 0).reshape(4, 4, i, o)


# ----------------------------------------------------------------------- as a convolution that makes blocks (4 x 4, stride 2)
def _spread_blocks(y: Array, w: Array, *, size: tuple[int, int], **_: Any) -> Array:
    # Block (p, q) of the padded image sums what pixels (p - 1, q - 1) to (p, q) send there.
    kernel = _as_blocks(w)[::-1, ::-1].swapaxes(2, 3)
    blocks = lax.conv_general_dilated(y, kernel, (1, 1), [(1, 1)] * 2, dimension_numbers=_LAYOUT)
    b, rows, columns = blocks.shape[:3]
    x = (
        blocks.reshape(b, rows, columns, 2, -1)
        .transpose(0, 1, 3, 2, 4)
        .reshape(b, 2 * rows, 2 * columns, w.shape[2])
    )
    return x[:, 1 : size[0] + 1, 1 : size[1] + 1]


# ------------------------------------------------------------------------------------------------------- differentiation rules
# Operands carry a leading axis of lanes, the members of an ensemble: x [L,B,H,W,I], w [L,k,k,I,O], y [L,B,h,w,O].
def _lanes(compute, *operands: Array, **params: Any) -> Array:
    if operands[0].shape[0] == 1:
        return compute(*[a[0] for a in operands], **params)[None]
    return jax.vmap(functools.partial(compute, **params))(*operands)


def _define(name: str, xla, gemm, chosen, shape) -> Primitive:
    """A primitive with its shape rule, XLA's convolution for every platform, and for the layers that double a faster way where there
    is one: "gemm" for an ensemble on CPUs, otherwise what chosen[platform](a, b) gives."""
    primitive = Primitive(name)

    def shaped(a, b, **params):
        refuse_varying("convolution", (a, b))
        return ShapedArray(shape(a, b, **params), a.dtype)

    primitive.def_abstract_eval(shaped)

    def lowered(a, b, *, platform, **params):
        way = xla
        if (params["stride"], params["padding"], params["width"]) == (2, 1, 4):
            way = chosen[platform](a, b) if a.shape[0] == 1 else gemm if platform == "cpu" else xla
        return _lanes(way, a, b, **params)

    @functools.cache
    def compiled(params):
        return jax.jit(lambda a, b: primitive.bind(a, b, **dict(params)))

    def impl(a, b, **params):
        with jax.disable_jit(
            False
        ):  # within disable_jit the compiled function would come back here
            return compiled(tuple(sorted(params.items())))(a, b)

    primitive.def_impl(impl)
    mlir.register_lowering(
        primitive, mlir.lower_fun(functools.partial(_lanes, xla), multiple_results=False)
    )
    for platform in chosen:
        on_platform = mlir.lower_fun(
            functools.partial(lowered, platform=platform), multiple_results=False
        )
        mlir.register_lowering(primitive, on_platform, platform=platform)
    return primitive


def _convolved(length: int, width: int, stride: int, padding: int) -> int:
    return (length + 2 * padding - width) // stride + 1


def _convolve_shape(x, w, *, width, stride, padding, size):
    return (*x.shape[:2], *(_convolved(n, width, stride, padding) for n in size), w.shape[-1])


# On CPUs as measured on two AVX2 cores with the layers of the MNIST networks, batch 128 and 256; on GPUs as compiled for an H100.
_convolve_p = _define(
    "gan_convolve",
    _convolve_xla,
    _convolve_gemm,
    {
        "cpu": lambda x, w: _convolve_gemm if x.shape[-1] == 1 else _convolve_xla,
        "cuda": lambda x, w: _convolve_gemm if w.shape[-1] == 1 else _convolve_xla,
    },
    _convolve_shape,
)
_spread_p = _define(
    "gan_spread",
    _spread_xla,
    _spread_gemm,
    {
        "cpu": lambda y, w: _spread_gemm if w.shape[3] == 1 else _spread_blocks,
        "cuda": lambda y, w: _spread_gemm if y.shape[-1] == 1 else _spread_xla,
    },
    lambda y, w, *, size, **_: (*y.shape[:2], *size, w.shape[3]),
)
_correlate_p = _define(
    "gan_correlate",
    _correlate_xla,
    _correlate_gemm,
    {
        "cpu": lambda x, y: _correlate_gemm if x.shape[-1] == 1 else _correlate_xla,
        # XLA finds no backward-filter call for maps as small as the kernel, and would transpose whole batches for a dilated convolution.
        "cuda": lambda x, y: (
            _correlate_gemm if y.shape[-1] == 1 or max(y.shape[2:4]) <= 4 else _correlate_xla
        ),
    },
    lambda x, y, *, width, **_: (x.shape[0], width, width, x.shape[-1], y.shape[-1]),
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


def _batch(primitive: Primitive, operands, dims, **params):
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


for _primitive in (_convolve_p, _spread_p, _correlate_p):
    batching.primitive_batchers[_primitive] = functools.partial(_batch, _primitive)


# ------------------------------------------------------------------------------------------------------------ public functions
def convolution(x: Array, kernel: Array, *, stride: int = 2, padding: int = 1) -> Array:
    """A two-dimensional convolution with square kernel and zero padding, differentiable to any order.

    Args:
      x: images [B,H,W,I].
      kernel: [k,k,I,O], of x's dtype.
      stride: step between outputs, in pixels.
      padding: zeros added on each side, in pixels.

    Returns:
      [B,h,w,O] with h = (H + 2 * padding - k) // stride + 1; PyTorch's `Conv2d(I, O, k, stride, padding, bias=False)`.

    Raises:
      ValueError: where the ranks, channels or sizes do not fit.
    """
    _check(x, kernel, 2, "the kernel's third axis", stride, padding)
    size = tuple(x.shape[1:3])
    if min(size) + 2 * padding < kernel.shape[0]:
        raise ValueError(
            f"a {kernel.shape[0]}-pixel kernel does not fit an image of {size} pixels padded by {padding}; use a larger image"
        )
    params = dict(width=kernel.shape[0], stride=stride, padding=padding, size=size)
    return _convolve_p.bind(x[None], kernel[None], **params)[0]


def transposed_convolution(y: Array, kernel: Array, *, stride: int = 2, padding: int = 1) -> Array:
    """The transpose of `convolution` in its images: it makes images larger; differentiable to any order.

    Args:
      y: images [B,h,w,I].
      kernel: [k,k,O,I]: the kernel of the convolution that this transposes, of y's dtype.
      stride: the factor by which images grow.
      padding: pixels cut from each side.

    Returns:
      [B,H,W,O] with H = (h - 1) * stride + k - 2 * padding; PyTorch's `ConvTranspose2d(I, O, k, stride, padding, bias=False)`.

    Raises:
      ValueError: where the ranks, channels or sizes do not fit.
    """
    _check(y, kernel, 3, "the kernel's last axis", stride, padding)
    width = kernel.shape[0]
    size = tuple((n - 1) * stride + width - 2 * padding for n in y.shape[1:3])
    if min(size) < 1:
        raise ValueError(
            f"a transposed convolution of {y.shape[1:3]} pixels with padding {padding} leaves nothing; use less padding"
        )
    params = dict(width=width, stride=stride, padding=padding, size=size)
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
            f"expected images [B,H,W,C] and a kernel [k,k,..], got shapes {images.shape} and {kernel.shape}"
        )
    if images.shape[-1] != kernel.shape[axis]:
        raise ValueError(
            f"images have {images.shape[-1]} channels but {name} is {kernel.shape[axis]}; make them equal"
        )
    if images.dtype != kernel.dtype:
        raise ValueError(
            f"images are {images.dtype} but the kernel is {kernel.dtype}; cast one of them"
        )
