"""The probability of an adaptive augmentation, a companion player without parameters."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax


class Probability(nn.Module):
    """A probability that rises while a discriminator is surer of its real examples than `target`.

    Attributes:
      target: of the mean sign of logits of real examples.
      images: real examples that take the probability from 0 to 1.
      interval: calls of `adapt` for one change.
      axis_name: of the devices.
    """

    target: float
    images: float
    interval: int
    axis_name: str | None = None

    def setup(self) -> None:
        self.now = self.variable("adaptive", "probability", jnp.zeros, ())
        self.signs = self.variable("adaptive", "signs", jnp.zeros, ())
        self.calls = self.variable("adaptive", "calls", jnp.zeros, (), jnp.int32)

    def probability(self) -> Array:
        return self.now.value

    def adapt(self, on_real: Any, examples: int) -> None:
        """Counts the logits of so many examples of this device."""
        heads = [jnp.mean(jnp.sign(x), dtype=jnp.float32) for x in jax.tree.leaves(on_real)]
        sign, devices = sum(heads) / len(heads), 1
        if self.axis_name:
            sign, devices = lax.pmean(sign, self.axis_name), lax.axis_size(self.axis_name)
        signs, calls = self.signs.value + sign, self.calls.value + 1
        due = calls == self.interval
        towards = jnp.sign(signs / self.interval - self.target)
        moved = self.now.value + towards * (examples * devices * self.interval / self.images)
        self.now.value = jnp.where(due, jnp.clip(moved, 0.0, 1.0), self.now.value)
        self.signs.value = jnp.where(due, 0.0, signs)
        self.calls.value = jnp.where(due, 0, calls)
