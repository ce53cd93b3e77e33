"""Adversarial objectives: pairs of pure functions on logits.

A discriminator may give several logits an example (a map of patches); every mean is over all. An
objective is a value: constructors give equal objectives for equal arguments, and any two functions
make one of your own. This module imports nothing of jaxgan; `jaxgan.kernels.fused` gives an
objective's twin with each loss and its gradients in one pass.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import relu, softplus

Loss = Callable[[Array, Array], Array]  # (real, fake) logits [B, ...] -> scalar


class Objective(NamedTuple):
    """What each player minimises.

    Attributes:
      discriminator: its loss.
      generator: its loss. It is given the logits of the real examples too, which relativistic
        objectives use; where it ignores them, XLA drops the discriminator pass that makes them.
      log_odds: whether sigmoid(logit) is the discriminator's probability that an example is real.
      auxiliary: for a head that does not judge whether an example is real, see `jaxgan.heads`.
        Penalties and augmentations do not look at it.
    """

    discriminator: Loss
    generator: Loss
    log_odds: bool = False
    auxiliary: bool = False


def binary_cross_entropy(logits: Array, target: Array | float) -> Array:
    """-E[t log sigmoid(l) + (1 - t) log(1 - sigmoid(l))], stable at any logit.

    log sigmoid(l) = -softplus(-l): no sigmoid is formed, so nothing overflows or rounds to log(0).

    Args:
      logits: [B, ...].
      target: t in [0, 1].

    Returns:
      A scalar in nats.
    """
    return jnp.mean(target * softplus(-logits) + (1.0 - target) * softplus(logits))


class _WithLabel(functools.partial):
    """A partial that equals those of the same function and label."""

    def __eq__(self, other: object) -> bool:
        # JAX may leave attributes on a function, which are no part of it.
        return isinstance(other, _WithLabel) and self._known() == other._known()

    def __hash__(self) -> int:
        return hash(self._known())

    def _known(self) -> tuple[Any, ...]:
        return self.func, self.args, tuple(self.keywords.items())


def _smoothed(loss: Callable[..., Array], label_smoothing: float) -> Loss:
    """The loss with its label bound."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing} is not in [0, 1); use 0.1, say")
    return _WithLabel(loss, label_smoothing=label_smoothing)


def _cross_entropy_of_discriminator(real: Array, fake: Array, *, label_smoothing: float) -> Array:
    if label_smoothing:
        of_real = binary_cross_entropy(real, 1.0 - label_smoothing)
    else:
        of_real = jnp.mean(softplus(-real))
    return of_real + jnp.mean(softplus(fake))


def _nonsaturating_of_generator(real: Array, fake: Array) -> Array:
    return jnp.mean(softplus(-fake))


def _minimax_of_generator(real: Array, fake: Array) -> Array:
    return -jnp.mean(softplus(fake))


@functools.cache
def nonsaturating(label_smoothing: float = 0.0) -> Objective:
    """L_D = -E[t log D(x) + (1 - t) log(1 - D(x))] - E[log(1 - D(G(z)))], L_G = -E[log D(G(z))].

    Args:
      label_smoothing: in [0, 1), one-sided: the real label t is 1 minus this.

    Raises:
      ValueError: for smoothing out of its bounds.

    References:
      Goodfellow et al., Generative Adversarial Nets, 2014; Salimans et al., Improved Techniques for
      Training GANs, 2016, for the smoothing.
    """
    return Objective(
        _smoothed(_cross_entropy_of_discriminator, label_smoothing),
        _nonsaturating_of_generator,
        log_odds=True,
    )


@functools.cache
def minimax(label_smoothing: float = 0.0) -> Objective:
    """L_D as `nonsaturating`, L_G = E[log(1 - D(G(z)))], which saturates while D is right.

    Args:
      label_smoothing: as there.

    Raises:
      ValueError: as there.

    References:
      Goodfellow et al., Generative Adversarial Nets, 2014.
    """
    return Objective(
        _smoothed(_cross_entropy_of_discriminator, label_smoothing),
        _minimax_of_generator,
        log_odds=True,
    )


def _hinge_of_discriminator(real: Array, fake: Array) -> Array:
    return jnp.mean(relu(1.0 - real)) + jnp.mean(relu(1.0 + fake))


def _hinge_of_generator(real: Array, fake: Array) -> Array:
    return -jnp.mean(fake)


@functools.cache
def hinge() -> Objective:
    """L_D = E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))], L_G = -E[D(G(z))].

    References:
      Lim and Ye, Geometric GAN, 2017.
    """
    return Objective(_hinge_of_discriminator, _hinge_of_generator)


def _squares_of_discriminator(real: Array, fake: Array, *, label_smoothing: float) -> Array:
    return (jnp.mean((real - (1.0 - label_smoothing)) ** 2) + jnp.mean(fake**2)) / 2.0


def _squares_of_generator(real: Array, fake: Array) -> Array:
    return jnp.mean((fake - 1.0) ** 2) / 2.0


@functools.cache
def least_squares(label_smoothing: float = 0.0) -> Objective:
    """L_D = (E[(D(x) - t)^2] + E[D(G(z))^2]) / 2, L_G = E[(D(G(z)) - 1)^2] / 2.

    Args:
      label_smoothing: in [0, 1), one-sided: the real label t is 1 minus this.

    Raises:
      ValueError: for smoothing out of its bounds.

    References:
      Mao et al., Least Squares Generative Adversarial Networks, 2017.
    """
    return Objective(_smoothed(_squares_of_discriminator, label_smoothing), _squares_of_generator)


def _relativistic_of_discriminator(real: Array, fake: Array) -> Array:
    if real.shape != fake.shape:
        raise ValueError(
            f"relativistic losses pair real logits {real.shape} with fake ones {fake.shape}; "
            "make their shapes equal"
        )
    return jnp.mean(softplus(fake - real))


def _relativistic_of_generator(real: Array, fake: Array) -> Array:
    return _relativistic_of_discriminator(fake, real)


@functools.cache
def relativistic() -> Objective:
    """L_D = E[softplus(D(G(z)) - D(x))], L_G = E[softplus(D(x) - D(G(z)))].

    Each expectation is over pairs of one real and one fake example, so both have one shape; the
    losses raise `ValueError` where not.

    References:
      Jolicoeur-Martineau, The Relativistic Discriminator, 2018.
    """
    return Objective(_relativistic_of_discriminator, _relativistic_of_generator)


def _wasserstein_of_discriminator(real: Array, fake: Array) -> Array:
    return jnp.mean(fake) - jnp.mean(real)


def _wasserstein_of_generator(real: Array, fake: Array) -> Array:
    return -jnp.mean(fake)


@functools.cache
def wasserstein() -> Objective:
    """L_D = E[D(G(z))] - E[D(x)], L_G = -E[D(G(z))].

    -L_D is a distance of the distributions only while the discriminator's slope is bounded, as a
    gradient penalty does.

    References:
      Arjovsky, Chintala and Bottou, Wasserstein GAN, 2017.
    """
    return Objective(_wasserstein_of_discriminator, _wasserstein_of_generator)


# By name, on the command line and in the tests.
OBJECTIVES = (nonsaturating, minimax, hinge, least_squares, relativistic, wasserstein)
