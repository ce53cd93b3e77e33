"""Penalties: terms of a loss beside the objective, on examples, with weights that may be schedules."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxgan.game import Batch, Play, Player

Weight = float | optax.Schedule
Value = Array | tuple[Array, dict[str, Any]]


class Critique(NamedTuple):
    """What a penalty on the discriminator looks at.

    Attributes:
      logits: examples -> logits [B, ...], any pytree: the discriminator as it is now.
      made: names of the features that the generator makes, in which slopes are taken.
      on_real, on_fake: the logits that the objective is taken of.
      across_batch: an example's logit depends on other examples.
    """

    logits: Callable[[Batch], Any]
    made: tuple[str, ...]
    on_real: Any = None
    on_fake: Any = None
    across_batch: bool = False


class Penalty(NamedTuple):
    """A term of the discriminator's loss.

    Attributes:
      name: of the metric `penalty_<name>`, the value without its weight.
      weight: times the value; a number, or a schedule of the step.
      value: (play, critique, real, fake) -> scalar, or (scalar, states); `real` and `fake` are examples as
        the discriminator is shown them.
      every: taken in every n-th step only, times n.
      players: without parameters, that keep its state, by name.
    """

    name: str
    weight: Weight
    value: Callable[[Play, Critique, Batch, Batch], Value]
    every: int = 1
    players: dict[str, Player] = {}


class GeneratorPenalty(NamedTuple):
    """A term of the generator's loss. As `Penalty`, but value: (play, latents, fake) -> scalar, or (scalar,
    states); `fake` holds the examples made from the latents."""

    name: str
    weight: Weight
    value: Callable[[Play, Any, Batch], Value]
    every: int = 1
    players: dict[str, Player] = {}


def added(
    penalties: tuple[Any, ...], play: Play, *arguments: Any
) -> tuple[Any, dict[str, Array], dict[str, Any]]:
    """The weighted sum of penalties, their values as metrics, and the states that they leave."""
    total, metrics, states = 0.0, {}, {}
    for penalty in penalties:

        def value(penalty: Any = penalty) -> tuple[Array, dict[str, Any]]:
            given = penalty.value(play, *arguments)
            return given if isinstance(given, tuple) else (given, {})

        if penalty.every == 1:
            of_penalty, kept = value()
        else:
            due = play.step % penalty.every == 0
            unchanged = {name: play.states[name] for name in jax.eval_shape(value)[1]}
            of_penalty, kept = lax.cond(due, value, lambda held=unchanged: (jnp.zeros(()), held))
        weight = penalty.weight(play.step) if callable(penalty.weight) else penalty.weight
        total = total + penalty.every * weight * of_penalty
        metrics[f"penalty_{penalty.name}"] = of_penalty
        states |= kept
    return total, metrics, states


def r1(weight: Weight, *, every: int = 1, subset: int = 1) -> Penalty:
    def value(play, critique, real, fake):
        examples = jax.tree.map(lambda x: x[::subset], real)
        (name,) = critique.made
        slopes = jax.grad(lambda image: jnp.sum(critique.logits({**examples, name: image})))(
            examples[name]
        )
        return 0.5 * jnp.mean(jnp.sum(slopes**2, axis=tuple(range(1, slopes.ndim))))

    return Penalty("r1", weight, value, every)


def companions(*parts: Any) -> dict[str, Player]:
    """The players without parameters with which penalties and augmentations keep state."""
    return {name: player for part in parts for name, player in part.players.items()}
