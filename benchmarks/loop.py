"""What the training loop costs over its bare step: `python -m benchmarks.loop [PRESET]`.

The loop is `jaxgan.train.train` with the intervals that users get: its input, the losses that it fetches, prints and writes, its
checkpoints, sample grids and TensorBoard files. The bare step is the same compiled program in a loop over the same feed, and waits as
often. They run in turn, in one process, and both with the settings of `jaxgan train`. Timed is a whole number of intervals in steady
state, from the end of an interval in which everything had been done and compiled once to the return of `train`, so that the last
checkpoint is waited for and the files are closed. To get there soon, a round resumes at the last log step before such an interval.

"Between steps" is the part of the loop's time in which the host held the devices up: between the end of an interval's last step and the
next dispatch. It is measured inside the loop, so a machine whose speed changes from minute to minute does not blur it; what the loop's
threads take from the step while they write is in the comparison with the bare step alone.

"The loop adds" is the median of the rounds' ratios. `samples` in JSON are percent for `what: overhead`, and images a second for input.

Input alone: images a second that the feed gives to the device, from the device's memory and streamed by Grain.
"""

import argparse
import contextlib
import functools
import importlib
import io
import math
import pathlib
import tempfile
import time
from typing import Any, NamedTuple

from benchmarks import output

TARGET = 3.0  # percent, on resident data
_QUICK = {
    "batch_size": 8,
    "data.image_size": 8,
    "model.latent_size": 4,
    "model.generator_width": 4,
    "model.discriminator_width": 2,
    "log.every": 2,
    "log.sample_every": 4,
    "log.checkpoint_every": 4,
    "log.samples": 4,
}


def missing(*modules: str) -> str | None:
    """Why the first of the modules that cannot be imported cannot; None where all can."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"{module} cannot be imported ({error})"
    return None


class Spent(NamedTuple):
    """Seconds by the clock, seconds of processors, which other work on the machine disturbs less, and seconds between steps."""

    wall: float
    processor: float
    between: float = 0.0


def now() -> Spent:
    return Spent(time.perf_counter(), time.process_time())


def since(start: Spent, between: float = 0.0) -> Spent:
    wall, processor, _ = now()
    return Spent(wall - start.wall, processor - start.processor, between)


def loop_seconds(config: Any, steps: int, folder: pathlib.Path) -> Spent:
    """Of `steps` steps of `train`, which ends at config.steps."""
    import jax

    from jaxgan import checkpoint, game, records, train
    from jaxgan.config import to_dict

    timed_from = config.steps - steps
    begin = timed_from - config.log.every
    if begin > 0:
        (folder / "checkpoints").mkdir()
        records.write_json(folder / "config.json", to_dict(config))
        played = game.make_game(config)
        state = jax.jit(lambda: game.init(played, jax.random.key(config.seed)))()
        saver = checkpoint.open_checkpoints(folder / "checkpoints", config.log.keep)
        saver.save(state.replace(step=jax.numpy.int32(begin)), None)
        saver.wait()
        saver.close()
    started, between = now(), 0.0

    def note(step: int, seconds: float) -> None:
        nonlocal started, between
        between += seconds
        if step == timed_from:
            started, between = now(), 0.0

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train.train(config, folder, at_interval=note)
    return since(started, between)


def bare_seconds(config: Any, steps: int) -> Spent:
    """Of `steps` bare steps, after an interval in which the step was compiled."""
    import jax

    from jaxgan import data, game, parallel

    devices = parallel.chosen_devices(config.devices)
    played, feed = game.make_game(config), data.load(config)
    program = parallel.make_program(played, feed.fetch, devices)
    state = jax.jit(lambda: game.init(played, jax.random.key(config.seed)))()
    state, resident = parallel.replicate((state, feed.resident), devices)
    per_call = parallel.default_steps_per_call(config.log, devices[0].platform)
    at = 0

    def run(steps: int) -> Spent:
        nonlocal state, at
        start, end = now(), at + steps
        while at < end:
            until = min(end, at - at % config.log.every + config.log.every)
            count = per_call if until - at >= per_call else 1
            state, metrics = program(
                state, (resident, parallel.split(feed.items(at, count), len(devices)))
            )
            at += count
            if at == until:
                jax.block_until_ready(metrics)
        jax.block_until_ready(state)
        return since(start)

    run(config.log.every)
    return run(steps)


def input_rate(config: Any, batches: int) -> float:
    """Images a second that the feed brings into a batch on the device, in dispatches as long as those of training."""
    import jax

    from jaxgan import data, parallel

    devices = parallel.chosen_devices(1)
    feed = data.load(config)
    resident = jax.device_put(feed.resident, devices[0])
    per_call = parallel.default_steps_per_call(config.log, devices[0].platform)
    gather = jax.jit(
        lambda resident, items: jax.lax.map(functools.partial(feed.fetch, resident), items)
    )
    calls = math.ceil(batches / per_call)
    at, start = 0, 0.0
    for call in range(calls + 2):
        if call == 2:  # two are not counted
            start = time.perf_counter()
        made = gather(resident, jax.device_put(feed.items(at, per_call), devices[0]))
        at += per_call
        if call == 1 or call % 10 == 9:
            jax.block_until_ready(made)
    jax.block_until_ready(made)
    return calls * per_call * config.batch_size / (time.perf_counter() - start)


def arguments(argv: list[str] | None) -> tuple[argparse.Namespace, Any]:
    """What is asked for, and the config to train; checked."""
    from jaxgan.config import PRESETS, preset, replace, validate
    from jaxgan.errors import UserError

    parser = output.parser("loop", __doc__, "figure")
    parser.add_argument(
        "preset",
        nargs="?",
        default="mnist",
        metavar="PRESET",
        help=f"{', '.join(PRESETS)} (default: mnist)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="steps in a round, whole intervals (default: 500 on a CPU, 5000 on a GPU)",
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds of loop and bare step (default: 3)"
    )
    parser.add_argument(
        "--data",
        default="shapes",
        metavar="NAME",
        help="data set, at the preset's image size (default: shapes)",
    )
    given = parser.parse_args(argv)
    output.check(parser, given)
    try:
        config = replace(
            preset(given.preset),
            {"data.name": given.data, "devices": 1, **(_QUICK if given.quick else {})},
        )
        validate(config, 1)
    except UserError as error:
        parser.error(str(error))
    if given.quick:
        given.steps, given.rounds = 8, min(given.rounds, 2)
    if given.steps is None:
        import jax

        given.steps = 500 if jax.default_backend() == "cpu" else 5000
    whole = math.lcm(config.log.every, config.log.sample_every, config.log.checkpoint_every)
    if given.steps < whole or given.steps % whole:
        parser.error(
            f"--steps {given.steps} is not a whole number of the intervals of {whole} steps; use {max(1, given.steps // whole) * whole}"
        )
    if given.rounds < 1:
        parser.error(f"--rounds {given.rounds} is too small; use 1 or more")
    if reason := missing("tensorboardX"):
        print(f"TensorBoard files: left out of the loop, {reason}")
        config = replace(config, {"log.tensorboard": False})
    return given, replace(config, {"steps": whole + given.steps})


def overhead(config: Any, steps: int, rounds: int) -> dict[str, list[Spent]]:
    """What rounds of `steps` steps of the loop and of the bare step took, in turn; who is first changes from round to round."""
    took: dict[str, list[Spent]] = {"loop": [], "bare": []}
    for i in range(rounds):
        for which in ("loop", "bare") if i % 2 == 0 else ("bare", "loop"):
            with tempfile.TemporaryDirectory() as folder:
                # Each begins anew: which memory a state and a program happened to get lasts as long as they do.
                took[which].append(
                    bare_seconds(config, steps)
                    if which == "bare"
                    else loop_seconds(config, steps, pathlib.Path(folder))
                )
    return took


def overhead_record(took: dict[str, list[Spent]], config: Any, steps: int) -> dict[str, Any]:
    log = config.log
    percent = lambda part: [
        100 * (getattr(a, part) / getattr(b, part) - 1) for a, b in zip(took["loop"], took["bare"])
    ]
    return {
        "what": "overhead",
        "steps": steps,
        **{
            name: getattr(log, name)
            for name in ("every", "sample_every", "checkpoint_every", "tensorboard")
        },
        "ms_per_step": {
            which: [1e3 * spent.wall / steps for spent in all_spent]
            for which, all_spent in took.items()
        },
        "samples": percent("wall"),
        "samples_processor_time": percent("processor"),
        "samples_between_steps": [100 * spent.between / spent.wall for spent in took["loop"]],
        "overhead_percent": output.spread(percent("wall"))["median"],
        "target_percent": TARGET,
    }


def print_overhead(record: dict[str, Any], quick: bool) -> None:
    verdict = "met" if record["overhead_percent"] < TARGET else "missed"
    print(
        f"{record['preset']} on {record['data']}, batch {record['batch_size']}: {len(record['samples'])} rounds of {record['steps']} steps,"
        f" losses every {record['every']}, samples every {record['sample_every']}, checkpoints every {record['checkpoint_every']}"
    )
    print(
        f"{'bare step':30s} {output.shown(record['ms_per_step']['bare'], 3)} ms, median (least to greatest)"
    )
    print(f"{'training loop':30s} {output.shown(record['ms_per_step']['loop'], 3)} ms a step")
    target = f"target: under {TARGET:g} on resident data, {verdict}"
    if quick:
        print(
            f"{'the loop adds':30s} too short to tell, with networks that are not the preset's but tiny"
        )
        return
    print(f"{'the loop adds':30s} {output.shown(record['samples'], 2)} percent; {target}")
    print(
        f"{'  in processor time':30s} {output.shown(record['samples_processor_time'], 2)} percent"
    )
    print(
        f"{'between steps':30s} {output.shown(record['samples_between_steps'], 2)} percent of the loop's time"
    )


def input_record(what: str, config: Any, rounds: int, quick: bool) -> dict[str, Any]:
    """Images a second of one way of input, or why it was skipped."""
    from jaxgan.errors import UserError

    record = {"what": f"input_{what}", "data": config.data.name}
    if reason := missing("tensorflow_datasets", "grain") if what == "streamed" else None:
        return {**record, "skipped": reason}
    try:
        rates = [
            input_rate(config, 20 if quick else 2000 if what == "resident" else 200)
            for _ in range(rounds)
        ]
    except UserError as error:
        return {**record, "skipped": str(error)}
    return {**record, "samples": rates, "images_per_s": output.spread(rates)["median"]}


def draw(axes: list[Any], records: list[dict[str, Any]]) -> None:
    for record in records:
        for which, each in record.get("ms_per_step", {}).items():
            axes[0].plot(range(1, len(each) + 1), each, "o", label=which)
            axes[0].set_xticks(range(1, len(each) + 1))
            axes[0].margins(y=0.2)
            axes[0].legend(loc="best")
    axes[0].set(
        xlabel="round",
        ylabel="ms a step",
        ylim=(0, None),
        title=f"{records[0]['preset']}, batch {records[0]['batch_size']}",
    )
    rates = {
        f"{record['what'].removeprefix('input_')}\n{record['data']}": record["images_per_s"]
        for record in records
        if "images_per_s" in record
    }
    axes[1].bar(list(rates), list(rates.values()))
    axes[1].set(ylabel="images/s", title="input alone")


def main(argv: list[str] | None = None) -> None:
    given, config = arguments(argv)
    from jaxgan import runtime
    from jaxgan.config import replace

    runtime.keep_compiled_programs()
    runtime.keep_freed_memory()
    about = output.machine(given.quick)
    output.print_machine(about)
    records: list[dict[str, Any]] = []

    def keep(record: dict[str, Any], config: Any = config) -> dict[str, Any]:
        records.append(
            {**output.subject("loop", given.preset, config), "data": given.data, **record}
        )
        output.append(given.json, {**records[-1], **about})
        return records[-1]

    if reason := missing("orbax.checkpoint"):
        keep({"what": "overhead", "skipped": reason})
        print(f"{'the loop adds':30s} not measured, {reason}")
    else:
        took = overhead(config, given.steps, given.rounds)
        print_overhead(keep(overhead_record(took, config, given.steps)), given.quick)
    streamed = {
        "data.resident_limit_mb": 0,
        "data.name": "digits" if given.data == "shapes" else given.data,
    }
    for what, changes in (("resident", {}), ("streamed", streamed)):
        changed = replace(config, changes)
        record = keep(input_record(what, changed, given.rounds, given.quick), changed)
        rate = (
            f"not measured, {record['skipped']}"
            if "skipped" in record
            else f"{output.shown(record['samples'], 0)} images/s"
        )
        label = f"input, {what} ({record['data']})"
        print(f"{label:30s} {rate}")
    if given.plot:
        output.figure(given.plot, lambda axes: draw(axes, records), columns=2, quick=given.quick)


if __name__ == "__main__":
    main()
