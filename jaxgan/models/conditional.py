"""Conditions in networks: labels and arrays that say what an example shall be, or is.

A condition is a feature of the batch, which `gan(..., given=("label",))` hands to both networks:
integer labels [B], or several of an example [B,K], or numbers [B,F].
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.calling import train_option
from jaxgan.errors import UserError
from jaxgan.models.layers import Initializer, along_channels


class ConditionMap(nn.Module):
    """A condition as numbers of the network's own: [B], [B,K] or [B,F] -> [B,features].

    Labels choose rows of a table, and several labels of an example have the sum of theirs; one that
    is none of the classes gives NaN. Numbers go through a linear map.

    Attributes:
      features: numbers that come out.
      classes: how many labels there are; needed for integer conditions.
      init: of the table or the map; normal, of a variance that keeps that of the output near 1.
    """

    features: int
    classes: int | None = None
    init: Initializer | None = None

    @nn.compact
    def __call__(self, condition: Array) -> Array:
        if jnp.issubdtype(condition.dtype, jnp.integer):
            if self.classes is None:
                raise UserError(
                    f"a condition of {condition.dtype} labels needs the number of them; "
                    "give classes=..."
                )
            init = self.init or nn.initializers.normal(1.0)
            rows = nn.Embed(self.classes, self.features, embedding_init=init)(condition)
            # As one beyond the classes has: an index below 0 would count from the end.
            rows = jnp.where((condition < 0)[..., None], jnp.nan, rows)
            return rows if condition.ndim == 1 else jnp.sum(rows, axis=-2)
        if condition.ndim != 2 or not jnp.issubdtype(condition.dtype, jnp.floating):
            raise UserError(
                f"a condition of shape {condition.shape} and type {condition.dtype} is neither "
                "integer labels [B] or [B,K] nor numbers [B,F]; bring it into one of these shapes"
            )
        init = self.init or nn.initializers.lecun_normal()
        dtype = condition.dtype
        return nn.Dense(self.features, use_bias=False, kernel_init=init, dtype=dtype)(condition)


class Concatenated(nn.Module):
    """A network to whose input a condition is joined: (x [B,...,C], condition) -> its output.

    A condition with the places of x, such as a source image, is joined as it is; another one as
    the `features` numbers of a `ConditionMap`, the same at every place.

    Attributes:
      module: (x [B,...,C + new channels]) -> output.
      classes: how many labels there are; needed for integer conditions.
      features: channels that a mapped condition gets.
    """

    module: nn.Module
    classes: int | None = None
    features: int = 16

    @nn.compact
    def __call__(self, x: Array, condition: Array, train: bool = True) -> Any:
        floating = jnp.issubdtype(condition.dtype, jnp.floating)
        if not (floating and x.ndim > 2 and condition.shape[:-1] == x.shape[:-1]):
            mapped = ConditionMap(self.features, self.classes)(condition)
            mapped = along_channels(mapped, x)
            condition = jnp.broadcast_to(mapped, (*x.shape[:-1], self.features))
        joined = jnp.concatenate([x, condition.astype(x.dtype)], axis=-1)
        return self.module(joined, **train_option(self.module, train))


class ConditionalBatchNorm(nn.Module):
    """Batch norm with the condition's scale and shift: (x [B,...,C], condition, train) -> as x.

    Both begin as those of batch norm without a condition, 1 and 0.

    Attributes:
      classes: how many labels there are; needed for integer conditions.
      momentum, epsilon: as in Flax's BatchNorm, which it is built on.

    References:
      Dumoulin et al., A Learned Representation for Artistic Style, 2017.
    """

    classes: int | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, condition: Array, train: bool) -> Array:
        normal = nn.BatchNorm(
            use_running_average=not train,
            momentum=self.momentum,
            epsilon=self.epsilon,
            use_bias=False,
            use_scale=False,
            dtype=x.dtype,
        )(x)
        zeros = nn.initializers.zeros
        scale = 1.0 + ConditionMap(x.shape[-1], self.classes, zeros, name="scale")(condition)
        shift = ConditionMap(x.shape[-1], self.classes, zeros, name="shift")(condition)
        return normal * along_channels(scale, x) + along_channels(shift, x)


class ProjectionHead(nn.Module):
    """The last layer of a projection discriminator: (h [B,F], condition) -> v h + c h, [B,1].

    The condition enters as the inner product of its vector c with what the discriminator sees.

    Attributes:
      classes: how many labels there are; needed for integer conditions.

    References:
      Miyato and Koyama, cGANs with Projection Discriminator, 2018.
    """

    classes: int | None = None

    @nn.compact
    def __call__(self, h: Array, condition: Array) -> Array:
        vector = ConditionMap(h.shape[-1], self.classes)(condition).astype(h.dtype)
        return nn.Dense(1, dtype=h.dtype)(h) + jnp.sum(vector * h, axis=-1, keepdims=True)


class ClassHead(nn.Module):
    """The last layer of a discriminator that also classifies, see `auxiliary_classifier`.

    h [B,F] -> {"logit": [B,1], "class": [B,N]}.

    Attributes:
      classes: N, how many labels there are.
    """

    classes: int

    @nn.compact
    def __call__(self, h: Array) -> dict[str, Array]:
        return {
            "logit": nn.Dense(1, dtype=h.dtype)(h),
            "class": nn.Dense(self.classes, dtype=h.dtype)(h),
        }
