"""What every benchmark takes, prints and writes alike: options, the machine, medians with their
spread, JSON lines.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

from jaxgan.config import Config, configured, described
from jaxgan.errors import UserError
from jaxgan.recipes import PRESETS

_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "torch"),
    "triton",
)


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks.MODULE`, with the options that all commands share."""
    made = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--json", metavar="FILE", help="append a JSON line for each result")
    help = "the smallest form, in seconds, to try the command"
    made.add_argument("--quick", action="store_true", help=help)
    return made


def parsed(
    parser: argparse.ArgumentParser, argv: list[str] | None
) -> tuple[argparse.Namespace, dict[str, str]]:
    """The benchmark's own options, and those of `jaxgan train` by dotted names; ends the command
    where one is wrong.
    """
    own, changes = [], {}
    words = list(sys.argv[1:] if argv is None else argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in parser._option_string_actions:
            own.append(word)
        elif equals or words:
            changes[name[2:].replace("-", "_")] = value if equals else words.pop(0)
        else:
            parser.error(f"{name} has no value; options are those of --help and of jaxgan train")
    given = parser.parse_args(own)
    if given.json:
        folder = pathlib.Path(given.json).absolute().parent
        if not folder.is_dir() or os.path.isdir(given.json) or not os.access(folder, os.W_OK):
            parser.error(f"--json {given.json} cannot be written; name a file in a folder that can")
    for name in ("rounds", "steps", "repeats", "seeds"):
        if isinstance(value := getattr(given, name, None), int) and value < 1:
            parser.error(f"--{name} {value} is too small; use 1 or more")
    return given, changes


def config_of(
    parser: argparse.ArgumentParser, preset: str, changes: dict[str, Any], **more: Any
) -> Config:
    """A preset or recipe with options changed; ends the command where that cannot be."""
    try:
        return configured(preset, {**more, **changes})
    except UserError as error:
        parser.error(str(error))


def chosen(parser: argparse.ArgumentParser, name: str, text: str, known: Any) -> list[str]:
    """The words between commas; ends the command where one is not known."""
    words = text.split(",")
    if wrong := [word for word in words if word not in known]:
        parser.error(f"unknown {name} {wrong[0]!r}; use {', '.join(known)}")
    return words


def presets_help(default: str) -> str:
    return f"presets or recipes of jaxgan, such as {', '.join(PRESETS)} (default: {default})"


def machine(quick: bool = False) -> dict[str, Any]:
    """Processor or GPU, driver, versions, commit and day; and whether --quick made a record that
    means nothing.
    """
    import jax

    try:
        device = jax.devices()[0]
    except RuntimeError as error:
        sys.exit(f"JAX does not start here: {' '.join(str(error).split())}")
    gpu = device.platform == "gpu"
    driver = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    describe = ("describe", "--always", "--dirty", "--abbrev=12")
    here = str(pathlib.Path(__file__).parent)
    return {
        "device": device.device_kind if gpu else _processor(),
        "device_count": jax.device_count(),
        "busy_cores": _busy_cores(),
        **({"quick": True} if quick else {}),
        "cores": len(os.sched_getaffinity(0)),
        "driver": _output(*driver) if gpu else None,
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "commit": _output("git", "-C", here, *describe),
        "date": datetime.date.today().isoformat(),
    }


def subject(benchmark: str, preset: str, config: Config, dtype: str) -> dict[str, Any]:
    """What is measured, as every record of a preset says it."""
    run = config.run
    about = dict(benchmark=benchmark, preset=preset, dtype=dtype)
    places = ("data.dir", "data.manual_dir", "data.cache")  # of one machine, and of no consequence
    options = {name: value for name, value in described(config).items() if name not in places}
    return {**about, "batch_size": run.batch_size, "seed": run.seed, "config": options}


def show_machine(about: dict[str, Any]) -> None:
    """Prints what runs, with which versions, and whether others run here too."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    commit = about["commit"] or "unknown"
    print(f"{about['device']}, {about['cores']} cores, Python {about['python']}, commit {commit}")
    print(versions)
    if (busy := about.get("busy_cores") or 0.0) > 0.25 * about["cores"]:
        print(
            f"OTHER WORK RUNS HERE: it kept {busy:.1f} of the {about['cores']} cores busy just "
            "now; times and ratios mislead"
        )
    if about.get("quick"):
        print("--quick only tries the command: its times and ratios mean nothing")


def shown(samples: list[float], digits: int = 1) -> str:
    """`median (least to greatest)`."""
    middle, low, high = statistics.median(samples), min(samples), max(samples)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def mean_and_deviation(samples: list[float | None], digits: int = 1) -> str:
    """`mean +- standard deviation` over members, as papers on mode coverage have it; of members
    that have the number."""
    known = [sample for sample in samples if sample is not None]
    if not known:
        return "none"
    deviation = statistics.stdev(known) if len(known) > 1 else 0.0
    return f"{statistics.fmean(known):.{digits}f} +- {deviation:.{digits}f}"


def append(path: str | None, record: dict[str, Any]) -> None:
    """Adds a JSON line to a file, where one is asked for."""
    if not path:
        return
    line = json.dumps(record)
    try:
        with pathlib.Path(path).open("a") as file:
            file.write(line + "\n")
    except OSError as error:
        reason = f"--json {path} cannot be written ({error.strerror})"
        sys.exit(f"{reason}; make room or name another file. The record was:\n{line}")


def _busy_cores(seconds: float = 0.3) -> float | None:
    """How many cores others keep busy while this process waits; None where the system does not
    tell.
    """

    def ticks() -> tuple[int, int]:
        first = pathlib.Path("/proc/stat").read_text().split("\n")[0]
        values = [int(word) for word in first.split()[1:9]]
        return sum(values), values[3] + values[4]  # all, and those idle or waiting for a disk

    try:
        before = ticks()
        time.sleep(seconds)
        whole, idle = (after - then for after, then in zip(ticks(), before))
        return (os.cpu_count() or 1) * (1 - idle / whole)
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
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
