"""Penalties on the discriminator: pure functions of a critique, the closure of the discriminator over its parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

Critique = Callable[[Array], Array]
Penalty = Callable[[Critique, Array, Array, Array], Array]


def r1(weight: float, every: int = 1) -> Penalty:
    """weight / 2 E[|grad_x D(x)|^2] over real images x: a flat discriminator where the data are, so that training converges.

    Args:
      weight: gamma of the paper.
      every: the mean is over every n-th image of the batch, which has the same expectation as that over all and costs less.
        Others penalise the whole batch in every n-th step; that needs a conditional in the step, which on XLA:CPU took five
        times as long as what was inside it. Where each device's share of the batch is a multiple of `every`, the images are the
        same on any number of devices.

    Returns:
      penalty(critique, real, fake, key) -> scalar; critique: images [B,H,W,C] -> logits [B,...]; fake and key are not used.

    References:
      Mescheder, Geiger and Nowozin, Which Training Methods for GANs do actually Converge?, 2018; Karras et al., Analyzing and
      Improving the Image Quality of StyleGAN, 2020, for penalising in some steps only.
    """

    def penalty(critique: Critique, real: Array, fake: Array, key: Array) -> Array:
        del fake, key
        # The gradient of the sum is each image's own, because no image's logits depend on another image.
        slopes = jax.grad(lambda images: jnp.sum(critique(images)))(real[::every])
        return 0.5 * weight * jnp.mean(jnp.sum(slopes**2, axis=(1, 2, 3)))

    return penalty
