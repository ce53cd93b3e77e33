"""Pictures mirrored left to right: twice the data where either way round is as likely."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.bound import bound
from jaxgan.errors import UserError
from jaxgan.examples import drawn, feature_of
from jaxgan.game import Batch


@bound
def flips(*names: str) -> Callable[[Batch, Array], Batch]:
    """(batch, keys) -> batch, for `Game.examples`: flips each example with probability 1/2.

    Args:
      names: features [B, height, width, channels]; those of an example are flipped together. What
        others say of left and right, such as a caption, stays as it is.
    """

    def flipped(batch: Batch, keys: Array) -> Batch:
        chosen = drawn(jax.random.bernoulli, keys, "flips")[:, None, None, None]
        pictures = {name: feature_of(batch, name) for name in names}
        for name, picture in pictures.items():
            if picture.ndim != 4:
                raise UserError(
                    f"flips are of pictures [B, height, width, channels], {name!r} has shape "
                    f"{picture.shape}; leave it out"
                )
        return batch | {n: jnp.where(chosen, x[:, :, ::-1], x) for n, x in pictures.items()}

    return flipped
