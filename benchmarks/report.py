"""The tables of benchmarks/README.md, made anew from the records in benchmarks/results/.

A table stands between <!-- table: NAME --> and <!-- end -->, where NAME is a function below. Of
several records of one thing the last counts. --check changes nothing and fails where the README is
not what the records say.
"""

import argparse
import json
import pathlib
import re
import statistics
import sys
from collections.abc import Iterable
from typing import Any

from benchmarks.record import shown

HERE = pathlib.Path(__file__).resolve().parent
PEERS = ("torch-eager", "torch-eager+malloc", "torch-compile")
Record = dict[str, Any]


def load(folder: pathlib.Path) -> list[Record]:
    """The records of all files of JSON lines, and the budgets as one; without those that tried a
    command.

    Raises:
      ValueError: for a line that is no record.
    """
    records = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:  # early records do not name their benchmark
                made = {"benchmark": path.stem, **json.loads(line)}
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path} line {number} is no record: {error}") from None
            if not made.get("quick") and "error" not in made:
                records.append(made)
    budgets = json.loads((folder / "compiled.json").read_text())["now"]
    return [*records, {"benchmark": "compiled", "budgets": budgets}]


def train_step(records: list[Record]) -> str:
    def row(r: Record, beside: dict[str, Record]) -> list[str]:
        cells = [f"`{r['preset']}`, {r['batch_size']}, {r['dtype']}", _samples(r)]
        for peer in PEERS:
            other = beside.get(peer)
            ratio = f"; **{shown(other['ratios'], 2)} x**" if other else ""
            cells.append(f"{_samples(other)}{ratio}" if other else "")
        share = f"{100 * r['utilisation']:.0f} %" if r["utilisation"] else ""
        numbers = [f"{r['s_per_kimg']:.3f}", f"{r['compile_s']:.1f}"]
        return [*cells, *numbers, f"{r['peak_bytes'] / 2**20:.0f}", share]

    def cell(r: Record) -> Any:
        return _device(r), r["preset"], r["batch_size"], r["dtype"]

    head = [
        "device",
        "preset, batch, dtype",
        "jaxgan, steps/s",
        *[f"{p}; jaxgan is" for p in PEERS],
    ]
    head += ["s/kimg", "compile s", "peak MiB", "of peak FLOP/s"]
    rows, used = [], []
    for key in _unique(map(cell, records)):
        last = {r["provider"]: r for r in records if cell(r) == key}
        if "jaxgan" in last:
            rows.append([key[0], *row(last["jaxgan"], last)])
            used += last.values()
    return _table(head, rows) + _measured_at(used)


def compiled(records: list[Record]) -> str:
    head = ["step", "kernels", "once in 25 steps", "cuDNN forward/input/filter", "Triton calls"]
    head += ["zero-dilated", "transposes", "copies", "scratch MiB", "MB moved", "roofline, us"]
    rows = []
    for name, c in records[-1]["budgets"].items():
        calls = "/".join(map(str, c["cudnn_calls"].values()))
        counts = [c["kernels"], c["kernels_per_dispatch"], calls, c["triton_calls"]]
        counts += [c["zero_dilated"], c["transposes"], c["copies"]]
        sizes = [f"{c['scratch_bytes'] / 2**20:.1f}", f"{c['bytes'] / 1e6:.0f}"]
        rows.append([f"`{name}`", *map(str, counts), *sizes, f"{c['roofline_us']:.0f}"])
    return _table(head, rows)


def loop(records: list[Record]) -> str:
    def cell(r: Record) -> Any:
        return _device(r), r["preset"]

    head = ["device, preset", "bare step, ms", "in the loop, ms", "the loop adds, %"]
    head += ["between steps, % of the loop's time", "resident input, images/s", "streamed"]
    rows, used = [], []
    records = [r for r in records if r["what"] != "startup"]
    for key in _unique(map(cell, records)):
        last = {r["what"]: r for r in records if cell(r) == key}
        used += last.values()
        cost = last["overhead"]
        times = [shown(cost["ms_per_step"][kind], 2) for kind in ("bare", "loop")]
        adds = [shown(cost[name], 2) for name in ("samples", "samples_between_steps")]
        kinds = [last[f"input_{kind}"] for kind in ("resident", "streamed")]
        inputs = [shown(r["samples"], 0) for r in kinds]
        rows.append([f"{key[0]}, `{key[1]}`", *times, *adds, *inputs])
    return _table(head, rows) + _measured_at(used)


def startup(records: list[Record]) -> str:
    head = ["device, preset", "`import jaxgan` adds, s", "first step, cold cache, s", "warm, s"]
    rows = []
    records = [r for r in records if r.get("what", "startup") == "startup"]
    for r in {(_device(r), r["preset"]): r for r in records}.values():
        times = r["seconds"]
        added = [ours - base for base, ours in zip(times["base"], times["jaxgan"])]
        cells = [shown(added, 2), shown(times["cold"], 1), shown(times["warm"], 1)]
        rows.append([f"{_device(r)}, `{r['preset']}`", *cells])
    return _table(head, rows) + _measured_at(records)


def scaling(records: list[Record]) -> str:
    head = ["what", "device, preset", "measured"]
    last = {(r["part"], r.get("devices", 2)): r for r in records}
    rows = []
    for (part, count), r in sorted(last.items(), key=str):
        where = f"{_device(r)}, `{r['preset']}`"
        if part == "weak" and not r["fake_devices"]:
            rows.append([f"{count} devices", where, f"{_samples(r)} steps/s"])
        elif part == "collectives":
            extra = r["bytes"] - r["parameter_bytes"]
            what = f"{r['count']} collectives, {r['bytes']} bytes, {extra} more than the parameters"
            rows.append([f"a step over {count} devices", where, what])
        elif part == "processes":
            what = f"losses apart by {r['largest_difference']:.1e} of their size"
            rows.append(["two processes against one", where, what])
    return _table(head, rows) + _measured_at(list(last.values()))


def kernels(records: list[Record]) -> str:
    providers = ("plain", "xla", "triton", "torch-eager", "torch-compile")
    records = [r for r in records if r.get("driver") and r["mode"] == "both"]

    def cell(r: Record) -> Any:
        return _device(r), r["op"], "x".join(map(str, r["shape"])), r["dtype"]

    rows = []
    for key in _unique(map(cell, records)):
        last = {r["provider"]: r for r in records if cell(r) == key}
        floor = next((f"{r['floor_us']:.1f}" for r in last.values() if "floor_us" in r), "")
        times = [f"{last[p]['us']:.1f}" if p in last else "" for p in providers]
        rows.append([key[0], " ".join(key[1:]), floor, *times])
    return _table(["device", "operation", "floor, us", *providers], rows) if rows else ""


def quality(records: list[Record]) -> str:
    rows = []
    for preset in _unique(r["preset"] for r in records):
        last = {r["seed"]: r for r in records if r["preset"] == preset}
        distances = [r["frechet_distance"] for r in last.values()]
        rarest = f"{100 * min(r['rarest_class'] for r in last.values()):.1f} %"
        rows.append([f"`{preset}`", str(len(last)), shown(distances, 1), rarest])
    real = f"{records[-1]['real_frechet_distance']:.1f}"
    rows.append(["training images instead of samples", "", real, ""])
    head = ["preset", "seeds", "Frechet distance", "rarest digit, least of the seeds"]
    return _table(head, rows) + _measured_at(records)


TABLES = {t.__name__: t for t in (train_step, compiled, loop, startup, scaling, kernels, quality)}
SOURCES = {"startup": ("startup", "loop")}  # of a table; else the benchmark of its name


def filled(text: str, records: list[Record]) -> str:
    """The text with what stands between its markers made anew.

    Raises:
      ValueError: for a marker of an unknown table, or one that is never closed.
    """

    def made(found: re.Match[str]) -> str:
        name = found[1]
        if name not in TABLES or not found[3] or "<!-- table:" in found[2]:
            raise ValueError(
                f"<!-- table: {name} --> is unknown or not closed; use {', '.join(TABLES)}"
            )
        mine = [r for r in records if r["benchmark"] in SOURCES.get(name, (name,))]
        return f"<!-- table: {name} -->\n{TABLES[name](mine).strip()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->(.*?)(<!-- end -->|\Z)", made, text, flags=re.S)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)
    )


def _measured_at(records: list[Record]) -> str:
    """A paragraph below a table: which commits its records name."""
    commits = _unique(r.get("commit") or "unknown" for r in records)
    return f"\n\nMeasured at {', '.join(commits)}." if commits else ""


def _device(record: Record) -> str:
    return record["device"] + ("" if record.get("driver") else f", {record['cores']} cores")


def _samples(record: Record) -> str:
    """Median and range, of about three figures."""
    middle = statistics.median(record["samples"])
    return shown(record["samples"], 2 if middle < 10 else 1 if middle < 1000 else 0)


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def main(argv: list[str] | None = None, readme: pathlib.Path = HERE / "README.md") -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only fail where it is not up to date")
    given = parser.parse_args(argv)
    text = readme.read_text()
    try:
        new = filled(text, load(HERE / "results"))
    except (ValueError, KeyError, OSError) as error:
        sys.exit(f"benchmarks.report: {type(error).__name__}: {error}")
    if given.check and new != text:
        sys.exit(f"{readme} is not what the records say; run python -m benchmarks.report")
    if not given.check:
        readme.write_text(new)
    print(f"{readme}: {new.count('<!-- table: ')} tables")


if __name__ == "__main__":
    main()
