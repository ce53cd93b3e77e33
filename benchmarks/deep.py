"""Two deep networks, in which a step's memory is what its gradients keep of them.

`benchmarks/deep.py:deep` is a recipe for any command that takes one, such as `python -m
benchmarks.compiled benchmarks/deep.py:deep --kernels xla --remat blocks`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan import Player, gan, latents, objectives, recipe


class Residual(nn.Module):
    """Features [B,H,W,C] -> the same shape: two convolutions of swish, added to their input."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.Conv(x.shape[-1], (3, 3))(nn.swish(x))
        return x + 0.3 * nn.Conv(x.shape[-1], (3, 3))(nn.swish(h))


class Painter(nn.Module):
    """z [B,n] -> images [B,size,size,3]; all blocks at full size."""

    size: int
    width: int
    blocks: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        x = nn.Dense(8 * 8 * self.width)(z).reshape(-1, 8, 8, self.width)
        x = jax.image.resize(x, (len(x), self.size, self.size, self.width), "nearest")
        for _ in range(self.blocks):
            x = Residual()(x)
        return jnp.tanh(nn.Conv(3, (3, 3))(x))


class Judge(nn.Module):
    """Images [B,H,W,3] -> logits [B,1]; all blocks at full size."""

    width: int
    blocks: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(self.width, (3, 3))(x)
        for _ in range(self.blocks):
            x = Residual()(x)
        return nn.Dense(1)(jnp.mean(x, (1, 2)))


@recipe(batch_size=64, data={"name": "shapes", "image_size": 64})
def deep(example: dict[str, Any], width: int = 64, blocks: int = 12):
    """A hinge GAN of residual networks without normalisation."""
    size = example["image"].shape[0]
    return gan(
        Player(Painter(size, width, blocks), optax.adam(1e-4), ema_decay=0.999),
        Player(Judge(width, blocks), optax.adam(1e-4)),
        objectives.hinge(),
        latents.normal(64),
    )
