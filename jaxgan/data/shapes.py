"""Coloured shapes, drawn by the program: images of any size that need no file and no network.

Discs, rings, squares, triangles, crosses and stars of random place, size, direction and colours,
with smooth edges. Image i is a pure function of (split, i, size, channels), the same on all
machines: its numbers come from Philox's raw stream, which NumPy guarantees, and it is drawn by
operations that IEEE 754 rounds in one way only, so without sines or powers.
"""

import functools
from typing import Any

import numpy as np

from jaxgan.data.source import Feature, Source
from jaxgan.errors import UserError

NAME = "shapes"
KINDS = ("disc", "ring", "square", "triangle", "cross", "star")  # by label
EXAMPLES = {"train": 10_000, "test": 2_000}
_NUMBERS = 16  # random numbers of an image
_PIXELS_AT_ONCE = 2**17  # more would not stay in a core's cache


def opened(split: str, size: int, channels: int) -> Source:
    """The images of a split.

    Args:
      split: train or test.
      size: their side in pixels.
      channels: 1 for grey or 3 for RGB.

    Raises:
      UserError: for another split or number of channels.
    """
    if split not in EXAMPLES:
        raise UserError(
            f"data.split={split!r} of {NAME}: there is no such split; use one of "
            f"{', '.join(EXAMPLES)}"
        )
    if channels not in (1, 3):
        raise UserError(f"data.channels={channels} of {NAME}: they are drawn in 1 or 3; use these")
    features = {
        "image": Feature((size, size, channels), np.dtype(np.uint8)),
        "label": Feature((), np.dtype(np.int32), len(KINDS)),
    }
    draw = functools.partial(read, split, size, channels)
    return Source(NAME, EXAMPLES[split], draw, features, version(split))


def version(split: str) -> str:
    """Changes when the images of a split do."""
    return f"{NAME} 1 {split}"


def read(split: str, size: int, channels: int, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Draws images of a split.

    Args:
      split: train or test.
      size: their side S in pixels.
      channels: C, 1 for grey or 3 for RGB.
      indices: which images, int [n].

    Returns:
      `image` uint8 [n,S,S,C] and `label` int32 [n], which names one of KINDS.
    """
    numbers = _numbers(split)[indices]
    labels = (numbers[:, 0] * len(KINDS)).astype(np.int32)
    images = np.empty((len(indices), size, size, channels), np.uint8)
    at_once = max(1, _PIXELS_AT_ONCE // size**2)
    for label, kind in enumerate(KINDS):
        of_kind = np.flatnonzero(labels == label)
        for chosen in np.split(of_kind, range(at_once, len(of_kind), at_once)):
            images[chosen] = _drawn(kind, numbers[chosen], size, channels)
    return {"image": images, "label": labels}


@functools.cache
def _numbers(split: str) -> np.ndarray:
    """Uniform in [0, 1), float32 [examples, _NUMBERS]."""
    stream = np.random.Philox(key=np.array([list(EXAMPLES).index(split), len(KINDS)], np.uint64))
    raw = stream.random_raw(EXAMPLES[split] * _NUMBERS).reshape(-1, _NUMBERS)
    return (raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _drawn(kind: str, numbers: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Images uint8 [n,S,S,C] of one kind from numbers [n, _NUMBERS]."""
    _, radius, across, down, turn, *colours = numbers.T[:, :, None, None]
    radius = _between(radius, 0.2, 0.38)  # lengths are in sides of the image
    pixels = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size))[None]
    x = pixels[:, None, :] - _between(across, radius, 1 - radius)
    y = pixels[:, :, None] - _between(down, radius, 1 - radius)
    t = (
        2 * turn - 1
    )  # the tangent of half an angle of -90 to 90 degrees, enough for shapes with these symmetries
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    inside = _distance(kind, cosine * x + sine * y, cosine * y - sine * x, radius)
    inside *= -size
    inside += np.float32(
        0.5
    )  # the share of a pixel that the shape covers, for a straight edge through it
    np.clip(inside, 0, 1, out=inside)
    ground, figure = _colours(np.stack([c[:, 0, 0] for c in colours]), channels)
    images = inside[..., None] * (figure - ground)[:, None, None, :]
    images += ground[:, None, None, :] + np.float32(0.5)
    return images.astype(np.uint8)


def _between(u: np.ndarray, low: Any, high: Any) -> np.ndarray:
    return low + u * (high - low)


def _distance(kind: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """How far points [n,S,S] are from the edge of a shape; negative inside.

    The shape lies within `radius` [n,1,1] of the origin.
    """
    if kind == "disc":
        return np.sqrt(x * x + y * y) - 0.9 * radius
    if kind == "ring":
        return np.abs(np.sqrt(x * x + y * y) - 0.75 * radius) - 0.22 * radius
    if kind == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.7 * radius
    if kind == "triangle":
        slant = np.float32(0.8660254) * np.abs(x)
        return np.maximum(-y, slant + 0.5 * y) - 0.5 * radius
    if kind == "cross":
        x, y = np.abs(x), np.abs(y)
        return np.maximum(np.minimum(x, y) - 0.3 * radius, np.maximum(x, y) - 0.92 * radius)
    # A star is where at least four of a pentagon's five half planes overlap: the second largest
    # distance from its sides counts.
    first = second = np.full_like(x, -2)
    for a, b in (
        (0.0, 1.0),
        (0.95105652, 0.30901699),
        (0.58778525, -0.80901699),
        (-0.58778525, -0.80901699),
        (-0.95105652, 0.30901699),
    ):
        side = np.float32(a) * x + np.float32(b) * y
        first, second = np.maximum(first, side), np.maximum(second, np.minimum(first, side))
    return second - np.float32(0.309) * radius


def _colours(u: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Background and figure from numbers [11,n], each [n,channels] in [0, 255].

    One is light and one dark, and their hues differ.
    """
    dark = u[0] < 0.5  # the background
    if channels == 1:
        low, high = _between(u[1], 0.05, 0.35), _between(u[2], 0.65, 1.0)
        pair = np.where(dark, low, high), np.where(dark, high, low)
        return pair[0][:, None] * np.float32(255), pair[1][:, None] * np.float32(255)
    hue, of_ground, of_figure = u[3], u[5:7], u[7:9]  # the last two: saturation and value
    deep = _between(of_ground[0], 0.35, 0.7), _between(of_ground[1], 0.14, 0.34)
    pale = _between(of_ground[0], 0.08, 0.3), _between(of_ground[1], 0.88, 0.98)
    bright = _between(of_figure[0], 0.35, 0.8), _between(of_figure[1], 0.8, 1.0)
    strong = _between(of_figure[0], 0.6, 0.95), _between(of_figure[1], 0.45, 0.8)
    ground = _rgb(hue, *np.where(dark, deep, pale))
    figure = _rgb(hue + _between(u[4], 0.25, 0.75), *np.where(dark, bright, strong))
    return ground * np.float32(255), figure * np.float32(255)


def _rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Colours [n,3] in [0, 1] from hues, saturations and values.

    Red, green and blue are hues 0, 1/3 and 2/3, and around again from 1.
    """
    turns = hue[:, None] + np.array([0, 2 / 3, 1 / 3], np.float32)
    around = np.abs((turns - np.floor(turns)) * 6 - 3) - 1
    return value[:, None] * (1 - saturation[:, None] * (1 - np.clip(around, 0, 1)))
