"""What was measured, as tables and as JSON."""

import platform
from typing import Any

from jaxgan.evaluation.kind import Numbers, Row

_WIDTH = 37  # of labels


def shown(found: Any) -> str:
    """The numbers of samples and of true examples side by side, a line each.

    Args:
      found: an `Evaluation`.
    """
    sets, kind = (found.samples, found.truth), found.kind
    rows = rows_of(found)
    cells = {n: [cell(numbers, n, row) for numbers in sets] for n, row in rows.items()}
    width = max(10, *(len(word) + 2 for row in cells.values() for word in row))
    lines = [f"{'':{_WIDTH}s}{'samples':>{width}s}{'truth':>{width}s}"]
    for name, row in rows.items():
        words = "".join(f"{word:>{width}s}" for word in cells[name])
        lines.append(f"{row.label:{_WIDTH}s}{words}")
    if of_classes := found.samples.get("per_class"):
        lines += ["", "of each class, truth in brackets"]
        lines += _per_class(kind.rows, of_classes, found.truth["per_class"])
    lines += about_lines(kind.about, kind.extractor)
    return "\n".join([*lines, *found.warnings]) + "\n"


def rows_of(found: Any) -> dict[str, Row]:
    """Those of the numbers that samples have: that of labels only a game conditioned on them."""
    return {name: row for name, row in found.kind.rows.items() if name in found.samples}


def about_lines(about: dict[str, Any], extractor: dict[str, Any]) -> list[str]:
    """How it was measured, in lines."""
    lines = []
    if "real" in about:
        lines.append(f"beside {about['real']}; truth: {about['floor']}")
    if "errors" in about:
        ways: dict[str, list[str]] = {}
        for name, way in about["errors"].items():
            ways.setdefault(way, []).append(name)
        told = "; ".join(f"{', '.join(names)}: {way}" for way, names in ways.items())
        lines.append(f"+- one standard error of the samples drawn ({told})")
    if extractor:
        accuracy = extractor["accuracy"]
        right = "" if accuracy is None else f", {accuracy:.2%} of held-out right"
        lines.append(f"by {extractor['name']} {extractor['digest'][:12]}{right}")
    return lines


def _per_class(rows: dict[str, Row], samples: dict[str, Any], truth: dict[str, Any]) -> list[str]:
    names = [name for name in rows if any(name in numbers for numbers in samples.values())]
    table = [["class", "samples", "real", *names]]
    for label, numbers in samples.items():
        words = [
            f"{_value(numbers.get(n), rows[n])} ({_value(truth[label].get(n), rows[n])})"
            for n in names
        ]
        table.append([label, str(numbers["made"]), str(numbers["real"]), *words])
    return columns(table)


def several(named: list[tuple[str, Any]]) -> str:
    """Evaluations in a table, a row each, and one for the truth; those that do not compare, as
    they are of other data or by another extractor, in tables of their own.

    Args:
      named: (workdir, `Evaluation`) of each.
    """
    groups: dict[Any, list[tuple[str, Any]]] = {}
    for name, found in named:
        key = found.kind.data, found.kind.extractor.get("digest"), found.count
        key += (tuple(rows_of(found)),)
        groups.setdefault(key, []).append((name, found))
    pages = [_group(group) for group in groups.values()]
    if len(pages) > 1:
        pages.append("numbers of one table do not compare with those of another\n")
    return "\n".join(pages)


def _group(named: list[tuple[str, Any]]) -> str:
    first = named[0][1]
    rows = rows_of(first)
    table = [["workdir", "step", *rows]]
    for name, found in named:
        table.append([name, str(found.step), *(cell(found.samples, n, rows[n]) for n in rows)])
    table.append(["truth", "", *(cell(first.truth, n, rows[n]) for n in rows)])
    lines = [f"{first.kind.data}, {first.count} samples of each", *columns(table)]
    lines += about_lines(first.kind.about, first.kind.extractor)
    lines += dict.fromkeys(warning for _, found in named for warning in found.warnings)
    return "\n".join(lines) + "\n"


def columns(table: list[list[str]]) -> list[str]:
    """Rows of words as lines, in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table)]
    return [
        "  ".join(
            word.ljust(width) if i == 0 else word.rjust(width)
            for i, (word, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in table
    ]


def cell(numbers: Numbers, name: str, row: Row) -> str:
    """A number and its standard error, where it has one."""
    error = numbers.get(f"{name}_error")
    text = _value(numbers[name], row)
    return text if error is None else f"{text} +- {format(error, row.form)}"


def _value(value: float | None, row: Row) -> str:
    return "none" if value is None else format(value, row.form)


def about_run(workdir: Any, found: Any, seed: int, averaged: bool) -> dict[str, Any]:
    """An `Evaluation` as JSON takes it."""
    return {
        "workdir": str(workdir),
        "data": found.kind.data,
        "step": found.step,
        "num": found.count,
        "seed": seed,
        "averaged": averaged,
        "warnings": found.warnings,
        **({"extractor": found.kind.extractor} if found.kind.extractor else {}),
        **found.kind.about,
        "versions": versions(),
        "samples": found.samples,
        "truth": found.truth,
    }


def about_folders(found: Any) -> dict[str, Any]:
    """An `Evaluation` of two sets of images as JSON takes it."""
    return {
        "num": found.count,
        "warnings": found.warnings,
        "extractor": found.kind.extractor,
        **found.kind.about,
        "versions": versions(),
        "samples": found.samples,
        "truth": found.truth,
    }


def versions() -> dict[str, str]:
    """Of what computes the numbers."""
    import jax
    import numpy as np

    import jaxgan

    return {
        "jaxgan": jaxgan.__version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
