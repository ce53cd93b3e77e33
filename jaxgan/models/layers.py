"""Layers that the networks share: convolutions with fast gradients, LeakyReLU, and batch norm over all replicas.

What runs between the convolutions is a field of the module, by value: `act(x, bias)` and `norm_act`, with the signatures of
`jaxgan.kernels.bias_leaky_relu` and `batch_norm_leaky_relu`. `plain_act` and `plain_norm_act` are the same in jax.nn.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgan.kernels import (
    batch_norm_leaky_relu,
    bias_leaky_relu,
    convolution,
    transposed_convolution,
)

Initializer = Callable[..., Array]
# DCGAN's: N(0, 0.02^2). Radford et al., 2016.
dcgan_normal = nn.initializers.normal(0.02)


Act = Callable[..., Array]
NormAct = Callable[..., tuple[Array, Array, Array]]


def plain_act(x: Array, bias: Array | None = None) -> Array:
    """leaky_relu(x + bias), of jax.nn."""
    return jax.nn.leaky_relu(x if bias is None else x + bias.astype(x.dtype), 0.2)


def plain_norm_act(
    x: Array,
    scale: Array,
    bias: Array,
    running_mean: Array,
    running_variance: Array,
    *,
    momentum: float,
    epsilon: float,
    axis_name: Any,
) -> tuple[Array, Array, Array]:
    """`batch_norm_leaky_relu` by its definition, with derivatives from automatic differentiation."""
    axes = tuple(range(x.ndim - 1))
    average = lambda values: (
        jnp.mean(values, axes)
        if axis_name is None
        else lax.pmean(jnp.mean(values, axes), axis_name)
    )
    mean = average(x.astype(jnp.float32))
    variance = average((x.astype(jnp.float32) - mean) ** 2)
    y = (x - mean) * lax.rsqrt(variance + epsilon) * scale + bias
    move = lambda old, new: momentum * old + (1.0 - momentum) * new
    return (
        jax.nn.leaky_relu(y, 0.2).astype(x.dtype),
        move(running_mean, mean),
        move(running_variance, variance),
    )


class Conv(nn.Module):
    """A 4 x 4 convolution that halves an image: [B,H,W,I] -> [B,H//2,W//2,features], and `act` of it with the bias."""

    features: int
    use_bias: bool = True
    kernel_init: Initializer = dcgan_normal
    act: Act | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (4, 4, x.shape[-1], self.features))
        return _finished(self, convolution(x, kernel.astype(x.dtype)))


class ConvTranspose(nn.Module):
    """A 4 x 4 transposed convolution that doubles an image: [B,H,W,I] -> [B,2H,2W,features], and `act` of it with the bias."""

    features: int
    use_bias: bool = True
    kernel_init: Initializer = dcgan_normal
    act: Act | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (4, 4, self.features, x.shape[-1]))
        return _finished(self, transposed_convolution(x, kernel.astype(x.dtype)))


def _finished(layer: Conv | ConvTranspose, y: Array) -> Array:
    """y with the layer's bias and activation, where it has them."""
    bias = layer.param("bias", nn.initializers.zeros, (layer.features,)) if layer.use_bias else None
    if layer.act is not None:
        return layer.act(y, bias)
    return y if bias is None else y + bias.astype(y.dtype)


class BatchNormAct(nn.Module):
    """Batch normalisation over every axis but the last, and over all replicas; then LeakyReLU.

    With `train`, the batch's own mean and variance normalise it, and the running ones (collection `batch_stats`) move towards
    them by 1 - momentum. Otherwise the running ones serve.

    Attributes:
      axis_name: the mapped axis whose replicas share the statistics; None for one device.
      momentum: of the running statistics; 0 stores the batch's own.
      act: serves where the running statistics do.
      norm_act: serves in training.

    References:
      Ioffe and Szegedy, Batch Normalization, 2015.
    """

    axis_name: str | None = None
    momentum: float = 0.9
    act: Act = bias_leaky_relu
    norm_act: NormAct = batch_norm_leaky_relu
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        shape = (x.shape[-1],)
        scale = self.param("scale", lambda key, s: 1.0 + dcgan_normal(key, s), shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean_of = self.variable("batch_stats", "mean", jnp.zeros, shape)
        variance_of = self.variable("batch_stats", "variance", jnp.ones, shape)
        if not train:
            factor = scale * lax.rsqrt(variance_of.value + self.epsilon)
            return self.act(x * factor.astype(x.dtype), bias - mean_of.value * factor)
        options: dict[str, Any] = dict(
            momentum=self.momentum, epsilon=self.epsilon, axis_name=self.axis_name
        )
        y, mean, variance = self.norm_act(
            x, scale, bias, mean_of.value, variance_of.value, **options
        )
        if not self.is_initializing():
            mean_of.value, variance_of.value = mean, variance
        return y
