"""Going back: a run that an alarm or a number that is not finite takes to its last good checkpoint.

An event in `alarms.jsonl` is all that going back writes. The run is then begun again from its
workdir, as after a kill, and the events say what differs: each folds the key of the state once
more, and slows the optimizers by its rate. So a run that is killed in between goes on with the same
bits.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from jaxgan import files
from jaxgan.alarms.listing import NOT_FINITE
from jaxgan.config import RunOptions
from jaxgan.errors import RunError, UserError
from jaxgan.files import written_whole
from jaxgan.game import GANState
from jaxgan.run import checkpoint, finite, manifest
from jaxgan.run.again import Again
from jaxgan.run.records import ALARMS, as_lines, read_metrics

_ASIDE = "rolled_back_"  # and the step, of a checkpoint that a run went back behind


class Past(NamedTuple):
    """How often a run went back.

    Attributes:
      times: in all.
      to: the step to which it last went; -1 where it never did.
      rate: by which updates of its optimizers are multiplied since.
    """

    times: int = 0
    to: int = -1
    rate: float = 1.0


def check(run: RunOptions, processes: int) -> None:
    """Raises `UserError` for a run of several processes that is to go back."""
    if run.alarms == "rollback" and processes > 1:
        raise UserError(
            f"alarms=rollback is for a run of one process, here are {processes}; use --alarms stop"
        )


def past(workdir: pathlib.Path) -> Past:
    """What the events of a workdir tell.

    Raises:
      UserError: where they cannot be read.
    """
    events = [event for event in read_metrics(workdir / ALARMS) if "to" in event]
    found = Past()
    for event in events:
        try:
            found = Past(found.times + 1, int(event["to"]), found.rate * float(event["rate"]))
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{workdir / ALARMS} does not tell how the run went back; restore it"
            ) from None
    return found


def set_aside(folder: pathlib.Path, past: Past) -> list[str]:
    """Gives checkpoints behind which a run went another name, and lines that say so.

    Args:
      folder: of checkpoints.
      past: of the run.
    """
    lines = []
    for step in checkpoint.steps_in(folder):
        if step > past.to >= 0 and _times_of(folder / str(step)) < past.times:
            name = files.set_aside(folder / str(step), f"{_ASIDE}{step}")
            lines.append(f"checkpoint {step} is kept as {name}")
    return lines


def _times_of(path: pathlib.Path) -> int:
    """How often its run had gone back when a checkpoint was made."""
    with contextlib.suppress(OSError, RunError, ValueError, KeyError, TypeError, AttributeError):
        return times_in(manifest.read(path).get("records"))
    return 0


def times_in(records: Any) -> int:
    """As a checkpoint's records tell it."""
    return int((records or {}).get("rollbacks", 0))


def events_from(workdir: pathlib.Path, step: int) -> None:
    """Takes out of `alarms.jsonl` what a killed run told of steps that are trained again; that a
    run went back stays."""
    path = workdir / ALARMS
    if not os.path.lexists(path):
        return
    events = read_metrics(path)
    last = max((i for i, event in enumerate(events) if "to" in event), default=-1)
    kept = [event for i, event in enumerate(events) if i <= last or event["step"] <= step]
    if len(kept) < len(events):
        with written_whole(path) as file:
            file.write(as_lines(kept))


def with_noise(state: GANState, times: int, past: Past) -> GANState:
    """A state with the noise of a run that went back.

    Args:
      state: that was read.
      times: how often its run had gone back when it was saved.
      past: of the run.
    """
    key = state.key
    for time in range(times, past.times):
        key = jax.random.fold_in(key, time + 1)
    return state.replace(key=key)


def target(steps: list[int], good_until: int, past: Past) -> int:
    """To which checkpoint a run goes back: the newest good one, or the one before where it went
    there last time already and got no further; 0, the beginning, where there is none.

    Args:
      steps: of the checkpoints, oldest first.
      good_until: the last step at which all was well.
      past: of the run.
    """
    good = [step for step in steps if step <= good_until]
    if good and good[-1] == past.to:
        good = good[:-1]
    return good[-1] if good else 0


def go_back(
    here: Any, run: RunOptions, workdir: pathlib.Path, event: dict[str, Any], good_until: int
) -> None:
    """Writes that the run goes back, and ends it so that it begins again; returns where it may not.

    Args:
      here: the run, a `Begun`.
      run: its options.
      workdir: of the run.
      event: what rang.
      good_until: the last step at which all was well.

    Raises:
      Again: the run is to begin again.
    """
    if here.past.times >= run.alarm.most:
        return
    with contextlib.suppress(RunError):  # what could not be saved is not gone back to
        here.saver.wait()
    to = target(checkpoint.steps_in(workdir / "checkpoints"), good_until, here.past)
    times, rate = here.past.times + 1, run.alarm.rate
    here.log.append(ALARMS, {**event, "did": "rollback", "rollback": times, "to": to, "rate": rate})
    where = f"step {to}" if to else "the beginning"
    here.log.say(
        f"going back to {where} with other noise and rates times {here.past.rate * rate:g}, "
        f"{times} of at most {run.alarm.most} times"
    )
    raise Again(f"the run goes back to {where}")


@contextlib.contextmanager
def from_not_finite(
    here: Any, run: RunOptions, workdir: pathlib.Path, state: Callable[[], Any]
) -> Iterator[None]:
    """Tells the first tensor that is not finite, and goes back where that is asked for.

    Args:
      here, run, workdir: of the run.
      state: () -> as it is where that happens.
    """
    try:
        yield
    except finite.NotFinite as error:
        tensor = error.tensor or finite.first_not_finite(state())
        if run.alarms == "off":
            raise
        told = f"; of the state, {tensor} is the first" if tensor and not error.tensor else ""
        event = {"step": error.step, "alarm": NOT_FINITE, "tensor": tensor, "says": str(error)}
        if run.alarms == "rollback":
            here.log.say(f"alarm at step {error.step}, {NOT_FINITE}: {error}{told}")
            go_back(here, run, workdir, event, error.step)
        here.log.append(ALARMS, {**event, "did": "stop"})
        raise RunError(f"{error}{told}") from None
