"""The moves of the usual GAN: one player tells real examples from made ones, another makes them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from jaxgan import checks
from jaxgan.augment import NO_AUGMENT, Augment
from jaxgan.bound import arguments_of, bound
from jaxgan.examples import drawn
from jaxgan.game import Batch, Game, Move, Outcome, Play
from jaxgan.heads import Objectives, over_heads, scores
from jaxgan.judging import Judge, judged
from jaxgan.penalties import GeneratorPenalty, Penalty, added, companions


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
    """The discriminator's move and the generators', in the order in which they are usually made.

    Args:
      objective: of logits; heads of a pytree add up, and a dict gives each head its own.
      latent, generate: those of the game.
      judge: by player "discriminator", see `jaxgan.judging`.
      penalties, generator_penalties: added to the losses, see `jaxgan.penalties`.
      augment: what is judged in place of examples, see `jaxgan.augment`.
      generators: the players that make examples.
    """

    penalties, generator_penalties = tuple(penalties), tuple(generator_penalties)
    examples = _made_in(latent, generate)
    discriminate = _discriminate(objective, examples, judge, penalties, augment)
    deceive = _deceive(objective, examples, judge, generator_penalties, augment)
    judges = "discriminator", *companions(augment, *penalties)
    makers = *generators, *companions(*generator_penalties)
    return Move("discriminator", judges, discriminate), Move("generator", makers, deceive)


class Judgement(NamedTuple):
    """How the discriminator of a game judges: arguments of `adversarial`."""

    objective: Objectives
    judge: Judge
    augment: Augment


def judgement(game: Game) -> Judgement | None:
    """How a game judges whether an example is real; None for one without a move of `adversarial`,
    of which that is not known."""
    for move in game.moves:
        if given := arguments_of(move.loss, _discriminate):
            return Judgement(given["objective"], given["judge"], given["augment"])
    return None


@bound
def _made_in(latent: Callable, generate: Callable) -> Callable:
    """play -> (latents, made, states)."""

    def made_in(play: Play) -> tuple[Any, Batch, dict[str, Any]]:
        latents = drawn(latent, play.keys, "latent")
        made, states = generate(play.apply, latents, play.batch)
        checks.check_made(play.batch, made)
        return latents, made, states

    return made_in


@bound
def _discriminate(
    objective: Objectives,
    made_in: Callable,
    judge: Judge,
    penalties: tuple[Penalty, ...],
    augment: Augment,
) -> Callable[[Play], tuple[Array, Outcome]]:
    """The discriminator's loss."""

    def discriminate(play: Play) -> tuple[Array, Outcome]:
        _, made, _ = made_in(play)
        real = augment.shown(play, play.batch, made.keys(), "real")
        fake = augment.shown(play, play.batch | made, made.keys(), "fake")
        on_real, on_fake, state, critique = judged(play, judge, objective, real, fake, made)
        loss = over_heads(objective, "discriminator", on_real, on_fake)
        more, values, states = added(penalties, play, critique, real, fake)
        adapted = augment.adapted(play, critique.on_real)
        seen = scores(objective, on_real, on_fake) | adapted.metrics
        states |= {"discriminator": state, **adapted.states}
        return loss + more, Outcome({"loss_discriminator": loss, **seen, **values}, states)

    return discriminate


@bound
def _deceive(
    objective: Objectives,
    made_in: Callable,
    judge: Judge,
    generator_penalties: tuple[GeneratorPenalty, ...],
    augment: Augment,
) -> Callable[[Play], tuple[Array, Outcome]]:
    """The generators' loss."""

    def deceive(play: Play) -> tuple[Array, Outcome]:
        latents, made, states = made_in(play)
        fake = play.batch | made
        on_fake, _ = judge(play.apply, augment.shown(play, fake, made.keys(), "fake again"))
        real = augment.shown(play, play.batch, made.keys(), "real again")
        on_real, _ = judge(play.apply, real)  # dropped by XLA where it is ignored
        loss = over_heads(objective, "generator", on_real, on_fake)
        more, values, kept = added(generator_penalties, play, latents, fake)
        return loss + more, Outcome({"loss_generator": loss, **values}, states | kept)

    return deceive
