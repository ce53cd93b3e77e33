"""DCGAN's networks at any size: batch norm in the generator, one logit an image.

References:
  Radford, Metz and Chintala, Unsupervised Representation Learning with Deep Convolutional GANs,
  2016.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.models.layers import BatchNormLeakyReLU, Double, Halve, dcgan_normal


class DCGANGenerator(nn.Module):
    """z [B,Z] -> images [B,H,W,C] in [-1, 1].

    Attributes:
      shape: (H, W, C). A side that is odd, or whose half is, and so on, is cut from one pixel more.
      width: channels of the first image, which has (H, W) / 2**doublings pixels, rounded up; each
        layer but the last halves them.
      doublings: layers that double the image.
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    width: int = 64
    doublings: int = 2

    @nn.compact
    def __call__(self, z: Array, train: bool) -> Array:
        *sides, channels = self.shape
        sizes = [[-(-side // 2**i) for side in sides] for i in range(self.doublings, -1, -1)]
        first = *sizes[0], self.width
        size = math.prod(first)
        x = nn.Dense(size, use_bias=False, kernel_init=dcgan_normal, dtype=z.dtype)(z)
        x = BatchNormLeakyReLU()(x.reshape(-1, *first), train)
        for i in range(1, self.doublings):
            x = _cut(Double(self.width // 2**i, use_bias=False)(x), sizes[i])
            x = BatchNormLeakyReLU()(x, train)
        return jnp.tanh(_cut(Double(channels)(x), sizes[-1]))


class DCGANDiscriminator(nn.Module):
    """images [B,H,W,C] -> logits [B,1]. Without batch norm: real and fake images share one call.

    Odd sides get a row or column of zeros, so that their halves are rounded up.

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
            odd = [(0, side % 2) for side in x.shape[1:3]]
            x = jnp.pad(x, ((0, 0), *odd, (0, 0))) if any(map(any, odd)) else x
            x = Halve(2**i * self.width, leaky=True)(x)
        return nn.Dense(1, kernel_init=dcgan_normal, dtype=x.dtype)(x.reshape(x.shape[0], -1))


def _cut(x: Array, size: list[int]) -> Array:
    """Images [B,H,W,C] without what is beyond a size (h, w)."""
    return x if list(x.shape[1:3]) == size else x[:, : size[0], : size[1]]
