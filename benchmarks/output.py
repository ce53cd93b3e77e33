"""What every benchmark takes, prints and writes alike: options, the machine, the versions, medians with their spread, JSON lines."""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import Any


def parser(
    command: str, description: str | None, records: str = "result"
) -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks.COMMAND`, with the options that all commands share: --json, --plot and --quick."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{command}", description=description, allow_abbrev=False
    )
    made.add_argument("--json", metavar="FILE", help=f"append a JSON line for each {records}")
    made.add_argument("--plot", metavar="FILE", help="draw what was measured, as a PNG")
    made.add_argument(
        "--quick",
        action="store_true",
        help="the smallest form, in seconds, to try the command: small batches or networks, few rounds",
    )
    return made


def check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Ends the command with one line where what --json and --plot name cannot be made, before anything is measured."""
    for name in ("json", "plot"):
        if (path := getattr(given, name)) and not pathlib.Path(path).absolute().parent.is_dir():
            parser.error(f"--{name} {path}: its folder does not exist; make it first")
        if path and (
            os.path.isdir(path)
            or not os.access(
                path if os.path.exists(path) else pathlib.Path(path).absolute().parent, os.W_OK
            )
        ):
            parser.error(f"--{name} {path} cannot be written; name a file in a folder that can be")
    if given.plot and not given.plot.endswith(".png"):
        parser.error(f"--plot {given.plot} does not end in .png; a PNG is what it makes")
    if given.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib; install jaxgan with the extra bench")


def figure(
    path: str,
    draw: Any,
    columns: int = 1,
    width: float = 4.5,
    height: float = 3.2,
    quick: bool = False,
) -> None:
    """A PNG of `columns` panels side by side, drawn by draw(axes); marked where --quick made its numbers meaningless."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    made, axes = plt.subplots(1, columns, figsize=(width * columns, height), squeeze=False)
    draw(list(axes[0]))
    if quick:
        made.suptitle("--quick: only tries the command", color="tab:red")
    made.tight_layout()
    made.savefig(path, dpi=110)
    plt.close(made)


def machine(quick: bool = False) -> dict[str, Any]:
    """Processor or GPU, driver, versions and commit, as a record; and whether --quick makes it one that only tried the command."""
    import jax

    try:
        device = jax.devices()[0]
    except RuntimeError as error:
        sys.exit(f"JAX does not start here: {' '.join(str(error).split())}")
    names = (
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "orbax-checkpoint",
        "tensorflow-datasets",
        "torch",
        "triton",
    )
    return {
        "device": _processor() if device.platform == "cpu" else device.device_kind,
        "device_count": jax.device_count(),
        "busy_cores": _busy_cores(),
        **({"quick": True} if quick else {}),
        "cores": len(os.sched_getaffinity(0)),
        "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        if device.platform == "gpu"
        else None,
        "python": platform.python_version(),
        "versions": {name: version for name in names if (version := _version(name))},
        "commit": _output(
            "git",
            "-C",
            str(pathlib.Path(__file__).parent),
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
        ),
    }


def subject(benchmark: str, preset: str, config: Any) -> dict[str, Any]:
    """What is measured, as every record of a preset says it; `config` holds every field of a `jaxgan.config.Config`."""
    from jaxgan.config import to_dict

    about = {
        "benchmark": benchmark,
        "preset": preset,
        "dtype": config.dtype,
        "batch_size": config.batch_size,
        "seed": config.seed,
    }
    return about | {"config": to_dict(config)}


def print_machine(record: dict[str, Any]) -> None:
    """Two lines: what ran, and with which versions."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    print(
        f"{record['device']}, {record['cores']} cores, Python {record['python']}, commit {record['commit'] or 'unknown'}"
    )
    print(versions)
    if (busy := record.get("busy_cores") or 0.0) > 0.25 * record["cores"]:
        print(
            f"OTHER WORK RUNS HERE: it kept {busy:.1f} of the {record['cores']} cores busy just now; times and ratios mislead"
        )
    if record.get("quick"):
        print(
            "--quick only tries the command: too short for any of its times and ratios to mean something"
        )


def spread(samples: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples)}


def shown(samples: list[float], digits: int = 1) -> str:
    """`median (least to greatest)`."""
    s = spread(samples)
    return f"{s['median']:.{digits}f} ({s['min']:.{digits}f} to {s['max']:.{digits}f})"


def append(path: str | None, record: dict[str, Any]) -> None:
    """Adds a JSON line to a file, where one is asked for."""
    if path:
        line = json.dumps(record)
        try:
            with pathlib.Path(path).open("a") as file:
                file.write(line + "\n")
        except OSError as error:
            sys.exit(
                f"--json {path} cannot be written ({error.strerror}); make room or name another file. The record was:\n{line}"
            )


def _busy_cores(seconds: float = 0.3) -> float | None:
    """How many cores others keep busy while this process waits; None where the system does not tell."""

    def ticks() -> tuple[int, int]:
        values = [
            int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
        ]
        return sum(values), values[3] + values[4]  # all, and those idle or waiting for a disk

    try:
        all_before, idle_before = ticks()
        time.sleep(seconds)
        all_after, idle_after = ticks()
        return (os.cpu_count() or 1) * (1 - (idle_after - idle_before) / (all_after - all_before))
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*words: str) -> str | None:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
