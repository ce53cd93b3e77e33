"""Small charts as pictures: panels of points and lines with axes, drawn by Pillow.

They are drawn three times as large and made smaller, which smooths lines.
"""

import math
from typing import Any, NamedTuple

import numpy as np

INK, FAINT, GRID = "#333333", "#8a8a8a", "#e6e6e6"
COLOURS = "#1f5fa8", "#c8502d", "#3f8f5a", "#7d5ba6", "#b8860b", "#4aa3c7", "#333333", "#96826e"
_FINE = 3  # pixels drawn for one that is shown
_LEFT, _RIGHT, _TOP, _BOTTOM, _LEGEND = 64, 18, 34, 46, 20  # margins of a panel
_KEY = 18  # a row of the key
_SEEN_THROUGH = "2d"  # of a band's colour


class Series(NamedTuple):
    """Points in a panel.

    Attributes:
      points: float [N, 2].
      colour: as `#rrggbb`.
      size: of a dot, in pixels; 0 for none.
      width: of the line through the points in order, in pixels; 0 for none.
      label: in the legend; "" for no line of it.
      band: float [N, 2], from where to where an area about each point reaches; None for no area.
    """

    points: Any
    colour: str = COLOURS[0]
    size: float = 0.0
    width: float = 0.0
    label: str = ""
    band: Any = None


class Panel(NamedTuple):
    """One pair of axes.

    Attributes:
      title, across, up: above it, below it, and beside it.
      series: what is drawn, in order.
      x, y: the limits; None for those of the points, with a little room.
      equal: a unit is as long across as up.
    """

    title: str
    across: str
    up: str
    series: tuple[Series, ...]
    x: tuple[float, float] | None = None
    y: tuple[float, float] | None = None
    equal: bool = False


def picture(
    panels: tuple[Panel, ...],
    columns: int,
    width: int = 420,
    height: int = 360,
    title: str = "",
    key: tuple[tuple[str, str], ...] = (),
) -> Any:
    """uint8 [h, w, 3]: the panels row by row.

    Args:
      panels: what is drawn.
      columns: of panels.
      width, height: of each, in pixels.
      title: over all of them.
      key: colours and what they mean, below the title.
    """
    from PIL import Image, ImageDraw

    rows, head = math.ceil(len(panels) / columns), 0
    if title or key:
        head = _TOP + _KEY * math.ceil(len(key) / columns)
    size = columns * width, head + rows * height
    page = Image.new("RGB", (size[0] * _FINE, size[1] * _FINE), "white")
    draw = ImageDraw.Draw(page, "RGBA")  # bands are seen through
    _text(draw, (12 * _FINE, 20 * _FINE), title, _font(14), INK, "lm")
    for number, (colour, label) in enumerate(key):
        row, column = divmod(number, columns)
        x, y = (16 + column * width) * _FINE, (_TOP + (row + 0.5) * _KEY) * _FINE
        draw.rectangle([x, y - 4 * _FINE, x + 14 * _FINE, y + 4 * _FINE], fill=colour)
        _text(draw, (x + 20 * _FINE, y), label, _font(12), INK, "lm")
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        _draw_panel(draw, panel, (column * width, head + row * height, width, height))
    return np.asarray(page.resize(size, Image.Resampling.LANCZOS))


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between two, at most so many."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    factor = next(f for f in (1.0, 2.0, 5.0, 10.0, 20.0) if (high - low) / (step * f) <= most)
    step *= factor
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def limits(values: np.ndarray) -> tuple[float, float]:
    """The range of numbers with a little room at both ends."""
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    room = 0.08 * (high - low) or 0.5 * max(abs(high), 1e-6)
    return low - room, high + room


def circle(radius: float = 1.0) -> np.ndarray:
    """Points of a circle about 0, [N, 2]."""
    angle = np.linspace(0.0, 2.0 * np.pi, 181)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _draw_panel(draw: Any, panel: Panel, place: tuple[int, int, int, int]) -> None:
    left, top = place[0] + _LEFT, place[1] + _TOP
    labelled = tuple(series for series in panel.series if series.label)
    bottom = _BOTTOM + (_LEGEND if labelled else 0)
    wide, tall = place[2] - _LEFT - _RIGHT, place[3] - _TOP - bottom
    points = [np.asarray(s.points, np.float64).reshape(-1, 2) for s in panel.series]
    both = np.concatenate([*points, np.empty((0, 2))])
    x, y = panel.x or limits(both[:, 0]), panel.y or limits(both[:, 1])
    if panel.equal:
        x, y = _equal(x, y, wide, tall)

    def at(points: np.ndarray) -> np.ndarray:
        """[N, 2] in the panel's units -> in fine pixels."""
        across = left + (points[:, 0] - x[0]) / (x[1] - x[0]) * wide
        down = top + (y[1] - points[:, 1]) / (y[1] - y[0]) * tall
        return np.stack([across, down], axis=1) * _FINE

    small, middle = _font(12), _font(14)
    box = [left * _FINE, top * _FINE, (left + wide) * _FINE, (top + tall) * _FINE]
    for value in ticks(*x):
        (spot,) = at(np.array([[value, y[0]]]))
        _line(draw, [(spot[0], box[1]), (spot[0], box[3])], FAINT if not value else GRID, 1)
        _text(draw, (spot[0], box[3] + 6 * _FINE), _number(value), small, INK, "mt")
    for value in ticks(*y):
        (spot,) = at(np.array([[x[0], value]]))
        _line(draw, [(box[0], spot[1]), (box[2], spot[1])], FAINT if not value else GRID, 1)
        _text(draw, (box[0] - 6 * _FINE, spot[1]), _number(value), small, INK, "rm")
    inside = np.array(box).reshape(2, 2)
    for series, given in zip(panel.series, points):
        if series.band is not None and len(given) > 1:
            lower, upper = (
                at(np.stack([given[:, 0], edge], 1)) for edge in np.asarray(series.band).T
            )
            outline = [tuple(spot) for spot in (*upper, *lower[::-1])]
            draw.polygon(outline, fill=series.colour + _SEEN_THROUGH)
    for series, given in zip(panel.series, points):
        _draw_series(draw, series, at(given[np.isfinite(given).all(1)]), inside)
    draw.rectangle(box, outline=FAINT, width=_FINE)
    centre = (box[0] + box[2]) / 2
    _text(draw, (centre, box[1] - 10 * _FINE), panel.title, middle, INK, "mb")
    _text(draw, (centre, box[3] + 24 * _FINE), panel.across, small, INK, "mt")
    _text(draw, (place[0] * _FINE + 8 * _FINE, box[1] - 10 * _FINE), panel.up, small, INK, "lb")
    _draw_legend(draw, labelled, (centre, box[3] + 50 * _FINE), small)


def _equal(
    x: tuple[float, float], y: tuple[float, float], wide: float, tall: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits that hold these, with units of one length."""
    unit = max((x[1] - x[0]) / wide, (y[1] - y[0]) / tall)
    more_x, more_y = (wide * unit - (x[1] - x[0])) / 2, (tall * unit - (y[1] - y[0])) / 2
    return (x[0] - more_x, x[1] + more_x), (y[0] - more_y, y[1] + more_y)


def _draw_series(draw: Any, series: Series, spots: np.ndarray, inside: np.ndarray) -> None:
    """Lines and dots; of what leaves the box nothing."""
    within = ((spots >= inside[0]) & (spots <= inside[1])).all(1)
    if series.width:
        for i in range(len(spots) - 1):
            if within[i] and within[i + 1]:
                _line(draw, [tuple(spots[i]), tuple(spots[i + 1])], series.colour, series.width)
    radius = series.size * _FINE / 2
    for across, down in spots[within] if radius else ():
        draw.ellipse(
            [across - radius, down - radius, across + radius, down + radius], fill=series.colour
        )


def _draw_legend(draw: Any, series: tuple[Series, ...], middle: Any, font: Any) -> None:
    """Marks and labels in a row."""
    mark, room = 20 * _FINE, 16 * _FINE
    widths = [mark + draw.textlength(one.label, font=font) for one in series]
    left, down = middle[0] - (sum(widths) + room * (len(series) - 1)) / 2, middle[1]
    for one, width in zip(series, widths):
        if one.size:
            across, r = left + 11 * _FINE, one.size * _FINE / 2
            draw.ellipse([across - r, down - r, across + r, down + r], fill=one.colour)
        else:
            _line(draw, [(left, down), (left + mark - 6 * _FINE, down)], one.colour, one.width)
        _text(draw, (left + mark, down), one.label, font, INK, "lm")
        left += width + room


def _line(draw: Any, ends: list[tuple[float, float]], colour: str, width: float) -> None:
    draw.line(ends, fill=colour, width=max(1, round(width * _FINE)))


def _text(draw: Any, spot: Any, text: str, font: Any, colour: str, anchor: str) -> None:
    draw.text(tuple(spot), text, fill=colour, font=font, anchor=anchor)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size * _FINE)


def _number(value: float) -> str:
    return f"{value:.6g}" if value else "0"
