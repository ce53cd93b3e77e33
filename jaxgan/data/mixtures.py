"""Mixtures of Gaussians, drawn by the program: data whose truth is known exactly.

`ring` is the eight Gaussians on a circle of radius 2 with standard deviation 0.02 of Metz et al.,
2016, arXiv:1611.02163 (the code of VEEGAN, Srivastava et al., 2017, arXiv:1705.07761, has the same
at half the scale), `grid` the 25 of VEEGAN at {-4, -2, 0, 2, 4}^2 with standard deviation 0.05, and
`mixture-1d` four on a line at -1.5, -0.5, 0.5 and 1.5 with standard deviation 0.05, as the notebook
of Lin et al., Adversarial Flow Models, 2025, arXiv:2511.22475. `dirac` is the one point 0 on a
line, of Mescheder et al., 2018, arXiv:1801.04406. All modes are equally likely.

Example i is a pure function of (name, split, i): its numbers come from Philox's raw stream, which
NumPy guarantees. Logarithm, sine and cosine in float64 err as each machine's library does; but all
points are farther from where float32 rounds the other way than any library errs, so that they are
the same bits everywhere. A test measures how far.
"""

import functools
from typing import NamedTuple

import numpy as np

from jaxgan.data.source import Feature, Source
from jaxgan.errors import UserError

EXAMPLES = {"train": 100_000, "test": 20_000}


class Mixture(NamedTuple):
    """Equally likely Gaussians: their centres, float64 [modes, D], and their standard deviation."""

    centres: np.ndarray
    deviation: float

    def drawn(self, count: int, seed: int) -> np.ndarray:
        """Independent points, float32 [count, D], by NumPy's own generator."""
        rng = np.random.default_rng(seed)
        middles = self.centres[rng.integers(len(self.centres), size=count)]
        return (middles + self.deviation * rng.normal(size=middles.shape)).astype(np.float32)


def _ring() -> np.ndarray:
    diagonal = np.sqrt(0.5)
    x = np.array([1, diagonal, 0, -diagonal, -1, -diagonal, 0, diagonal])
    return 2 * np.stack([x, np.roll(x, 2)], axis=1)


def _grid() -> np.ndarray:
    places = np.arange(-4.0, 5.0, 2.0)
    return np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)


def _line() -> np.ndarray:
    return np.arange(-1.5, 2.0)[:, None]


MIXTURES = {
    "ring": Mixture(_ring(), 0.02),
    "grid": Mixture(_grid(), 0.05),
    "mixture-1d": Mixture(_line(), 0.05),
    "dirac": Mixture(np.zeros((1, 1)), 0.0),
}


def name_of(version: str | None) -> str | None:
    """The mixture that a source of this version is of, see `opened`; None for other data."""
    known = {_version(name, split): name for name in MIXTURES for split in EXAMPLES}
    return known.get(version or "")


def _version(name: str, split: str) -> str:
    return f"{name} 1 {split}"


def opened(name: str, split: str) -> Source:
    """The points of a split: `point` float32 [D] and `label` int32, which of the modes it is from.

    Raises:
      UserError: for a split other than train and test.
    """
    if split not in EXAMPLES:
        raise UserError(
            f"data.split={split!r} of {name}: there is no such split; use one of "
            f"{', '.join(EXAMPLES)}"
        )
    modes, size = MIXTURES[name].centres.shape
    features = {
        "point": Feature((size,), np.dtype(np.float32)),
        "label": Feature((), np.dtype(np.int32), modes),
    }

    points, labels = _drawn(name, split)

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"point": points[indices], "label": labels[indices]}

    ready = {"point": points, "label": labels}
    return Source(name, EXAMPLES[split], read, features, _version(name, split), ready)


@functools.cache
def _drawn(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    points, labels = in_float64(name, split)
    return points.astype(np.float32), labels


def in_float64(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All points of a split before they are rounded, float64 [N,D], and their modes, int32 [N]."""
    mixture = MIXTURES[name]
    (modes, size), count = mixture.centres.shape, EXAMPLES[split]
    stream = np.random.Philox(key=np.array([list(EXAMPLES).index(split), modes], np.uint64))
    which, *uniform = stream.random_raw(3 * count).reshape(count, 3).T
    labels = ((which >> np.uint64(32)) * np.uint64(modes) >> np.uint64(32)).astype(np.int32)
    # In (0, 1], so that its logarithm is finite, and in [0, 1).
    first, second = (u >> np.uint64(11) for u in uniform)
    radius = np.sqrt(-2 * np.log((first + np.uint64(1)) * 2.0**-53))
    angle = second * (2 * np.pi * 2.0**-53)  # Box and Muller, 1958
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return mixture.centres[labels] + mixture.deviation * normal[:, :size], labels
