"""Perceptual path length: how fast features change along a path between latents."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgan.metrics import arrays
from jaxgan.metrics.arrays import Estimate


def path_length(
    describe: Callable[[np.ndarray], Any],
    first: Any,
    second: Any,
    *,
    spherical: bool = True,
    epsilon: float = 1e-4,
    trim: float = 0.01,
    seed: int = 0,
    block: int = 256,
) -> Estimate:
    """The mean of |f(z(t + epsilon)) - f(z(t))|^2 / epsilon^2 over paths z between two latents and
    places t on them.

    Short paths are smooth ones: a sampler that jumps, or that remembers examples and nothing
    between, has long ones. Numbers compare only for one `describe` and one law of latents.

    Held are 4 block (Z + F) numbers of 8 bytes, N numbers, and what `describe` takes.

    Args:
      describe: latents float32 [n,Z] -> features [n,F]: a sampler and then an extractor. Nothing
        within may round to 8 bits: a step of epsilon would be lost.
      first: latents [N,Z], where paths begin.
      second: latents [N,Z], where they end.
      spherical: along great circles of normal latents, with the length between; or straight, as for
        latents of a mapping network.
      epsilon: step.
      trim: share of the paths that is left out at either end, as jumps of a few would make the
        mean; 0.01 in the paper's code.
      seed: of the places.
      block: latents that are described at once.

    Returns:
      The mean, and its standard error over paths.

    Raises:
      ValueError: shapes that do not fit, less than 10 pairs, numbers that are not finite, also of
        `describe`.

    References:
      Karras et al., A Style-Based Generator Architecture for Generative Adversarial Networks, 2019.
    """
    first, second = arrays.finite_pair(first, second, 10)
    if first.shape != second.shape:
        raise ValueError(
            f"expected as many ends of paths as starts, got {len(first)} and {len(second)}"
        )
    if not (0 < epsilon < 1 and 0 <= trim < 0.5):
        raise ValueError(f"epsilon={epsilon} and trim={trim}; use one in 0 to 1 and one below 0.5")
    block = arrays.whole("block", block, 1)
    places = np.random.default_rng(seed).uniform(0.0, 1.0 - epsilon, len(first))
    way, found = _great_circle if spherical else _straight, np.empty(len(first))
    for i in range(0, len(first), block):
        rows = slice(i, i + block)
        x, y = (ends[rows].astype(np.float64) for ends in (first, second))
        t = places[rows, None]
        here, there = (
            arrays.finite("features", describe(way(x, y, at).astype(np.float32)))
            for at in (t, t + epsilon)
        )
        if len(here) != len(x) or here.shape != there.shape:
            raise ValueError(
                f"describe gives features {here.shape} and {there.shape} for {len(x)} latents"
            )
        steps = there.astype(np.float64) - here.astype(np.float64)
        found[rows] = np.square(steps).sum(axis=1) / epsilon**2
    low, high = np.quantile(found, (trim, 1.0 - trim), method="nearest")
    kept = found[(found >= low) & (found <= high)]
    return Estimate(float(kept.mean()), float(kept.std(ddof=1) / np.sqrt(len(kept))))


def _straight(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return x + t * (y - x)


def _great_circle(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Directions at even speed from one to the other, and lengths as well."""
    lengths = [np.linalg.norm(end, axis=1, keepdims=True) for end in (x, y)]
    x, y = (end / np.maximum(length, 1e-12) for end, length in zip((x, y), lengths))
    angle = np.arccos(np.clip((x * y).sum(axis=1, keepdims=True), -1.0, 1.0))
    across = np.sin(angle)
    is_flat = across < 1e-6  # the same direction, or the opposite one, where no circle is the one
    between = (np.sin((1 - t) * angle) * x + np.sin(t * angle) * y) / np.where(is_flat, 1.0, across)
    direction = np.where(is_flat, _straight(x, y, t), between)
    return direction * _straight(lengths[0], lengths[1], t)
