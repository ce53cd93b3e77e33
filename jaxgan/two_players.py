"""The game of two networks, a generator and a discriminator, from its parts."""

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp

from jaxgan.augment import NO_AUGMENT
from jaxgan.bound import bound
from jaxgan.calling import Apply
from jaxgan.errors import UserError
from jaxgan.examples import feature_of
from jaxgan.game import Batch, Game, Player
from jaxgan.gan_moves import adversarial
from jaxgan.heads import Objectives
from jaxgan.judging import critic
from jaxgan.penalties import GeneratorPenalty, Penalty, companions


def gan(
    generator: Player,
    discriminator: Player,
    objective: Objectives,
    latent: Callable,
    *,
    made: str = "image",
    given: tuple[str, ...] = (),
    critic_steps: int = 1,
    dtype: Any = jnp.float32,
    examples: Callable[..., Batch] | None = None,
    **options: Any,
) -> Game:
    """The game of two networks: generator(latents, *given) and discriminator(made, *given).

    Args:
      generator, discriminator: the players.
      objective, latent: as for `adversarial`.
      made: the feature that is made.
      given: features of the data that both networks are given, such as ("label",).
      critic_steps: updates of the discriminator for one of the generator, each on its part of the
        batch.
      dtype: what the networks compute in.
      examples: of the game, such as `jaxgan.flips.flips("image")`.
      options: further arguments of `adversarial`.
    """
    options = {
        # Iterators among them would be empty after the first look.
        n: tuple(parts) if n in _PARTS and isinstance(parts, Iterable) else parts
        for n, parts in options.items()
    }
    _check_parts(generator, discriminator, latent, given, options)
    generate = maker(made, *given)
    critic_, actor = adversarial(objective, latent, generate, critic(made, *given), **options)
    moves = critic_._replace(times=critic_steps), actor
    extras = companions(
        options.get("augment", NO_AUGMENT),
        *options.get("penalties", ()),
        *options.get("generator_penalties", ()),
    )
    players = {"generator": generator, "discriminator": discriminator}
    if taken := sorted(players.keys() & extras.keys()):
        raise UserError(f"a penalty or augmentation keeps state as player {taken[0]!r}; rename it")
    players |= extras
    return Game(players, moves, latent, generate, dtype, examples=examples)


_PARTS = {"penalties": Penalty, "generator_penalties": GeneratorPenalty}


def _check_parts(
    generator: Any, discriminator: Any, latent: Any, given: Any, options: dict[str, Any]
) -> None:
    """Refuses what is easily given in place of a part of a game."""
    for name, player in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(player, Player):
            kind = type(player).__name__
            raise UserError(f"{name} is {kind}; give Player(module, optimizer)")
    if not callable(latent):
        raise UserError(
            f"latent={latent!r} is no function of a key; use latents.normal({latent!r})"
        )
    if isinstance(given, str):
        raise UserError(f"given={given!r} is text; give a tuple of features: ({given!r},)")
    for name, kind in _PARTS.items():
        parts = options.get(name, ())
        if not isinstance(parts, tuple) or not all(isinstance(part, kind) for part in parts):
            raise UserError(
                f"{name} holds what is no {kind.__name__}; give a tuple of called ones, (r1(0.1),)"
            )


@bound
def maker(made: str, *given: str, name: str = "generator") -> Callable:
    """(apply, latents, batch) -> (made, states), by a player called with latents and features.

    Args:
      made: the feature that it makes.
      given: features of the batch that it is given, in order.
      name: of the player.
    """

    def generate(apply: Apply, latents: Any, batch: Batch) -> tuple[Batch, dict[str, Any]]:
        output, state = apply(name, latents, *(feature_of(batch, feature) for feature in given))
        return {made: output}, {name: state}

    return generate
