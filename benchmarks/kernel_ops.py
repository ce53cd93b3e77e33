"""What `benchmarks.kernels` times: each operation as JAX users write it, fused, and in PyTorch, with its shapes and its least traffic.

The least traffic counts each operand and result once for every pass that the mathematics needs, by mode: forward, backward (given
what the forward pass kept), and both.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxgan.kernels as kernels
from jaxgan import objectives
from jaxgan.models.layers import plain_norm_act

Shape = tuple[int, ...]
TAPS = (1.0, 3.0, 3.0, 1.0)


class Op(NamedTuple):
    """One operation.

    Attributes:
      natural: the JAX that one writes first, with automatic differentiation.
      fused: of `jaxgan.kernels`, given an implementation: "xla" is the tuned jax.numpy, "triton" the kernels.
      torch: the name of its function in `benchmarks.torch_ops`.
      operands: shapes of the operands for a shape; gradients go to all of them.
      traffic: (shape, bytes an element) -> least bytes of (forward, backward, both).
      shapes: of the first operand, [B,H,W,C].
    """

    natural: Callable[..., Any]
    fused: Callable[[str], Callable[..., Any]]
    torch: str
    operands: Callable[[Shape], list[Shape]]
    traffic: Callable[[Shape, int], tuple[float, ...]]
    shapes: list[Shape]


def _passes(forward: float, backward: float) -> Callable[[Shape, int], tuple[float, ...]]:
    """Passes over the first operand."""
    return lambda shape, size: tuple(
        p * math.prod(shape) * size for p in (forward, backward, forward + backward)
    )


def _resampled(factor: float) -> Callable[[Shape, int], tuple[float, ...]]:
    """`factor` results to an operand; backward reads the gradient and the sign of each result."""
    return lambda shape, size: tuple(
        p * math.prod(shape) * size for p in (1 + factor, 1 + 2 * factor, 2 + 3 * factor)
    )


def _with_channels(shape: Shape) -> list[Shape]:
    return [shape, shape[-1:]]


def _natural_act(x: Any, b: Any) -> Any:
    return jax.nn.leaky_relu(x + b.astype(x.dtype), 0.2)


def _natural_norm(x: Any, scale: Any, bias: Any) -> Any:
    return plain_norm_act(x, scale, bias, bias, bias, momentum=0.9, epsilon=1e-5, axis_name=None)[0]


def _natural_blur(x: Any, b: Any, *, up: int, down: int) -> Any:
    """As ported from PyTorch: a depthwise convolution of the zero-filled images."""
    taps = np.array(TAPS) * up / sum(TAPS)
    filters = jnp.broadcast_to(
        jnp.asarray(np.outer(taps, taps), x.dtype)[:, :, None, None], (4, 4, 1, x.shape[-1])
    )
    spare = len(TAPS) - down
    pads = [((spare + 1) // 2, spare // 2 + up - 1)] * 2
    y = jax.lax.conv_general_dilated(
        x,
        filters,
        (down, down),
        pads,
        lhs_dilation=(up, up),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )
    return _natural_act(y, b)


def _fused_blur(implementation: str, *, up: int, down: int) -> Callable[..., Any]:
    return lambda x, b: kernels.blur_resample(
        x, TAPS, up=up, down=down, bias=b, slope=0.2, implementation=implementation
    )


_DCGAN = [
    (64, 32, 32, 64),
    (64, 16, 16, 128),
    (64, 8, 8, 256),
    (64, 64, 64, 64),
]  # of images of 64 pixels; the last of 128
_STYLEGAN = [(16, 128, 128, 64), (16, 64, 64, 128), (16, 32, 32, 256)]
_LOGITS = [
    (64, 1, 1, 1),
    (64, 30, 30, 1),
    (64, 256, 256, 1),
]  # one an image; PatchGAN of 70 pixels; one a pixel

OPS: dict[str, Op] = {
    "bias_leaky_relu": Op(
        _natural_act,
        lambda implementation: (
            lambda x, b: kernels.bias_leaky_relu(x, b, implementation=implementation)
        ),
        "bias_leaky_relu",
        _with_channels,
        _passes(2, 3),
        [*_DCGAN, *_STYLEGAN, (512, 64, 64, 64)],
    ),
    "sigmoid_bce": Op(
        lambda l, t: objectives.binary_cross_entropy(l, t),
        lambda implementation: (
            lambda l, t: kernels.sigmoid_bce(l, t, implementation=implementation)
        ),
        "sigmoid_bce",
        lambda shape: [shape, shape],
        _passes(2, 2),  # slopes of logits and targets; backward writes both
        _LOGITS,
    ),
    "gan_loss": Op(
        objectives.nonsaturating().discriminator,
        lambda implementation: (
            kernels.fused(objectives.nonsaturating(), implementation).discriminator
        ),
        "gan_loss",
        lambda shape: [shape, shape],
        lambda shape, size: tuple(
            p * math.prod(shape) * size for p in (2, 4, 4)
        ),  # one pass makes losses and gradients
        _LOGITS,
    ),
    "batch_norm_leaky_relu": Op(
        _natural_norm,
        lambda implementation: (
            lambda x, scale, bias: kernels.batch_norm_leaky_relu(
                x, scale, bias, bias, bias, implementation=implementation
            )[0]
        ),
        "batch_norm_leaky_relu",
        lambda shape: [shape, shape[-1:], shape[-1:]],
        _passes(3, 5),
        [*_DCGAN, (64, 32, 32, 256)],
    ),
    **{
        f"blur_{name}": Op(
            functools.partial(_natural_blur, up=up, down=down),
            functools.partial(_fused_blur, up=up, down=down),
            f"blur_{name}",
            _with_channels,
            _resampled(up**2 / down**2),
            _STYLEGAN,
        )
        for name, up, down in (("same", 1, 1), ("double", 2, 1), ("halve", 1, 2))
    },
}
# The public names, which the choice of an implementation goes by.
CHOICE = {name: "blur_resample" if name.startswith("blur") else name for name in OPS}
MODES = ("forward", "backward", "both")
