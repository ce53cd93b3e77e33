"""DCGAN's recipe at any size: batch norm in the generator, one logit an image.

References:
  Radford, Metz and Chintala, Unsupervised Representation Learning with Deep Convolutional GANs, 2016.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.kernels import batch_norm_leaky_relu, bias_leaky_relu
from jaxgan.models.layers import Act, BatchNormAct, Conv, ConvTranspose, NormAct, dcgan_normal


class DCGANGenerator(nn.Module):
    """z [B,Z] -> images [B,S,S,channels] in [-1, 1], with S = image_size, a multiple of 2**doublings.

    The first image has S / 2**doublings pixels a side and `width` channels; each layer doubles the former and halves the latter.
    """

    image_size: int = 28
    channels: int = 1
    width: int = 64
    doublings: int = 2
    act: Act = bias_leaky_relu
    norm_act: NormAct = batch_norm_leaky_relu
    axis_name: str | None = None
    momentum: float = 0.9

    @nn.compact
    def __call__(self, z: Array, train: bool) -> Array:
        norm_act = lambda index: BatchNormAct(
            self.axis_name, self.momentum, self.act, self.norm_act, name=f"BatchNorm_{index}"
        )
        start = self.image_size // 2**self.doublings
        x = nn.Dense(
            start * start * self.width, use_bias=False, kernel_init=dcgan_normal, dtype=z.dtype
        )(z)
        x = norm_act(0)(x.reshape(-1, start, start, self.width), train)
        for i in range(1, self.doublings):
            x = norm_act(i)(ConvTranspose(self.width // 2**i, use_bias=False)(x), train)
        return jnp.tanh(ConvTranspose(self.channels)(x))


class DCGANDiscriminator(nn.Module):
    """images [B,S,S,C] -> logits [B,1]. Without batch norm, so that real and fake images can share one application.

    Each of its layers halves the image; the first has `width` channels, each further one twice as many.
    """

    width: int = 32
    doublings: int = 2
    act: Act = bias_leaky_relu

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        del train
        x = images
        for i in range(self.doublings):
            x = Conv(2**i * self.width, act=self.act)(x)
        return nn.Dense(1, kernel_init=dcgan_normal, dtype=x.dtype)(x.reshape(x.shape[0], -1))
