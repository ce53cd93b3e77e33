"""What a run trains, by value: the loop knows a `Subject`, and not whether it is one game or many
members."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax

from jaxgan import data, players
from jaxgan.config import RunOptions, check_run
from jaxgan.data import Feed, Source
from jaxgan.errors import UserError
from jaxgan.game import Game, GANState
from jaxgan.run import finite, first, hooks, parallel
from jaxgan.run.hooks import Clock, Hook, Samples
from jaxgan.run.parallel import Program, Way
from jaxgan.run.records import Records, Silence


def _as_they_are(ways: list[Way], devices: int) -> list[Way]:
    return ways


def _no_slower(rate: float) -> Any:
    raise UserError("what went back can go on by itself alone; train it without the others")


def _no_rates(found: Any, best: Any, steps: int) -> str:
    return ""


class Subject(NamedTuple):
    """What a run trains, on examples of known features.

    Attributes:
      game: the variant; of several members the first one's.
      template: the shapes of the state.
      first: () -> the state before the first step.
      check: devices -> None; raises `UserError` for what cannot be traced on so many.
      fingerprint: () -> what tells it from others, see `first.fingerprint`.
      feed: (source, devices, progress) -> Feed.
      examples: of a step.
      program: (feed, devices, way) -> Program.
      samples: source -> Samples.
      logging: (log, clock, steps an epoch) -> the hook that makes records.
      watch: over its numbers.
      ways: (ways of one game, devices) -> those that are open to it.
      is_looked_at: whether its health is looked after, see `jaxgan.alarms`.
      slower: rate -> the Subject whose optimizers' updates are multiplied by it.
      rates: (measured ways, the one taken, steps of a dispatch) -> what to add to their line.
    """

    game: Game
    template: GANState
    first: Callable[[], GANState]
    check: Callable[[int], None]
    fingerprint: Callable[[], str]
    feed: Callable[[Source, list[Any], bool], Feed]
    examples: int
    program: Callable[[Feed, list[Any], Way], Program]
    samples: Callable[[Source], Samples]
    logging: Callable[[Records | Silence, Clock, int], Hook]
    watch: finite.Watch = finite.STRICT
    ways: Callable[[list[Way], int], list[Way]] = _as_they_are
    is_looked_at: bool = False
    slower: Callable[[float], "Subject"] = _no_slower
    rates: Callable[[Any, Any, int], str] = _no_rates


class Asked(NamedTuple):
    """What is to be trained, before its data are opened.

    Attributes:
      devices: run -> (which devices, lines for the user); raises `UserError` where the run cannot
        be divided over them.
      subject: (features of an example, run) -> Subject.
    """

    devices: Callable[[RunOptions], tuple[list[Any], list[str]]]
    subject: Callable[[first.Features, RunOptions], Subject]


def asked(game: Game | Callable[[first.Features], Game] | Asked) -> Asked:
    """A game, or a function that makes it, as what is to be trained.

    Raises:
      UserError: for anything else.
    """
    if isinstance(game, Asked):
        return game
    first.check_given(game)
    return Asked(_divided, partial(of_game, game))


def _divided(run: RunOptions) -> tuple[list[Any], list[str]]:
    check_run(run, jax.device_count(), jax.process_count())
    return parallel.chosen_devices(run.devices), []


def of_game(
    game: Game | Callable[[first.Features], Game], features: first.Features, run: RunOptions
) -> Subject:
    """The subject of a run of one game."""
    made = first.game_of(game, features, run.dtype)
    template = first.template_of(made, features, run)

    def feed(source: Source, devices: list[Any], progress: bool) -> Feed:
        share, reading = parallel.own_share(run.batch_size), run.data
        limits = reading.resident_limit_mb, reading.read_threads
        place = parallel.placing(devices, data.streams(source, limits[0]))
        return data.make_feed(source, run.batch_size, run.seed, share, *limits, progress, place)

    def program(of: Game, feed: Feed, devices: list[Any], way: Way) -> Program:
        return parallel.make_program(of, feed.fetch, devices, way)

    def slower(rate: float) -> Subject:
        of = players.slower(made, rate)
        return subject._replace(game=of, program=partial(program, of))

    def logging(log: Records | Silence, clock: Clock, steps_per_epoch: int) -> Hook:
        return hooks.logging(log, run.log.every, clock, steps_per_epoch)

    subject = Subject(
        game=made,
        template=template,
        first=partial(first.made_state, made, features, run),
        check=partial(first.check_step, made, template, features, run),
        fingerprint=partial(first.fingerprint, made, template, features, run),
        feed=feed,
        examples=run.batch_size,
        program=partial(program, made),
        samples=partial(hooks.sampler, made, template, run=run),
        logging=logging,
        is_looked_at=True,
        slower=slower,
    )
    return subject
