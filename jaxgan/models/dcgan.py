"""DCGAN's networks at any size: batch norm in the generator, one logit an image.

References:
  Radford, Metz and Chintala, Unsupervised Representation Learning with Deep Convolutional GANs,
  2016.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.models.layers import BatchNormLeakyReLU, Double, Halve, dcgan_normal


class DCGANGenerator(nn.Module):
    """z [B,Z] -> images [B,H,W,C] in [-1, 1].

    Attributes:
      shape: (H, W, C), H and W multiples of 2**doublings.
      width: channels of the first image, which has (H, W) / 2**doublings pixels; each layer but
        the last halves them.
      doublings: layers that double the image.
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    width: int = 64
    doublings: int = 2

    @nn.compact
    def __call__(self, z: Array, train: bool) -> Array:
        height, width, channels = self.shape
        first = height // 2**self.doublings, width // 2**self.doublings, self.width
        size = first[0] * first[1] * first[2]
        x = nn.Dense(size, use_bias=False, kernel_init=dcgan_normal, dtype=z.dtype)(z)
        x = BatchNormLeakyReLU()(x.reshape(-1, *first), train)
        for i in range(1, self.doublings):
            x = Double(self.width // 2**i, use_bias=False)(x)
            x = BatchNormLeakyReLU()(x, train)
        return jnp.tanh(Double(channels)(x))


class DCGANDiscriminator(nn.Module):
    """images [B,H,W,C] -> logits [B,1]. Without batch norm: real and fake images share one call.

    Attributes:
      width: channels of the first layer; each further one has twice as many.
      doublings: layers that halve the image.
    """

    width: int = 32
    doublings: int = 2

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = images
        for i in range(self.doublings):
            x = Halve(2**i * self.width, leaky=True)(x)
        return nn.Dense(1, kernel_init=dcgan_normal, dtype=x.dtype)(x.reshape(x.shape[0], -1))
