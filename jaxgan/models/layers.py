"""Layers that the networks share: convolutions with fast gradients, and batch norm over all replicas."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from jaxgan.kernels import convolution, transposed_convolution

Initializer = Callable[..., Array]
# DCGAN's: N(0, 0.02^2). Radford et al., 2016.
dcgan_normal = nn.initializers.normal(0.02)


def leaky_relu(x: Array) -> Array:
    """max(x, 0.2 x), the slope of all networks here."""
    return jnp.where(x > 0, x, 0.2 * x)


class Conv(nn.Module):
    """A 4 x 4 convolution that halves an image: [B,H,W,I] -> [B,H//2,W//2,features]."""

    features: int
    use_bias: bool = True
    kernel_init: Initializer = dcgan_normal

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (4, 4, x.shape[-1], self.features))
        y = convolution(x, kernel.astype(x.dtype))
        return y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype) if self.use_bias else y


class ConvTranspose(nn.Module):
    """A 4 x 4 transposed convolution that doubles an image: [B,H,W,I] -> [B,2H,2W,features]."""

    features: int
    use_bias: bool = True
    kernel_init: Initializer = dcgan_normal

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (4, 4, self.features, x.shape[-1]))
        y = transposed_convolution(x, kernel.astype(x.dtype))
        return y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype) if self.use_bias else y


class BatchNorm(nn.Module):
    """Batch normalisation over every axis but the last, and over all replicas.

    With `train`, the batch's own mean and variance normalise it, and the running ones (collection `batch_stats`) move towards
    them by 1 - momentum. Otherwise the running ones serve.

    Attributes:
      axis_name: the mapped axis whose replicas share the statistics; None for one device.
      momentum: of the running statistics; 0 stores the batch's own.

    References:
      Ioffe and Szegedy, Batch Normalization, 2015.
    """

    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        shape = (x.shape[-1],)
        scale = self.param("scale", lambda key, s: 1.0 + dcgan_normal(key, s), shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean_of = self.variable("batch_stats", "mean", jnp.zeros, shape)
        variance_of = self.variable("batch_stats", "variance", jnp.ones, shape)
        if train:
            mean, variance = self._statistics(x.astype(jnp.float32))
            if not self.is_initializing():
                mean_of.value = self.momentum * mean_of.value + (1.0 - self.momentum) * mean
                variance_of.value = self.momentum * variance_of.value + (1.0 - self.momentum) * variance
        else:
            mean, variance = mean_of.value, variance_of.value
        factor = scale * lax.rsqrt(variance + self.epsilon)
        return x * factor.astype(x.dtype) + (bias - mean * factor).astype(x.dtype)

    def _statistics(self, x: Array) -> tuple[Any, Any]:
        # One pass over x: E[x^2] - E[x]^2, clipped because rounding can take it below 0.
        axes = tuple(range(x.ndim - 1))
        moments = jnp.mean(x, axes), jnp.mean(x * x, axes)
        if self.axis_name is not None:
            moments = lax.pmean(moments, self.axis_name)
        mean, square = moments
        return mean, jnp.maximum(square - mean * mean, 0.0)
