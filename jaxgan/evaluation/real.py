"""Real images of a run's data: those that samples are compared with, and those of the floor."""

from typing import NamedTuple

import numpy as np

from jaxgan.data import opening
from jaxgan.data.names import split_names
from jaxgan.data.options import DataOptions
from jaxgan.data.order import evenly
from jaxgan.data.reading import checked_read
from jaxgan.data.source import Source
from jaxgan.errors import UserError
from jaxgan.options import replace

_BLOCK = 250  # images that are read at once


class Part(NamedTuple):
    """Some examples of a source, and which these are, in words."""

    source: Source
    rows: np.ndarray
    words: str


def with_labels(options: DataOptions) -> DataOptions:
    """The data as the run read them, and their labels where it is known that there are some."""
    names = split_names(options.features)
    named = options.folder is None and options.file is None
    if not names or "label" in names or not named:
        return options
    try:
        wanted = replace(options, {"features": ",".join([*names, "label"])})
        opening.open_source(wanted)
        return wanted
    except UserError:  # there are none
        return options


def held_out(options: DataOptions) -> tuple[Part, Part]:
    """Real images to compare with, and others for the floor: the split `test` and what the run
    trains on, or the one half of that and the other.

    Raises:
      UserError, RunError: for data that cannot be opened.
    """
    train = opening.open_source(options)
    rows = np.arange(train.count)
    if "test" in opening.splits(options) and "test" not in options.split:
        test = opening.open_source(replace(options, {"split": "test"}))
        split = f"the split {options.split}, which the run was trained on"
        return Part(test, np.arange(test.count), "the split test"), Part(train, rows, split)
    half = "every other image of those that the run was trained on, as there is no split test"
    return Part(train, rows[1::2], half), Part(train, rows[::2], "the other half of them")


def leaves(part: Part, names: tuple[str, ...], count: int) -> dict[str, np.ndarray]:
    """Features of so many examples, leaves [count, ...]."""
    rows = part.rows[evenly(len(part.rows), count)]
    features = part.source.features
    found = {n: np.empty((len(rows), *features[n].shape), features[n].dtype) for n in names}
    for first in range(0, len(rows), _BLOCK):
        block = checked_read(part.source, rows[first : first + _BLOCK])
        for name, leaf in found.items():
            leaf[first : first + _BLOCK] = block[name]
    return found
