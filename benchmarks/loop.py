"""What the training loop adds to its bare step, how fast data come, how long a run takes to begin.

The loop is `jaxgan.train` with the intervals that users get: its input, the losses that it fetches,
prints and writes, its checkpoints, sample grids and TensorBoard files. The bare step is the same
compiled program over the same feed, and waits as often. They run in turn, in one process, with the
settings of `jaxgan train`. Timed is a whole number of intervals, from the end of one in which
everything had been done and compiled once to the return of `train`. To get there soon, a round
resumes at the last log step before such an interval.

"Between steps" is the part of the loop's time in which the host held the devices up: from the end
of an interval's last step to the next dispatch. It is measured inside the loop, so a machine whose
speed changes from minute to minute does not blur it.

Input: examples a second that reach a program on the device, in items of one step and of 25, from
its memory (resident) and streamed from a mapped file that lies in the system's memory; in turn with
NumPy's own gather from that map, batch by batch in one thread. Cost: what streaming adds to bare
steps, stretches of a resident and of a streamed one in turn, on random examples.
Startup: the seconds of whole processes that import, and that make a first step with a cold and with
a warm cache. Options of jaxgan train change what is trained.
"""

import contextlib
import io
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import record
from jaxgan.config import Config
from jaxgan.errors import UserError

PARTS = ("overhead", "resident", "streamed", "cost", "startup")
_QUICK = {
    **{"batch_size": 8, "data.image_size": 8, "model.latent_size": 4},
    **{"model.generator_width": 4, "model.discriminator_width": 2},
    **{"log.every": 2, "log.sample_every": 4, "log.checkpoint_every": 4, "log.samples": 4},
}
_STREAMED = {"data.resident_limit_mb": 0}
IMPORTS = "import jax, flax, optax, flax.linen"
FIRST_STEP = """
import sys
from benchmarks.workload import Workload, features_of, random_source
from jaxgan.config import configured
from jaxgan.run import compiled
compiled.keep_compiled_programs()
config = configured(sys.argv[1], {})
Workload(config, source=random_source(features_of(config), 256, 0)).run(1)
"""


class Timer:
    """Times a run of `train` from a step on, by hooks of the run.

    Attributes:
      hook: for the run.
      start: of the time, by the clock.
      between: seconds between steps since then.
    """

    def __init__(self, every: int, first_step: int) -> None:
        from jaxgan.run.hooks import Hook

        self.hook = Hook(every, self._do, self._before, self._after)
        self.start, self.between = time.perf_counter(), 0.0
        self._first_step, self._due, self._idle_since = first_step, False, self.start

    def _before(self, sent: Any) -> float:
        if self._due:
            self.between += time.perf_counter() - self._idle_since
        self._due = sent.step + sent.count == sent.until
        return 0.0

    def _after(self, state: Any) -> float:
        import jax

        if self._due:  # the loop waits here, too
            jax.block_until_ready(state)
            self._idle_since = time.perf_counter()
        return 0.0

    def _do(self, moment: Any) -> None:
        if moment.step == self._first_step:
            self.start = self._idle_since = time.perf_counter()
            self.between = 0.0


def loop_seconds(
    config: Config, source: Any, steps: int, folder: pathlib.Path
) -> tuple[float, float]:
    """Of the last `steps` steps of `train`: all, and those between steps."""
    from jaxgan import train

    run = config.run
    timer = Timer(run.log.every, run.steps - steps)
    begin = run.steps - steps - run.log.every
    if begin > 0:
        _leave_run_at(begin, config, source, folder)

    def game(example: Any) -> Any:
        return config.recipe.make(example, config.options)

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train(game, source, folder, run, more_hooks=(timer.hook,))
    return time.perf_counter() - timer.start, timer.between


def _leave_run_at(step: int, config: Config, source: Any, folder: pathlib.Path) -> None:
    """Makes a workdir of a run that is at a step, with the weights of step 0."""
    import jax
    import jax.numpy as jnp

    from benchmarks.workload import game_of
    from jaxgan.options import to_dict
    from jaxgan.run import checkpoint, first, workdir

    workdir.write(folder, {**to_dict(config.run), **workdir.about_data(source)}, {}, None)
    game = game_of(config, source.features)
    state = jax.jit(first.new_state(game, source.features, config.run))()
    (folder / workdir.CHECKPOINTS).mkdir()
    saver = checkpoint.open_checkpoints(folder / workdir.CHECKPOINTS, config.run.log.keep)
    with checkpoint.closing(saver):
        saver.save(state.replace(step=jnp.int32(step)), None)
        saver.wait()


def bare_seconds(config: Config, source: Any, steps: int) -> float:
    """Of `steps` bare steps, after an interval in which the step was compiled."""
    from benchmarks.workload import Workload

    workload, every = Workload(config, source=source), config.run.log.every
    workload.run(every)
    start = time.perf_counter()
    workload.run(steps, wait_every=every)
    return time.perf_counter() - start


def overhead(config: Config, source: Any, steps: int, rounds: int) -> dict[str, Any]:
    """Rounds of the loop and of the bare step, in turn; who is first changes each round."""
    loop, bare = [], []
    for i in range(rounds):
        for which in ("loop", "bare") if i % 2 == 0 else ("bare", "loop"):
            # Each begins anew: which memory a program happened to get lasts as long as it does.
            if which == "bare":
                bare.append(bare_seconds(config, source, steps))
                continue
            with tempfile.TemporaryDirectory() as folder:
                loop.append(loop_seconds(config, source, steps, pathlib.Path(folder)))
    log = config.run.log
    intervals = ("every", "sample_every", "checkpoint_every", "tensorboard")
    return {
        "steps": steps,
        **{name: getattr(log, name) for name in intervals},
        "ms_per_step": {
            "loop": [1e3 * whole / steps for whole, _ in loop],
            "bare": [1e3 * whole / steps for whole in bare],
        },
        "samples": [100 * (whole / alone - 1) for (whole, _), alone in zip(loop, bare)],
        "samples_between_steps": [100 * between / whole for whole, between in loop],
    }


def startup(preset: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of whole processes, in turn: imports without and with jaxgan, and a first step."""

    def seconds(*words: str, **environment: str) -> float:
        start = time.perf_counter()
        command = [sys.executable, "-c", *words]
        subprocess.run(command, check=True, env={**os.environ, **environment})
        return time.perf_counter() - start

    times: dict[str, list[float]] = {"base": [], "jaxgan": [], "cold": [], "warm": []}
    for _ in range(rounds):
        times["base"].append(seconds(IMPORTS))
        times["jaxgan"].append(seconds(f"{IMPORTS}; import jaxgan"))
        with tempfile.TemporaryDirectory() as folder:
            for name in ("cold", "warm"):
                took = seconds(FIRST_STEP, preset, JAX_COMPILATION_CACHE_DIR=folder)
                times[name].append(took)
    return times


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.loop", __doc__)
    add = parser.add_argument
    add("preset", nargs="?", default="mnist", help=record.presets_help("mnist"))
    add("--steps", type=int, help="in a round, whole intervals (default: 500, on a GPU 5000)")
    add("--rounds", type=int, default=3, help="(default: 3)")
    add("--only", default=",".join(PARTS), metavar="PARTS", help="with commas (default: all)")
    add("--data", default="shapes", metavar="NAME", help="of the loop (default: shapes)")
    given, changes = record.parsed(parser, argv)
    parts = record.chosen(parser, "part", given.only, PARTS)
    import jax

    from benchmarks import feeding
    from benchmarks.workload import dtype_of, features_of, game_of, mapped, random_source
    from jaxgan import data
    from jaxgan.run import compiled, runtime

    more = {"devices": 1, "data.name": given.data, **(_QUICK if given.quick else {})}
    features = features_of(record.config_of(parser, given.preset, changes))
    more["data.channels"] = features["image"].shape[2]
    log = record.config_of(parser, given.preset, changes, **more).run.log
    whole = math.lcm(log.every, log.sample_every, log.checkpoint_every)
    steps = given.steps or (500 if jax.default_backend() == "cpu" else 5000)
    if given.quick:
        steps, given.rounds = 2 * whole, 1
    if steps % whole:
        near = max(1, steps // whole) * whole
        parser.error(f"--steps {steps} is not a whole number of {whole} steps; use {near}")
    config = record.config_of(parser, given.preset, changes, **more, steps=whole + steps)
    streamed = record.config_of(parser, given.preset, changes, **more | _STREAMED)
    dtype = dtype_of(game_of(config, features_of(config)))
    compiled.keep_compiled_programs()
    runtime.keep_freed_memory()
    about = record.machine(given.quick)
    record.show_machine(about)
    print(f"{given.preset}, batch {config.run.batch_size}, {given.rounds} rounds of {steps} steps")
    batches = 50 if given.quick else 3000
    with tempfile.TemporaryDirectory() as folder:
        drawn = random_source(features, 256 if given.quick else 20_000, config.run.seed)
        random = mapped(drawn, pathlib.Path(folder))
        for part in parts:
            of_part, name = streamed if part == "streamed" else config, "random"
            if part == "overhead":
                name = config.run.data.name
                try:
                    source = data.open_source(config.run.data)
                except UserError as error:
                    parser.error(str(error))
                found = overhead(config, source, steps, given.rounds)
                _show_overhead(found)
            elif part == "startup":
                found = {"seconds": startup(given.preset, given.rounds)}
                for process, seconds in found["seconds"].items():
                    print(f"{f'startup, {process}':26s} {record.shown(seconds, 2)} s")
            elif part == "cost":
                found = feeding.cost(config, streamed, random, steps, given.rounds)
                feeding.show_cost(found)
            else:
                found = feeding.rates(of_part, random, batches, given.rounds)
                feeding.show_rates(part, found)
            made = record.subject("loop", given.preset, of_part, dtype)
            what = f"feed_{part}" if part in ("resident", "streamed", "cost") else part
            record.append(given.json, {**made, "data": name, "what": what, **found, **about})


def _show_overhead(found: dict[str, Any]) -> None:
    times, between = found["ms_per_step"], found["samples_between_steps"]
    print(f"bare step                  {record.shown(times['bare'], 3)} ms")
    print(f"training loop              {record.shown(times['loop'], 3)} ms")
    print(f"the loop adds              {record.shown(found['samples'], 2)} percent")
    print(f"between steps              {record.shown(between, 2)} percent of the loop")


if __name__ == "__main__":
    main()
