"""A moving mean, the companion player with which penalties remember what they saw."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax


class MovingMean(nn.Module):
    """The moving mean of each leaf of a tree, over all devices, from 0.

    Attributes:
      decay: what the mean so far counts.
      axis_name: of the devices.
    """

    decay: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, values: Any) -> Any:
        def mean(leaf: Array) -> Array:
            of_device = jnp.mean(lax.stop_gradient(leaf), dtype=jnp.float32)
            return lax.pmean(of_device, self.axis_name) if self.axis_name else of_device

        means = jax.tree.map(mean, values)
        kept = self.variable("moving", "mean", lambda: jax.tree.map(jnp.zeros_like, means))

        def moved(old: Array, new: Array) -> Array:
            return self.decay * old + (1.0 - self.decay) * new

        kept.value = jax.tree.map(moved, kept.value, means)
        return kept.value
