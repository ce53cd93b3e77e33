"""The training loop, top to bottom: check, open the workdir, load data, restore, compile, train, record, save."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxgan import checkpoint, data, parallel, records, sampling
from jaxgan.config import Config, differences, replace, to_dict, validate
from jaxgan.errors import ConfigError, RunError
from jaxgan.game import GANState, init, make_game
from jaxgan.kernels import launch


def train(config: Config, workdir: pathlib.Path, must_resume: bool = False, progress: bool = False) -> GANState:
    """Trains to `config.steps`, from the workdir's newest checkpoint where there is one.

    The workdir gets `config.json`, `metrics.jsonl`, `samples/`, `checkpoints/` and `tensorboard/`. SIGTERM and Ctrl-C finish the
    step under way, save, and return.

    Args:
      config: what to train.
      workdir: where the run lives; made where it does not exist.
      must_resume: refuse to begin anew.
      progress: show bars while loading data.

    Returns:
      The last state.

    Raises:
      ConfigError: before anything is compiled.
      RunError: a loss that is not finite, or a file that cannot be written.
    """
    # ---------------------------------------------------------------------------------------------------------- check and open
    validate(config, jax.local_device_count())
    devices = jax.local_devices()[: config.devices or jax.local_device_count()]
    check_kernels(config, devices[0].platform)
    with _owned(workdir) as folder:
        _check_config(workdir, config)
        finished = max(checkpoint.steps_in(folder), default=0)
        if must_resume and not checkpoint.steps_in(folder):
            raise ConfigError(f"workdir={workdir} holds no checkpoint to resume from; leave out --resume to begin anew")
        if finished > config.steps:
            raise ConfigError(f"steps={config.steps} but {workdir} is already at step {finished}; use --steps {finished} or more")
        feed = data.load(config, progress)
        if finished < config.steps or not (workdir / "config.json").exists():
            records.write_json(workdir / "config.json", to_dict(config))

        # ------------------------------------------------------------------------------------------------- the state, new or restored
        game = make_game(config)
        state, restored = _first_state(game, config, folder)
        step = int(state.step)
        log = records.Records(workdir, step, config.steps, feed.steps_per_epoch, config.log.tensorboard)
        saver = checkpoint.open_checkpoints(folder, config.log.keep)
        with contextlib.closing(log), _closing(saver), _stop_signals() as stopped:
            for line in restored.damaged if restored else []:
                log.say(line)
            if log.dropped:
                log.say(f"{log.dropped} lines of metrics.jsonl after step {step} were dropped; those steps are trained again")
            if restored:
                feed.seek(restored.position)
            if step == config.steps:
                log.say(f"{workdir} is already at step {step} of {config.steps}; use more --steps to go on")
                return state
            where = f"{config.batch_size} images a step on {len(devices)} {devices[0].platform} device{'s' * (len(devices) > 1)}"
            doing = "resuming" if step else "training"
            log.say(f"{doing} {workdir} at step {step} of {config.steps}: {feed.num_examples} images of {config.data.name}, {where}")

            # ------------------------------------------------------------------------------------------------------------- compile
            program = parallel.make_program(game, feed.fetch, devices)
            state, resident = parallel.replicate((state, feed.resident), devices)
            per_call = parallel.default_steps_per_call(config.log, devices[0].platform)
            intervals = (config.log.every, config.log.sample_every, config.log.checkpoint_every)

            # --------------------------------------------------------------------------------------------------------------- train
            pending: list[Any] = []  # metrics still on the device: the host waits for them at log steps only
            timer, timed_from, saved = 0.0, step, step
            while step < config.steps and not stopped:
                until = min([config.steps, *(step - step % n + n for n in intervals)])
                count = per_call if until - step >= per_call else 1
                items = parallel.split(feed.items(step, count), len(devices))
                state, metrics = program(state, (resident, items))
                if not pending and not timer:
                    timer, timed_from = time.perf_counter(), step + count  # the first call compiled
                pending.append(metrics)
                step += count
                log.advance(count)
                if step == until:
                    last, pending = _checked(pending, step, saved), []
                    if step % config.log.every == 0 or step == config.steps:
                        elapsed = time.perf_counter() - timer
                        rate = (step - timed_from) * config.batch_size / elapsed if step > timed_from else 0.0
                        log.metrics({"step": step, **last, "images_per_second": round(rate, 1)})
                        timer, timed_from = time.perf_counter(), step
                    if step % config.log.checkpoint_every == 0 or step == config.steps:
                        saver.save(state, feed.position())
                        saved = step
                    if step % config.log.sample_every == 0 or step == config.steps:
                        log.samples(step, sampling.sample(game, state, jax.random.key(config.seed), config.log.samples))

            # ------------------------------------------------------------------------------------------------------------- finish
            if saved != step:
                _checked(pending, step, saved)
                saver.save(state, feed.position())
            saver.wait()
            log.close_bar()
            if stopped:
                kept = "saved; the same command resumes" if step else "before there was anything to save"
                log.say(f"stopped by {stopped[0]} at step {step} of {config.steps}, {kept}")
            else:
                log.say(f"step {step} of {config.steps}: samples in {workdir / 'samples' / f'step_{step:08d}.png'}")
            return state


def restore(workdir: pathlib.Path) -> tuple[Config, GANState]:
    """The config and the newest whole state of a workdir.

    Raises:
      ConfigError: where there is none.
    """
    path, folder = workdir / "config.json", workdir / "checkpoints"
    if not path.is_file() or not checkpoint.steps_in(folder):
        raise ConfigError(f"workdir={workdir} holds no checkpoint; train first: jaxgan train --workdir {workdir}")
    config = dataclasses.replace(replace(Config(), _read_json(path)), devices=None, kernels="auto")
    validate(config, 1)
    check_kernels(config, jax.default_backend())
    found = checkpoint.restore(folder, _template(config), set_aside=False)  # a run may be training there
    assert found is not None  # steps_in was not empty
    return config, found.state


def check_kernels(config: Config, platform: str) -> None:
    """Raises `ConfigError` where the fused operations that the config or JAXGAN_KERNELS asks for cannot run on a platform."""
    if config.kernels == "plain":
        return
    source, asked = f"kernels={config.kernels}", config.kernels
    if asked == "auto" and (given := os.environ.get("JAXGAN_KERNELS")):
        source, asked = f"JAXGAN_KERNELS={given}", given
    if asked == "triton" and platform != "gpu":
        raise ConfigError(f"{source} needs a CUDA GPU, but this machine trains on {platform}; use auto or xla")
    try:
        launch.resolve(asked)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None


def _template(config: Config) -> GANState:
    game = make_game(config)
    return jax.eval_shape(lambda: init(game, jax.random.key(0)))


def _first_state(game: Any, config: Config, folder: pathlib.Path) -> tuple[GANState, checkpoint.Restored | None]:
    restored = checkpoint.restore(folder, _template(config))
    if restored:
        return restored.state, restored
    return jax.jit(lambda: init(game, jax.random.key(config.seed)))(), None


@contextlib.contextmanager
def _owned(workdir: pathlib.Path) -> Iterator[pathlib.Path]:
    """Makes the workdir and holds it against a second run; gives its folder of checkpoints."""
    try:
        made_here = not workdir.exists()
        str(workdir).encode()  # Orbax takes no other names
        (workdir / "checkpoints").mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("w")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not UTF-8"
        raise ConfigError(f"workdir={str(workdir)!a} cannot be written: {reason}; choose another --workdir") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"workdir={workdir} is in use by another run; wait for it or choose another --workdir") from None
        try:
            yield workdir / "checkpoints"
        except ConfigError:
            if made_here:  # a refused command leaves nothing behind
                shutil.rmtree(workdir, ignore_errors=True)
            raise


def _check_config(workdir: pathlib.Path, config: Config) -> None:
    path = workdir / "config.json"
    if not path.exists():
        if checkpoint.steps_in(workdir / "checkpoints") or any((workdir / name).exists() for name in ("metrics.jsonl", "samples")):
            raise ConfigError(f"workdir={workdir} holds results but no config.json; choose another --workdir")
        return
    changed = differences(_read_json(path), to_dict(config))
    if changed:
        raise ConfigError(f"workdir={workdir} holds another run: {'; '.join(changed)}; choose another --workdir or that config")


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return content
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}; restore it or choose another --workdir") from None


def _checked(pending: list[Any], step: int, saved: int) -> dict[str, float]:
    """The metrics of the last of the pending steps, after looking at all of them; this is where the host waits."""
    pending = jax.device_get(pending)
    if not pending:
        return {}
    series = {name: np.concatenate([metrics[name] for metrics in pending]) for name in pending[0]}
    first = step - len(next(iter(series.values()))) + 1
    for name, values in series.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            kept = f"the checkpoint of step {saved} is kept" if saved else "no checkpoint was made yet"
            raise RunError(
                f"{name} became {values[bad[0]]} at step {first + bad[0]}, within steps {first} to {step}; {kept}; lower "
                "--optimizer.generator-rate and --optimizer.discriminator-rate, or set --optimizer.clip-norm, in a new --workdir"
            )
    return {name: float(values[-1]) for name, values in series.items()}


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
