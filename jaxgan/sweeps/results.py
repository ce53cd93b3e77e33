"""What came out of a sweep so far: read from its runs, and written as a table and a plot."""

import pathlib
from typing import Any

from jaxgan import files, images
from jaxgan.errors import RunError
from jaxgan.paths import shown
from jaxgan.run import checkpoint, manifest
from jaxgan.run.records import OWN_FIELDS, read_metrics
from jaxgan.run.workdir import CHECKPOINTS
from jaxgan.sweeps import chart, folder, table
from jaxgan.words import shown_value


def _ended(workdir: pathlib.Path, about: dict[str, Any], number: int) -> dict[str, Any]:
    """The members of a program that ended: name -> [step, what was not finite]."""
    if of_all := about.get("done", {}).get(str(number), {}).get("ended"):
        return of_all
    where = workdir / folder.GROUPS / str(number) / CHECKPOINTS
    if not (steps := checkpoint.steps_in(where)):
        return {}
    try:
        return manifest.read(where / str(steps[-1]))["records"].get("ended", {})
    except (OSError, RunError, ValueError, KeyError, AttributeError, TypeError):
        return {}  # a run that goes on there tells what is damaged


def _records(workdir: pathlib.Path, about: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """Each member's records, oldest first."""
    found: dict[int, list[dict[str, Any]]] = {m["member"]: [] for m in about["members"]}
    for number in range(len(about["groups"])):
        for record in read_metrics(workdir / folder.GROUPS / str(number) / "metrics.jsonl"):
            found[record["member"]].append(record)
    return found


def results_of(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """What came out so far: of each member its options, its last record, and how it ended."""
    about = folder.read(workdir)
    records = _records(workdir, about)
    ended: dict[str, Any] = {}
    for number in range(len(about["groups"])):
        ended |= _ended(workdir, about, number)
    results = []
    for member in about["members"]:
        name = member["member"]
        last, how = (records[name] or [{}])[-1], ended.get(str(name))
        own = {n: v for n, v in last.items() if n not in (*OWN_FIELDS, "member")}
        results.append(
            {
                **{n: member[n] for n in ("member", "seed", "options")},
                "step": last.get("step", 0),
                "metrics": {} if how else own,
                "ended": how,
            }
        )
    return results


def summary(workdir: pathlib.Path) -> list[str]:
    """What came out so far: a table, and a line for each member that ended. Writes nothing."""
    about, results = folder.read(workdir), results_of(workdir)
    ended = [
        f"member {r['member']} ended: {r['ended'][1]} is not finite at step {r['ended'][0]}"
        for r in results
        if r["ended"]
    ]
    return [*table.lines(about["varied"], table.rows(_cells(about), results)), *ended]


def _cells(about: dict[str, Any]) -> list[dict[str, Any]]:
    return list({repr(m["options"]): m["options"] for m in about["members"]}.values())


def written(workdir: pathlib.Path) -> list[str]:
    """Writes what came out so far into `sweep.json`, `table.md` and `plot.png`; returns it, and a
    line that says where."""
    about, found = folder.read(workdir), summary(workdir)
    files.write_json(workdir / folder.SWEEP, {**about, "results": results_of(workdir)})
    with files.written_whole(workdir / folder.TABLE) as file:
        file.write("".join(f"{line}\n" for line in found).encode())
    if panels := _panels(about, _cells(about), _records(workdir, about)):
        many = len(about["seeds"])
        title = f"{about['recipe']}: mean and range of {many} member{'s' * (many > 1)}"
        with files.written_whole(workdir / folder.PLOT) as file:
            images.write_png(file, chart.chart(title, panels))
    return [*found, f"written to {shown(workdir / folder.TABLE)} and {folder.PLOT}"]


def _panels(
    about: dict[str, Any],
    cells: list[dict[str, Any]],
    records: dict[int, list[dict[str, Any]]],
) -> dict[str, list[chart.Line]]:
    """The lines of a chart, by metrics."""
    metrics = dict.fromkeys(
        name
        for of_member in records.values()
        for record in of_member
        for name in record
        if name not in (*OWN_FIELDS, "member")
    )
    panels: dict[str, list[chart.Line]] = {name: [] for name in metrics}
    for cell in cells:
        label = ", ".join(f"{n}={shown_value(v)}" for n, v in cell.items()) or about["recipe"]
        at: dict[int, list[dict[str, Any]]] = {}
        for member in about["members"]:
            if member["options"] == cell:
                for record in records[member["member"]]:
                    at.setdefault(record["step"], []).append(record)
        steps = sorted(at)
        for name in metrics:
            values = [[r[name] for r in at[step] if name in r] for step in steps]
            panels[name].append(chart.Line(label, steps, values))
    return panels
