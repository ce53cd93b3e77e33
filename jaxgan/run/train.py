"""The training loop, top to bottom: begin, compile, train, save."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from jaxgan import options
from jaxgan.config import RunOptions
from jaxgan.data import DataOptions
from jaxgan.errors import RunError
from jaxgan.game import Game, GANState
from jaxgan.paths import user_path
from jaxgan.run import (
    dispatch,
    finite,
    first,
    messages,
    out_of_memory,
    parallel,
    routine,
    runtime,
    signals,
    ways,
)
from jaxgan.run.again import repeated
from jaxgan.run.beginning import begun
from jaxgan.run.hooks import Dispatch, Hook, Moment
from jaxgan.run.processes import agreed_stops, together
from jaxgan.run.subject import Asked, asked
from jaxgan.run.workdir import about_run


@repeated
def train(
    game: Game | Callable[[dict[str, Any]], Game] | Asked,
    source: Any,
    workdir: str | pathlib.Path,
    run: RunOptions = RunOptions(),
    *,
    callback: Callable[[int, dict[str, float]], Any] | None = None,
    more_hooks: tuple[Hook, ...] = (),
    about: dict[str, Any] | None = None,
    recipe: str | None = None,
    defaults: dict[str, Any] | None = None,
    may_differ: tuple[str, ...] = (),
    must_resume: bool = False,
    profiled: bool = False,
    progress: bool = False,
    **changes: Any,
) -> GANState:
    """Trains a game to `run.steps`, from the workdir's newest checkpoint where there is one.

    SIGTERM, SIGINT, SIGHUP and SIGUSR1 finish the step under way, save, and return; before there is
    a step to save they raise a `KeyboardInterrupt`. With several processes
    (`jaxgan.run.joining.joined`) each calls this alike; the first alone has a workdir,
    and a signal or an error in any of them stops all at the next step at which the host looks.

    Args:
      game: the variant, or a function that makes it for examples of such features; or what else
        can be trained, as `jaxgan.run.subject` has it.
      source: arrays, a dict of arrays, a sequence of examples, a `data.Source` or
        `data.DataOptions`.
      workdir: where the run lives, see `jaxgan.run.workdir`; made where it does not exist.
      run: the options of every run.
      callback: (step, metrics) at each line of the log, with the means over the steps since the
        line before; the run stops where it returns something true.
      more_hooks: done after the library's own.
      about, recipe: what else `config.json` says, and the text of the user's recipe, kept with the
        run.
      defaults: of `about`, for a run that was begun before it had them.
      may_differ: names of `about` in which a resumed run may differ.
      must_resume: refuse to begin anew.
      profiled: trace a few steps into `profile/`, and end with the time of each phase; trains the
        same bits.
      progress: show bars while loading data.
      changes: options of `run` by name, groups as dicts: `steps=1000, log={"every": 10}`.

    Returns:
      The last state.

    Raises:
      UserError: before anything is compiled.
      RunError: a loss or state that is not finite, data that cannot be read, a file that cannot be
        written.
    """
    wanted = asked(game)
    first.check_arguments(run, callback, more_hooks)
    more_hooks = tuple(more_hooks)
    # Absolute, as a recipe or a callback may change the current folder.
    workdir, named = user_path(workdir, "workdir").absolute(), isinstance(source, DataOptions)
    run = dataclasses.replace(run, data=source) if named else run
    run = options.replace(run, {**options.to_dict(run), **options.dotted(changes)})
    about = {**(about or {}), **about_run(run, named)}
    may_differ = (may_differ,) if isinstance(may_differ, str) else tuple(may_differ)
    known = about, defaults or {}, may_differ
    with contextlib.ExitStack() as held:
        how, source = (must_resume, profiled, progress), run.data if named else source
        signalled = held.enter_context(signals.handled())
        runtime.check_devices()
        with out_of_memory.told(), signals.at_once(jax.process_count() == 1):
            here = begun(held, wanted, source, workdir, run, *known, recipe, *how)
        signals.only_noted()
        subject, feed, log, saver = here.subject, here.feed, here.log, here.saver
        state, step = here.state, int(here.state.step)
        stopped = agreed_stops(signalled)
        held.enter_context(out_of_memory.told(lambda: finite.kept(saver.latest())))
        begins = messages.beginning(workdir, step, run, here.source, here.devices)
        for line in (*here.lines, begins):
            log.say(line)
        if step == run.steps:
            return state

        state, resident = parallel.replicate((state, feed.resident), here.devices)
        clock, means, save = here.clock, here.means, routine.saving(here)
        own = routine.hooks_of(here, run, workdir, callback, signalled, profiled)
        all_hooks = [*own, *more_hooks]
        intervals = [hook.every for hook in all_hooks]
        platform = here.devices[0].platform
        per_call = dispatch.steps_per_call(run.steps_per_call, platform, intervals)
        work = ways.Work(subject, feed, here.devices, state, resident, per_call)
        with signals.at_once(jax.process_count() == 1):  # no step is under way yet
            program = ways.program(work, run, workdir, log.say)
        held_state = program.hold(state)
        del work, state

        def now() -> Moment:
            return Moment(step, program.state(held_state), {})

        held.enter_context(routine.finite_or_back(here, run, workdir, now))
        clock.begin()
        while step < run.steps and not stopped:
            until = min(run.steps, *(step - step % n + n for n in intervals))
            count = per_call if until - step >= per_call else 1
            try:
                item = feed.item(step, count)
            except Exception as error:  # the reader failed, not a step: the state is whole
                kept = finite.saved_after_reading_failed(step, saver, lambda: save(now()))
                if not isinstance(error, RunError):  # memory does not suffice
                    raise
                raise RunError(f"{error}; {kept}") from error.__cause__
            compiled = program.of(count)
            sent = Dispatch(step, count, until, compiled, (held_state, resident, item))
            with routine.saving_first(here, now):
                clock.skip(sum(hook.before(sent) or 0.0 for hook in all_hooks))
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                held_state, metrics = compiled(held_state, resident, item)
            step += count
            clock.dispatched(step)
            with routine.saving_first(here, now):
                clock.skip(sum(hook.after(held_state) or 0.0 for hook in all_hooks))
            log.advance(count)
            means.sent(metrics)  # they stay on the devices until a hook is due
            if step < until:
                continue
            told = means.taken(step, saver.latest())
            moment = Moment(step, program.state(held_state), told)
            with together(signalled, stopped), routine.saving_first(here, now):
                for hook in all_hooks:
                    if step % hook.every == 0 or step == run.steps:
                        clock.skip(hook.do(moment) or 0.0)

        if stopped and step == 0:
            raise signals.Stopped(stopped[0])
        means.taken(step, saver.latest())
        with together():
            if saver.latest() != step:
                save(now())
            late = saver.wait()
            log.wait()
        log.close_bar()
        ended = messages.end(workdir, step, run, stopped, "samples" not in log.lost)
        for line in (*late, *(line for hook in all_hooks for line in hook.end()), ended):
            log.say(line)
        return program.state(held_state)
