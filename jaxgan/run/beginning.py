"""All that happens before the first step: checks, the workdir, the data, the game, the state."""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxgan import data
from jaxgan.alarms import going_back, looking
from jaxgan.config import RunOptions
from jaxgan.data import Feed, Source
from jaxgan.data.columns import pixels_of
from jaxgan.game import GANState
from jaxgan.kernels import using
from jaxgan.run import (
    checkpoint,
    first,
    hooks,
    means,
    processes,
    records,
    runtime,
    signals,
)
from jaxgan.run import workdir as workdirs
from jaxgan.run.checkpoint import Checkpoints
from jaxgan.run.records import Records, Silence
from jaxgan.run.subject import Asked, Subject


def _no_check() -> None: ...


class Begun(NamedTuple):
    """A run that is about to take steps.

    Attributes:
      subject: what is trained.
      source: its data.
      feed: batches of them, at the run's position.
      devices: of all processes.
      state: new or read back; the same in all processes.
      lines: for the user, such as one for each checkpoint that was passed over.
      log, saver, sampler: what writes; nothing in a process that does not.
      means: of the metrics since the last record.
      clock: of the run, which begins with it.
      past: how often it went back, and what differs since.
      looked: the examples of looks at its health; None where there are none.
      evaluator, best: what samples are measured by, and where the best checkpoint is kept; None in
        a run that is not, and in a process that does not write.
      check_held: () -> None, raises `RunError` where the workdir is no longer this run's.
    """

    subject: Subject
    source: Source
    feed: Feed
    devices: list[Any]
    state: GANState
    lines: tuple[str, ...]
    log: Records | Silence
    saver: Checkpoints
    sampler: hooks.Samples | None
    means: means.Means
    clock: hooks.Clock
    past: going_back.Past
    looked: looking.Examples | None
    check_held: Callable[[], None] = _no_check
    evaluator: Any = None
    best: Any = None


def begun(
    held: contextlib.ExitStack,
    wanted: Asked,
    source: Any,
    workdir: pathlib.Path,
    run: RunOptions,
    about: dict[str, Any],
    defaults: dict[str, Any],
    may_differ: tuple[str, ...],
    recipe: str | None,
    must_resume: bool,
    profiled: bool,
    progress: bool,
) -> Begun:
    """Refuses what cannot be trained before anything is compiled or written; then opens the run's
    files.

    Args:
      held: holds what is opened here until the run ends.
      wanted: what is to be trained.
      about: what `config.json` says, but for the data.
      others: see `jaxgan.run.train.train`.
    """
    writes, lines, check_held = processes.is_first(), [], _no_check
    asked = run.steps, must_resume, may_differ, defaults
    going_back.check(run, jax.process_count())
    processes.check_same(about)
    past = going_back.Past()
    with processes.together(), signals.at_once():
        devices, divided = wanted.devices(run)
        kind, told = runtime.check_way(run, devices[0].platform)
        if writes:
            ours = held.enter_context(workdirs.held(workdir))
            lines, check_held = ours.lines, ours.check
            workdirs.check(workdir, about, *asked)
            records.check(workdir, run.log, profiled)
        held.enter_context(using(kind))
        opened = source_of(source, progress and writes)
        about = {**about, **workdirs.about_data(opened)}
        if writes:
            workdirs.check(workdir, about, *asked)
        subject = wanted.subject(opened.features, run)
        subject.check(len(devices))
        held_out = looking.held_out_of(opened, source, run)
        # Nothing else tells which game was given from Python, or what a recipe's file imports.
        if "recipe" not in about or "recipe_sha256" in about:
            about["game"] = subject.fingerprint()
            if writes:
                workdirs.check(workdir, about, *asked)
        evaluator = None
        if writes and run.evaluate_every:
            from jaxgan.run import evaluating  # which imports all measures

            about_now = run, about, subject.game, pixels_of(opened.features)
            evaluator = evaluating.prepared(*about_now)
        feed = subject.feed(opened, devices, progress and writes)
        held.callback(feed.close)
        kept_in = None
        if writes:
            kept_in, about["run_id"] = workdir, workdirs.run_id_of(workdir)
            past = going_back.past(workdir)
            lines = [*lines, *going_back.set_aside(workdir / workdirs.CHECKPOINTS, past)]
        run_id = about.get("run_id")
        about_state = subject.first, subject.template, subject.watch
        found = first.first_state(*about_state, kept_in, run_id)
    processes.check_same({"examples": opened.count, "data_version": opened.version})
    past = going_back.Past(*processes.from_first_json(past))
    position, kept = processes.from_first_json([found.position, found.records or {}])
    state = processes.from_first(found.state)
    state = going_back.with_noise(state, going_back.times_in(kept), past)
    if past.times:
        subject = subject.slower(past.rate)
    log, saver, sampler, looked = records.SILENCE, checkpoint.NOWHERE, None, None
    best = None
    # Nothing is refused any more: the workdir is this run's.
    with processes.together(), signals.at_once():
        if writes:
            sampler = subject.samples(opened)
            workdirs.write(workdir, about, sampler.conditions, recipe)
            step, epoch = int(state.step), feed.steps_per_epoch
            going_back.events_from(workdir, step)
            if subject.is_looked_at and looking.looks_at_all(run, step):
                looked = looking.examples(opened, held_out, run, len(devices))
            log = records.Records(workdir, step, run.steps, epoch, run.log.tensorboard)
            held.enter_context(contextlib.closing(log))
            folder = workdir / workdirs.CHECKPOINTS
            saver = checkpoint.open_checkpoints(folder, run.log.keep, run_id)
            held.enter_context(checkpoint.closing(saver))
            if evaluator is not None:
                best = evaluating.opened(held, evaluator, workdir, run_id, log.say)
        if position is not None:
            feed.seek(position)
    of_steps = means.Means(run.log.every, run.steps, kept, subject.watch.metrics)
    clock = hooks.Clock(subject.examples, kept.get("seconds", 0.0))
    writing = log, saver, sampler, of_steps, clock, past, looked, check_held, evaluator, best
    said = (*told, *divided, *lines, *found.damaged)
    return Begun(subject, opened, feed, devices, state, said, *writing)


def source_of(source: Any, progress: bool = False, keep: bool = True) -> Source:
    """What `train` was given as its data, opened, see `open_source`."""
    if isinstance(source, data.DataOptions):
        return data.open_source(source, progress, keep)
    return data.as_source(source)
