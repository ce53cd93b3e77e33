"""The tables of benchmarks/README.md and docs/research.md, made anew from the records in
benchmarks/results/.

A table stands between <!-- table: NAME --> and <!-- end -->, where NAME is a function below. Of
several records of one thing the last counts. --check changes nothing and fails where a page is not
what the records say.
"""

import argparse
import json
import pathlib
import re
import statistics
import sys
from typing import Any

from benchmarks.record import mean_and_deviation, shown

HERE = pathlib.Path(__file__).resolve().parent
PAGES = (HERE / "README.md", HERE.parent / "docs" / "research.md")
PEERS = ("torch-eager", "torch-eager+malloc", "torch-compile")
Record = dict[str, Any]


def load(folder: pathlib.Path) -> list[Record]:
    """The records of all files of JSON lines but those that only tried a command, and the budgets
    as one; raises `ValueError` for a line that is no record.
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
    rows, used = [], []
    for key, last in grouped(records, "provider", "preset", "batch_size", "dtype"):
        if (ours := last.get("jaxgan")) is None:
            continue
        beside = ["" for _ in PEERS]
        for i, peer in enumerate(PEERS):
            if other := last.get(peer):
                beside[i] = f"{samples(other)}; **{shown(other['ratios'], 2)} x**"
        share = f"{100 * ours['utilisation']:.0f} %" if ours["utilisation"] else ""
        numbers = [f"{ours['s_per_kimg']:.3f}", f"{ours['compile_s']:.1f}"]
        numbers += [f"{ours['peak_bytes'] / 2**20:.0f}", share]
        rows.append([key[0], f"`{key[1]}`, {key[2]}, {key[3]}", samples(ours), *beside, *numbers])
        used += last.values()
    head = [
        "device",
        "preset, batch, dtype",
        "jaxgan, steps/s",
        *[f"{p}; jaxgan is" for p in PEERS],
    ]
    return table([*head, "s/kimg", "compile s", "peak MiB", "of peak FLOP/s"], rows, used)


def compiled(records: list[Record]) -> str:
    head = ["step", "kernels", "once in 25 steps", "cuDNN forward/input/filter", "Triton calls"]
    head += ["zero-dilated", "transposes", "copies", "scratch MiB", "MB moved", "roofline, us"]
    head += ["graphs, and launches outside", "by XLA's default"]
    rows = []
    for name, c in records[-1]["budgets"].items():
        counts = [c["kernels"], c["kernels_per_dispatch"]]
        counts += ["/".join(map(str, c["cudnn_calls"].values())), c["triton_calls"]]
        counts += [c["zero_dilated"], c["transposes"], c["copies"]]
        sizes = [f"{c['scratch_bytes'] / 2**20:.1f}", f"{c['bytes'] / 1e6:.0f}"]
        handed = [
            f"{g['graphs_per_dispatch']}, {g['launches_outside_graphs']}"
            for g in (c, c["xla_default"])
        ]
        rows.append([f"`{name}`", *map(str, counts), *sizes, f"{c['roofline_us']:.0f}", *handed])
    return table(head, rows)


def loop(records: list[Record]) -> str:
    rows, used = [], []
    for key, last in grouped([r for r in records if r["what"] == "overhead"], "what", "preset"):
        cost = last["overhead"]
        times = [shown(cost["ms_per_step"][kind], 2) for kind in ("bare", "loop")]
        adds = [shown(cost[name], 2) for name in ("samples", "samples_between_steps")]
        rows.append([f"{key[0]}, `{key[1]}`", *times, *adds])
        used += last.values()
    head = ["device, preset", "bare step, ms", "in the loop, ms", "the loop adds, %"]
    return table([*head, "between steps, % of the loop's time"], rows, used)


def feeds(records: list[Record]) -> str:
    rows, used = [], []
    for key, last in grouped([r for r in records if "feed_" in r["what"]], "what", "preset"):
        cells = [""] * 6
        if r := last.get("feed_resident"):
            cells[0] = thousands(r["samples"]["1"])
        if r := last.get("feed_streamed"):
            cells[1:4] = [thousands(r["samples"][name]) for name in ("1", "25", "numpy")]
            cells[4] = "; ".join(shown(share, 2) for share in r["share_of_numpy"].values())
        if r := last.get("feed_cost"):
            cells[5] = "; ".join(shown(r[name]) for name in ("samples", "samples_cpu"))
        config = next(iter(last.values()))["config"]
        rows.append([f"{key[0]}, `{key[1]}`, {config['batch_size']}", *cells])
        used += last.values()
    head = ["device, preset, batch", "resident", "streamed, one step", "25 steps", "NumPy's gather"]
    return table(
        [*head, "share of that: one; 25", "streaming adds to a step, %; to its processor time"],
        rows,
        used,
    )


def startup(records: list[Record]) -> str:
    rows, used = [], []
    found = [{"what": "startup", **r} for r in records]
    for key, last in grouped([r for r in found if r["what"] == "startup"], "what", "preset"):
        times = last["startup"]["seconds"]
        added = [ours - base for base, ours in zip(times["base"], times["jaxgan"])]
        cells = [shown(added, 2), shown(times["cold"], 1), shown(times["warm"], 1)]
        rows.append([f"{key[0]}, `{key[1]}`", *cells])
        used += last.values()
    head = ["device, preset", "`import jaxgan` adds, s", "first step, cold cache, s", "warm, s"]
    return table(head, rows, used)


def scaling(records: list[Record]) -> str:
    rows, used = [], []
    for key, last in grouped([{"devices": 2, **r} for r in records], "part", "preset", "devices"):
        where = f"{key[0]}, `{key[1]}`"
        if (r := last.get("weak")) and not r["fake_devices"]:
            rows.append([f"{key[2]} devices", where, f"{samples(r)} steps/s"])
        if r := last.get("collectives"):
            extra = r["bytes"] - r["parameter_bytes"]
            what = f"{r['count']} collectives, {r['bytes']} bytes, {extra} more than the parameters"
            rows.append([f"a step over {key[2]} devices", where, what])
            used.append(r)
        if r := last.get("processes"):
            what = f"losses apart by {r['largest_difference']:.1e} of their size"
            rows.append(["two processes against one", where, what])
    return table(["what", "device, preset", "measured"], rows, used)


def kernels(records: list[Record]) -> str:
    providers = ("plain", "xla", "triton", "torch-eager", "torch-compile")
    on_gpu = [{**r, "sizes": str(r["shape"])} for r in records if r.get("driver")]
    rows = []
    for key, last in grouped(on_gpu, "provider", "op", "sizes", "dtype", "mode"):
        floor = next((f"{r['floor_us']:.1f}" for r in last.values() if "floor_us" in r), "")
        times = [f"{last[p]['us']:.1f}" if p in last else "" for p in providers]
        rows.append([key[0], " ".join(key[1:]), floor, *times])
    return table(["device", "operation", "floor, us", *providers], rows, on_gpu)


def quality(records: list[Record]) -> str:
    rows, used, floors = [], [], {}
    known = [{**r, "judge": _judge(r)} for r in records]
    for key, last in grouped(known, "seed", "judge", "preset"):
        distances = [r["frechet_distance"] for r in last.values()]
        rarest = f"{100 * min(r['rarest_class'] for r in last.values()):.1f} %"
        rows.append([key[1], f"`{key[2]}`", str(len(last)), shown(distances, 1), rarest])
        used += last.values()
        floors[key[1]] = f"{list(last.values())[-1]['real_frechet_distance']:.1f}"
    for judge, real in floors.items():
        rows.append([judge, "training images instead of samples", "", real, ""])
    head = ["classifier", "preset", "seeds", "Frechet distance", "rarest digit, least of the seeds"]
    return table(head, rows, used)


def _judge(record: Record) -> str:
    """By which classifier a distance was measured; the first had no digest."""
    digest = record.get("extractor")
    return f"`{digest[:12]}`" if digest else "of 0.1"


def metrics(records: list[Record]) -> str:
    rows, used = [], []
    for key, last in grouped(records, "metric", "size"):
        for name, r in last.items():
            features = f"{r['rows']:,} x {r['size']:,}"
            peak = f"{r['peak_bytes'] / 2**20:.0f}"
            times = [shown(r[of], 1) for of in ("seconds", "processor_seconds")]
            rows.append([key[0], f"`{name}`", features, *times, peak])
        used += last.values()
    head = ["device", "measure", "features", "seconds", "s of processors"]
    return table([*head, "MiB beyond the features"], rows, used)


def variants(records: list[Record]) -> str:
    from benchmarks.variants import PUBLISHED

    fields = [("modes", 1), ("high_quality", 1), ("reverse_kl_2500", 4), ("reverse_kl", 4)]
    fields += [("binned_kl", 4), ("spread", 2)]
    rows, used, truths = [], [], {}
    for key, last in grouped(records, "seed", "mixture", "variant"):
        members = list(last.values())

        def cells(found: list[Record]) -> list[str]:
            scales = {"high_quality": 100}
            return [
                mean_and_deviation([f[n] and scales.get(n, 1) * f[n] for f in found], digits)
                for n, digits in fields
            ]

        truths.setdefault(key[1], cells([r["truth"] for r in members]))
        run = f"{members[0]['config']['steps']:,}", str(len(members))
        rows.append([key[1], key[2], *run, *cells(members)])
        used += members
    for mixture, numbers in truths.items():
        rows.append([mixture, "true samples", "", "", *numbers])
        for (of, what), (found, near, kl) in PUBLISHED.items():
            if of == mixture:
                rows.append([mixture, f"{what}, as published", "", "", found, near, kl, "", "", ""])
    rows.sort(key=lambda row: row[0])
    head = ["mixture", "variant", "steps", "seeds", "modes", "at them, %", "KL at 2,500"]
    return table([*head, "KL at 26,000", "KL with off bin", "spread"], rows, used)


def stacked(records: list[Record]) -> str:
    rows, used, truths = [], [], {}
    for key, last in grouped(records, "seed", "networks", "share", "variant"):
        members = list(last.values())

        def cells(found: list[Record]) -> list[str]:
            fields = [("modes", 1), ("reverse_kl", 3), ("data_kl", 3)]
            return [mean_and_deviation([f[n] for f in found], digits) for n, digits in fields]

        judge = members[0]["classifier"]["digest"][:12]
        truths[judge] = cells([r["truth"] for r in members])
        run = f"{members[0]['config']['steps']:,}", str(len(members)), judge
        rows.append([f"{key[1]}, {key[2]:g}", key[3], *run, *cells(members)])
        used += members
    rows += [["", "true triples", "", "", judge, *numbers] for judge, numbers in truths.items()]
    head = ["networks, share", "variant", "steps", "seeds", "classifier", "modes"]
    return table([*head, "KL from equal", "KL from the data"], rows, used)


def losses(records: list[Record]) -> str:
    rows, used, floors = [], [], {}
    for key, last in grouped(records, "seed", "data", "loss"):
        members = list(last.values())
        judge = members[0]["classifier"]["digest"][:12]
        floors[key[1], judge] = f"{members[0]['real_frechet_distance']:.1f}"
        distances = [r["frechet_distance"] for r in members]
        run = f"{members[0]['config']['steps']:,}", str(len(members)), judge
        rows.append([key[1], key[2], *run, mean_and_deviation(distances, 1)])
        used += members
    for (data, judge), floor in floors.items():
        rows.append([data, "real images", "", "", judge, floor])
    rows.sort(key=lambda row: row[0])
    head = ["data", "loss", "steps", "seeds", "classifier", "Frechet distance"]
    return table(head, rows, used)


TABLES = {
    t.__name__: t
    for t in (
        train_step,
        compiled,
        loop,
        feeds,
        startup,
        scaling,
        kernels,
        metrics,
        quality,
        variants,
        stacked,
        losses,
    )
}
SOURCES = {
    "startup": ("startup", "loop"),
    "feeds": ("loop",),
}  # of a table; else the benchmark of its name


def filled(text: str, records: list[Record]) -> str:
    """The text with what stands between its markers made anew; raises `ValueError` for a marker of
    an unknown table, or one that is never closed.
    """

    def made(found: re.Match[str]) -> str:
        name = found[1]
        if name not in TABLES or not found[3] or "<!-- table:" in found[2]:
            known = ", ".join(TABLES)
            raise ValueError(f"<!-- table: {name} --> is unknown or not closed; use {known}")
        mine = [r for r in records if r["benchmark"] in SOURCES.get(name, (name,))]
        return f"<!-- table: {name} -->\n{TABLES[name](mine).strip()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->(.*?)(<!-- end -->|\Z)", made, text, flags=re.S)


def grouped(
    records: list[Record], within: str, *fields: str
) -> list[tuple[tuple, dict[Any, Record]]]:
    """((device, fields), the last record by `within`) of records that agree in these, in order."""
    groups: dict[tuple, dict[Any, Record]] = {}
    for r in records:
        device = r["device"] + ("" if r.get("driver") else f", {r['cores']} cores")
        groups.setdefault((device, *(r[f] for f in fields)), {})[r[within]] = r
    return list(groups.items())


def table(head: list[str], rows: list[list[str]], used: list[Record] | tuple = ()) -> str:
    """A table in Markdown, and the days and commits at which its records were made."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    commits = ", ".join(dict.fromkeys(r.get("commit") or "unknown" for r in used))
    days = ", ".join(dict.fromkeys(r["date"] for r in used if "date" in r))
    on = f" on {days}" if days else ""
    return "\n".join(lines) + (f"\n\nMeasured{on} at {commits}." if commits else "")


def thousands(rates: list[float]) -> str:
    """Median and range of rates, in thousands."""
    return shown([rate / 1000 for rate in rates], 0)


def samples(record: Record) -> str:
    """Median and range, of about three figures."""
    middle = statistics.median(record["samples"])
    return shown(record["samples"], 2 if middle < 10 else 1 if middle < 1000 else 0)


def main(argv: list[str] | None = None, pages: tuple[pathlib.Path, ...] = PAGES) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only fail where one is out of date")
    given = parser.parse_args(argv)
    try:
        records = load(HERE / "results")
        new = {page: filled(page.read_text(), records) for page in pages}
    except (ValueError, KeyError, OSError) as error:
        sys.exit(f"benchmarks.report: {type(error).__name__}: {error}")
    for page, text in new.items():
        if given.check and text != page.read_text():
            sys.exit(f"{page} is not what the records say; run python -m benchmarks.report")
        if not given.check:
            page.write_text(text)
        print(f"{page}: {text.count('<!-- table: ')} tables")


if __name__ == "__main__":
    main()
