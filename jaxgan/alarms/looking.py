"""The hook that looks: it measures, asks the alarms, and does what the run's options say."""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxgan import data
from jaxgan.alarms.alarm import MOST_LOOKS, Alarm, Look, Rung, Window
from jaxgan.alarms.going_back import go_back
from jaxgan.alarms.listing import ALARMS as EVERY_ALARM
from jaxgan.alarms.measures import measures
from jaxgan.config import RunOptions, step_options
from jaxgan.data import Source
from jaxgan.data.order import evenly
from jaxgan.data.reading import checked_read
from jaxgan.errors import AlarmStop, UserError, line_of
from jaxgan.game import Batch, Game
from jaxgan.kernels import using
from jaxgan.run import runtime
from jaxgan.run.hooks import Hook, Moment
from jaxgan.run.records import ALARMS, LOOKS, read_metrics


class Examples(NamedTuple):
    """The examples of every look: real ones of training, and those held out, leaves [B, ...]."""

    real: Batch
    held_out: Batch | None


def interval(run: RunOptions) -> int:
    """Steps between looks: the lines of the log that are at least `alarm.every` steps apart."""
    return -(-run.alarm.every // run.log.every) * run.log.every


def looks_at_all(run: RunOptions, step: int) -> bool:
    """Whether a run that stands at a step will look."""
    every = interval(run)
    return run.alarms != "off" and run.steps // every > step // every


def held_out_of(source: Source, given: Any, run: RunOptions) -> Source | None:
    """The examples that are held out from training, None for none.

    Args:
      source: of training.
      given: what that was opened from.
      run: the options.

    Raises:
      UserError: data that were not named, the split of training itself, or other features.
    """
    split = run.alarm.held_out
    if split is None:
        return None
    if not isinstance(given, data.DataOptions):
        raise UserError(
            f"alarm.held_out={split!r} is a split of named data, these are arrays; leave it out"
        )
    if split == given.split:
        raise UserError(
            f"alarm.held_out={split!r} is the split that is trained on; use another, such as test"
        )
    found = data.open_source(dataclasses.replace(given, split=split))
    if found.features != source.features:
        raise UserError(
            f"alarm.held_out={split!r} has other features than data.split; leave it out"
        )
    return found


def examples(source: Source, held_out: Source | None, run: RunOptions, devices: int) -> Examples:
    """What looks look at: as many as a device's share of a batch, evenly spaced in the data, so
    that of sorted data each class is among them."""
    count = run.batch_size // devices

    def spaced(of: Source) -> Batch:
        return checked_read(of, evenly(of.count, count))

    return Examples(spaced(source), held_out and spaced(held_out))


def before(workdir: pathlib.Path, step: int, went_back_to: int) -> Window:
    """The last looks of a run that stands at a step. Those up to where it went back show what went
    wrong, and would ring again."""
    looks = read_metrics(workdir / LOOKS)
    return tuple(look for look in looks if went_back_to < look["step"] <= step)[-MOST_LOOKS:]


def measurer(
    game: Game, of: Examples, run: RunOptions, device: Any
) -> Callable[[Any], dict[str, float]]:
    """state -> what is measured of it, on one device."""
    options = runtime.compiler_options(device.platform)
    program: Any = jax.jit(measures(game, **step_options(run)), compiler_options=options)
    examples = jax.device_put(tuple(of), device)

    def measured(state: Any) -> dict[str, float]:
        here = jax.tree.map(lambda x: x.addressable_data(0), state)  # where each device has it
        with using("xla"):
            found = jax.device_get(program(here, *examples))
        numbers = {name: float(value) for name, value in found.items()}
        # What is not finite ends the run by itself as soon as it is in a loss or in the state.
        return {name: x for name, x in numbers.items() if math.isfinite(x)}

    return measured


def ringing(window: Window) -> dict[str, tuple[Alarm, Rung]]:
    """The alarms that ring, by name."""
    found = {alarm.name: (alarm, alarm.rings(window)) for alarm in EVERY_ALARM}
    return {name: (alarm, rung) for name, (alarm, rung) in found.items() if rung}


def line(step: int, alarm: Alarm, rung: Rung) -> str:
    """An alarm for the user."""
    beyond = "over" if rung.value > rung.threshold else "under"
    return (
        f"alarm at step {step}, {alarm.name}: {alarm.says} ({rung.measure} {rung.value:.3g}, "
        f"{beyond} {rung.threshold:.3g} since step {rung.since}); what helps: {alarm.helps}"
    )


class Once:
    """What is measured, by a program that is compiled, and may fail, at its first look.

    A run that can take steps does not end because it cannot be looked at: its losses still are.

    Args:
      measured: state -> what is measured.
      say: of what failed, a line.
    """

    def __init__(self, measured: Callable[[Any], dict[str, float]], say: Callable[[str], None]):
        self._measured, self._say, self._first, self._fails = measured, say, True, False

    def __call__(self, state: Any) -> tuple[dict[str, float], float]:
        """The measures, and the seconds that compiling took, which are no part of a run's rate."""
        began, first, self._first = time.perf_counter(), self._first, False
        found: dict[str, float] = {}
        if not self._fails:
            try:
                found = self._measured(state)
            except Exception as error:  # of a user's networks, or for want of memory
                self._fails = True
                self._say(f"alarms watch the losses alone, as a look fails: {line_of(error)}")
        return found, time.perf_counter() - began if first else 0.0


def hook(
    here: Any, run: RunOptions, workdir: pathlib.Path, save: Callable[[Moment], None]
) -> Hook | None:
    """What looks at a run; None where nothing does.

    Args:
      here: the run, a `Begun`.
      run: its options.
      workdir: of the run.
      save: moment -> None, writes a checkpoint.
    """
    step, every = int(here.state.step), interval(run)
    if not looks_at_all(run, step) or not here.subject.is_looked_at:
        return None
    if here.looked is None:  # in a process that does not write
        return Hook(every)
    once = Once(measurer(here.subject.game, here.looked, run, here.devices[0]), here.log.say)
    window = before(workdir, step, here.past.to)
    # What a run goes on with was told before, but going back may still be to be done.
    goes_back = run.alarms == "rollback" and here.past.times < run.alarm.most
    told = set() if goes_back else set(ringing(window))

    def do(moment: Moment) -> float:
        nonlocal window, told
        if moment.step % every:  # the last step
            return 0.0
        losses = {name: x for name, x in moment.metrics.items() if name.startswith("loss")}
        measured, kept_waiting = once(moment.state)
        look: Look = {"step": moment.step, **losses, **measured}
        here.log.look(look)
        window = (*window, look)[-MOST_LOOKS:]
        found = ringing(window)
        new, told = [found[name] for name in found if name not in told], set(found)
        for alarm, rung in new:
            here.log.say(line(moment.step, alarm, rung))
        for alarm, rung in new:
            event = {"step": moment.step, "alarm": alarm.name, **rung._asdict()}
            if run.alarms == "rollback":
                go_back(here, run, workdir, event, rung.since - every)
            stops = run.alarms in ("stop", "rollback")
            here.log.append(ALARMS, {**event, "did": "stop" if stops else "warn"})
            if stops:
                raise _stopped(here, run, moment, alarm, save)
        return kept_waiting

    return Hook(every, do)


def _stopped(
    here: Any, run: RunOptions, moment: Moment, alarm: Alarm, save: Callable[[Moment], None]
) -> AlarmStop:
    """Saves the run; the error that ends it."""
    if here.saver.latest() != moment.step:
        save(moment)
    here.saver.wait()
    often = f" after it went back {here.past.times} times" if here.past.times else ""
    return AlarmStop(
        f"stopped by the alarm {alarm.name} at step {moment.step} of {run.steps}{often}, saved; "
        "the same command goes on until another rings, --alarms warn to the end"
    )
