"""Dense networks for points and other small examples, with a condition or without."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.models.conditional import ClassHead, ConditionMap, ProjectionHead


class MLPGenerator(nn.Module):
    """(z [B,Z], condition or none) -> examples [B, *shape], unbounded.

    Attributes:
      shape: of an example, (2,) for points.
      widths: of the hidden layers, ReLU after each.
      classes: how many labels there are; needed for integer conditions, which are joined to z.
    """

    shape: tuple[int, ...] = (2,)
    widths: tuple[int, ...] = (128, 128)
    classes: int | None = None

    @nn.compact
    def __call__(self, z: Array, condition: Array | None = None) -> Array:
        x = z
        if condition is not None:
            mapped = ConditionMap(z.shape[-1], self.classes)(condition)
            x = jnp.concatenate([z, mapped.astype(z.dtype)], axis=-1)
        for width in self.widths:
            x = nn.relu(nn.Dense(width, dtype=z.dtype)(x))
        return nn.Dense(math.prod(self.shape), dtype=z.dtype)(x).reshape(-1, *self.shape)


class MLPDiscriminator(nn.Module):
    """(examples [B,...], condition or none) -> logits [B,1], or the two heads of a `ClassHead`.

    Attributes:
      widths: of the hidden layers, LeakyReLU of slope 0.2 after each.
      classes: how many labels there are; needed for integer conditions, which enter by projection.
      classifies: has a second head that tells the label; then no condition is given.
    """

    widths: tuple[int, ...] = (128, 128)
    classes: int | None = None
    classifies: bool = False

    @nn.compact
    def __call__(self, examples: Array, condition: Array | None = None) -> Array | dict[str, Array]:
        x = examples.reshape(examples.shape[0], -1)
        for width in self.widths:
            x = nn.leaky_relu(nn.Dense(width, dtype=x.dtype)(x), 0.2)
        if self.classifies:
            return ClassHead(self.classes or 0)(x)
        if condition is None:
            return nn.Dense(1, dtype=x.dtype)(x)
        return ProjectionHead(self.classes)(x, condition)
