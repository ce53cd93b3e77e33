"""The networks of the founding listing, mended.

The listing, in PyTorch, is a generator `Linear(100, 7*7*64)` and two `ConvTranspose2d(.., 4, 2, 1, bias=False)` with LeakyReLU
0.2 and tanh, and a discriminator of three `Conv2d(.., 4, 2, 1, bias=False)` with LeakyReLU 0.2 and sigmoid. Its faults, and
what is done here:

* Nothing reshapes the Linear's 3,136 numbers before the first transposed convolution. Here they become a [7,7,64] image. (The
  listing's layout would be [64,7,7]; the two differ by a permutation of the Linear's outputs.)
* The images are in [0, 1] and the tanh in [-1, 1], so the sign alone gave fakes away. The images are scaled to [-1, 1].
* The discriminator puts out a 3 x 3 map of an image of 28 pixels, against one label an image. Every place of the map is taken
  as a verdict of its own on its patch, labelled as the image is, and the loss is the mean over all of them.
* `num_epochs` is undefined. The number of steps is part of the config: 4,680, which is 10 epochs.
* The sigmoid before the binary cross-entropy rounds to 0 or 1 and loses the gradient. The discriminator gives logits, and the
  loss is formed from them.

Initial weights are PyTorch's defaults: uniform in +-1/sqrt(fan_in), by PyTorch's own count of fan_in.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.kernels import bias_leaky_relu
from jaxgan.models.layers import Act, Conv, ConvTranspose, Initializer


def torch_uniform(fan_in: int) -> Initializer:
    """PyTorch's default for linear and convolutional layers: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = 1.0 / math.sqrt(fan_in)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


class SeedGenerator(nn.Module):
    """z [B,Z] -> images [B,S,S,channels] in [-1, 1], with S = image_size, a multiple of 4."""

    image_size: int = 28
    channels: int = 1
    width: int = 64
    act: Act = bias_leaky_relu

    @nn.compact
    def __call__(self, z: Array, train: bool) -> Array:
        del train
        start = self.image_size // 4
        init = torch_uniform(z.shape[-1])
        x = nn.Dense(start * start * self.width, kernel_init=init, bias_init=init, dtype=z.dtype)(z)
        x = self.act(x).reshape(-1, start, start, self.width)
        # PyTorch counts a transposed convolution's fan_in by its outputs.
        half = self.width // 2
        x = ConvTranspose(half, use_bias=False, kernel_init=torch_uniform(16 * half), act=self.act)(
            x
        )
        return jnp.tanh(
            ConvTranspose(
                self.channels, use_bias=False, kernel_init=torch_uniform(16 * self.channels)
            )(x)
        )


class SeedDiscriminator(nn.Module):
    """images [B,S,S,C] -> a map of logits [B,h,h,1], h = S // 8: 3 x 3 for 28 pixels."""

    width: int = 16
    act: Act = bias_leaky_relu

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        del train
        x = images
        for features in (self.width, 2 * self.width):
            x = Conv(
                features, use_bias=False, kernel_init=torch_uniform(16 * x.shape[-1]), act=self.act
            )(x)
        return Conv(1, use_bias=False, kernel_init=torch_uniform(16 * x.shape[-1]))(x)
