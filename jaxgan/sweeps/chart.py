"""Metrics over steps with their spread: a panel each, and in it a line of each combination."""

import statistics
from typing import Any, NamedTuple

import numpy as np

from jaxgan import charts


class Line(NamedTuple):
    """A metric of a combination: at each step the values of its members, lists of any length."""

    label: str
    steps: list[int]
    values: list[list[float]]


def chart(title: str, panels: dict[str, list[Line]]) -> Any:
    """A picture uint8 [h,w,3]: means as lines, the range of the members as bands.

    Args:
      title: over all panels.
      panels: metric -> its lines, those of the same combination in the same place.
    """
    drawn = tuple(
        charts.Panel(
            metric,
            "step",
            "",
            tuple(_series(line, number) for number, line in enumerate(lines)),
            y=charts.limits(np.array([v for line in lines for vs in line.values for v in vs])),
        )
        for metric, lines in panels.items()
    )
    key = tuple(
        (_colour(number), line.label) for number, line in enumerate(next(iter(panels.values()), []))
    )
    return charts.picture(drawn, min(2, len(panels)) or 1, 460, 280, title, key)


def _series(line: Line, number: int) -> charts.Series:
    known = [(step, values) for step, values in zip(line.steps, line.values) if values]
    means = [(step, statistics.fmean(values)) for step, values in known]
    band = np.array([(min(values), max(values)) for _, values in known]).reshape(-1, 2)
    points = np.array(means, np.float64).reshape(-1, 2)
    return charts.Series(points, _colour(number), width=2.0, band=band)


def _colour(number: int) -> str:
    return charts.COLOURS[number % len(charts.COLOURS)]
