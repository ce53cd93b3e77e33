"""What a run does between its steps: the loop knows hooks, and no feature by name."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgan import sampling
from jaxgan.config import RunOptions
from jaxgan.data import Source
from jaxgan.data.columns import pixels_of
from jaxgan.data.reading import checked_read
from jaxgan.game import Game, GANState
from jaxgan.run.records import Records, Silence

Metrics = dict[str, Any]  # numbers, or of several members arrays [n]


class Moment(NamedTuple):
    """A run between two steps, where the host waits for the devices anyway.

    Attributes:
      step: finished steps.
      state: this process's copy.
      metrics: means over the steps since the last record before this moment; all finite.
    """

    step: int
    state: GANState
    metrics: Metrics


class Dispatch(NamedTuple):
    """Steps that are about to be sent to the devices.

    Attributes:
      step: finished steps before it.
      count: how many it holds.
      until: the step at which a hook is due next.
      program: the compiled program of these steps.
      arguments: of the program.
    """

    step: int
    count: int
    until: int
    program: Any
    arguments: Any


def _nothing(what: Any) -> None: ...


def _no_lines() -> list[str]:
    return []


class Hook(NamedTuple):
    """Something that a run does every so many steps, and at its end.

    Attributes:
      every: steps; the same in all processes.
      do: called at each multiple of `every` and at the last step. With several processes each calls
        it; it may not communicate.
      before: called before each dispatch; like `do` and `after` it may return the seconds in which
        it kept the devices waiting, which count for no rate.
      after: called after each dispatch, with the state.
      end: () -> lines for the user, at the end of the run.
    """

    every: int
    do: Callable[[Moment], float | None] = _nothing
    before: Callable[[Dispatch], float | None] = _nothing
    after: Callable[[Any], float | None] = _nothing
    end: Callable[[], list[str]] = _no_lines


class Clock:
    """How long a run has trained, by a clock that never goes back, and how fast.

    Args:
      batch_size: examples of a step.
      before: seconds in which the run trained before it was stopped.
    """

    def __init__(self, batch_size: int, before: float = 0.0) -> None:
        self._batch_size, self._since, self._step = batch_size, None, 0
        self._began, self._before = time.perf_counter(), before

    def begin(self) -> None:
        """The first step is about to be sent."""
        self._began = time.perf_counter()

    def seconds(self) -> float:
        """Since the run's first step, with all that it did between steps, without the times in
        which it was stopped and without steps that were lost and are trained again."""
        return self._before + time.perf_counter() - self._began

    def dispatched(self, step: int) -> None:
        """The steps up to `step` are under way."""
        if self._since is None:
            self._since, self._step = time.perf_counter(), step

    def skip(self, seconds: float) -> None:
        """That long no step could run."""
        if self._since is not None:
            self._since += seconds

    def rate(self, step: int) -> float:
        """Examples a second since this was last asked, up to `step`. The first dispatch, which
        compiles, is left out; 0 where nothing else ran."""
        now = time.perf_counter()
        steps, seconds = step - self._step, now - (self._since or now)
        self._since, self._step = now, step
        return steps * self._batch_size / seconds if steps > 0 and seconds > 0 else 0.0


def logging(log: Records | Silence, every: int, clock: Clock, steps_per_epoch: int) -> Hook:
    """A record: the step, the epoch as a fraction, the metrics, and the time."""

    def do(moment: Moment) -> None:
        rate, seconds = round(clock.rate(moment.step), 1), round(clock.seconds(), 3)
        where = {"step": moment.step, "epoch": moment.step / steps_per_epoch}
        time = {"seconds": seconds, "examples_per_second": rate}
        log.metrics({**where, **moment.metrics, **time})

    return Hook(every, do)


class Samples(NamedTuple):
    """grids: state -> examples by the folder below `samples` in which they are shown, of the same
    latents each time; conditions: what they are made from."""

    grids: Callable[[GANState], dict[str, dict[str, Any]]]
    conditions: dict[str, Any]


def sampler(game: Game, state: GANState, source: Source, run: RunOptions) -> Samples:
    """The samples of a run, see `sampler_of_seeds`."""
    sample, conditions = sampler_of_seeds(game, state, source, run)

    def grids(state: GANState) -> dict[str, dict[str, Any]]:
        return {"": sample(state, run.seed)}

    return Samples(grids, conditions)


def sampler_of_seeds(
    game: Game, state: GANState, source: Source, run: RunOptions
) -> tuple[Callable[[GANState, int], dict[str, Any]], dict[str, Any]]:
    """((state, seed) -> the samples of a run of that seed, whose latents are the seed's; what they
    are conditioned on, the first examples of the data). Of `state` only shapes count."""
    names = sampling.conditions_of(game, state, source.features)
    conditions = {}
    if names:
        examples = checked_read(source, np.arange(min(run.log.samples, source.count)))
        conditions = {name: examples[name] for name in names}
    pixels = pixels_of(source.features)
    maker = sampling.Sampler(game, pixels)

    def sample(state: GANState, seed: int) -> dict[str, Any]:
        return maker.sample(state, jax.random.key(seed), run.log.samples, conditions)

    return sample, conditions


def sampling_every(log: Records | Silence, every: int, sample: Samples | None) -> Hook:
    """Grids of samples; nothing in a process that does not write."""

    def do(moment: Moment) -> None:
        if sample is None:
            return
        grids = sample.grids(moment.state)
        log.wait()
        for folder, examples in grids.items():
            log.samples(moment.step, examples, folder)

    return Hook(every, do)


def calling_back(callback: Callable[[int, Metrics], Any], every: int, stopped: list[str]) -> Hook:
    """callback(step, metrics), with the means of the record of this step, which stops the run
    where it returns something true."""

    def do(moment: Moment) -> None:
        if callback(moment.step, moment.metrics):
            stopped.append("the callback")

    return Hook(every, do)
