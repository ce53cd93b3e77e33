"""What every run does between its steps: its hooks, in order."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from jaxgan.alarms import going_back, looking
from jaxgan.config import RunOptions
from jaxgan.errors import RunError
from jaxgan.run import hooks, processes, profile, signals
from jaxgan.run.beginning import Begun
from jaxgan.run.hooks import Hook, Moment


def saving(here: Begun) -> Any:
    """moment -> None: writes a checkpoint, of a state that is finite."""

    def save(moment: Moment) -> None:
        here.check_held()
        latest = here.saver.latest()
        watch = here.subject.watch
        watch.state(moment.state, moment.step, latest)
        sums = here.means.kept(moment.step, latest)
        told = {**sums, **watch.kept(), "seconds": here.clock.seconds()}
        told["rollbacks"] = here.past.times
        for line in here.saver.save(moment.state, here.feed.position(), told):
            here.log.say(line)

    return save


@contextlib.contextmanager
def saving_first(here: Begun, moment: Callable[[], Moment]) -> Iterator[None]:
    """Saves the state where a hook of the user's raises, or ends the program: the steps are whole.

    Args:
      moment: () -> the run as it is where that happens.
    """
    try:
        yield
    except (RunError, signals.Stopped):  # of our own, such as a state that is not finite
        raise
    except BaseException:
        if here.saver.latest() != (now := moment()).step:
            with contextlib.suppress(RunError):
                saving(here)(now)
                here.saver.wait()
        raise


def finite_or_back(
    here: Begun, run: RunOptions, workdir: pathlib.Path, moment: Callable[[], Moment]
) -> Any:
    """A context in which numbers that are not finite are told by name, or take the run back."""
    return going_back.from_not_finite(here, run, workdir, lambda: moment().state)


def hooks_of(
    here: Begun,
    run: RunOptions,
    workdir: pathlib.Path,
    callback: Any,
    signalled: list[str],
    profiled: bool,
) -> list[Hook]:
    """The hooks of a run: what is traced, logged, measured, saved, sampled, called back and
    looked after."""
    every = run.log
    found = [
        here.subject.logging(here.log, here.clock, here.feed.steps_per_epoch),
        *_evaluating(here, run.evaluate_every),
        Hook(every.checkpoint_every, saving(here)),
        hooks.sampling_every(here.log, every.sample_every, here.sampler),
    ]
    if profiled and processes.is_first():
        found.insert(0, profile.hook(workdir / "profile", every.every, here.subject.game))
    if callback:
        found.append(hooks.calling_back(callback, every.every, signalled))
    if looks := looking.hook(here, run, workdir, saving(here)):
        found.append(looks)
    return found


def _evaluating(here: Begun, every: int | None) -> list[Hook]:
    if every is None:
        return []
    from jaxgan.run import evaluating  # which imports all measures

    return [evaluating.hook(here, every)]
