"""Adversarial objectives: pairs of pure functions on logits.

In shapes, B is the batch; a discriminator may give several logits an image (a map of patches), and every mean is over all.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import relu, softplus

from jaxgan.kernels import gan_discriminator_loss, gan_generator_loss


class Objective(NamedTuple):
    """What each player minimises. Both functions take (real, fake) logits [B, ...] and return a scalar.

    The generator is given the logits of the real images too, which relativistic objectives use; where it ignores them, XLA
    drops the discriminator pass that makes them.
    """

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array, Array], Array]


def binary_cross_entropy(logits: Array, target: float) -> Array:
    """-E[t log sigmoid(l) + (1 - t) log(1 - sigmoid(l))], stable at any logit.

    log sigmoid(l) = -softplus(-l): no sigmoid is formed, so nothing overflows or rounds to log(0).

    Args:
      logits: [B, ...].
      target: t in [0, 1].

    Returns:
      A scalar in nats.
    """
    return jnp.mean(target * softplus(-logits) + (1.0 - target) * softplus(logits))


def _discriminate(real: Array, fake: Array, label_smoothing: float) -> Array:
    return binary_cross_entropy(real, 1.0 - label_smoothing) + binary_cross_entropy(fake, 0.0)


def nonsaturating(label_smoothing: float = 0.0) -> Objective:
    """L_D = -E[log D(x)] - E[log(1 - D(G(z)))], L_G = -E[log D(G(z))].

    Args:
      label_smoothing: one-sided: the real label is 1 minus this.

    References:
      Goodfellow et al., Generative Adversarial Nets, 2014; Salimans et al., Improved Techniques for Training GANs, 2016.
    """
    return Objective(
        lambda real, fake: _discriminate(real, fake, label_smoothing),
        lambda real, fake: binary_cross_entropy(fake, 1.0),
    )


def minimax(label_smoothing: float = 0.0) -> Objective:
    """min_G max_D E[log D(x)] + E[log(1 - D(G(z)))]: L_G = E[log(1 - D(G(z)))], which saturates while D is right.

    References:
      Goodfellow et al., Generative Adversarial Nets, 2014.
    """
    return Objective(
        lambda real, fake: _discriminate(real, fake, label_smoothing),
        lambda real, fake: -binary_cross_entropy(fake, 0.0),
    )


def hinge() -> Objective:
    """L_D = E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))], L_G = -E[D(G(z))].

    References:
      Lim and Ye, Geometric GAN, 2017.
    """
    return Objective(
        lambda real, fake: jnp.mean(relu(1.0 - real)) + jnp.mean(relu(1.0 + fake)),
        lambda real, fake: -jnp.mean(fake),
    )


def least_squares(label_smoothing: float = 0.0) -> Objective:
    """L_D = (E[(D(x) - t)^2] + E[D(G(z))^2]) / 2, L_G = E[(D(G(z)) - 1)^2] / 2, with t = 1 - label_smoothing.

    References:
      Mao et al., Least Squares Generative Adversarial Networks, 2017.
    """
    return Objective(
        lambda real, fake: (
            (jnp.mean((real - 1.0 + label_smoothing) ** 2) + jnp.mean(fake**2)) / 2.0
        ),
        lambda real, fake: jnp.mean((fake - 1.0) ** 2) / 2.0,
    )


def relativistic() -> Objective:
    """L_D = E[softplus(D(G(z)) - D(x))], L_G = E[softplus(D(x) - D(G(z)))], over pairs of one real and one fake image.

    References:
      Jolicoeur-Martineau, The Relativistic Discriminator, 2018.
    """
    return Objective(
        lambda real, fake: jnp.mean(softplus(fake - real)),
        lambda real, fake: jnp.mean(softplus(real - fake)),
    )


def fused(name: str, label_smoothing: float = 0.0, implementation: str | None = None) -> Objective:
    """The objective of that name with each loss and its gradients in one pass: `jaxgan.kernels.gan_loss`.

    Args:
      name: of one of the functions above.
      label_smoothing: as there.
      implementation: None, "xla" or "triton".
    """
    return Objective(
        lambda real, fake: gan_discriminator_loss(
            real, fake, name, label_smoothing, implementation
        ),
        lambda real, fake: gan_generator_loss(real, fake, name, implementation),
    )
