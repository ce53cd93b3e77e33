"""What the recipes on which variants are compared have in common: objectives, penalties, looks and
rates that fall, as options."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import optax

from jaxgan import objectives, schedules
from jaxgan.bound import bound
from jaxgan.game import Game, Player
from jaxgan.options import option
from jaxgan.penalties import Penalty, gradient_penalty, r1, r2
from jaxgan.schedules import Scheduled, is_given
from jaxgan.two_players import gan


@dataclasses.dataclass(frozen=True)
class ObjectiveOptions:
    """What the players minimise, and through which steps the generator looks."""

    name: str = option(
        "relativistic",
        "nonsaturating, minimax, hinge, least_squares, relativistic or wasserstein",
        choices=tuple(make.__name__ for make in objectives.OBJECTIVES),
    )
    r1_weight: float = option(1.0, "weight of R1, the slope at real examples; 0: none", low=0.0)
    r2_weight: float = option(1.0, "weight of R2, the slope at made examples; 0: none", low=0.0)
    last_weight: float = option(
        1.0, "share of their weights to which R1 and R2 fall, by a cosine; 1 keeps them", low=0.0
    )
    gradient_penalty: float = option(
        0.0, "weight of the penalty that holds slopes between examples at 1; 0: none", low=0.0
    )
    dragan: float = option(
        0.0, "weight of the penalty that holds slopes about real examples at 1; 0: none", low=0.0
    )
    critic_steps: int = option(
        1, "updates of the discriminator for one of the generator", low=1, below=2**10
    )
    looks: int = option(
        0, "steps of the discriminator that the generator looks through (unrolled)", low=0, below=65
    )


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Adam of both players."""

    generator_rate: float = option(3e-3, "Adam's first learning rate, of the generator", above=0.0)
    discriminator_rate: float = option(3e-3, "that of the discriminator", above=0.0)
    last_rate: float = option(
        0.02, "share of their rates to which they fall, by a cosine; 1 keeps them", low=0.0
    )
    fall_steps: int = option(
        12_000, "steps in which rates and weights fall; then they stay", low=1, below=2**31
    )
    beta1: float = option(0.0, "Adam's decay of the first moment", low=0.0, below=1.0)
    beta2: float = option(0.99, "Adam's decay of the second moment", low=0.0, below=1.0)
    ema_decay: float | None = option(
        None, "decay per step of an averaged generator; none samples the last", low=0.0, below=1.0
    )


def variant(
    generator: nn.Module,
    discriminator: nn.Module,
    latent: Callable,
    made: str,
    objective: ObjectiveOptions,
    optimizer: OptimizerOptions,
) -> Game:
    """The game of two networks that the options describe; arguments as of `gan`."""
    game = gan(
        Player(generator, _adam(optimizer, optimizer.generator_rate), optimizer.ema_decay),
        Player(discriminator, _adam(optimizer, optimizer.discriminator_rate, objective.looks > 0)),
        getattr(objectives, objective.name)(),
        latent,
        made=made,
        critic_steps=objective.critic_steps,
        penalties=_penalties(objective, optimizer.fall_steps),
    )
    discriminate, deceive = game.moves
    looking = deceive._replace(lookahead=(discriminate._replace(times=1),) * objective.looks)
    return game._replace(moves=(discriminate, looking))


def _penalties(options: ObjectiveOptions, steps: int) -> tuple[Penalty, ...]:
    def falling(weight: float) -> Scheduled:
        if options.last_weight == 1:
            return weight
        return schedules.cosine(weight, options.last_weight * weight, steps)

    made = [
        make(falling(weight))
        for make, weight in ((r1, options.r1_weight), (r2, options.r2_weight))
        if is_given(weight)
    ]
    if is_given(options.gradient_penalty):
        made.append(gradient_penalty(options.gradient_penalty))
    if is_given(options.dragan):
        made.append(gradient_penalty(options.dragan, "dragan"))
    return tuple(made)


@bound
def _adam(
    options: OptimizerOptions, rate: float, looked_through: bool = False
) -> optax.GradientTransformation:
    schedule: Any = rate
    if options.last_rate != 1:
        schedule = schedules.cosine(rate, options.last_rate * rate, options.fall_steps)
    # The derivative of a root at exactly 0 is infinite, and units may be dead.
    root = 1e-8 if looked_through else 0.0
    return optax.adam(schedule, b1=options.beta1, b2=options.beta2, eps_root=root)
