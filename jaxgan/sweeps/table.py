"""What came out of a sweep: of each combination of options, each metric's mean and spread."""

import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from jaxgan.words import shown_value

COLUMNS = ("metric", "mean", "sd", "least", "most", "members")


class Row(NamedTuple):
    """A metric of a combination.

    Attributes:
      cell: the varied options.
      metric: its name.
      values: of the members that go on, means over the steps since the record before the last.
      members: how many there are, those that ended included.
    """

    cell: dict[str, Any]
    metric: str
    values: list[float]
    members: int


def rows(cells: list[dict[str, Any]], results: Iterable[dict[str, Any]]) -> list[Row]:
    """The rows of a table.

    Args:
      cells: the combinations.
      results: of each member its `options` and `metrics`, {} where it ended or has none yet.
    """
    results = list(results)
    found = []
    for cell in cells:
        own = [result for result in results if result["options"] == cell]
        # Another objective may log other metrics.
        names = list(dict.fromkeys(name for result in own for name in result["metrics"]))
        for name in names or ["-"]:
            values = [r["metrics"][name] for r in own if name in r["metrics"]]
            found.append(Row(cell, name, values, len(own)))
    return found


def lines(varied: Iterable[str], found: list[Row]) -> list[str]:
    """The rows as a table of Markdown, whose columns are of one width."""
    varied = list(varied)
    words = [[*varied, *COLUMNS], *([*_options(row, varied), *_numbers(row)] for row in found)]
    widths = [max(map(len, column)) for column in zip(*words)]

    def line(cells: list[str]) -> str:
        left = len(varied) + 1
        places = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))
        ]
        return f"| {' | '.join(places)} |"

    rule = [
        "-" * width if i <= len(varied) else "-" * (width - 1) + ":"
        for i, width in enumerate(widths)
    ]
    return [line(words[0]), line(rule), *map(line, words[1:])]


def _options(row: Row, varied: list[str]) -> list[str]:
    return [shown_value(row.cell[name]) for name in varied]


def _numbers(row: Row) -> list[str]:
    values = row.values
    members = f"{len(values)} of {row.members}"
    if not values:
        return [row.metric, "-", "-", "-", "-", members]
    deviation = f"{statistics.stdev(values):.4g}" if len(values) > 1 else "-"
    numbers = statistics.fmean(values), min(values), max(values)
    mean, least, most = (f"{number:.4g}" for number in numbers)
    return [row.metric, mean, deviation, least, most, members]
