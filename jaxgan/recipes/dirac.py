"""The Dirac-GAN: two numbers, whose game has every way in which GANs do not converge."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from jax import Array

from jaxgan import latents, objectives
from jaxgan.augment import NO_AUGMENT, Augment, instance_noise
from jaxgan.bound import Bound
from jaxgan.errors import UserError
from jaxgan.game import Game, Player
from jaxgan.named_rules import NAMES, rule_of
from jaxgan.options import option
from jaxgan.penalties import Penalty, gradient_penalty, r1, r2
from jaxgan.recipes.recipe import recipe
from jaxgan.schedules import is_given
from jaxgan.two_players import gan


class Point(nn.Module):
    """latents [B, ...] -> [B,1]: the generator, all of whose examples are one point, theta.

    Attributes:
      start: theta before the first step.
    """

    start: float = 1.0

    @nn.compact
    def __call__(self, latents: Array) -> Array:
        theta = self.param("theta", nn.initializers.constant(self.start), ())
        return jnp.broadcast_to(theta, (len(latents), 1))


class Line(nn.Module):
    """x [B,1] -> logits [B]: the discriminator psi x.

    Attributes:
      start: psi before the first step.
    """

    start: float = 1.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return self.param("psi", nn.initializers.constant(self.start), ()) * x[:, 0]


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """Where the two numbers begin; they end at 0."""

    theta: float = option(1.0, "the generator's number before the first step")
    psi: float = option(1.0, "the discriminator's number, its slope, before the first step")


@dataclasses.dataclass(frozen=True)
class ObjectiveOptions:
    """What they minimise."""

    name: str = option(
        "minimax",
        "nonsaturating, minimax, hinge, least_squares, relativistic or wasserstein",
        choices=tuple(make.__name__ for make in objectives.OBJECTIVES),
    )
    r1_weight: float = option(0.0, "weight gamma of R1; 1 is critical for minimax", low=0.0)
    r2_weight: float = option(0.0, "weight gamma of R2, which is R1 here", low=0.0)
    gradient_penalty_weight: float = option(
        0.0, "weight of the penalty that pulls the slope to 1, as of WGAN-GP", low=0.0
    )
    instance_noise: float = option(
        0.0, "standard deviation of noise on all that is judged", low=0.0
    )


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Gradient descent of both players."""

    rule: str = option(
        "alternating",
        f"{', '.join(NAMES)}, or optimistic: simultaneous, by optimistic gradient descent",
        choices=(*NAMES, "optimistic"),
    )
    rule_weight: float = option(1.0, "weight of the rules consensus and symplectic", low=0.0)
    lookahead: int = option(
        0, "steps of the discriminator that the generator looks through (unrolled)", low=0, below=65
    )
    generator_rate: float = option(0.2, "the generator's rate", above=0.0)
    discriminator_rate: float = option(0.2, "the discriminator's rate", above=0.0)


@recipe(steps=500, data={"name": "dirac"}, log={"samples": 1})
def dirac(
    example: dict[str, Any],
    model: ModelOptions = ModelOptions(),
    objective: ObjectiveOptions = ObjectiveOptions(),
    optimizer: OptimizerOptions = OptimizerOptions(),
) -> Game:
    """The Dirac-GAN of two numbers, the testing ground of update rules and penalties.

    All real examples are 0, all made ones theta, and D(x) = psi x; theta = psi = 0 is the
    equilibrium.

    References:
      Mescheder, Geiger and Nowozin, Which Training Methods for GANs do actually Converge?, 2018.
    """
    if "point" not in example or example["point"].shape != (1,):
        shapes = {name: feature.shape for name, feature in example.items()}
        raise UserError(
            f"recipe dirac needs a feature 'point' of shape (1,); an example has {shapes}; use "
            "data.name=dirac"
        )
    descent: Any = (
        optax.optimistic_gradient_descent if optimizer.rule == "optimistic" else optax.sgd
    )
    of_point: Any = Bound(descent, optimizer.generator_rate)
    of_line: Any = Bound(descent, optimizer.discriminator_rate)
    game = gan(
        Player(Point(model.theta), of_point),
        Player(Line(model.psi), of_line),
        getattr(objectives, objective.name)(),
        latents.normal(1),
        made="point",
        penalties=_penalties(objective),
        augment=_augment(objective),
    )
    judges, makes = game.moves
    moves = judges, makes._replace(lookahead=(judges,) * optimizer.lookahead)
    return game._replace(moves=moves, rule=_rule(optimizer))


def _rule(options: OptimizerOptions) -> Any:
    if options.rule == "optimistic":
        return rule_of("simultaneous")
    if options.rule == "competitive":
        if options.generator_rate != options.discriminator_rate:
            raise UserError(
                f"optimizer.generator_rate={options.generator_rate} and "
                f"optimizer.discriminator_rate={options.discriminator_rate} differ; competitive "
                "gradient descent has one rate, make them equal"
            )
        return rule_of("competitive", options.generator_rate)
    weighted = options.rule in ("consensus", "symplectic")
    return rule_of(options.rule, options.rule_weight if weighted else None)


def _penalties(options: ObjectiveOptions) -> tuple[Penalty, ...]:
    weights = {
        r1: options.r1_weight,
        r2: options.r2_weight,
        gradient_penalty: options.gradient_penalty_weight,
    }
    return tuple(penalty(weight) for penalty, weight in weights.items() if is_given(weight))


def _augment(options: ObjectiveOptions) -> Augment:
    # At the first step and after: noise that fell to nothing would leave no fixed game.
    noise = options.instance_noise
    return instance_noise(noise) if noise else NO_AUGMENT
