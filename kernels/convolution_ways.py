"""The ways to compute the three maps of `convolution`, for operands without lanes.

Each is XLA's convolution, but the 4 x 4, stride 2, padding 1 layers that GANs double and halve
images with have other ways, which fold each 2 x 2 block of pixels into channels. "gemm" gathers 2 x
2 neighbouring blocks, and one matrix product remains: it serves images of one channel on CPUs; on
GPUs it serves a map of one logit, where it becomes one pass over the features instead of a call
that wants them in another layout; and it is the only one that maps over an ensemble without a
grouped convolution. "blocks" is a 2 x 2 convolution of stride 1 that makes the blocks of a larger
image at once, where XLA:CPU's own transposed convolution would run over an image that is three
quarters zeros: it halves the time of `spread` there.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")
Compute = Callable[..., Array]  # (a, b, **params) -> the result


# With XLA's convolution.
def convolve_xla(x: Array, w: Array, *, stride: int, padding: int, **_: Any) -> Array:
    return lax.conv_general_dilated(
        x, w, (stride, stride), [(padding, padding)] * 2, dimension_numbers=_LAYOUT
    )


def spread_xla(y: Array, w: Array, *, size: tuple[int, int], **params: Any) -> Array:
    image = jax.ShapeDtypeStruct((y.shape[0], *size, w.shape[2]), y.dtype)

    def of_images(x: Array) -> Array:
        return convolve_xla(x, w, **params)

    return jax.linear_transpose(of_images, image)(y)[0]


def correlate_xla(x: Array, y: Array, *, width: int, **params: Any) -> Array:
    kernel = jax.ShapeDtypeStruct((width, width, x.shape[-1], y.shape[-1]), x.dtype)

    def of_kernel(w: Array) -> Array:
        return convolve_xla(x, w, **params)

    return jax.linear_transpose(of_kernel, kernel)(y)[0]


# As one matrix product: 4 x 4, stride 2.
def _patches(x: Array) -> Array:
    """[B,H,W,C] -> [B,h,w,16C]: the 4 x 4 neighbourhoods.

    The 16C are in the order (block row, block column, row, column, channel).
    """
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


def convolve_gemm(x: Array, w: Array, **_: Any) -> Array:
    return _patches(x) @ _as_matrix(w)


def spread_gemm(y: Array, w: Array, *, size: tuple[int, int], **_: Any) -> Array:
    image = jax.ShapeDtypeStruct((y.shape[0], *size, w.shape[2]), y.dtype)
    return jax.linear_transpose(_patches, image)(y @ _as_matrix(w).T)[0]


def correlate_gemm(x: Array, y: Array, **_: Any) -> Array:
    # The barrier keeps XLA:CPU from recomputing the gather inside the product.
    return _correlated(lax.optimization_barrier(_patches(x)), y)


def correlate_gathered(x: Array, y: Array, **_: Any) -> Array:
    # The barrier keeps XLA:GPU from storing what `convolve_gemm` gathered until it is needed here.
    return _correlated(_patches(lax.optimization_barrier(x)), y)


def _correlated(patches: Array, y: Array) -> Array:
    patches = patches.reshape(-1, patches.shape[-1])
    i, o = patches.shape[-1] // 16, y.shape[-1]
    matrix = y.reshape(-1, o).T @ patches  # output channels first, as cuDNN holds kernels
    return matrix.reshape(o, 2, 2, 2, 2, i).transpose(1, 3, 2, 4, 5, 0).reshape(4, 4, i, o)


# As a convolution that makes blocks: 4 x 4, stride 2.
def spread_blocks(y: Array, w: Array, *, size: tuple[int, int], **_: Any) -> Array:
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


# Which way is fastest for operands with lanes: on CPUs as measured on two AVX2 cores with the
# layers of the MNIST networks, batch 128 and 256; on GPUs as compiled for an H100.
def convolve_on_cpu(x: Array, w: Array) -> Compute:
    return convolve_gemm if x.shape[-1] == 1 else convolve_xla


def convolve_on_gpu(x: Array, w: Array) -> Compute:
    return convolve_gemm if w.shape[-1] == 1 else convolve_xla


def spread_on_cpu(y: Array, w: Array) -> Compute:
    return spread_gemm if w.shape[3] == 1 else spread_blocks


def spread_on_gpu(y: Array, w: Array) -> Compute:
    return spread_gemm if y.shape[-1] == 1 else spread_xla


def correlate_on_cpu(x: Array, y: Array) -> Compute:
    return correlate_gemm if x.shape[-1] == 1 else correlate_xla


def correlate_on_gpu(x: Array, y: Array) -> Compute:
    # XLA finds no backward-filter call for maps as small as the kernel, and would transpose whole
    # batches for a dilated convolution.
    small = y.shape[-1] == 1 or max(y.shape[2:4]) <= 4
    return correlate_gathered if small else correlate_xla
