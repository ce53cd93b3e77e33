"""Objectives that look at the conditions of examples."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from jaxgan.bound import bound
from jaxgan.calling import Apply
from jaxgan.examples import feature_of
from jaxgan.game import Batch, Move
from jaxgan.gan_moves import adversarial
from jaxgan.judging import Judge
from jaxgan.objectives import Loss, Objective


def auxiliary_classifier(
    objective: Objective,
    latent: Callable,
    generate: Callable,
    judge: Judge,
    *,
    label: str = "label",
    weight: float = 1.0,
    generator_weight: float | None = None,
    **options: Any,
) -> tuple[Move, Move]:
    """The two moves of AC-GAN: the discriminator also learns the labels, and the generator to be
    recognised.

    With the cross-entropies C_real and C_fake, in nats, of the labels of real and of made examples,
    L_D = objective + weight (C_real + C_fake) and L_G = objective + generator_weight C_fake. The
    losses in the metrics hold them; `class_real` and `class_fake` are C_real and C_fake.

    Args:
      objective: of the head "logit" alone; so are penalties.
      latent, generate, judge: as for `adversarial`, but the discriminator gives {"logit": [B, ...],
        "class": [B, classes]}, see `jaxgan.models.ClassHead`.
      label: the feature of integer labels [B].
      weight: of the classes in the discriminator's loss.
      generator_weight: in the generator's; None for the same.
      options: further arguments of `adversarial`.

    References:
      Odena, Olah and Shlens, Conditional Image Synthesis with Auxiliary Classifier GANs, 2017.
    """
    for_generator = weight if generator_weight is None else generator_weight

    classes = Objective(_of_both(weight), _of_fake(for_generator), auxiliary=True)
    heads = {"logit": objective, "class": classes}
    return adversarial(heads, latent, generate, _with_labels(judge, label), **options)


@bound
def _with_labels(judge: Judge, label: str) -> Judge:
    """The judge, with the cross-entropies of the labels in place of the classes."""

    def judged(apply: Apply, examples: Batch, state: Any = None) -> tuple[Any, Any]:
        outputs, state = judge(apply, examples, state=state)
        labels = feature_of(examples, label)
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs["class"], labels)
        losses = jnp.where(labels < 0, jnp.nan, losses)  # as for one beyond the classes
        return {"logit": outputs["logit"], "class": losses}, state

    return judged


@bound
def _of_both(weight: float) -> Loss:
    def loss(real: Array, fake: Array) -> Array:
        return weight * (jnp.mean(real) + jnp.mean(fake))

    return loss


@bound
def _of_fake(weight: float) -> Loss:
    def loss(real: Array, fake: Array) -> Array:
        return weight * jnp.mean(fake)

    return loss
