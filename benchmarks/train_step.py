"""Steps a second of presets beside PyTorch, in turn in one run.

Each provider - jaxgan, and the peers torch-eager, torch-eager+malloc and torch-compile - runs in a
process of its own, started once; rounds go from one to the other, so that a change in the machine's
speed meets all. jaxgan's process keeps freed memory, as `jaxgan train` does; torch-eager+malloc is
PyTorch with that very setting of the C library, which no PyTorch script has by default. All train
on random pixels that lie on the device: this times steps, `benchmarks.loop` times input.

Columns: steps and images a second; seconds for a thousand images; seconds that the first steps took
longer than later ones (compile); the most memory in use, of the device, or on a CPU of the whole
process; what XLA says that jaxgan's program takes beside its arguments (scratch); the share of the
device's arithmetic that the model's products and convolutions use, of the data sheet's rate where
`benchmarks.flops` knows the device, else of a large matrix product measured in the same run;
jaxgan's rate over the provider's: the median of the rounds' ratios. How long the device waits for
Python says jaxgan train --profile.

Options of jaxgan train, such as --batch-size or --kernels, change what all train. --beside times
jaxgan with other options, too: `--beside remat=blocks,accumulate=4` shows what either costs, and
what memory it spares.
"""

import multiprocessing
import os
import statistics
import sys
from typing import Any

from benchmarks import record
from benchmarks.providers import PEERS, reason_against, serve
from jaxgan.config import Config, check_run
from jaxgan.errors import UserError

COLUMNS = (
    "steps/s",
    "images/s",
    "s/kimg",
    "compile s",
    "peak MiB",
    "scratch MiB",
    "used",
    "jaxgan is",
)
WIDTHS = (24, 10, 9, 10, 9, 12, 6, 26)


class Worker:
    """A provider in a process of its own.

    Attributes:
      error: the one line of what ended it; None while it answers.
    """

    def __init__(self, name: str, preset: str, changes: dict[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (name, preset, changes, theirs)
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self.error: str | None = self._answer()

    def ask(self, what: Any) -> Any:
        """The answer; after an error None."""
        if self.error is not None:
            return None
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
    workers: dict[str, Any], rounds: int, steps: int | None, seconds: float
) -> dict[str, Any]:
    """name -> its samples in steps/s and its facts, of the workers that answer.

    Args:
      workers: by name.
      rounds: that count; one before them does not.
      steps: in a round; None for as many as the slowest runs in `seconds`.
    """
    rates: dict[str, list[float]] = {name: [] for name in workers}
    if steps is None:
        paces = [pace for worker in workers.values() if (pace := worker.ask(1))]
        steps = max(1, round(seconds * min(paces))) if paces else 1
    for i in range(rounds + 1):
        for name, worker in workers.items():
            rate = worker.ask(steps)
            if rate is not None and i:
                rates[name].append(rate)
    found = {}
    for name, worker in workers.items():
        facts = worker.ask("facts")
        if facts is not None:
            found[name] = {"samples": rates[name], "steps_per_round": steps, **facts}
        worker.close()
    return found


def records(
    subject: dict[str, Any], found: dict[str, Any], about: dict[str, Any]
) -> list[dict[str, Any]]:
    """One record a provider."""
    from benchmarks.flops import peak_flops

    ours, batch = found.get("jaxgan", {}), subject["batch_size"]
    flops = ours.get("model_flops")
    sheet = peak_flops(about["device"], subject["dtype"])
    peak = sheet or ours.get("matrix_flops_per_s")
    shared = {
        "model_flops": flops,
        "peak_flops_per_s": peak,
        "peak_flops_source": "data sheet" if sheet else "measured matrix product",
    }
    made = []
    for name, facts in found.items():
        rate = statistics.median(facts["samples"])
        rates = {
            "steps_per_s": rate,
            "images_per_s": rate * batch,
            "s_per_kimg": 1e3 / (rate * batch),
            "ratios": [a / b for a, b in zip(ours.get("samples", ()), facts["samples"])],
            "utilisation": flops * rate / peak if flops and peak else None,
        }
        made.append({**subject, "provider": name, **rates, **facts, **shared, **about})
    return made


def row(made: dict[str, Any]) -> tuple[str, ...]:
    """A record in `COLUMNS`."""
    share, ratios, scratch = made["utilisation"], made["ratios"], made.get("scratch_bytes")
    return (
        record.shown(made["samples"], 2),
        f"{made['images_per_s']:.0f}",
        f"{made['s_per_kimg']:.3f}",
        f"{made['compile_s']:.1f}",
        f"{made['peak_bytes'] / 2**20:.0f}",
        "-" if scratch is None else f"{scratch / 2**20:.1f}",
        "-" if share is None else f"{100 * share:.0f} %",
        f"{record.shown(ratios, 2)} x" if ratios and made["provider"] != "jaxgan" else "",
    )


def line(name: str, cells: tuple[str, ...]) -> str:
    return f"{name:21s}" + "".join(f"{cell:>{width}s}" for cell, width in zip(cells, WIDTHS))


def checked(config: Config) -> str:
    """What the config's game computes in; raises `UserError` where it cannot be trained on one
    device.
    """
    from benchmarks.workload import dtype_of, features_of, game_of

    check_run(config.run, 1)
    return dtype_of(game_of(config, features_of(config)))


def _option(parser: Any, words: str) -> dict[str, str]:
    name, equals, value = words.partition("=")
    if not equals:
        parser.error(f"--beside {words}: give OPTION=VALUE, such as remat=blocks")
    return {name.removeprefix("--").replace("-", "_"): value}


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.train_step", __doc__)
    parser.add_argument(
        "presets", nargs="*", metavar="PRESET", help=record.presets_help("seed-mnist")
    )
    parser.add_argument(
        "--peers", help=f"of {', '.join(PEERS)}, with commas between, or none (default: all)"
    )
    parser.add_argument(
        "--beside", default="", metavar="OPTION=VALUE,..", help="jaxgan with each of these, too"
    )
    parser.add_argument("--rounds", type=int, default=7, help="after one that is not counted")
    parser.add_argument("--steps", type=int, help="in a round (default: what takes --seconds)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the slowest (default: 2)")
    given, changes = record.parsed(parser, argv)
    presets = list(dict.fromkeys(given.presets)) or ["seed-mnist"]
    if given.quick:
        changes, given.steps, given.rounds = {"batch_size": "8", **changes}, given.steps or 2, 2
    configs = {name: record.config_of(parser, name, changes) for name in presets}
    beside = [(words, _option(parser, words)) for words in given.beside.split(",") if words]
    try:
        dtypes = {name: checked(config) for name, config in configs.items()}
        for name in presets:
            for _, more in beside:
                checked(record.config_of(parser, name, changes | more))
    except UserError as error:
        parser.error(str(error))
    # Several processes share the GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    about = record.machine(given.quick)
    on_gpu = about["driver"] is not None
    reasons = {peer: reason for peer in PEERS if (reason := reason_against(peer, on_gpu))}
    if given.peers is None:
        peers = [p for p in PEERS if p not in reasons and (p == "torch-eager" or not given.quick)]
    else:
        peers = [p for p in dict.fromkeys(given.peers.split(",")) if p != "none"]
    for peer in peers:
        if peer not in PEERS:
            parser.error(f"unknown peer {peer!r}; use {', '.join(PEERS)} or none")
        if peer in reasons:
            parser.error(f"{peer} cannot run here: {reasons[peer]}")
    record.show_machine(about)
    for peer, reason in reasons.items():
        print(f"{peer} is left out: {reason}")
    failed = False
    for preset, config in configs.items():
        # One builds after the other.
        settings = {"jaxgan": changes, **{f"jaxgan {n}": changes | more for n, more in beside}}
        settings |= dict.fromkeys(peers, changes)
        workers = {name: Worker(name, preset, changed) for name, changed in settings.items()}
        found = measured(workers, given.rounds, given.steps, given.seconds)
        subject = record.subject("train_step", preset, config, dtypes[preset])
        print(f"{preset}, batch {config.run.batch_size}, {dtypes[preset]}, {given.rounds} rounds:")
        print(line("provider", COLUMNS))
        for made in records(subject, found, about):
            print(line(made["provider"], row(made)), flush=True)
            record.append(given.json, made)
        for name, worker in workers.items():
            if worker.error is not None:
                print(f"{name} could not be measured: {worker.error}", flush=True)
                failed = True
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
