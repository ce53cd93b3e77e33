"""Adversarial objectives: pairs of pure functions on logits. This file imports nothing of the library.

A discriminator may give several logits an example (a map of patches), and every mean is over all of them.
Equal arguments give the identical objective, by which fused twins are found and programs are kept compiled.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import relu, softplus


class Objective(NamedTuple):
    """What each player minimises: functions of logits of real and of made examples, arrays [B, ...].

    Attributes:
      discriminator: (real, fake) -> scalar.
      generator: (real, fake) -> scalar. Where it ignores the real logits, XLA drops the pass that makes them.
      log_odds: a logit is the log odds that an example is real, so that its sigmoid is a probability.
      auxiliary: for a head that does not judge whether an example is real, see `jaxgan.heads`. Penalties
        and augmentations do not look at it.
    """

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array, Array], Array]
    log_odds: bool = False
    auxiliary: bool = False


@functools.cache
def nonsaturating(label_smoothing: float = 0.0) -> Objective:
    """L_D = -E[log D(x)] - E[log(1 - D(G(z)))], L_G = -E[log D(G(z))].

    Args:
      label_smoothing: one-sided: the real label is 1 minus this.

    References:
      Goodfellow et al., Generative Adversarial Nets, 2014; Salimans et al., Improved Techniques for Training
      GANs, 2016.
    """
    return Objective(_told_apart(label_smoothing), _taken_for_real, log_odds=True)


@functools.cache
def minimax(label_smoothing: float = 0.0) -> Objective:
    """min_G max_D E[log D(x)] + E[log(1 - D(G(z)))]: L_G = E[log(1 - D(G(z)))], which saturates while D is
    right. Arguments and references as for `nonsaturating`."""
    return Objective(_told_apart(label_smoothing), _not_taken_for_fake, log_odds=True)


@functools.cache
def hinge() -> Objective:
    """L_D = E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))], L_G = -E[D(G(z))].

    References:
      Lim and Ye, Geometric GAN, 2017.
    """
    return Objective(_hinges, _rated_high)


@functools.cache
def least_squares(label_smoothing: float = 0.0) -> Objective:
    """L_D = (E[(D(x) - t)^2] + E[D(G(z))^2]) / 2, L_G = E[(D(G(z)) - 1)^2] / 2, with t = 1 - label_smoothing.

    References:
      Mao et al., Least Squares Generative Adversarial Networks, 2017.
    """
    return Objective(functools.partial(_squares, target=1.0 - label_smoothing), _square_from_one)


@functools.cache
def relativistic() -> Objective:
    """L_D = E[softplus(D(G(z)) - D(x))], L_G = E[softplus(D(x) - D(G(z)))], over pairs of one real and one
    fake example.

    References:
      Jolicoeur-Martineau, The Relativistic Discriminator, 2018.
    """
    return Objective(_real_above_fake, _fake_above_real)


@functools.cache
def wasserstein() -> Objective:
    """L_D = E[D(G(z))] - E[D(x)], L_G = -E[D(G(z))], for a discriminator that a penalty or its layers keep
    near 1-Lipschitz.

    References:
      Arjovsky, Chintala and Bottou, Wasserstein GAN, 2017.
    """
    return Objective(_difference, _rated_high)


OBJECTIVES = (nonsaturating, minimax, hinge, least_squares, relativistic, wasserstein)


def binary_cross_entropy(logits: Array, target: float) -> Array:
    """-E[t log sigmoid(l) + (1 - t) log(1 - sigmoid(l))] in nats, stable at any logit.

    log sigmoid(l) = -softplus(-l): no sigmoid is formed, so nothing overflows or rounds to log(0).

    Args:
      logits: [B, ...].
      target: t in [0, 1].
    """
    return jnp.mean(target * softplus(-logits) + (1.0 - target) * softplus(logits))


@functools.cache
def _told_apart(label_smoothing: float) -> Callable[[Array, Array], Array]:
    return functools.partial(_cross_entropies, target=1.0 - label_smoothing)


def _cross_entropies(real: Array, fake: Array, target: float) -> Array:
    return binary_cross_entropy(real, target) + binary_cross_entropy(fake, 0.0)


def _taken_for_real(real: Array, fake: Array) -> Array:
    return binary_cross_entropy(fake, 1.0)


def _not_taken_for_fake(real: Array, fake: Array) -> Array:
    return -binary_cross_entropy(fake, 0.0)


def _hinges(real: Array, fake: Array) -> Array:
    return jnp.mean(relu(1.0 - real)) + jnp.mean(relu(1.0 + fake))


def _rated_high(real: Array, fake: Array) -> Array:
    return -jnp.mean(fake)


def _difference(real: Array, fake: Array) -> Array:
    return jnp.mean(fake) - jnp.mean(real)


def _squares(real: Array, fake: Array, target: float) -> Array:
    return (jnp.mean((real - target) ** 2) + jnp.mean(fake**2)) / 2.0


def _square_from_one(real: Array, fake: Array) -> Array:
    return jnp.mean((fake - 1.0) ** 2) / 2.0


def _real_above_fake(real: Array, fake: Array) -> Array:
    return jnp.mean(softplus(fake - real))


def _fake_above_real(real: Array, fake: Array) -> Array:
    return jnp.mean(softplus(real - fake))
