"""What a run does between its steps: the loop knows hooks, and no feature by name."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxgan.game import GANState
from jaxgan.run.records import Records, Silence

Metrics = dict[str, float]


class Moment(NamedTuple):
    """A run between two steps, where the host waits for the devices anyway.

    Attributes:
      step: finished steps.
      state: this process's copy.
      metrics: of the last step, all finite.
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


def _nothing(moment: Moment) -> None: ...


def _no_time(what: Any) -> float:
    return 0.0


class Hook(NamedTuple):
    """Something that a run does every so many steps, and at its end.

    Attributes:
      every: steps; the same in all processes.
      do: called at each multiple of `every` and at the last step. With several processes each calls it; it
        may not communicate.
      before: called before each dispatch; returns the seconds that it took of the devices' time, which count
        for no rate.
      after: the same after each dispatch, with the state.
    """

    every: int
    do: Callable[[Moment], None] = _nothing
    before: Callable[[Dispatch], float] = _no_time
    after: Callable[[Any], float] = _no_time


class Clock:
    """Examples a second since the last time that was asked. The first dispatch, which compiles, is left out."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size, self._since, self._step = batch_size, None, 0

    def dispatched(self, step: int) -> None:
        """The steps up to `step` are under way."""
        if self._since is None:
            self._since, self._step = time.perf_counter(), step

    def skip(self, seconds: float) -> None:
        """That long no step could run."""
        if self._since is not None:
            self._since += seconds

    def rate(self, step: int) -> float:
        """Examples a second up to `step`; 0 where nothing but the first dispatch ran."""
        now = time.perf_counter()
        steps, seconds = step - self._step, now - (self._since or now)
        self._since, self._step = now, step
        return steps * self._batch_size / seconds if steps > 0 and seconds > 0 else 0.0


def logging(log: Records | Silence, every: int, clock: Clock) -> Hook:
    """A line of metrics."""

    def do(moment: Moment) -> None:
        rate = round(clock.rate(moment.step), 1)
        log.metrics({"step": moment.step, **moment.metrics, "examples_per_second": rate})

    return Hook(every, do)


def checkpointing(save: Callable[[GANState, int], None], every: int) -> Hook:
    """A checkpoint."""

    def do(moment: Moment) -> None:
        save(moment.state, moment.step)

    return Hook(every, do)


def sampling(log: Records, every: int, sample: Callable[[GANState], Any]) -> Hook:
    """A grid of samples."""

    def do(moment: Moment) -> None:
        log.samples(moment.step, sample(moment.state))

    return Hook(every, do)


def calling_back(
    callback: Callable[[int, Metrics], Any], every: int, stopped: list[str]
) -> Hook:
    """callback(step, metrics), which stops the run where it returns something true."""

    def do(moment: Moment) -> None:
        if callback(moment.step, moment.metrics):
            stopped.append("the callback")

    return Hook(every, do)
