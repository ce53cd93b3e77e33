"""Everything that a run on a GPU should bring back, in under eight minutes: `python -m benchmarks.record --out DIR`.

The GPU's tests, training steps beside PyTorch, the training loop, a profile, a short training run with its samples, the fused
operations, scaling, and the compiled program's counts; each a command of its own with a limit of its own, in order of value, within
--minutes in all. What cannot run here, or does not fit any more, is skipped by name with its reason; a part that fails is recorded with
its last lines, and the others go on. The exit status says whether any part failed.

DIR gets a file of JSON lines for each benchmark, `training.png`, `trace.tar.gz`, `record.json` with what became of every part, and what
each printed in `logs/`. A folder that already holds something is refused, unless --add says to append to the JSON; the pictures and the
trace of a second run are `training-2.png` and so on.

Runs under any Python that has JAX: jaxgan need not be installed, `PYTHONPATH=. python -m benchmarks.record` in its source tree is enough.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks import output

ROOT = pathlib.Path(__file__).resolve().parent.parent
LARGEST_ARCHIVE = 16 << 20
PROBE = (
    "import json, jax; from benchmarks import output;"
    "print(json.dumps(output.machine() | dict(platform=jax.devices()[0].platform, devices=jax.device_count())))"
)


class Part(NamedTuple):
    """One thing to bring back.

    Attributes:
      name: as it is reported.
      commands: the words after `python`, of each command in turn.
      seconds: after which it is ended.
      needs: modules without which it cannot run; of alternatives, joined by |, one is enough.
      on_gpu: whether it means anything on a GPU only.
      stop_after: seconds after which the first command is asked to stop, which is no failure; None to let it end.
      platforms: JAX_PLATFORMS, where it differs from the machine's.
    """

    name: str
    commands: list[list[str]]
    seconds: float
    needs: tuple[str, ...] = ()
    on_gpu: bool = False
    stop_after: float | None = None
    platforms: str | None = None


def numbered(name: str, number: int) -> str:
    """The name of a file of the number-th run that a folder records."""
    stem, dot, ending = name.partition(".")
    return name if number == 1 else f"{stem}-{number}{dot}{ending}"


def parts(
    out: pathlib.Path, work: pathlib.Path, quick: bool, plots: bool, number: int = 1
) -> list[Part]:
    """What there is to bring back, the most valuable first; pictures are named after the run, so that --add replaces none."""

    def benchmark(
        name: str, *words: str, label: str = "", plot: bool = False, **options: Any
    ) -> Part:
        words += ("--json", str(out / f"{name}.jsonl")) + (
            ("--plot", str(out / numbered(f"{name}.png", number))) if plot and plots else ()
        )
        return Part(
            label or name,
            [["-m", f"benchmarks.{name}", *words, *(["--quick"] if quick else [])]],
            **options,
        )

    def step(preset: str, dtype: str = "float32", on_gpu: bool = False) -> Part:
        words = [preset, "--dtype", dtype] + (
            [] if quick else ["--rounds", "5", "--round-seconds", "1"]
        )
        words += ["--batch-size", "256"] if dtype == "bfloat16" and not quick else []
        return benchmark(
            "train_step", *words, label=f"train_step {preset} {dtype}", seconds=120, on_gpu=on_gpu
        )

    def train(workdir: pathlib.Path, preset: str, steps: int, *words: str) -> list[str]:
        small = [
            "--batch-size",
            "8",
            "--data.image-size",
            "16",
            "--model.generator-width",
            "8",
            "--model.discriminator-width",
            "4",
        ]
        small += ["--model.doublings", "2", "--devices", "1", "--kernels", "xla"]
        run = [
            "-m",
            "jaxgan",
            "train",
            preset,
            "--workdir",
            str(workdir),
            "--steps",
            str(12 if quick else steps),
        ]
        return [
            *run,
            "--data.name",
            "shapes",
            "--log.tensorboard",
            "false",
            *(small if quick else []),
            *words,
        ]

    grid = [
        "-m",
        "jaxgan",
        "sample",
        "--workdir",
        str(work / "run"),
        "--out",
        str(out / numbered("training.png", number)),
    ]
    preset, needs = ("digits" if quick else "dcgan-64"), ("orbax.checkpoint", "PIL", "tqdm")
    tests = [
        str(path)
        for path in sorted((ROOT / "tests").glob("test_*.py"))
        if "mark.gpu" in path.read_text()
    ]
    alone = [
        "-c",
        str(ROOT / "pyproject.toml"),
        "-o",
        "addopts=",
        "-o",
        "filterwarnings=default",
        "-p",
        "no:cacheprovider",
        "-ra",
        "-q",
    ]
    subset = [
        "--ops",
        "step,bias_leaky_relu,batch_norm_leaky_relu,gan_loss,blur_halve",
        "--dtypes",
        "bfloat16",
        "--repeats",
        "5",
    ]
    if quick:
        subset = ["--ops", "gan_loss", "--dtypes", "float32", "--providers", "natural,xla"]
    kinds = "plain,xla,triton" if _installed("jax_triton") else "plain,xla"
    return [
        step("seed-mnist"),
        step("dcgan-64", "bfloat16", on_gpu=True),
        step("mnist"),
        Part(
            "tests that need a GPU",
            [["-m", "pytest", *alone, "-m", "gpu", *tests]],
            120,
            ("pytest", "triton", "jax_triton"),
            on_gpu=True,
        ),
        Part("training", [train(work / "run", preset, 10**6), grid], 100, needs, stop_after=60),
        Part("profile", [train(work / "profiled", preset, 400, "--profile")], 75, needs),
        benchmark("loop", seconds=75, needs=needs),
        step("dcgan-64", "float32", on_gpu=True),
        benchmark("kernels", *subset, "--modes", "both", seconds=75, plot=True, on_gpu=not quick),
        step("digits"),
        benchmark("scaling", seconds=75),
        benchmark(
            "compiled",
            *(["seed-mnist"] if quick else ["seed-mnist", "mnist", "dcgan-64", "--kernels", kinds]),
            seconds=90,
            needs=("jax_cuda12_plugin|jax_cuda13_plugin",),
            platforms="cpu",
        ),
    ]


# ------------------------------------------------------------------------------------------------------------------- running them
@contextlib.contextmanager
def source_tree() -> Iterator[pathlib.Path]:
    """A folder for PYTHONPATH from which this source tree's jaxgan, jaxgan.kernels and benchmarks import, as if installed.

    `pyproject.toml` installs the folder kernels/ as jaxgan.kernels, which a path to the plain tree cannot give. Links to the tree's
    own files, with the name and version for `importlib.metadata`, need no installer and no hook in the interpreter.
    """
    with tempfile.TemporaryDirectory(prefix="jaxgan-tree-") as temporary:
        folder = pathlib.Path(temporary)
        (folder / "jaxgan").mkdir()
        for path in (ROOT / "jaxgan").iterdir():
            (folder / "jaxgan" / path.name).symlink_to(path)
        if not (folder / "jaxgan" / "kernels").exists():
            (folder / "jaxgan" / "kernels").symlink_to(ROOT / "kernels")
        (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        about = folder / f"{project['name']}-{project['version']}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        yield folder


def environment(tree: pathlib.Path) -> dict[str, str]:
    """That of the parts: this tree comes first, and never the folder that a command is started in."""
    path = os.pathsep.join(filter(None, [str(tree), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def why_not(part: Part, platform: str, remaining: float) -> str | None:
    """The reason to skip a part; None to run it."""
    for needed in part.needs:
        if not any(_installed(name) for name in needed.split("|")):
            return f"{needed.replace('|', ' or ')} is not installed"
    if part.on_gpu and platform != "gpu":
        return f"needs a GPU; this machine has {platform} only"
    if remaining < 0.25 * part.seconds:
        return f"no time left: {max(0.0, remaining):.0f} s remain, it may need {part.seconds:.0f} s"
    return None


def run(
    part: Part, log: pathlib.Path, variables: dict[str, str], remaining: float
) -> dict[str, Any]:
    """Runs a part's commands and says what became of it: `status` passed or failed, `reason`, `seconds` and its last lines."""
    start, limit = time.monotonic(), min(part.seconds, remaining)
    variables = variables | ({"JAX_PLATFORMS": part.platforms} if part.platforms else {})
    reason = ""
    with log.open("w") as file:
        for i, words in enumerate(part.commands):
            print(f"$ python {' '.join(words)}", file=file, flush=True)
            left = limit - (time.monotonic() - start)
            status = _run(words, file, variables, left, part.stop_after if i == 0 else None)
            if status != 0:
                reason = (
                    f"ended after its {limit:.0f} s" if status is None else f"exit status {status}"
                )
                break
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    took = round(time.monotonic() - start, 1)
    return {
        "status": "failed" if reason else "passed",
        "reason": reason,
        "seconds": took,
        "last_lines": lines[-12:],
    }


def _run(
    words: list[str], file: Any, variables: dict[str, str], limit: float, stop_after: float | None
) -> int | None:
    """The exit status of one command; None where it had to be ended. It and all that it started are gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, *words],
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=subprocess.STDOUT,
        env=variables,
        start_new_session=True,
    )
    start = time.monotonic()
    try:
        if stop_after is not None and stop_after < limit:
            try:
                return process.wait(stop_after)
            except subprocess.TimeoutExpired:
                process.terminate()  # a training run saves and ends
        return process.wait(max(0.0, limit - (time.monotonic() - start)))
    except subprocess.TimeoutExpired:
        return None
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


def archive(folder: pathlib.Path, path: pathlib.Path) -> str:
    """Packs what the profiler wrote into one file; the reason why not, or ""."""
    if not folder.is_dir():
        return "the profile made no trace"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname="profile")
    size = path.stat().st_size
    if size >= LARGEST_ARCHIVE:
        path.unlink()
        return f"the trace takes {size / 2**20:.0f} MiB, more than {LARGEST_ARCHIVE >> 20}"
    return ""


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


# -------------------------------------------------------------------------------------------------------------------- command
def main(argv: list[str] | None = None) -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.record", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="where the records go; made where it does not exist",
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything (default: 8)")
    parser.add_argument(
        "--only",
        metavar="WORDS",
        help="the parts whose names begin with one of these words, with commas between",
    )
    parser.add_argument("--add", action="store_true", help="append to the records that DIR holds")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="everything in its smallest form, to try the command, on a CPU too",
    )
    given = parser.parse_args(argv)
    out = pathlib.Path(given.out).absolute()
    if not 0.0 < given.minutes < 10_000:
        parser.error(f"--minutes {given.minutes} must be above 0; 8 is the default")
    names = [part.name for part in parts(out, out, given.quick, plots=False)]
    if given.only and not any(name.startswith(tuple(given.only.split(","))) for name in names):
        parser.error(f"--only {given.only} names no part; they are {', '.join(names)}")
    earlier = out / "record.json"
    try:
        held = out.is_dir() and any(path.name != "logs" for path in out.iterdir())
        if given.add or not held:
            (out / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {out} cannot be written: {error.strerror}; name another folder")
    if held and not given.add:
        parser.error(
            f"--out {out} already holds records or other files; name another folder, or add to them with --add"
        )
    try:
        runs = json.loads(earlier.read_text())["runs"] if earlier.exists() else []
        if not isinstance(runs, list):
            raise ValueError("runs is no list")
    except (ValueError, KeyError, TypeError, OSError) as error:
        parser.error(f"{earlier} cannot be read ({error}); restore it, or name another folder")

    with source_tree() as tree, tempfile.TemporaryDirectory(prefix="jaxgan-record-") as temporary:
        work, variables = pathlib.Path(temporary), environment(tree)
        probe = subprocess.run(
            [sys.executable, "-c", PROBE], env=variables, capture_output=True, text=True
        )
        if probe.returncode:
            parser.exit(
                2,
                f"benchmarks.record: JAX does not start here: {(probe.stderr.strip() or 'no output').splitlines()[-1]}\n",
            )
        about = json.loads(probe.stdout.splitlines()[-1])
        # The tests on a GPU compute in float64 on its host.
        variables["JAX_PLATFORMS"] = "cuda,cpu" if about["platform"] == "gpu" else about["platform"]
        output.print_machine(about)
        found: list[dict[str, Any]] = []
        runs.append(
            {
                "benchmark": "record",
                "quick": given.quick,
                "minutes": given.minutes,
                "parts": found,
                **about,
            }
        )
        chosen, trace = (
            parts(out, work, given.quick, _installed("matplotlib"), len(runs)),
            numbered("trace.tar.gz", len(runs)),
        )
        if given.only:
            chosen = [part for part in chosen if part.name.startswith(tuple(given.only.split(",")))]

        def note(name: str, status: str, reason: str = "", **more: Any) -> None:
            found.append({"name": name, "status": status, "reason": reason, **more})
            took = f" in {more['seconds']:.0f} s" if "seconds" in more else ""
            print(f"{name:28s} {status}{took}{': ' + reason if reason else ''}", flush=True)
            earlier.write_text(
                json.dumps({"runs": runs}, indent=1) + "\n"
            )  # after each part: a machine may be taken away

        for part in chosen:
            remaining = 60 * given.minutes - (time.monotonic() - started)
            if reason := why_not(part, about["platform"], remaining):
                note(part.name, "skipped", reason)
                continue
            log = out / "logs" / f"{len(runs)}-{part.name.replace(' ', '-')}.txt"
            result = run(part, log, variables, remaining)
            note(part.name, **result, command=part.commands)
            if part.name == "profile" and (
                reason := archive(work / "profiled" / "profile", out / trace)
            ):
                note(trace, "skipped" if result["status"] == "failed" else "failed", reason)
        for name, module in (
            ("peers of train_step", "torch"),
            ("Triton's kernels", "jax_triton"),
            ("plots", "matplotlib"),
        ):
            if not _installed(module):
                note(name, "skipped", f"{module} is not installed")
    counts = {
        status: sum(p["status"] == status for p in found)
        for status in ("passed", "failed", "skipped")
    }
    print(
        f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped, {time.monotonic() - started:.0f} s: {earlier}"
    )
    for part in found:
        if part["status"] == "failed":
            print(
                f"\n{part['name']} failed: {part['reason']}",
                *part.get("last_lines", []),
                sep="\n    ",
            )
    sys.exit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()
