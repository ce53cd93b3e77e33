"""The operations that `benchmarks.kernels` times, with their shapes and their least traffic.

The least traffic counts each operand and result once for every pass that the mathematics needs.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxgan import kernels, objectives

Shape = tuple[int, ...]
MODES = ("forward", "both")  # both: and backward


class Op(NamedTuple):
    """One operation.

    Attributes:
      call: (implementation, *operands) -> array, of `jaxgan.kernels`; `benchmarks.torch_ops` has
        one of the same name.
      passes: over the first operand, of the modes.
      shapes: of the first operand, [B,H,W,C].
      vectors: how many operands [C] follow.
      like: how many operands of the first one's shape, in (0, 1), follow.
    """

    call: Callable[..., Any]
    passes: tuple[float, float]
    shapes: list[Shape]
    vectors: int = 0
    like: int = 0

    def operands(self, shape: Shape) -> list[Shape]:
        """Shapes of all operands; gradients go to all of them."""
        return [shape, *[shape] * self.like, *[shape[-1:]] * self.vectors]

    def least_bytes(self, shape: Shape, dtype: str, mode: str) -> float:
        return self.passes[MODES.index(mode)] * math.prod(shape) * jnp.dtype(dtype).itemsize


def bias_leaky_relu(implementation: str, x: Any, bias: Any) -> Any:
    return kernels.bias_leaky_relu(x, bias, implementation=implementation)


def sigmoid_bce(implementation: str, logits: Any, targets: Any) -> Any:
    return kernels.sigmoid_bce(logits, targets, implementation=implementation)


def gan_loss(implementation: str, real: Any, fake: Any) -> Any:
    return kernels.fused(objectives.nonsaturating(), implementation).discriminator(real, fake)


def batch_norm_leaky_relu(implementation: str, x: Any, scale: Any, bias: Any) -> Any:
    still = jnp.zeros_like(bias)
    operands = x, scale, bias, still, still
    return kernels.batch_norm_leaky_relu(*operands, implementation=implementation)[0]


def blur(implementation: str, x: Any, bias: Any, *, up: int, down: int) -> Any:
    options: dict[str, Any] = dict(up=up, down=down, bias=bias, slope=0.2)
    return kernels.blur_resample(x, implementation=implementation, **options)


def _blur(up: int, down: int) -> Op:
    """`factor` results to an operand; backward reads the gradient and the sign of each result."""
    factor = up**2 / down**2
    passes = (1 + factor, 2 + 3 * factor)
    return Op(functools.partial(blur, up=up, down=down), passes, _STYLEGAN, vectors=1)


# Of images of 64 pixels, the last of 128.
_DCGAN = [(64, 32, 32, 64), (64, 16, 16, 128), (64, 8, 8, 256), (64, 64, 64, 64)]
_STYLEGAN = [(16, 128, 128, 64), (16, 64, 64, 128), (16, 32, 32, 256)]
# One an image; PatchGAN of 70 pixels; one a pixel.
_LOGITS = [(64, 1, 1, 1), (64, 30, 30, 1), (64, 256, 256, 1)]

OPS: dict[str, Op] = {
    "bias_leaky_relu": Op(
        bias_leaky_relu, (2, 5), [*_DCGAN, *_STYLEGAN, (512, 64, 64, 64)], vectors=1
    ),
    # Slopes of logits and targets; backward writes both.
    "sigmoid_bce": Op(sigmoid_bce, (2, 4), _LOGITS, like=1),
    # One pass makes losses and gradients.
    "gan_loss": Op(gan_loss, (2, 4), _LOGITS, like=1),
    "batch_norm_leaky_relu": Op(
        batch_norm_leaky_relu, (3, 8), [*_DCGAN, (64, 32, 32, 256)], vectors=2
    ),
    "blur_same": _blur(1, 1),
    "blur_double": _blur(2, 1),
    "blur_halve": _blur(1, 2),
}
