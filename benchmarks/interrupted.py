"""Runs that are killed and stopped at random moments end in the bits of one that was left alone.

A run is begun again and again, by the same command, and each time killed by SIGKILL at a random
moment: while it starts, between two lines, or while a checkpoint is being written. Another gets
SIGTERM, SIGINT, SIGHUP or SIGUSR1 instead, and must end by itself as the documentation says: saved
with status 0, or with 128 + n before there was anything to save. --processes 2 trains each run by
two processes, of which a random one is hit. At the end weights, moments, keys, statistics and the
lines of metrics.jsonl are compared, bit for bit.

Options of jaxgan train change what is trained.
"""

import collections
import contextlib
import json
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import record

_LAST = 300  # seconds after which a process that does not end has failed
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
_SMALL = {
    **{"data.name": "shapes", "data.image_size": 8, "batch_size": 8, "model.latent_size": 4},
    **{"model.generator_width": 4, "model.discriminator_width": 2, "log.tensorboard": "false"},
    **{"log.every": 1, "log.checkpoint_every": 2, "log.keep": 2, "log.sample_every": 50},
}


class Hit(Exception):
    """A run that did not end as it should."""


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.interrupted", __doc__)
    parser.add_argument("preset", nargs="?", default="dcgan", help=record.presets_help("dcgan"))
    parser.add_argument("--kills", type=int, default=100, help="by SIGKILL (default: 100)")
    parser.add_argument("--signals", type=int, default=100, help="of others (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--processes", type=int, default=1, help="of each run (default: 1)")
    given, changes = record.parsed(parser, argv)
    for name, least in (("kills", 0), ("signals", 0), ("processes", 1)):
        if getattr(given, name) < least:
            parser.error(f"--{name} {getattr(given, name)} is too small; use {least} or more")
    if given.quick:
        given.kills, given.signals = 3, 3
    # Some steps are made between two hits, so that the run is still going on at the last.
    steps = 40 * max(given.kills, given.signals) + 40
    options = {**_SMALL, "steps": steps, **changes}
    config = record.config_of(parser, given.preset, options)
    about = record.machine(given.quick)
    record.show_machine(about)
    words = [given.preset, *(f"--{n.replace('_', '-')}={v}" for n, v in options.items())]
    with tempfile.TemporaryDirectory(prefix="jaxgan-interrupted-") as place:
        folder = pathlib.Path(place)
        began = time.monotonic()
        ended(start(words, folder / "whole", given.processes), 0)
        seconds = min(time.monotonic() - began, 20.0)
        found: dict[str, Any] = {}
        for name, count, hit in (
            ("killed", given.kills, killed),
            ("stopped", given.signals, stopped),
        ):
            chance = random.Random(f"{given.seed} {name}")
            ends: collections.Counter[str] = collections.Counter()
            for _ in range(count):
                ends[hit(start(words, folder / name, given.processes), chance, seconds)] += 1
            ended(start(words, folder / name, given.processes), 0)
            found[name] = dict(ends)
            same = difference(folder / "whole", folder / name) or "the same bits"
            print(f"{name} {count} times ({told(ends)}), then let end at step {steps}: {same}")
            if same != "the same bits":
                sys.exit(1)
    subject = record.subject("interrupted", given.preset, config, config.run.dtype or "float32")
    numbers = {"ends": found, "processes": given.processes, "moments_seed": given.seed}
    record.append(given.json, {**subject, **numbers, **about})


def told(ends: "collections.Counter[str]") -> str:
    """What befell a run, and how often."""
    return ", ".join(f"{count} {what}" for what, count in sorted(ends.items()))


def start(words: list[str], workdir: pathlib.Path, processes: int) -> list[subprocess.Popen[str]]:
    """The processes of one run."""
    command = [sys.executable, "-m", "jaxgan", "train", *words, "--workdir", str(workdir)]
    pipes: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if processes == 1:
        return [subprocess.Popen(command, **pipes)]
    with socket.socket() as found:
        found.bind(("localhost", 0))
        address = f"localhost:{found.getsockname()[1]}"
    place = ["--coordinator-address", address, "--num-processes", str(processes)]
    return [
        subprocess.Popen([*command, *place, "--process-id", str(i)], **pipes)
        for i in range(processes)
    ]


def ended(run: list[subprocess.Popen[str]], *statuses: int) -> list[tuple[int, str, str]]:
    """(status, standard output, standard error) of each process, which may end in these ways."""
    found = []
    try:
        for process in run:
            out, err = process.communicate(timeout=_LAST)
            found.append((process.returncode, out, err))
    except subprocess.TimeoutExpired:
        raise Hit(f"a process did not end within {_LAST} seconds") from None
    finally:
        for process in run:
            process.kill()
    for status, _, err in found:
        if statuses and status not in statuses:
            raise Hit(f"status {status} instead of {statuses}: {err.strip()[-500:]}")
    return found


def killed(run: list[subprocess.Popen[str]], chance: random.Random, seconds: float) -> str:
    """Kills a run; returns in what it was."""
    where = _reached(run, chance, seconds)
    chance.choice(run).kill()
    ended(run)
    return where


def stopped(run: list[subprocess.Popen[str]], chance: random.Random, seconds: float) -> str:
    """Sends a run a signal; returns how it ended, which must be one of the documented ways."""
    where, name = _reached(run, chance, seconds), chance.choice(_SIGNALS)
    number = signal.Signals[name]
    hit = chance.choice(run)
    with contextlib.suppress(ProcessLookupError):
        hit.send_signal(number)
    found = ended(run)
    status, out, err = found[run.index(hit)]
    # CUDA's plugin, where there is one, says that there is no driver.
    said = [line for line in err.splitlines() if line.startswith("jaxgan: stopped")]
    early = f"jaxgan: stopped by {name} before there was anything to save"
    if status == 0 and not said and "Traceback" not in err:
        return f"{where}: saved"
    if status == 128 + number and said == [early] and "Traceback" not in err:
        return f"{where}: nothing to save"
    if status == -number and not out and not said:
        return f"{where}: before the program's first line"
    raise Hit(f"{name} {where} led to status {status}: {out[-300:]!r} {err[-500:]!r}")


def _reached(run: list[subprocess.Popen[str]], chance: random.Random, seconds: float) -> str:
    """Waits until a random moment of a run."""
    if chance.random() < 0.4:
        time.sleep(chance.random() * seconds * 0.6)
        return "starting"
    lines = chance.randint(1, 6)
    output: Any = run[0].stdout
    while lines and (text := output.readline()):
        lines -= text.startswith("[")
    time.sleep(chance.random() * 0.05)
    return "training"


def difference(first: pathlib.Path, second: pathlib.Path) -> str:
    """How two workdirs differ in their last states and records; empty where they do not."""
    import jax
    import numpy as np

    import jaxgan
    from jaxgan.run.records import read_metrics

    states = [jaxgan.restore(workdir).state for workdir in (first, second)]
    named = []
    for state in states:
        bare = state.replace(key=jax.random.key_data(state.key))
        leaves = jax.tree_util.tree_leaves_with_path(bare)
        named.append({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves})
    for name, leaf in named[0].items():
        if leaf.tobytes() != named[1][name].tobytes():
            return f"{name} differs"
    records = [
        [
            {n: v for n, v in r.items() if not re.search("second", n)}
            for r in read_metrics(workdir / "metrics.jsonl")
        ]
        for workdir in (first, second)
    ]
    for a, b in zip(*records):
        if json.dumps(a) != json.dumps(b):
            return f"metrics of step {a['step']} differ: {a} and {b}"
    counts = [len(of_run) for of_run in records]
    return "" if counts[0] == counts[1] else f"{counts[0]} and {counts[1]} records"


if __name__ == "__main__":
    try:
        main()
    except Hit as error:
        sys.exit(f"benchmarks.interrupted: {error}")
