"""The README's tables and plots, made anew from the records in `benchmarks/results/`: `python -m benchmarks.report`.

A table stands between <!-- results: NAME --> and <!-- end -->; NAME is one of the tables below. Of several records of one thing the last
counts. Cells without a record say "not measured". --check changes nothing and fails where README.md is not what the records say.
"""

import argparse
import importlib.util
import json
import pathlib
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks import output

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MISSING = "not measured"
PRESETS = ("seed-mnist", "mnist", "digits", "dcgan-64")
PEERS = ("torch-eager", "torch-eager+malloc", "torch-compile")
Record = dict[str, Any]


def load(folder: pathlib.Path) -> list[Record]:
    """The records of all files of JSON lines, in the order of the files' names; those that only tried a command are left out.

    Raises:
      ValueError: for a line that is no record.
    """
    records = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                record = {
                    "benchmark": path.stem,
                    **json.loads(line),
                }  # early records do not name their benchmark
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"{path} line {number} is no record ({error}); mend or remove that line"
                ) from None
            if not record.get("quick") and "error" not in record:
                records.append(record)
    return records


def fill(text: str, tables: dict[str, Callable[[], str]]) -> str:
    """The text with what stands between its markers made anew.

    Raises:
      ValueError: for a marker of an unknown table, or one that is never closed.
    """

    def made(found: re.Match[str]) -> str:
        name, body = found[1], found[2]
        if name not in tables:
            raise ValueError(f"unknown table {name!r}; use {', '.join(tables)}")
        if "<!-- results:" in body or not found[3]:
            raise ValueError(f"the table {name!r} is not closed; write <!-- end --> after it")
        return f"<!-- results: {name} -->\n{tables[name]().strip()}\n<!-- end -->"

    return re.sub(r"<!-- results: ([\w-]+) -->(.*?)(<!-- end -->|\Z)", made, text, flags=re.S)


# ---------------------------------------------------------------------------------------------------------------------- tables
def train_step(records: list[Record]) -> str:
    """Steps a second by preset and provider, a table for each device."""
    mine = [r for r in records if r["benchmark"] == "train_step"]
    shown = [
        _steps_of(device, [r for r in mine if _device(r) == device])
        for device in _unique(map(_device, mine))
    ]
    for kind, there in (
        ("CPU", any(not r.get("driver") for r in mine)),
        ("GPU", any(r.get("driver") for r in mine)),
    ):
        if not there:
            shown.append(_steps_of(kind, []))
    return "\n\n".join(shown)


def _steps_of(device: str, records: list[Record]) -> str:
    key = lambda r: (r["preset"], r.get("dtype", "float32"), r["batch_size"])
    last = {(*key(r), r["provider"]): r for r in records}
    peers = [p for p in PEERS if p in {r["provider"] for r in records} or "+" not in p]
    rows = []
    for preset in _unique([*(r["preset"] for r in records), *PRESETS]):
        kinds = sorted({key(r)[1:] for r in records if r["preset"] == preset}) or [("", "")]
        for dtype, batch in kinds:
            ours = last.get((preset, dtype, batch, "jaxgan"), {})
            beside = [last.get((preset, dtype, batch, peer), {}) for peer in peers]
            what = f"`{preset}`" + (f", {batch}, {dtype}" if batch else "")
            cells = [
                _spread(ours),
                *[
                    _spread(r) + (f"; **{_shown(r['ratios'], 2)} x**" if r.get("ratios") else "")
                    for r in beside
                ],
            ]
            cells += [
                _number(ours.get("s_per_kimg"), 3),
                _number(ours.get("compile_s"), 1),
                _number(ours.get("peak_bytes"), 0, 2**20),
            ]
            rows.append(
                [what, *cells, _percent(ours.get("utilisation")), _percent(ours.get("host_gap"))]
            )
    head = [
        "preset, batch, dtype",
        "jaxgan, steps/s",
        *[f"{p}; jaxgan is" for p in peers],
        "s/kimg",
        "compile s",
        "peak MiB",
    ]
    return f"{_caption(device, list(last.values()))}\n\n" + _table(
        [*head, "of peak FLOP/s", "device waits"], rows
    )


def loop(records: list[Record]) -> str:
    """What the training loop adds to its step."""
    mine = [r for r in records if r["benchmark"] == "loop"]
    rows, used = [], []
    for device, preset in _unique((_device(r), r["preset"]) for r in mine):
        last = {r.get("what"): r for r in mine if (_device(r), r["preset"]) == (device, preset)}
        used += last.values()
        cost = last.get("overhead", {})
        times = cost.get("ms_per_step", {})
        inputs = [_spread(last.get(f"input_{kind}", {}), 0) for kind in ("resident", "streamed")]
        adds, between = (
            f"{_shown(cost[name], 2)} %" if cost.get(name) else MISSING
            for name in ("samples", "samples_between_steps")
        )
        rounds = f", {len(cost['samples'])} rounds" if cost.get("samples") else ""
        rows.append(
            [
                f"{device}, `{preset}`{rounds}",
                *[_shown(times.get(kind), 3) for kind in ("bare", "loop")],
                adds,
                between,
                *inputs,
            ]
        )
    head = [
        "device, preset",
        "bare step, ms",
        "in the loop, ms",
        "the loop adds",
        "between steps, of the loop's time",
    ]
    return _table([*head, "input, resident: images/s", "streamed"], rows) + _measured_at(used)


def compiled(counts: dict[str, Any]) -> str:
    """The steps compiled for an H100, before and now."""
    before, rows = counts.get("before", {}), []
    for name, now in counts.get("now", {}).items():
        old = before.get(name, {})

        def cell(read: Callable[[Record], str], old: Record = old, now: Record = now) -> str:
            earlier, later = (read(c) if c else "" for c in (old, now))
            return f"{earlier} -> {later}" if old and earlier != later else later

        fields: list[Callable[[Record], str]] = [
            lambda c: "/".join(map(str, c["cudnn_calls"].values()))
        ]
        fields = [lambda c: str(c["kernels"]), *fields]
        fields += [lambda c, f=f: str(c[f]) for f in ("zero_dilated", "transposes", "copies")]
        fields += [
            lambda c: f"{c['scratch_bytes'] / 2**20:.1f}",
            lambda c: f"{c['bytes'] / 1e6:.0f}",
            lambda c: f"{c['roofline_us']:.0f}",
        ]
        rows.append([f"`{name}`", *map(cell, fields)])
    head = [
        "step",
        "kernels",
        "cuDNN forward/input/filter",
        "zero-dilated",
        "transposes",
        "copies",
        "scratch MiB",
        "MB moved",
    ]
    return _table([*head, "roofline, us"], rows)


def scaling(records: list[Record]) -> str:
    """Weak scaling, the collectives of a step, and what they predict for many GPUs."""
    mine = [r for r in records if r["benchmark"] == "scaling"]
    real = [r for r in mine if r.get("part") == "weak" and not r.get("fake_devices")]
    rows = []
    for device in _unique(_device(r) for r in real):
        last = {r["devices"]: r for r in real if _device(r) == device}
        for count, r in sorted(last.items()):
            share = r["steps_per_s"] / last[min(last)]["steps_per_s"]
            rows.append(
                [
                    f"{count} x {device}",
                    f"`{r['preset']}`",
                    str(r["batch_per_device"]),
                    _spread(r),
                    f"{100 * share:.0f} %",
                ]
            )
    shown = [_table(["devices", "preset", "images each", "steps/s", "efficiency"], rows)]
    for r in {r["preset"]: r for r in mine if r.get("part") == "prediction"}.values():
        total = next(
            (
                c
                for c in reversed(mine)
                if c.get("part") == "collectives" and c["preset"] == r["preset"]
            ),
            {},
        )
        shown.append(
            f"Predicted for `{r['preset']}`, {r['batch_per_device']} images each, {r['source']}; {total.get('bytes', 'unknown')} bytes"
        )
        shown[-1] += " a step go round:"
        cells = [
            [str(row["gpus"]), f"{row['communication_ms']:.3f}", _efficiency(row)]
            for row in r["rows"]
        ]
        shown.append(
            _table(["GPUs", "communication, ms", "efficiency, without and with overlap"], cells)
        )
    return "\n\n".join(shown)


def _efficiency(row: Record) -> str:
    both = [row.get(f"efficiency_{overlap}") for overlap in ("no_overlap", "full_overlap")]
    return MISSING if None in both else " to ".join(map(_percent, both))


def kernels(records: list[Record]) -> str:
    """The fused operations, forward and backward, beside what else computes them; on GPUs alone."""
    mine = [
        r
        for r in records
        if r["benchmark"] == "kernels" and r.get("driver") and r["mode"] == "both"
    ]
    providers, rows = ("natural", "xla", "triton", "torch-eager", "torch-compile"), []
    cell_of = lambda r: (_device(r), r["op"], tuple(r["shape"]), r["dtype"])
    for cell in _unique(map(cell_of, mine)):
        last = {r["provider"]: r for r in mine if cell_of(r) == cell}
        device, op, shape, dtype = cell
        floor = next((_number(r["floor_us"], 1) for r in last.values() if "floor_us" in r), "")
        times = [
            f"{r['us']:.1f} ({r['us_20']:.1f} to {r['us_80']:.1f})"
            if (r := last.get(p))
            else MISSING
            for p in providers
        ]
        rows.append([device, f"`{op}` {'x'.join(map(str, shape))} {dtype}", floor, *times])
    return _table(
        [
            "device",
            "operation",
            "floor, us",
            "plain JAX, us",
            "xla",
            "triton",
            "torch-eager",
            "torch-compile",
        ],
        rows,
    )


def quality(records: list[Record]) -> str:
    """Frechet distances over seeds."""
    mine = [r for r in records if r["benchmark"] == "quality"]
    rows, used = [], []
    for preset in _unique(r["preset"] for r in mine):
        last = {r["seed"]: r for r in mine if r["preset"] == preset}
        used += last.values()
        distances, rarest = (
            [r[name] for r in last.values()] for name in ("frechet_distance", "rarest_class")
        )
        rows.append(
            [f"`{preset}`", str(len(last)), _shown(distances, 1), f"{100 * min(rarest):.1f} %"]
        )
    if mine:
        rows.append(
            [
                "training images instead of samples",
                "",
                f"{mine[-1]['real_frechet_distance']:.1f}",
                "",
            ]
        )
    return _table(
        ["preset", "seeds", "Frechet distance", "rarest digit, least of the seeds"], rows
    ) + _measured_at(used)


def startup(records: list[Record]) -> str:
    """Seconds until something happens."""
    mine = [r for r in records if r["benchmark"] == "startup"]
    last, rows = {(_device(r), r["preset"]): r for r in mine}, []
    for (device, preset), record in last.items():
        times = record["seconds"]
        added = [ours - base for base, ours in zip(times["base"], times["jaxgan"])]
        rows.append(
            [
                device,
                f"`{preset}`",
                _shown(added, 2),
                _shown(times["cold"], 1),
                _shown(times["warm"], 1),
            ]
        )
    head = [
        "device",
        "preset",
        "`import jaxgan` adds, s",
        "first step, cold cache, s",
        "warm cache, s",
    ]
    return _table(head, rows) + _measured_at(list(last.values()))


def all_tables(folder: pathlib.Path) -> dict[str, Callable[[], str]]:
    """Name -> what makes the table, from the records of a folder."""
    records, path = load(folder), folder / "compiled.json"
    counts = _counts(path)
    made: dict[str, Callable[[], str]] = {"compiled": lambda: compiled(counts)}
    made |= {
        t.__name__: lambda t=t: t(records)
        for t in (train_step, loop, scaling, kernels, quality, startup)
    }
    return {
        name: lambda name=name, make=make: _told(f"the table {name!r}", folder, make)
        for name, make in made.items()
    }


def _told(what: str, folder: pathlib.Path, make: Callable[[], Any]) -> Any:
    """What `make` gives; whatever a damaged record makes of it becomes a `ValueError` of one line."""
    try:
        return make()
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(
            f"{what} cannot be made from the records in {folder} ({reason}); mend or remove the damaged record"
        ) from None


def _counts(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read ({error}); restore it, or make it by python -m benchmarks.compiled PRESET --update"
        ) from None


# ----------------------------------------------------------------------------------------------------------------------- cells
def _table(head: list[str], rows: list[list[str]]) -> str:
    rows = rows or [[MISSING] + [""] * (len(head) - 1)]
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)
    )


def _caption(device: str, records: list[Record]) -> str:
    if not records:
        return f"{device}: {MISSING}"
    last = records[-1]
    versions = ", ".join(
        f"{n} {last['versions'][n]}" for n in ("jax", "torch") if n in last.get("versions", {})
    )
    driver = (
        f", driver {last['driver']}"
        if last.get("driver")
        else f", {last.get('cores', 'unknown')} cores"
    )
    return f"{device}{driver}; {versions}; {_commits(records)}"


def _commits(records: list[Record]) -> str:
    return f"measured at {', '.join(_unique(r.get('commit') or 'unknown' for r in records))}"


def _measured_at(records: list[Record]) -> str:
    """A paragraph below a table that is made of these records."""
    return f"\n\n{_commits(records)}" if records else ""


def _device(record: Record) -> str:
    return record.get("device") or "unknown device"


def _shown(samples: list[float] | None, digits: int) -> str:
    return output.shown(samples, digits) if samples else MISSING


def _spread(record: Record, digits: int | None = None) -> str:
    """The samples of a record, three figures of them."""
    samples = record.get("samples")
    if not samples:
        return MISSING
    middle = statistics.median(samples)
    return output.shown(
        samples, (2 if middle < 10 else 1 if middle < 1000 else 0) if digits is None else digits
    )


def _number(value: float | None, digits: int, unit: float = 1) -> str:
    return MISSING if value is None else f"{value / unit:.{digits}f}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f} %"


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


# ----------------------------------------------------------------------------------------------------------------------- plots
def plots(folder: pathlib.Path) -> list[pathlib.Path]:
    """Draws what the records of a folder support: how many times faster jaxgan is, for each device; kernels of a step before and now."""
    steps = [
        r
        for r in load(folder)
        if r["benchmark"] == "train_step" and r.get("ratios") and r["provider"] != "jaxgan"
    ]
    name = lambda r: (
        f"{r['preset']} {r['batch_size']} {r.get('dtype', 'float32')} / {r['provider']}"
    )
    panels = {
        device: {name(r): r["ratios"] for r in steps if _device(r) == device}
        for device in _unique(map(_device, steps))
    }
    made = []
    if steps:

        def ratios(axes: list[Any]) -> None:
            for axis, (device, last) in zip(axes, panels.items()):
                for at, samples in enumerate(last.values()):
                    axis.plot(samples, [at] * len(samples), "o", color="tab:blue")
                axis.axvline(1.0, color="grey", linewidth=0.5)
                axis.set_yticks(range(len(last)), list(last), fontsize="x-small")
                axis.set(
                    title=device,
                    xlabel="times as many steps/s as the other, by round",
                    xlim=(0, None),
                )
                axis.invert_yaxis()

        made.append(folder / "train_step.png")
        output.figure(
            str(made[-1]),
            ratios,
            columns=len(panels),
            width=6.5,
            height=1.2 + 0.22 * max(map(len, panels.values())),
        )
    path = folder / "compiled.json"
    counts = _counts(path)
    if counts.get("now"):

        def kernels_of(axes: list[Any]) -> None:
            names = list(counts["now"])
            for shift, when in ((-0.2, "before"), (0.2, "now")):
                heights = [counts.get(when, {}).get(name, {}).get("kernels", 0) for name in names]
                axes[0].barh([i + shift for i in range(len(names))], heights, 0.4, label=when)
            axes[0].set_yticks(range(len(names)), names, fontsize="x-small")
            axes[0].invert_yaxis()
            axes[0].set(xlabel="kernels in a step compiled for an H100")
            axes[0].legend()

        made.append(folder / "compiled.png")
        output.figure(str(made[-1]), kernels_of, width=6.0)
    return made


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="only fail where the README is not what the records say",
    )
    parser.add_argument(
        "--results",
        metavar="DIR",
        default=str(RESULTS),
        help="the folder of records (default: benchmarks/results)",
    )
    parser.add_argument(
        "--readme",
        metavar="FILE",
        default=str(ROOT / "README.md"),
        help="the text with markers (default: README.md)",
    )
    parser.add_argument("--print", action="store_true", help="print all tables and change nothing")
    given = parser.parse_args(argv)
    folder, readme = pathlib.Path(given.results), pathlib.Path(given.readme)
    if not folder.is_dir() or not readme.is_file():
        parser.error(
            f"{folder if not folder.is_dir() else readme} does not exist; name what to read with --results and --readme"
        )
    try:
        tables = all_tables(folder)
        if given.print:
            for name, made in tables.items():
                print(f"<!-- results: {name} -->\n{made()}\n<!-- end -->\n")
            return
        with readme.open(encoding="utf-8", newline="") as file:  # its line endings stay as they are
            text = file.read()
        new = fill(text, tables)
        with_plots = not given.check and importlib.util.find_spec("matplotlib") is not None
        drawn = _told("a plot", folder, lambda: plots(folder)) if with_plots else []
    except UnicodeDecodeError as error:
        sys.exit(
            f"benchmarks.report: {readme} is no UTF-8 text ({error.reason} at byte {error.start}); mend it, or name another --readme"
        )
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.report: {error}")
    if given.check:
        if new != text:
            sys.exit(
                f"{readme} is not what the records in {folder} say; run python -m benchmarks.report"
            )
        print(
            f"{readme}: {len(re.findall('<!-- results:', text))} tables are what the records in {folder} say"
        )
        return
    if new != text:
        with readme.open("w", encoding="utf-8", newline="") as file:
            file.write(new)
    print(f"{readme}: {len(re.findall('<!-- results:', new))} tables")
    print(
        *drawn if with_plots else ["plots are left out: matplotlib is not installed (extra bench)"],
        sep="\n",
    )


if __name__ == "__main__":
    main()
