"""Step throughput of presets beside PyTorch, in turn in one run: `python -m benchmarks.train_step seed-mnist mnist`.

Each provider - jaxgan, and the peers torch-eager, torch-eager+malloc and torch-compile, see `benchmarks.torch_dcgan` - runs in a
process of its own, started once; rounds go from one to the other, so that a change in the machine's speed meets all. jaxgan's process
keeps freed memory, as `jaxgan train` does; `torch-eager+malloc` is PyTorch with that very setting of the C library, which no PyTorch
script has by default.

All train on the same kind of input, random pixels that lie on the device: this times steps, `benchmarks.loop` times input.

Columns: steps and images a second; seconds for a thousand images; seconds that the first steps took longer than later ones (compile);
the most memory in use, of the device, or on a CPU of the whole process with its libraries and data; the share of the device's arithmetic
that the model's products and convolutions use (used, in JSON `utilisation`), of the data sheet's rate where `benchmarks.flops` knows the
device, else of a large matrix product measured in the same run; the share of time in which the device waits for Python (waits, in JSON
`host_gap`); jaxgan's rate over the provider's: the median of the rounds' ratios. `samples` in JSON are steps a second.
"""

import argparse
import dataclasses
import multiprocessing
import os
import statistics
import sys
from typing import Any

from benchmarks import output
from benchmarks.providers import PEERS, reason_against, serve
from jaxgan.config import DTYPES, KERNELS, PRESETS, Config, replace, unknown, validate
from jaxgan.errors import UserError

COLUMNS = f"{'provider':19s} {'steps/s':>23s} {'images/s':>9s} {'s/kimg':>7s} {'compile s':>9s} {'peak MiB':>8s} {'used':>5s} {'waits':>5s}"


class Worker:
    """A provider in a process of its own."""

    def __init__(self, name: str, config: Config) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(name, config, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.error: str | None = self._answer()

    def ask(self, what: Any) -> Any:
        """The answer; after an error None, and `error` holds the reason."""
        self._pipe.send(what)
        answer = self._answer()
        if isinstance(answer, str):
            self.error = answer
            return None
        return answer

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            return f"its process ended with status {self._process.exitcode}"

    def close(self) -> None:
        """Ends the process, and gives its memory back."""
        if self.error is None:
            self._pipe.send(None)
        self._process.join(30)
        self._process.kill()


def measured(
    config: Config, providers: list[str], rounds: int, steps: int | None, seconds: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """(provider -> its samples in steps/s and its facts, provider -> why it could not be measured)."""
    workers = {name: Worker(name, config) for name in providers}  # one builds after the other
    rates: dict[str, list[float]] = {name: [] for name in providers}
    if steps is None:  # as many as the slowest runs in `seconds`
        paces = [
            pace
            for worker in workers.values()
            if worker.error is None and (pace := worker.ask(1)) is not None
        ]
        steps = max(1, round(seconds * min(paces))) if paces else 1
    for i in range(rounds + 1):  # the first is not counted
        for name, worker in workers.items():
            if worker.error is None and (rate := worker.ask(steps)) is not None and i:
                rates[name].append(rate)
    found = {}
    for name, worker in workers.items():
        facts = worker.ask("facts") if worker.error is None else None
        if facts is not None:
            found[name] = {"samples": rates[name], "steps_per_round": steps, **facts}
        worker.close()
    return found, {
        name: worker.error for name, worker in workers.items() if worker.error is not None
    }


def records(
    config: Config, preset: str, found: dict[str, Any], about: dict[str, Any]
) -> list[dict[str, Any]]:
    """One record a provider."""
    from benchmarks.flops import peak_flops

    flops, matrix = (
        found.get("jaxgan", {}).get(name) for name in ("model_flops", "matrix_flops_per_s")
    )
    sheet = peak_flops(about["device"], config.dtype)
    made = []
    for name, facts in found.items():
        rate = statistics.median(facts["samples"])
        ratios = (
            [ours / theirs for ours, theirs in zip(found["jaxgan"]["samples"], facts["samples"])]
            if "jaxgan" in found
            else []
        )
        record = output.subject("train_step", preset, config) | {"provider": name}
        record |= {"steps_per_s": rate, "images_per_s": rate * config.batch_size}
        record |= {
            "s_per_kimg": 1e3 / (rate * config.batch_size),
            "ratios": ratios,
            **facts,
            "model_flops": flops,
        }
        peak = sheet or matrix
        record |= {
            "peak_flops_per_s": peak,
            "peak_flops_source": "data sheet" if sheet else "measured matrix product",
        }
        record |= {"utilisation": flops * rate / peak if flops and peak else None, **about}
        made.append(record)
    return made


def line(record: dict[str, Any]) -> str:
    """A record as a line of the table."""
    share = lambda value: "-" if value is None else f"{100 * value:.0f} %"
    beside = (
        f"   jaxgan is {output.shown(record['ratios'], 2)} x"
        if record["ratios"] and record["provider"] != "jaxgan"
        else ""
    )
    return (
        f"{record['provider']:19s} {output.shown(record['samples'], 2):>23s} {record['images_per_s']:9.0f} {record['s_per_kimg']:7.3f} "
        f"{record['compile_s']:9.1f} {record['peak_bytes'] / 2**20:8.0f} {share(record['utilisation']):>5s} {share(record['host_gap']):>5s}"
        f"{beside}"
    )


def draw(made: list[dict[str, Any]], axes: list[Any]) -> None:
    """A panel for each preset: images a second of each provider, with the spread of its rounds."""
    for axis, preset in zip(axes, dict.fromkeys(r["preset"] for r in made)):
        rows = [r for r in made if r["preset"] == preset]
        for i, r in enumerate(rows):
            low, high = (
                abs(limit(r["samples"]) - r["steps_per_s"]) * r["batch_size"]
                for limit in (min, max)
            )
            axis.barh(
                i,
                r["images_per_s"],
                xerr=[[low], [high]],
                color="tab:blue" if r["provider"] == "jaxgan" else "tab:gray",
                capsize=3,
            )
        axis.set_yticks(range(len(rows)), [r["provider"] for r in rows])
        axis.invert_yaxis()
        axis.set(
            title=f"{preset}, batch {rows[0]['batch_size']}, {rows[0]['dtype']}", xlabel="images/s"
        )


def configs(parser: argparse.ArgumentParser, given: argparse.Namespace) -> dict[str, Config]:
    """preset -> the config to time; ends the command where something does not fit."""
    changes = {
        "batch_size": given.batch_size,
        "dtype": given.dtype,
        "log.steps_per_call": given.steps_per_call,
        "kernels": given.kernels,
    }
    made = {}
    try:
        for name in given.presets:
            if name not in PRESETS:
                raise UserError(unknown("preset", name, PRESETS))
            made[name] = replace(
                PRESETS[name][1], {k: v for k, v in changes.items() if v is not None}
            )
            validate(dataclasses.replace(made[name], devices=None), 1)
    except UserError as error:
        parser.error(str(error))
    if given.round_seconds is not None and not 0 < given.round_seconds < 3600:
        parser.error(
            f"--round-seconds {given.round_seconds} is out of bounds; use a number above 0 and below 3600"
        )
    for name in ("rounds", "steps"):
        if (value := getattr(given, name)) is not None and value < 1:
            parser.error(f"--{name} {value} is too small; use 1 or more")
    return made


def main(argv: list[str] | None = None) -> None:
    parser = output.parser("train_step", __doc__, "preset and provider")
    parser.add_argument(
        "presets",
        nargs="*",
        metavar="PRESET",
        help=f"of {', '.join(PRESETS)} (default: seed-mnist)",
    )
    parser.add_argument("--batch-size", help="images per step (default: the preset's)")
    parser.add_argument("--dtype", help=f"{' or '.join(DTYPES)} (default: the preset's)")
    parser.add_argument(
        "--kernels", help=f"jaxgan's fused operations: {', '.join(KERNELS)} (default: the preset's)"
    )
    parser.add_argument(
        "--steps-per-call",
        metavar="K",
        help="jaxgan's steps in one dispatch (default: 25 on a GPU, 1 on a CPU)",
    )
    parser.add_argument(
        "--peers",
        help=f"which of {', '.join(PEERS)}, with commas between, or none (default: all that can run here)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="steps in a round (default: what the slowest does in --round-seconds)",
    )
    parser.add_argument(
        "--round-seconds", type=float, default=2.0, metavar="S", help="(default: 2)"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds counted, after one that is not (default: 7)"
    )
    given = parser.parse_args(argv)
    given.presets = list(dict.fromkeys(given.presets)) or ["seed-mnist"]
    if given.quick:
        given.steps, given.rounds, given.batch_size = given.steps or 2, 2, given.batch_size or "8"
    chosen = configs(parser, given)
    output.check(parser, given)
    os.environ.setdefault(
        "XLA_PYTHON_CLIENT_PREALLOCATE", "false"
    )  # several processes share the GPU
    about = output.machine(given.quick)
    on_gpu = about["driver"] is not None
    reasons = {peer: reason for peer in PEERS if (reason := reason_against(peer, on_gpu))}
    default = [p for p in PEERS if p not in reasons and not (given.quick and p != "torch-eager")]
    peers = (
        default
        if given.peers is None
        else [p for p in dict.fromkeys(given.peers.split(",")) if p != "none"]
    )
    for peer in peers:
        if peer not in PEERS:
            parser.error(f"unknown peer {peer!r}; use {', '.join(PEERS)} or none")
        if peer in reasons:
            parser.error(f"{peer} cannot run here: {reasons[peer]}")

    output.print_machine(about)
    for peer in PEERS:
        if given.peers is None and peer not in peers:
            print(f"{peer} is left out: {reasons.get(peer, '--quick; name it with --peers')}")
    made: list[dict[str, Any]] = []
    failed = False
    for preset, config in chosen.items():
        found, errors = measured(
            config, ["jaxgan", *peers], given.rounds, given.steps, given.round_seconds
        )
        new = records(config, preset, found, about)
        steps = new[0]["steps_per_round"] if new else 0
        print(
            f"{preset}, batch {config.batch_size}, {config.dtype}: {given.rounds} rounds of {steps} steps; median (least to greatest)"
        )
        print(COLUMNS)
        for record in new:
            print(line(record), flush=True)
            output.append(given.json, record)
        for provider, error in errors.items():
            print(f"{provider} could not be measured: {error}", flush=True)
        failed, made = failed or bool(errors), made + new
    if given.plot and made:
        output.figure(
            given.plot, lambda axes: draw(made, axes), columns=len(chosen), quick=given.quick
        )
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
