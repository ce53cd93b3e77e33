"""The moves of the usual GAN: a discriminator tells real from fake, a generator passes its fakes off as real."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan import checks
from jaxgan.augment import NO_AUGMENT, Augment
from jaxgan.calling import Apply, traits
from jaxgan.game import Batch, Game, Move, Outcome, Play, Player, drawn
from jaxgan.heads import Objectives, over_heads, scores, verdicts
from jaxgan.penalties import Critique, GeneratorPenalty, Penalty, added

Judge = Callable[..., tuple[Any, Any]]


def adversarial(
    objective: Objectives,
    latent: Callable,
    generate: Callable,
    judge: Judge,
    *,
    penalties: tuple[Penalty, ...] = (),
    generator_penalties: tuple[GeneratorPenalty, ...] = (),
    augment: Augment = NO_AUGMENT,
    generators: tuple[str, ...] = ("generator",),
) -> tuple[Move, Move]:
    """The discriminator's move and the generator's, in the order in which they are usually made.

    Args:
      objective: of logits. Where these are a pytree of several heads, their losses add up; a dict
        gives each head its own.
      latent, generate: those of the game.
      judge: (apply, examples, state=None) -> (logits, state of player "discriminator"), see `critic`.
      penalties, generator_penalties: added to the losses, see `jaxgan.penalties`.
      augment: what is judged in place of the examples, see `jaxgan.augment`.
      generators: the players that make the examples.
    """

    def made_in(play: Play) -> tuple[Any, Batch, dict[str, Any]]:
        latents = drawn(latent, play.keys, "latent")
        made, states = generate(play.apply, latents, play.batch)
        checks.check_made(play.batch, made)
        return latents, made, states

    def discriminate(play: Play) -> tuple[Array, Outcome]:
        _, made, _ = made_in(play)
        real = augment.shown(play, play.batch, made.keys(), "real")
        fake = augment.shown(play, play.batch | made, made.keys(), "fake")

        def logits(examples: Batch) -> Any:
            return verdicts(objective, judge(play.apply, examples)[0])

        looks = traits(logits, real)
        checks.check_logits(jax.eval_shape(logits, real), real, looks.pack)
        if looks.across_batch:  # what it sees of real and of made examples must not mix
            on_real, state = judge(play.apply, real)
            on_fake, state = judge(play.apply, fake, state=state)
        else:
            both = jax.tree.map(lambda *halves: jnp.concatenate(halves), real, fake)
            on_both, state = judge(play.apply, both)
            on_real, on_fake = (
                jax.tree.map(lambda x, i=i: jnp.split(x, 2)[i], on_both) for i in (0, 1)
            )
        loss = over_heads(objective, "discriminator", on_real, on_fake)
        judged_real, judged_fake = verdicts(objective, on_real), verdicts(objective, on_fake)
        critique = Critique(logits, tuple(made), judged_real, judged_fake, looks.across_batch)
        more, values, states = added(penalties, play, critique, real, fake)
        metrics = {"loss_discriminator": loss, **scores(objective, on_real, on_fake), **values}
        states |= {"discriminator": state, **augment.adapted(play, judged_real)}
        return loss + more, Outcome(metrics, states)

    def deceive(play: Play) -> tuple[Array, Outcome]:
        latents, made, states = made_in(play)
        fake = play.batch | made
        on_fake, _ = judge(play.apply, augment.shown(play, fake, made.keys(), "fake again"))
        real = augment.shown(play, play.batch, made.keys(), "real again")
        on_real, _ = judge(play.apply, real)  # dropped by XLA where the objective ignores it
        loss = over_heads(objective, "generator", on_real, on_fake)
        more, values, kept = added(generator_penalties, play, latents, fake)
        return loss + more, Outcome({"loss_generator": loss, **values}, states | kept)

    judges = ("discriminator", *companions(augment, *penalties))
    makers = (*generators, *companions(*generator_penalties))
    return Move("discriminator", judges, discriminate), Move("generator", makers, deceive)


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
    **options: Any,
) -> Game:
    """The game of two networks: generator(latents, *given) makes a feature, discriminator(made, *given) judges it.

    Args:
      generator, discriminator: the players.
      objective, latent: as for `adversarial`.
      made: the feature that is made.
      given: features of the data that both networks are given, such as ("label",).
      critic_steps: updates of the discriminator for one of the generator, each on its part of the batch.
      dtype: what the networks compute in.
      options: further arguments of `adversarial`.
    """
    generate = maker(made, *given)
    critic_, actor = adversarial(objective, latent, generate, critic(made, *given), **options)
    moves = critic_._replace(times=critic_steps), actor
    extras = companions(
        options.get("augment", NO_AUGMENT),
        *options.get("penalties", ()),
        *options.get("generator_penalties", ()),
    )
    players = {"generator": generator, "discriminator": discriminator, **extras}
    return Game(players, moves, latent, generate, dtype)


def critic(*features: str, name: str = "discriminator") -> Judge:
    """(apply, examples, state=None) -> (logits, state), by the player called with these features in order."""

    def judge(apply: Apply, examples: Batch, state: Any = None) -> tuple[Any, Any]:
        return apply(name, *(examples[feature] for feature in features), state=state)

    return judge


def maker(made: str, *given: str, name: str = "generator") -> Callable:
    """(apply, latents, batch) -> (made, states), by the player called with latents and these features."""

    def generate(apply: Apply, latents: Any, batch: Batch) -> tuple[Batch, dict[str, Any]]:
        output, state = apply(name, latents, *(batch[feature] for feature in given))
        return {made: output}, {name: state}

    return generate


def companions(*parts: Any) -> dict[str, Player]:
    """The players without parameters with which penalties and augmentations keep state."""
    return {name: player for part in parts for name, player in part.players.items()}
