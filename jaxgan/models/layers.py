"""Layers that networks share: convolutions that halve and double, and batch norm over all devices.

Their operations are those of `jaxgan.kernels`, with fast gradients of any order.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from jaxgan.kernels import (
    batch_norm_leaky_relu,
    bias_leaky_relu,
    convolution,
    transposed_convolution,
)

Initializer = Callable[..., Array]
dcgan_normal = nn.initializers.normal(0.02)  # N(0, 0.02^2), of Radford et al., 2016


class Halve(nn.Module):
    """A 4 x 4 convolution that halves an image: [B,H,W,I] -> [B,H//2,W//2,features].

    Attributes:
      features: channels of the result.
      use_bias: adds a bias.
      kernel_init: of the kernel [4,4,I,features].
      leaky: ends in LeakyReLU with slope 0.2, in one operation with the bias.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = dcgan_normal
    leaky: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (4, 4, x.shape[-1], self.features))
        return _finished(self, convolution(x, kernel.astype(x.dtype)))


class Double(nn.Module):
    """A 4 x 4 transposed convolution that doubles an image: [B,H,W,I] -> [B,2H,2W,features].

    Attributes: as of `Halve`; the kernel is [4,4,features,I].
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = dcgan_normal
    leaky: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (4, 4, self.features, x.shape[-1]))
        return _finished(self, transposed_convolution(x, kernel.astype(x.dtype)))


def _finished(layer: Halve | Double, y: Array) -> Array:
    """y with the layer's bias and LeakyReLU, where it has them."""
    bias = layer.param("bias", nn.initializers.zeros, (layer.features,)) if layer.use_bias else None
    if layer.leaky:
        return bias_leaky_relu(y, bias)
    return y if bias is None else y + along_channels(bias, y)


def along_channels(values: Array, x: Array) -> Array:
    """Numbers of channels, [C] or [B,C], as x [B,...,C] takes them."""
    batch = values.shape[:-1] or (1,)
    return values.astype(x.dtype).reshape(*batch, *(1,) * (x.ndim - 2), values.shape[-1])


def _scale_init(key: Array, shape: tuple[int, ...]) -> Array:
    return 1.0 + dcgan_normal(key, shape)


class BatchNormLeakyReLU(nn.Module):
    """Batch norm over every axis but the last, and over all devices; then LeakyReLU of slope 0.2.

    With `train`, the batch's own mean and variance normalise it, and the running ones (collection
    `batch_stats`) move towards them by 1 - momentum. Otherwise the running ones serve.

    Attributes:
      axis_name: the mapped axis whose devices share the statistics; a training step sets it.
      momentum: of the running statistics; 0 keeps the batch's own.

    References:
      Ioffe and Szegedy, Batch Normalization, 2015.
    """

    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    across_batch = True

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        shape = (x.shape[-1],)
        scale = self.param("scale", _scale_init, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean_of = self.variable("batch_stats", "mean", jnp.zeros, shape)
        variance_of = self.variable("batch_stats", "variance", jnp.ones, shape)
        if not train:
            factor = scale * lax.rsqrt(variance_of.value + self.epsilon)
            return bias_leaky_relu(x * along_channels(factor, x), bias - mean_of.value * factor)
        options: dict[str, Any] = dict(
            momentum=self.momentum, epsilon=self.epsilon, axis_name=self.axis_name
        )
        y, mean, variance = batch_norm_leaky_relu(
            x, scale, bias, mean_of.value, variance_of.value, **options
        )
        if not self.is_initializing():
            mean_of.value, variance_of.value = mean, variance
        return y
