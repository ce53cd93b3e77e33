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
      micro_batches: of a batch, see `jaxgan.accumulation`.

    A change that is due is made when it is next looked at, so that what one call of `adapt` leaves
    is linear in the signs that it counts, and a mean over micro-batches is that of the batch.
    """

    target: float
    images: float
    interval: int
    axis_name: str | None = None
    micro_batches: int = 1

    def setup(self) -> None:
        self.now = self.variable("adaptive", "probability", jnp.zeros, ())
        self.signs = self.variable("adaptive", "signs", jnp.zeros, ())
        self.calls = self.variable("adaptive", "calls", jnp.zeros, (), jnp.int32)

    def probability(self, examples: int) -> Array:
        """As it is now, where each call of `adapt` counts so many examples of this device."""
        devices = lax.axis_size(self.axis_name) if self.axis_name else 1
        towards = jnp.sign(self.signs.value / self.interval - self.target)
        seen = examples * self.micro_batches * devices * self.interval
        moved = self.now.value + towards * (seen / self.images)
        return jnp.where(self._due(), jnp.clip(moved, 0.0, 1.0), self.now.value)

    def adapt(self, on_real: Any, examples: int) -> Array:
        """Counts the logits of so many examples of this device; the probability as it is now."""
        heads = [jnp.mean(jnp.sign(x), dtype=jnp.float32) for x in jax.tree.leaves(on_real)]
        sign = sum(heads) / len(heads)
        if self.axis_name:
            sign = lax.pmean(sign, self.axis_name)
        due, self.now.value = self._due(), self.probability(examples)
        self.signs.value = jnp.where(due, 0.0, self.signs.value) + sign
        self.calls.value = jnp.where(due, 0, self.calls.value) + 1
        return self.now.value

    def accumulates(self, micro_batches: int, *inputs: Any) -> bool:
        """Whether the mean of the states that micro-batches leave is that of the batch."""
        return True

    def _due(self) -> Array:
        return self.calls.value == self.interval
