"""Training over many devices, measured and predicted: `python -m benchmarks.scaling seed-mnist`.

Weak scaling: 1, 2, 4, .. devices, each with --batch-per-device images, in rounds that take turns. Where there is no GPU the devices
are parts of one processor. They share its cores, so that those times say NOTHING about scaling; that they train does.

Collectives: from the optimised program of one step over the most devices. Each carries gradients, so their bytes are compared with those
of the parameters; the rest are batch statistics and the four metrics.

--processes: two processes on localhost against one, same batch, as `jaxgan train` runs them, on drawn images.

Then a prediction for many GPUs from the time of a step of one, T: --step-ms, or measured here on a GPU, at --batch-per-device.
"""

import argparse
import dataclasses
import math
import multiprocessing
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import network, output
from benchmarks.network import Links, collectives, predicted
from jaxgan.config import Config, preset, to_dict, validate
from jaxgan.errors import UserError

EXAMPLES = 4096


# --------------------------------------------------------------------------------------------------------------- measuring
def training(config: Config, start: Any, devices: list[Any]) -> tuple[Any, Any]:
    """(function that trains about K steps, waits, and tells how many; function that gives the optimised HLO of one step)."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxgan import parallel
    from jaxgan.data.feeds import batch_indices
    from jaxgan.game import make_game

    game, size = make_game(config), config.data.image_size
    images = np.random.default_rng(0).integers(
        0, 256, (EXAMPLES, size, size, config.model.channels), np.uint8
    )
    program: Any = parallel.make_program(
        game, lambda arrays, item: {"image": arrays["image"][item]}, devices
    )
    state, resident = parallel.replicate(
        (jax.tree.map(jnp.copy, start), {"image": images}), devices
    )  # a step takes the state
    per_call = parallel.default_steps_per_call(config.log, devices[0].platform)
    at = 0

    def items(count: int) -> Any:
        return parallel.split(
            np.stack(
                [batch_indices(0, t, config.batch_size, EXAMPLES) for t in range(at, at + count)]
            ),
            len(devices),
        )

    def run(steps: int) -> int:
        nonlocal state, at
        calls = max(1, steps // per_call)
        for _ in range(calls):
            state, _ = program(state, (resident, items(per_call)))
            at += per_call
        jax.block_until_ready(state)
        return calls * per_call

    return run, lambda: program.lower(state, (resident, items(1))).compile().as_text()


def serve(
    config: Config, counts: list[int], batch: int, steps: int, rounds: int, flags: str, pipe: Any
) -> None:
    """Measures in a process of its own, whose processor is split into as many devices as needed."""
    os.environ["XLA_FLAGS"] = (
        f"{flags} --xla_force_host_platform_device_count={max(counts)}".strip()
    )
    import jax

    from jaxgan import runtime
    from jaxgan.game import init, make_game

    runtime.keep_compiled_programs()
    runtime.keep_freed_memory()
    game = make_game(config)
    start = jax.jit(lambda: init(game, jax.random.key(config.seed)))()
    parameters = sum(
        x.size * x.dtype.itemsize
        for x in jax.tree.leaves((start.generator.params, start.discriminator.params))
    )
    runs: dict[int, Any] = {}
    text: Any = None
    for count in (n for n in counts if n <= jax.device_count()):
        runs[count], text = training(
            dataclasses.replace(config, batch_size=count * batch), start, jax.devices()[:count]
        )
    hlo = text()  # of the most devices
    rates: dict[int, list[float]] = {count: [] for count in runs}
    for i in range(rounds + 1):  # the first compiles
        for count, run in runs.items():
            start = time.perf_counter()
            done = run(steps)
            if i:
                rates[count].append(done / (time.perf_counter() - start))
    pipe.send(
        {
            "rates": rates,
            "collectives": collectives(hlo),
            "parameter_bytes": parameters,
            "about": output.machine(),
        }
    )


def measured(config: Config, given: argparse.Namespace) -> dict[str, Any]:
    # A number of fake devices that the surroundings ask for would count, not ours.
    flags = " ".join(
        word for word in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in word
    )
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=serve,
        args=(
            config,
            given.devices,
            given.batch_per_device,
            given.steps,
            given.rounds,
            flags,
            theirs,
        ),
        daemon=True,
    )
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        process.join()
        sys.exit(
            f"the process that measures ended with status {process.exitcode}; its output above says why"
        )


# -------------------------------------------------------------------------------------------------------------- processes
def trained(
    count: int, preset_name: str, changes: dict[str, Any], folder: str
) -> list[dict[str, Any]]:
    """The records of `count` processes on localhost that train one run, of one CPU device each."""
    from jaxgan.records import read_metrics

    with socket.socket() as found:
        found.bind(("localhost", 0))
        address = f"localhost:{found.getsockname()[1]}"
    words = [sys.executable, "-m", "jaxgan", "train", preset_name, "--workdir", folder]
    words += [
        word
        for name, value in changes.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    flags = " ".join(
        word for word in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in word
    )
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    started = []
    try:
        for i in range(count):
            place = (
                [
                    "--coordinator-address",
                    address,
                    "--num-processes",
                    str(count),
                    "--process-id",
                    str(i),
                ]
                if count > 1
                else []
            )
            started.append(
                subprocess.Popen(
                    [*words, *place],
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for process in started:
            _, err = process.communicate(timeout=900)
            if process.returncode:
                sys.exit(
                    f"jaxgan train ended with status {process.returncode}: {err.strip()[-500:]}"
                )
    finally:
        for process in started:
            process.kill()
    return read_metrics(pathlib.Path(folder) / "metrics.jsonl")


def compare_processes(name: str, config: Config, given: argparse.Namespace) -> dict[str, Any]:
    """Images a second of two processes and of one, and how far their losses are apart."""
    changes = {n: v for n, v in to_dict(config).items() if v != to_dict(preset(name))[n]}
    changes |= {
        "batch_size": 2 * given.batch_per_device,
        "steps": given.steps * (given.rounds + 1),
        "log.every": given.steps,
    }
    changes |= {"data.name": "shapes", "log.tensorboard": "false", "log.samples": 1}
    changes |= {f"log.{interval}_every": 10**6 for interval in ("sample", "checkpoint")}
    found = {}
    with tempfile.TemporaryDirectory(prefix="jaxgan-scaling-") as folder:
        for count in (1, 2):
            found[count] = trained(count, name, changes, f"{folder}/{count}")
    losses = [
        [
            record[loss]
            for record in found[count]
            for loss in ("loss_discriminator", "loss_generator")
        ]
        for count in (1, 2)
    ]
    return {
        "samples": {
            count: [record["images_per_second"] for record in records[1:]]
            for count, records in found.items()
        },
        "largest_difference": max(abs(a - b) / abs(a) for a, b in zip(*losses)),
    }


# ----------------------------------------------------------------------------------------------------------------- output
def show_scaling(found: dict[str, Any], name: str, batch: int, fake: bool) -> None:
    print(
        f"weak scaling of {name}, {batch} images a device: steps/s, images/s, efficiency against one device"
    )
    if fake:
        cores = found["about"]["cores"]
        print(
            f"  FAKE DEVICES: all are the {cores} cores of one processor; these times say nothing about scaling efficiency"
        )
    alone = output.spread(found["rates"][min(found["rates"])])["median"]
    for count, samples in found["rates"].items():
        rate = output.spread(samples)["median"]
        efficiency = "means nothing here" if fake and count > 1 else f"{100 * rate / alone:.0f} %"
        print(
            f"  {count:3d} device{'s' * (count > 1):1s} {output.shown(samples, 2):>26s} {rate * count * batch:9.0f}  {efficiency}"
        )


def show_prediction(rows: list[dict[str, Any]], source: str) -> None:
    print(f"predicted, {source}: no overlap (pessimistic) and full overlap (optimistic)")
    print("  GPUs  communication ms   efficiency          images/s")
    for row in rows:
        if row["efficiency_no_overlap"] is None:
            rest = "not measured        not measured"
        else:
            share = [
                f"{100 * row[f'efficiency_{name}']:.1f}" for name in ("no_overlap", "full_overlap")
            ]
            rest = f"{' to '.join(share):>14s} %   {row['images_per_s_no_overlap']:.0f} to {row['images_per_s_full_overlap']:.0f}"
        print(f"  {row['gpus']:4d}  {row['communication_ms']:16.3f}   {rest}")


def draw(
    rows: list[dict[str, Any]], rates: dict[int, list[float]], fake: bool, axes: list[Any]
) -> None:
    measured_, predicted_ = axes
    for samples, count in ((samples, count) for count, samples in rates.items()):
        measured_.plot([count] * len(samples), samples, "o", color="tab:blue")
    measured_.set_xticks(list(rates))
    measured_.set(
        xlabel="devices",
        ylabel="steps/s",
        ylim=(0, None),
        title="fake devices: no scaling to be seen" if fake else "measured",
    )
    gpus = [row["gpus"] for row in rows]
    if rows[0]["efficiency_no_overlap"] is None:
        predicted_.plot(gpus, [row["communication_ms"] for row in rows], "o-", color="tab:blue")
        predicted_.set(ylabel="communication ms a step", title="predicted (no step time)")
    else:
        bounds = [
            [100 * row[f"efficiency_{name}"] for row in rows]
            for name in ("no_overlap", "full_overlap")
        ]
        predicted_.fill_between(gpus, *bounds, alpha=0.4)
        for bound, text in zip(bounds, ("no overlap", "full overlap")):
            predicted_.annotate(text, (gpus[0], bound[0]), fontsize="small")
        predicted_.set(ylabel="efficiency %", ylim=(0, 110), title="predicted")
    predicted_.set(xlabel="GPUs", xscale="log")
    predicted_.set_xticks(gpus, [str(count) for count in gpus])
    predicted_.minorticks_off()


def options(argv: list[str] | None) -> tuple[argparse.Namespace, Config]:
    parser = output.parser("scaling", f"{__doc__}\n{network.__doc__}", "part")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    links = Links()
    parser.add_argument(
        "preset", nargs="?", default="seed-mnist", metavar="PRESET", help="(default: seed-mnist)"
    )
    parser.add_argument("--devices", help="how many, with commas between (default: 1,2,4,8)")
    parser.add_argument("--batch-per-device", type=int, help="images (default: 16)")
    parser.add_argument("--steps", type=int, help="steps in a round (default: 20)")
    parser.add_argument(
        "--rounds", type=int, help="rounds counted, after one that is not (default: 5)"
    )
    parser.add_argument(
        "--processes", action="store_true", help="also two processes on localhost against one"
    )
    parser.add_argument(
        "--step-ms",
        type=float,
        help="milliseconds of a step of one GPU alone, for the prediction; measured where there is one",
    )
    parser.add_argument(
        "--nvlink-gb-per-s",
        type=float,
        default=450,
        help="10^9 bytes/s of a GPU within its node (default: 450)",
    )
    parser.add_argument(
        "--network-gb-per-s",
        type=float,
        default=50,
        help="10^9 bytes/s of a GPU over the network (default: 50)",
    )
    parser.add_argument(
        "--gpus-per-node", type=int, default=links.gpus_per_node, help="(default: 8)"
    )
    parser.add_argument(
        "--nvlink-latency-us",
        type=float,
        default=2,
        help="microseconds of a hop within the node (default: 2)",
    )
    parser.add_argument(
        "--network-latency-us",
        type=float,
        default=5,
        help="microseconds of a hop over the network (default: 5)",
    )
    given = parser.parse_args(argv)
    small = {"devices": "1,2", "batch_per_device": 8, "steps": 2, "rounds": 2}
    for name, usual in {
        "devices": "1,2,4,8",
        "batch_per_device": 16,
        "steps": 20,
        "rounds": 5,
    }.items():
        if getattr(given, name) is None:
            setattr(given, name, small[name] if given.quick else usual)
    for name in (
        "batch_per_device",
        "steps",
        "rounds",
        "gpus_per_node",
        "nvlink_gb_per_s",
        "network_gb_per_s",
        "step_ms",
    ):
        if (value := getattr(given, name)) is not None and not 0 < value < math.inf:
            parser.error(
                f"--{name.replace('_', '-')} {value} is out of bounds; use a number above 0"
            )
    for name in ("nvlink_latency_us", "network_latency_us"):
        if not 0 <= (value := getattr(given, name)) < math.inf:
            parser.error(f"--{name.replace('_', '-')} {value} is out of bounds; use 0 or more")
    words = given.devices.split(",")
    if not all(word.isdecimal() and 0 < int(word) <= 64 for word in words) or len(
        {1, *map(int, words)}
    ) != len(words):
        parser.error(
            f"--devices {given.devices!r} is not 1 and further, different numbers up to 64; use some such as 1,2,4,8"
        )
    given.devices = sorted(map(int, words))
    if max(given.devices) * given.batch_per_device > EXAMPLES:
        parser.error(
            f"--batch-per-device {given.batch_per_device} is too large; use at most {EXAMPLES // max(given.devices)}"
        )
    try:
        config = preset(given.preset)
        for count in given.devices:
            validate(
                dataclasses.replace(
                    config, devices=None, batch_size=count * given.batch_per_device
                ),
                count,
            )
    except UserError as error:
        parser.error(str(error))
    output.check(parser, given)
    return given, config


def main(argv: list[str] | None = None) -> None:
    given, config = options(argv)
    found = measured(config, given)
    about = found["about"] | ({"quick": True} if given.quick else {})
    fake = about["driver"] is None
    output.print_machine(about)
    if missing := [count for count in given.devices if count not in found["rates"]]:
        print(
            f"{', '.join(map(str, missing))} devices: not measured, there are {about['device_count']}"
        )
    show_scaling(found, given.preset, given.batch_per_device, fake)

    size, count = sum(c["bytes"] for c in found["collectives"]), len(found["collectives"])
    parameters = found["parameter_bytes"]
    print(
        f"collectives of a step over {max(found['rates'])} devices, from the compiled program: {count}, {size} bytes of each device;"
    )
    print(
        f"  gradients of the parameters are {parameters} of them, batch statistics and metrics {size - parameters}"
    )

    links = Links(
        given.gpus_per_node,
        given.nvlink_gb_per_s * 1e9,
        given.network_gb_per_s * 1e9,
        given.nvlink_latency_us * 1e-6,
        given.network_latency_us * 1e-6,
    )
    if given.step_ms:
        step_s, source = given.step_ms / 1e3, f"from a given step of {given.step_ms:g} ms"
    elif not fake:
        step_s = 1 / output.spread(found["rates"][1])["median"]
        source = f"from the measured step of {1e3 * step_s:.3f} ms on one {about['device']}"
    else:
        step_s, source = (
            None,
            "communication alone: the step of a GPU is not measured (no GPU here; give --step-ms)",
        )
    print(
        "t = 2 (g-1)/g S/B_node + 2 (m-1)/m (S/g)/B_network + C (2 (g-1) L_node + 2 (m-1) L_network); --help states what is assumed"
    )
    print(
        f"  g = {links.gpus_per_node}, B_node = {given.nvlink_gb_per_s:g} GB/s, B_network = {given.network_gb_per_s:g} GB/s, "
        f"L_node = {given.nvlink_latency_us:g} us, L_network = {given.network_latency_us:g} us, S = {size} bytes, C = {count}"
    )
    rows = predicted(step_s, given.batch_per_device, size, count, links)
    show_prediction(rows, source)

    shared = {"batch_per_device": given.batch_per_device, **about}
    parts: list[dict[str, Any]] = [
        {"part": "weak", "devices": n, "fake_devices": fake}
        | {
            "samples": samples,
            "steps_per_round": given.steps,
            "steps_per_s": output.spread(samples)["median"],
        }
        for n, samples in found["rates"].items()
    ]
    parts.append(
        {
            "part": "collectives",
            "devices": max(found["rates"]),
            "bytes": size,
            "count": count,
            "parameter_bytes": parameters,
        }
    )
    parts[-1]["collectives"] = found["collectives"]
    parts.append(
        {
            "part": "prediction",
            "devices": 1,
            "step_s": step_s,
            "source": source,
            "links": links._asdict(),
            "rows": rows,
        }
    )
    if given.processes:
        two = compare_processes(given.preset, config, given)
        print(
            f"processes on localhost, batch {2 * given.batch_per_device}, on this machine's cores: images/s"
        )
        for n, samples in two["samples"].items():
            print(f"  {n} process{'es' * (n > 1):2s} {output.shown(samples, 0):>26s}")
        print(f"  their losses differ by at most {two['largest_difference']:.1e} of their size")
        parts.append({"part": "processes", "devices": 2, **two})
    for part in parts:
        batch = dataclasses.replace(config, batch_size=part["devices"] * given.batch_per_device)
        output.append(
            given.json, {**output.subject("scaling", given.preset, batch), **shared, **part}
        )
    if given.plot:
        output.figure(
            given.plot,
            lambda axes: draw(rows, found["rates"], fake, axes),
            columns=2,
            quick=given.quick,
        )


if __name__ == "__main__":
    main()
