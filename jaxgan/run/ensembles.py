"""An ensemble as what a run trains: its members' data, program, samples, records and numbers."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgan import data, members
from jaxgan.config import RunOptions, check_run
from jaxgan.data import Feed, Source
from jaxgan.errors import RunError, UserError
from jaxgan.game import Game, GANState, init
from jaxgan.run import finite, first, hooks, parallel, parts
from jaxgan.run.first import Features
from jaxgan.run.hooks import Clock, Hook, Moment, Samples
from jaxgan.run.parallel import Program, Way
from jaxgan.run.records import Records, Silence
from jaxgan.run.subject import Asked, Subject


class Ensemble(NamedTuple):
    """Members that one run trains.

    Attributes:
      names: of the members, whole numbers.
      seeds: of each member's weights, noise and data order.
      numbers: {name: one of each member}.
      make: (features, {name: a number, or one that is traced}) -> Game.
      together: at most how many of them a program takes at once; None to measure.
    """

    names: tuple[int, ...]
    seeds: tuple[int, ...]
    numbers: dict[str, tuple[float, ...]]
    make: Callable[[Features, dict[str, Any]], Game]
    together: int | None = None


def asked(ensemble: Ensemble) -> Asked:
    """An ensemble as what is to be trained."""
    return Asked(partial(_devices, len(ensemble.names)), partial(_subject, ensemble))


def _devices(count: int, run: RunOptions) -> tuple[list[Any], list[str]]:
    """As many devices as the members can be divided over."""
    if jax.process_count() > 1:
        raise UserError(
            f"a sweep is of one process, here are {jax.process_count()}; begin it without them"
        )
    if run.alarms in ("stop", "rollback"):
        raise UserError(
            f"alarms={run.alarms} is for a run of one member, a sweep has no alarms; leave it out"
        )
    there = jax.device_count()
    wanted = run.devices or there
    if wanted > there:
        raise UserError(f"devices={wanted} but this machine has {there}; use at most {there}")
    most = max(n for n in range(1, wanted + 1) if count % n == 0)
    if run.devices and most < wanted:
        raise UserError(
            f"devices={wanted} cannot share {count} members of a program; use {most}, or leave "
            "out --devices"
        )
    check_run(dataclasses.replace(run, devices=1), 1)  # a batch lies on one of them
    lines = [f"{count} members on {most} of {there} devices, which can share them"]
    return parallel.chosen_devices(most), lines if most < wanted else []


def _subject(ensemble: Ensemble, features: Features, run: RunOptions) -> Subject:
    count = len(ensemble.names)
    numbers = {name: np.asarray(values, np.float32) for name, values in ensemble.numbers.items()}

    def making(numbers: dict[str, Any]) -> Game:
        return first.game_of(lambda example: ensemble.make(example, numbers), features, run.dtype)

    games = [
        making({name: values[i] for name, values in ensemble.numbers.items()}) for i in range(count)
    ]
    of_one = first.template_of(games[0], features, run)
    batch = first.batch_of(features, run.batch_size)
    watch = Watch(ensemble.names)

    def first_state() -> GANState:
        one = first.computed_once(lambda numbers, key: init(making(numbers), key, batch))
        of_members = [
            one({name: values[i] for name, values in numbers.items()}, jax.random.key(seed))
            for i, seed in enumerate(ensemble.seeds)
        ]
        return first.computed_once(members.joined)(of_members)

    def check(devices: int) -> None:
        first.check_step(games[0], of_one, features, run, 1)

    def fingerprint() -> str:
        return f"{first.fingerprint(games[0], of_one, features, run)} of {count} members"

    def feed(source: Source, devices: list[Any], progress: bool) -> Feed:
        limits = run.data.resident_limit_mb, run.data.read_threads
        order = run.batch_size, ensemble.seeds, slice(None)
        return data.make_feed(source, *order, *limits, progress)

    def program(feed: Feed, devices: list[Any], way: Way) -> Program:
        shared = parts.Shared(making, numbers, count, run.batch_size, feed.fetch)
        return parts.make_program(shared, devices, way)

    def logging(log: Records | Silence, clock: Clock, steps_per_epoch: int) -> Hook:
        return _logging(watch, log, run.log.every, clock, steps_per_epoch)

    return Subject(
        game=games[0],
        template=stacked(of_one, count),
        first=first_state,
        check=check,
        fingerprint=fingerprint,
        feed=feed,
        examples=count * run.batch_size,
        program=program,
        samples=partial(_samples, ensemble, games, of_one, run, watch),
        logging=logging,
        watch=finite.Watch(watch.metrics, watch.state, watch.restored, watch.kept),
        ways=partial(_ways, count, ensemble.together),
        rates=partial(_rates, count),
    )


def stacked(of_one: GANState, count: int) -> GANState:
    """The shapes of the state of `count` members, from those of one."""
    return jax.eval_shape(lambda state: members.joined([state] * count), of_one)


def _ways(count: int, together: int | None, ways: list[Way], devices: int) -> list[Way]:
    """The first way with parts of any size, the others with all members at once."""
    found = parts.sizes(count, devices)
    if together:
        fitting = [n for n in range(devices, count + 1, devices) if count % n == 0]
        found = [max([n for n in fitting if n <= together], default=fitting[0])]
    of_first = [ways[0]._replace(together=size) for size in found]
    return of_first + [way._replace(together=found[-1]) for way in ways[1:]]


def _rates(count: int, found: Any, best: Any, steps: int) -> str:
    """Steps of a member in a second: of what was taken and of what it is compared with, which on
    one device is the rate of a run alone."""
    if not (best.seconds and found[0].seconds):
        return ""
    taken, plain = (count * steps / of.median for of in (best, found[0]))
    beside = "" if best is found[0] else f", {plain:.4g} {found[0].name.partition(' (')[0]}"
    return f"; {taken:.4g} member-steps/s{beside}"


def _samples(
    ensemble: Ensemble,
    games: list[Game],
    of_one: GANState,
    run: RunOptions,
    watch: "Watch",
    source: Source,
) -> Samples:
    """Grids of each member that goes on, as its run alone makes them."""
    numbers = [tuple(of[i] for of in ensemble.numbers.values()) for i in range(len(games))]
    makers = {}  # compiled once for members of the same numbers
    for own, game in zip(numbers, games):
        if own not in makers:
            makers[own] = hooks.sampler_of_seeds(game, of_one, source, run)
    alone = jax.jit(members.alone)  # compiled once for all members

    def grids(state: GANState) -> dict[str, dict[str, Any]]:
        found = {}
        for i in watch.going():
            sample, _ = makers[numbers[i]]
            found[f"member_{ensemble.names[i]}"] = sample(alone(state, i), ensemble.seeds[i])
        return found

    return Samples(grids, makers[numbers[0]][1])


class AllEnded(RunError):
    """No member has finite numbers any more; ended: name -> [step, what was not finite]."""

    def __init__(self, text: str, ended: dict[int, list[Any]]) -> None:
        super().__init__(text)
        self.ended = ended


class Watch:
    """Over the numbers of members. One that is not finite ends its member and no other: members
    need nothing of each other. It is told once, and has no further records.

    Args:
      names: of the members.
    """

    def __init__(self, names: Sequence[int]) -> None:
        self.names, self._lines = names, list[str]()
        self._ended: dict[int, list[Any]] = {}  # name -> [step, what was not finite]

    def going(self) -> list[int]:
        """The places of the members that did not end."""
        return [index for index, name in enumerate(self.names) if name not in self._ended]

    def lines(self) -> list[str]:
        """What is to be told since this was last asked."""
        told, self._lines = self._lines, []
        return told

    def kept(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        return {"ended": {str(name): about for name, about in self._ended.items()}}

    def metrics(self, pending: list[Any], step: int, saved: int) -> dict[str, np.ndarray]:
        """As `finite.checked_metrics`, leaves [steps, n], with 0 for members that ended.

        Raises:
          AllEnded: where no member goes on.
        """
        n = len(self.names)
        told = [parts.told(n, metrics) for metrics in jax.device_get(pending)]
        if not told or not told[0]:
            return {}
        series = {
            name: np.concatenate([np.reshape(m[name], (-1, n)).astype(np.float64) for m in told])
            for name in told[0]
        }
        begins = finite.first_of(series, step)
        for index in range(n):
            found = [
                (int(np.argmin(f)), name) for name, f in _finite_of(series, index) if not all(f)
            ]
            if found:
                at, name = min(found)
                self._end(index, begins + at, name, saved)
                for values in series.values():
                    values[:, index] = 0.0
        return series

    def state(self, state: GANState, step: int, saved: int) -> None:
        """As `finite.check_state`: ends members whose state is not finite."""
        for index, name in _not_finite(state, len(self.names)).items():
            self._end(index, step, name, saved)

    def restored(self, state: GANState, workdir: pathlib.Path, records: Any) -> None:
        """Takes over what a checkpoint keeps; refuses a state that is not finite elsewhere."""
        kept = (records or {}).get("ended", {})
        self._ended = {int(name): about for name, about in kept.items()}
        for index, name in _not_finite(state, len(self.names)).items():
            if self.names[index] not in self._ended:
                raise RunError(
                    f"the checkpoint of step {int(state.step)} in {workdir} is not finite in "
                    f"member {self.names[index]}: {name}; move it out of "
                    f"{workdir / 'checkpoints'} to use the one before"
                )

    def _end(self, index: int, step: int, name: str, saved: int) -> None:
        member = self.names[index]
        if member not in self._ended:
            self._ended[member] = [step, name]
            self._lines.append(
                f"member {member} ended: {name} is not finite at step {step}; the others go on"
            )
        if len(self._ended) == len(self.names):
            raise AllEnded(
                f"all {len(self.names)} members are not finite, the last of them {member} at step "
                f"{step} ({name}); {finite.kept(saved)}",
                self._ended,
            )


def _finite_of(series: dict[str, np.ndarray], index: int) -> list[tuple[str, Any]]:
    return [(name, np.isfinite(values[:, index])) for name, values in series.items()]


def _not_finite(state: GANState, count: int) -> dict[int, str]:
    """Which members have an array that is not finite, and its name."""
    if finite.first_not_finite(state) is None:
        return {}
    host = jax.device_get(state.players)
    found = {}
    for index in range(count):
        own = jax.tree.map(lambda leaf, at=index: leaf[at], host)
        if name := finite.first_not_finite({"players": own}):
            found[index] = name
    return found


def _logging(
    watch: Watch, log: Records | Silence, every: int, clock: Clock, steps_per_epoch: int
) -> Hook:
    """A record of each member, and the mean over those that go on for the user."""

    def do(moment: Moment) -> None:
        rate, seconds = round(clock.rate(moment.step), 1), round(clock.seconds(), 3)
        time = {"seconds": seconds, "examples_per_second": rate}
        going = watch.going()
        epoch = {"epoch": moment.step / steps_per_epoch}
        of_members = [
            {
                "step": moment.step,
                "member": watch.names[i],
                **epoch,
                **{name: float(values[i]) for name, values in moment.metrics.items()},
                **time,
            }
            for i in going
        ]
        for line in watch.lines():
            log.say(line)
        means = {name: float(np.mean(values[going])) for name, values in moment.metrics.items()}
        log.metrics({"step": moment.step, **epoch, **means, **time}, of_members)

    return Hook(every, do, end=watch.lines)
