"""The training loop, top to bottom: check, open the workdir, load data, restore, compile, train, record, save."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxgan import (
    checkpoint,
    data,
    finite,
    parallel,
    processes,
    profile,
    records,
    sampling,
    tensorboard,
)
from jaxgan import workdir as workdirs
from jaxgan.config import Config, replace, to_dict, validate
from jaxgan.errors import RunError, UserError
from jaxgan.game import GANState, init, make_game
from jaxgan.kernels import launch


def train(
    config: Config,
    workdir: pathlib.Path,
    must_resume: bool = False,
    progress: bool = False,
    profiled: bool = False,
    at_interval: Callable[[int, float], None] = lambda step, seconds: None,
) -> GANState:
    """Trains to `config.steps`, from the workdir's newest checkpoint where there is one.

    The workdir gets `config.json`, `metrics.jsonl`, `samples/`, `checkpoints/` and `tensorboard/`. SIGTERM and Ctrl-C finish the
    step under way, save, and return.

    With several processes (`jaxgan.processes.joined`) each calls this with the same config. The first alone has a workdir; a
    signal or an error in any of them stops all at the next step at which the host looks.

    Args:
      config: what to train.
      workdir: where the run lives; made where it does not exist.
      must_resume: refuse to begin anew.
      progress: show bars while loading data.
      profiled: trace a few steps into `profile/`, and end with a table of the time of each phase; trains the same bits.
      at_interval: called with the step after the records, the checkpoint and the samples of each interval, and with the
        seconds that these took, in which the devices had no step to compute.

    Returns:
      The last state.

    Raises:
      UserError: before anything is compiled.
      RunError: a loss or a state that is not finite, data that cannot be read, or a checkpoint
        that cannot be written.
    """
    # ---------------------------------------------------------------------------------------------------------- check and open
    processes.check_same(to_dict(config))
    with processes.together():
        validate(config, jax.device_count(), jax.process_count())
        devices = parallel.chosen_devices(config.devices)
        check_kernels(config, devices[0].platform)
    first = processes.is_first()  # the others write nothing
    with contextlib.ExitStack() as held:
        with processes.together():
            folder = held.enter_context(workdirs.owned(workdir)) if first else None
            if folder:
                workdirs.check(workdir, config, must_resume)
                if config.log.tensorboard:
                    tensorboard.check_available()
                if (
                    profiled
                    and not (workdir / "profile").is_dir()
                    and os.path.lexists(workdir / "profile")
                ):
                    raise UserError(
                        f"{workdir / 'profile'} is no folder, where --profile writes; move it away or leave out --profile"
                    )
            feed = data.load(config, progress and first, parallel.own_share(config.batch_size))

            # --------------------------------------------------------------------------------------------- the state, new or restored
            game = make_game(config)
            state, restored = _first_state(game, config, folder)
        processes.check_same({"the number of examples": feed.num_examples})
        state, position = (
            processes.from_first(state),
            processes.from_first_json(restored.position if restored else None),
        )
        step, per_epoch = int(state.step), feed.steps_per_epoch
        with processes.together():
            # Nothing is refused any more: from here on the workdir is that of this run.
            if folder and (
                max(checkpoint.steps_in(folder), default=0) < config.steps
                or not (workdir / "config.json").exists()
            ):
                records.write_json(workdir / "config.json", to_dict(config))
            log = (
                records.Records(workdir, step, config.steps, per_epoch, config.log.tensorboard)
                if first
                else records.Silence()
            )
            saver = (
                checkpoint.open_checkpoints(folder, config.log.keep)
                if folder
                else checkpoint.NOWHERE
            )
        with contextlib.closing(log), _closing(saver), _stop_signals() as signals:
            stopped = processes.agreed_stops(signals)
            for line in restored.damaged if restored else []:
                log.say(line)
            if log.dropped:
                log.say(
                    f"{log.dropped} lines of metrics.jsonl after step {step} were dropped; those steps are trained again"
                )
            if position is not None:
                feed.seek(position)
            if step == config.steps:
                log.say(
                    f"{workdir} is already at step {step} of {config.steps}; use more --steps to go on"
                    + (", and to profile" if profiled else "")
                )
                return state
            where = f"{config.batch_size} images a step on {len(devices)} {devices[0].platform} device{'s' * (len(devices) > 1)}"
            where += f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
            doing = "resuming" if step else "training"
            log.say(
                f"{doing} {workdir} at step {step} of {config.steps}: {feed.num_examples} images of {config.data.name}, {where}"
            )

            # ------------------------------------------------------------------------------------------------------------- compile
            program = parallel.make_program(game, feed.fetch, devices)
            state, resident = parallel.replicate((state, feed.resident), devices)
            per_call = parallel.default_steps_per_call(config.log, devices[0].platform)
            intervals = (config.log.every, config.log.sample_every, config.log.checkpoint_every)

            def save(state: GANState, step: int, saved: int) -> None:
                state = parallel.local(state)
                finite.check_state(state, step, saved)
                saver.save(state, feed.position())

            # --------------------------------------------------------------------------------------------------------------- train
            pending: list[
                Any
            ] = []  # metrics still on the device: the host waits for them at log steps only
            timer, timed_from, saved = 0.0, step, step
            profiler = profile.Recorder(workdir / "profile") if profiled and first else None
            while step < config.steps and not stopped:
                until = min([config.steps, *(step - step % n + n for n in intervals)])
                count = per_call if until - step >= per_call else 1
                try:
                    items = feed.items(step, count)
                except Exception as error:  # the reader failed, not a step: the state is whole
                    if not first:
                        raise
                    save_now = functools.partial(save, state, step, saved)
                    kept = _after_a_read_error(step, saved, save_now, saver.wait)
                    if isinstance(error, RunError):
                        raise RunError(f"{error}; {kept}") from None
                    raise
                items = parallel.split(items, len(devices) // jax.process_count())
                if profiler:
                    timer += profiler.before(
                        program, (state, (resident, items)), step, count, until
                    )
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    state, metrics = program(state, (resident, items))
                if not pending and not timer:
                    timer, timed_from = time.perf_counter(), step + count  # the first call compiled
                pending.append(metrics)
                step += count
                if profiler:
                    timer += profiler.after(state)
                log.advance(count)
                if step < until:
                    continue
                if profiler:
                    timer += profiler.at_interval(state)
                last, pending = finite.checked_metrics(pending, step, saved), []
                computed = time.perf_counter()
                with processes.together(signals, stopped):
                    if step % config.log.every == 0 or step == config.steps:
                        elapsed = time.perf_counter() - timer
                        rate = (
                            (step - timed_from) * config.batch_size / elapsed
                            if step > timed_from
                            else 0.0
                        )
                        log.metrics({"step": step, **last, "images_per_second": round(rate, 1)})
                        timer, timed_from = time.perf_counter(), step
                    if step % config.log.checkpoint_every == 0 or step == config.steps:
                        save(state, step, saved)
                        saved = step
                    if step % config.log.sample_every == 0 or step == config.steps:
                        images = sampling.sample(
                            game,
                            parallel.local(state),
                            jax.random.key(config.seed),
                            config.log.samples,
                        )
                        log.samples(step, images)
                at_interval(step, time.perf_counter() - computed)

            # ------------------------------------------------------------------------------------------------------------- finish
            finite.checked_metrics(pending, step, saved)  # none where all was saved
            with processes.together():
                if saved != step:
                    save(state, step, saved)
                saver.wait()
                log.wait()
            log.close_bar()
            for line in profiler.report(state) if profiler else []:
                log.say(line)
            if stopped:
                kept = (
                    "saved; the same command resumes"
                    if step
                    else "before there was anything to save"
                )
                log.say(f"stopped by {stopped[0]} at step {step} of {config.steps}, {kept}")
            else:
                where = workdir / "samples" / f"step_{step:08d}.png"
                log.say(
                    f"step {step} of {config.steps}: samples "
                    + ("could not be written" if "samples" in log.lost else f"in {where}")
                )
            return parallel.local(state)


def restore(
    workdir: pathlib.Path, say: Callable[[str], None] = lambda line: None
) -> tuple[Config, GANState]:
    """The config and the newest whole state of a workdir.

    Args:
      workdir: of a run.
      say: called with a line for each checkpoint that is damaged and passed over.

    Raises:
      UserError: where there is none.
      RunError: where it cannot be read or is not finite.
    """
    path, folder = workdir / "config.json", workdir / "checkpoints"
    if not path.is_file() or not checkpoint.steps_in(folder):
        raise UserError(
            f"workdir={workdir} holds no checkpoint; train first: jaxgan train --workdir {workdir}"
        )
    config = replace(Config(), workdirs.read_json(path))
    config = dataclasses.replace(config, devices=None, kernels="auto")
    validate(config, 1)
    check_kernels(config, jax.default_backend())
    found = checkpoint.restore(
        folder, _template(config), set_aside=False
    )  # a run may be training there
    assert found is not None  # steps_in was not empty
    for line in found.damaged:
        say(line)
    _check_restored(found.state, workdir)
    return config, found.state


def check_kernels(config: Config, platform: str) -> None:
    """Raises `UserError` where the fused operations that the config or JAXGAN_KERNELS asks for cannot run on a platform."""
    if config.kernels == "plain":
        return
    source, asked = f"kernels={config.kernels}", config.kernels
    if asked == "auto" and (given := os.environ.get("JAXGAN_KERNELS")):
        source, asked = f"JAXGAN_KERNELS={given}", given
    if asked == "triton" and platform != "gpu":
        raise UserError(
            f"{source} needs a CUDA GPU, but this machine trains on {platform}; use auto or xla"
        )
    try:
        launch.resolve(asked)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None


def _check_restored(state: GANState, workdir: pathlib.Path) -> None:
    """Raises `RunError` for a state that is not finite, as runs of older versions could save."""
    if name := finite.first_not_finite(state):
        raise RunError(
            f"the checkpoint of step {int(state.step)} in {workdir} is not finite: {name}; move it "
            f"out of {workdir / 'checkpoints'} to use the one before, or train in a new --workdir"
        )


def _template(config: Config) -> GANState:
    game = make_game(config)
    return jax.eval_shape(lambda: init(game, jax.random.key(0)))


def _first_state(
    game: Any, config: Config, folder: pathlib.Path | None
) -> tuple[GANState, checkpoint.Restored | None]:
    restored = checkpoint.restore(folder, _template(config)) if folder else None
    if restored and folder:
        _check_restored(restored.state, folder.parent)
        return restored.state, restored
    return jax.jit(lambda: init(game, jax.random.key(config.seed)))(), None


def _after_a_read_error(
    step: int, saved: int, save: Callable[[], None], wait: Callable[[], None]
) -> str:
    """Saves the state of the last whole step, `step`; says what is kept."""
    if step == saved:
        return finite.kept(saved)
    try:
        save()
        wait()
    except RunError as other:
        return f"the state of step {step} could not be saved: {other}"
    return f"step {step} is saved; when that is mended the same command resumes"


@contextlib.contextmanager
def _closing(saver: checkpoint.Checkpoints) -> Iterator[None]:
    """Waits for the writes under way also when the loop ends by an error, which then is the one to tell."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(RunError):
            saver.wait()
        raise
    finally:
        saver.close()


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[str]]:
    """A list that stays empty until SIGTERM or Ctrl-C. A second signal acts as it did before."""
    stopped: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: Any) -> None:
        stopped.append(signal.Signals(number).name)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
