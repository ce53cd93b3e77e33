"""Training over many devices and processes, measured.

Weak scaling: 1, 2, 4, .. devices, each with --batch-per-device examples, in rounds that take turns.
Where there is no GPU the devices are parts of one processor. They share its cores, so that those
times say NOTHING about scaling; that they train does.

Collectives: from the optimised program of a dispatch over the most devices. They carry gradients,
so their bytes are compared with those of the parameters; the rest are batch statistics and metrics.

--processes: two processes on localhost against one, with the same batches, as `jaxgan train` runs
them.

Options of jaxgan train change what is trained.
"""

import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import record


def rates(workloads: dict[int, Any], steps: int, rounds: int) -> dict[int, list[float]]:
    """devices -> steps a second of each round, after one that compiles."""
    found: dict[int, list[float]] = {count: [] for count in workloads}
    for i in range(rounds + 1):
        for count, workload in workloads.items():
            start = time.perf_counter()
            done = workload.run(steps)
            if i:
                found[count].append(done / (time.perf_counter() - start))
    return found


def trained(count: int, words: list[str], folder: str) -> list[dict[str, Any]]:
    """The records of `count` processes on localhost that train one run, of one CPU device each."""
    from jaxgan.run.records import read_metrics

    with socket.socket() as found:
        found.bind(("localhost", 0))
        address = f"localhost:{found.getsockname()[1]}"
    command = [sys.executable, "-m", "jaxgan", "train", *words, "--workdir", folder]
    environment = {**os.environ, "XLA_FLAGS": _other_flags(), "JAX_PLATFORMS": "cpu"}
    pipes: dict[str, Any] = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    started = []
    try:
        for i in range(count):
            place = ["--coordinator-address", address, "--num-processes", str(count)]
            place = [*place, "--process-id", str(i)] if count > 1 else []
            started.append(subprocess.Popen([*command, *place], env=environment, **pipes))
        for process in started:
            _, said = process.communicate(timeout=900)
            if process.returncode:
                sys.exit(f"jaxgan train ended with {process.returncode}: {said.strip()[-500:]}")
    finally:
        for process in started:
            process.kill()
    return read_metrics(pathlib.Path(folder) / "metrics.jsonl")


def compare_processes(preset: str, changes: dict[str, Any], steps: int, rounds: int) -> Any:
    """Examples a second of two processes and of one, and how far their losses are apart."""
    changes = {
        **{"data.name": "shapes", "data.channels": 1, "log.tensorboard": "false"},
        **{"log.sample_every": 10**6, "log.checkpoint_every": 10**6, "log.samples": 1},
        **{"steps": steps * (rounds + 1), "log.every": steps},
        **changes,
    }
    options = [f"--{name.replace('_', '-')}={value}" for name, value in changes.items()]
    found = {}
    with tempfile.TemporaryDirectory(prefix="jaxgan-scaling-") as folder:
        for count in (1, 2):
            found[count] = trained(count, [preset, *options], f"{folder}/{count}")
    losses = [name for name in found[1][0] if name.startswith("loss_")]
    pairs = [(a[n], b[n]) for a, b in zip(found[1], found[2]) for n in losses]
    per_second = {n: [r["examples_per_second"] for r in rs[1:]] for n, rs in found.items()}
    apart = max(abs(a - b) / abs(a) for a, b in pairs)
    return {"samples": per_second, "largest_difference": apart}


def _other_flags() -> str:
    words = os.environ.get("XLA_FLAGS", "").split()
    return " ".join(word for word in words if "device_count" not in word)


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.scaling", __doc__)
    parser.add_argument(
        "preset", nargs="?", default="seed-mnist", help=record.presets_help("seed-mnist")
    )
    parser.add_argument("--devices", default="1,2,4,8", help="with commas (default: 1,2,4,8)")
    parser.add_argument("--batch-per-device", type=int, default=16, help="(default: 16)")
    parser.add_argument("--steps", type=int, default=20, help="in a round (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--processes", action="store_true", help="two processes against one")
    given, changes = record.parsed(parser, argv)
    if given.quick:
        given.devices, given.batch_per_device, given.steps, given.rounds = "1,2", 8, 2, 2
    words = given.devices.split(",")
    if not all(word.isdecimal() and 0 < int(word) <= 64 for word in words) or "1" not in words:
        parser.error(f"--devices {given.devices} are not 1 and further numbers up to 64")
    counts = sorted(set(map(int, words)))
    # Before JAX looks for devices: a processor is split into as many as are needed.
    split = f"--xla_force_host_platform_device_count={max(counts)}"
    os.environ["XLA_FLAGS"] = f"{_other_flags()} {split}".strip()
    import jax

    from benchmarks.launches import collectives
    from benchmarks.workload import Workload, dtype_of
    from jaxgan.run import compiled, runtime

    compiled.keep_compiled_programs()
    runtime.keep_freed_memory()
    about = record.machine(given.quick)
    record.show_machine(about)
    fake = about["driver"] is None
    workloads, subjects = {}, {}
    for count in (n for n in counts if n <= jax.device_count()):
        batch = {"batch_size": count * given.batch_per_device}
        config = record.config_of(parser, given.preset, {**changes, **batch})
        workloads[count] = Workload(config, jax.devices()[:count])
        dtype = dtype_of(workloads[count].game)
        subjects[count] = record.subject("scaling", given.preset, config, dtype)

    def keep(part: str, count: int, found: dict[str, Any]) -> None:
        made = {**subjects[count], "part": part, "devices": count}
        made |= {"batch_per_device": given.batch_per_device, **found, **about}
        record.append(given.json, made)

    found = rates(workloads, given.steps, given.rounds)
    print(f"weak scaling of {given.preset}, {given.batch_per_device} examples a device: steps/s")
    if fake:
        print(f"  FAKE DEVICES: parts of {about['cores']} cores; the times say nothing of scaling")
    for count, samples in found.items():
        rate = statistics.median(samples)
        share = rate / statistics.median(found[1])
        efficiency = "" if fake else f"  {100 * share:.0f} % of one device's"
        print(f"  {count:3d} devices {record.shown(samples, 2):>26s}{efficiency}")
        keep("weak", count, {"fake_devices": fake, "samples": samples, "steps_per_s": rate})
    most = max(workloads)
    joined = collectives(workloads[most].text())
    size, own = sum(c["bytes"] for c in joined), workloads[most].parameter_bytes()
    print(f"collectives of a step over {most} devices: {len(joined)}, {size} bytes of each device;")
    print(f"  gradients are {own} of them, batch statistics and metrics {size - own}")
    sizes = {"bytes": size, "count": len(joined), "parameter_bytes": own, "collectives": joined}
    keep("collectives", most, sizes)
    if given.processes and 2 in subjects:
        batch = {"batch_size": 2 * given.batch_per_device}
        two = compare_processes(given.preset, {**changes, **batch}, given.steps, given.rounds)
        for count, samples in two["samples"].items():
            print(f"  {count} processes {record.shown(samples, 0):>26s} examples/s")
        print(f"  their losses differ by at most {two['largest_difference']:.1e} of their size")
        keep("processes", 2, two)


if __name__ == "__main__":
    main()
