"""Metrics over steps with their spread: a panel each, and in it a line of each combination."""

import math
import statistics
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Told apart by people who see few colours, too (Okabe and Ito, Color Universal Design, 2008).
COLOURS = (
    *((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)),
    *((230, 159, 0), (86, 180, 233), (0, 0, 0), (150, 130, 0)),
)
_SCALE = 2  # drawn larger and reduced, which smooths lines
_WIDTH, _HEIGHT = 460, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 30, 34
_LINE = 18  # of the legend


class Line(NamedTuple):
    """A metric of a combination: at each step the values of its members, lists of any length."""

    label: str
    steps: list[int]
    values: list[list[float]]


def chart(title: str, panels: dict[str, list[Line]]) -> np.ndarray:
    """A picture uint8 [h,w,3]: means as lines, the range of the members as bands.

    Args:
      title: over all panels.
      panels: metric -> its lines, those of the same combination in the same place.
    """
    columns = min(2, len(panels)) or 1
    rows = math.ceil(len(panels) / columns)
    labels = [line.label for line in next(iter(panels.values()), [])]
    head = _TOP + _LINE * math.ceil(len(labels) / columns)
    size = columns * _WIDTH * _SCALE, (head + rows * _HEIGHT) * _SCALE
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page, "RGBA")
    _text(draw, (12, 8), title)
    for number, label in enumerate(labels):
        row, column = divmod(number, columns)
        x, y = 16 + column * _WIDTH, _TOP + row * _LINE
        draw.rectangle(_scaled(x, y + 3, x + 14, y + 9), fill=_colour(number))
        _text(draw, (x + 20, y), label)
    for number, (metric, lines) in enumerate(panels.items()):
        row, column = divmod(number, columns)
        _panel(draw, column * _WIDTH, head + row * _HEIGHT, metric, lines)
    return np.asarray(page.resize((size[0] // _SCALE, size[1] // _SCALE), Image.Resampling.LANCZOS))


def _panel(draw: Any, left: int, top: int, metric: str, lines: list[Line]) -> None:
    right, bottom = left + _WIDTH - _RIGHT, top + _HEIGHT - _BOTTOM
    x0, y0 = left + _LEFT, top + _TOP - 8
    _text(draw, (x0, top + 2), metric)
    points = [value for line in lines for values in line.values for value in values]
    steps = [step for line in lines for step in line.steps]
    if not points:
        return
    least, most = _padded(min(points), max(points))
    first, last = 0, max(steps)

    def at(step: float, value: float) -> tuple[float, float]:
        x = x0 + (step - first) / max(last - first, 1) * (right - x0)
        y = bottom - (value - least) / (most - least) * (bottom - y0)
        return x * _SCALE, y * _SCALE

    for value in ticks(least, most):
        (_, y), grey = at(0, value), (225, 225, 225)
        draw.line([x0 * _SCALE, y, right * _SCALE, y], fill=grey, width=_SCALE)
        _text(draw, (x0 - 6, y / _SCALE), f"{value:g}", "rm")
    for step in ticks(first, last):
        _text(draw, (at(step, least)[0] / _SCALE, bottom + 6), f"{step:g}", "mt")
    draw.line(_scaled(x0, y0, x0, bottom, right, bottom), fill=(90, 90, 90), width=_SCALE)
    known = [[(s, v) for s, v in zip(line.steps, line.values) if v] for line in lines]
    for number, of_line in enumerate(known):
        upper = [at(s, max(v)) for s, v in of_line]
        lower = [at(s, min(v)) for s, v in of_line]
        if len(of_line) > 1:
            draw.polygon([*upper, *reversed(lower)], fill=(*_colour(number), 45))
    for number, of_line in enumerate(known):  # over all bands
        middle = [at(s, statistics.fmean(v)) for s, v in of_line]
        draw.line(middle, fill=_colour(number), width=2 * _SCALE, joint="curve")


def _colour(number: int) -> tuple[int, int, int]:
    return COLOURS[number % len(COLOURS)]


def ticks(least: float, most: float) -> list[float]:
    """Three to seven round numbers of a range: multiples of 1, 2 or 5 times a power of ten."""
    rough = (most - least) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
    first = math.ceil(least / step)
    return [n * step for n in range(first, math.floor(most / step) + 1)]


def _padded(least: float, most: float) -> tuple[float, float]:
    room = 0.05 * (most - least) or 0.1 * abs(most) or 1.0
    return least - room, most + room


def _scaled(*numbers: float) -> list[float]:
    return [number * _SCALE for number in numbers]


def _text(draw: Any, place: tuple[float, float], text: str, anchor: str = "la") -> None:
    font: Any = ImageFont.load_default(size=11 * _SCALE)
    where = place[0] * _SCALE, place[1] * _SCALE
    draw.text(where, text.encode("ascii", "replace"), fill=(40, 40, 40), font=font, anchor=anchor)
