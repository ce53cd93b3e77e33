"""DCGAN's recipe at the size of handwritten digits: batch norm in the generator, one logit an image.

References:
  Radford, Metz and Chintala, Unsupervised Representation Learning with Deep Convolutional GANs, 2016.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.kernels import batch_norm_leaky_relu, bias_leaky_relu
from jaxgan.models.layers import Act, BatchNormAct, Conv, ConvTranspose, NormAct, dcgan_normal


class DCGANGenerator(nn.Module):
    """z [B,Z] -> images [B,S,S,channels] in [-1, 1], with S = image_size, a multiple of 4."""

    image_size: int = 28
    channels: int = 1
    width: int = 64
    act: Act = bias_leaky_relu
    norm_act: NormAct = batch_norm_leaky_relu
    axis_name: str | None = None
    momentum: float = 0.9

    @nn.compact
    def __call__(self, z: Array, train: bool) -> Array:
        norm_act = lambda index: BatchNormAct(self.axis_name, self.momentum, self.act, self.norm_act, name=f"BatchNorm_{index}")
        start = self.image_size // 4
        x = nn.Dense(start * start * self.width, use_bias=False, kernel_init=dcgan_normal)(z)
        x = x.reshape(-1, start, start, self.width)
        x = norm_act(0)(x, train)
        x = ConvTranspose(self.width // 2, use_bias=False)(x)
        x = norm_act(1)(x, train)
        return jnp.tanh(ConvTranspose(self.channels)(x))


class DCGANDiscriminator(nn.Module):
    """images [B,S,S,C] -> logits [B,1]. Without batch norm, so that real and fake images can share one application."""

    width: int = 32
    act: Act = bias_leaky_relu

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        del train
        x = Conv(self.width, act=self.act)(images)
        x = Conv(2 * self.width, act=self.act)(x)
        return nn.Dense(1, kernel_init=dcgan_normal)(x.reshape(x.shape[0], -1))
