"""The networks of the founding listing, mended.

The listing, in PyTorch, is a generator `Linear(100, 7*7*64)` and two `ConvTranspose2d(.., 4, 2, 1,
bias=False)` with LeakyReLU 0.2 and tanh, and a discriminator of three `Conv2d(.., 4, 2, 1,
bias=False)` with LeakyReLU 0.2 and sigmoid. Its faults, and what is done here:

* Nothing reshapes the Linear's 3,136 numbers before the first transposed convolution. Here they
  become a [7,7,64] image. (The listing's layout would be [64,7,7]; the two differ by a
  permutation of the outputs.)
* The images are in [0, 1] and the tanh in [-1, 1], so the sign alone gave fakes away. The images
  are scaled to [-1, 1].
* The discriminator puts out a 3 x 3 map of an image of 28 pixels, against one label an image.
  Every place of the map is taken as a verdict on its own patch, labelled as the image is, and the
  loss is the mean of all.
* `num_epochs` is undefined. The number of steps is an option: 4,680, which is 10 epochs.
* The sigmoid before the binary cross-entropy rounds to 0 or 1 and loses the gradient. The
  discriminator gives logits, and the loss is formed from them.

Initial weights are PyTorch's defaults: uniform in +-1/sqrt(fan_in), by PyTorch's own count of
fan_in.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.kernels import leaky_relu
from jaxgan.models.layers import Double, Halve, Initializer


@functools.cache
def torch_uniform(fan_in: int) -> Initializer:
    """PyTorch's default for linear and convolutional layers: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = 1.0 / math.sqrt(fan_in)
    return functools.partial(_uniform, bound)


def _uniform(
    bound: float, key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class ListingGenerator(nn.Module):
    """z [B,Z] -> images [B,H,W,C] in [-1, 1].

    Attributes:
      shape: (H, W, C), H and W multiples of 4.
      width: channels of the first image.
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    width: int = 64

    @nn.compact
    def __call__(self, z: Array) -> Array:
        first = self.shape[0] // 4, self.shape[1] // 4, self.width
        init = torch_uniform(z.shape[-1])
        size = first[0] * first[1] * first[2]
        x = nn.Dense(size, kernel_init=init, bias_init=init, dtype=z.dtype)(z)
        x = leaky_relu(x).reshape(-1, *first)
        # PyTorch counts a transposed convolution's fan_in by its outputs.
        half, channels = self.width // 2, self.shape[2]
        x = Double(half, use_bias=False, kernel_init=torch_uniform(16 * half), leaky=True)(x)
        return jnp.tanh(Double(channels, False, torch_uniform(16 * channels))(x))


class ListingDiscriminator(nn.Module):
    """images [B,H,W,C] -> a map of logits [B,h,w,1], h = H // 8: 3 x 3 for 28 pixels.

    Attributes:
      width: channels of the first layer; the second has twice as many.
    """

    width: int = 16

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = images
        for features in (self.width, 2 * self.width):
            init = torch_uniform(16 * x.shape[-1])
            x = Halve(features, use_bias=False, kernel_init=init, leaky=True)(x)
        return Halve(1, use_bias=False, kernel_init=torch_uniform(16 * x.shape[-1]))(x)
