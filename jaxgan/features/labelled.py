"""The labelled images of a data set, some of which are held out."""

import math
from typing import NamedTuple

import numpy as np

from jaxgan.data import opening
from jaxgan.data.columns import image_of
from jaxgan.data.names import split_names
from jaxgan.data.options import DataOptions
from jaxgan.data.order import evenly
from jaxgan.data.source import Source
from jaxgan.errors import UserError
from jaxgan.features.extractor import resized
from jaxgan.options import replace

_LARGEST_SIDE = 32  # pixels that a classifier sees
_MOST = 2**17  # training examples that are read; of more, so many at even distances
_FEWEST = 20
_TENTH = 10
_BLOCK = 1024


class Labelled(NamedTuple):
    """Labelled images of a source, not read yet.

    Attributes:
      name: of the data.
      version: changes with the data, and with which of them are held out.
      image, label: the names of these features.
      shape: (h, w, c) that a classifier sees: that of the data, no side above 32 pixels.
      classes: K; None where only all labels can tell.
      train: the source of the training examples.
      test: that of the held-out ones; None where these are every tenth of `train`.
    """

    name: str
    version: str
    image: str
    label: str
    shape: tuple[int, int, int]
    classes: int | None
    train: Source
    test: Source | None

    @property
    def held_out(self) -> str:
        """Which examples are, in words."""
        return "every tenth by index" if self.test is None else "the split test"


class Examples(NamedTuple):
    """uint8 [N,h,w,c] and int32 [N]."""

    images: np.ndarray
    labels: np.ndarray


def opened(options: DataOptions, progress: bool = False) -> Labelled:
    """The labelled images that the options name: all of them, whichever split the options name, so
    that those of one data set always give the same classifier.

    Raises:
      UserError: for data that cannot be had, and for those without images or labels.
    """
    names = split_names(options.features)
    wanted = ",".join(dict.fromkeys((*names, "label"))) if names else ""
    options = replace(options, {"features": wanted})
    known = _splits(options, progress)
    options = replace(options, {"split": "train"}) if "train" in known else options
    train, test = opening.open_source(options, progress), None
    if {"train", "test"} <= set(known):
        test = opening.open_source(replace(options, {"split": "test"}), progress)
    image, label = _columns(train)
    height, width, channels = train.features[image].shape
    smaller = min(1.0, _LARGEST_SIDE / max(height, width))
    shape = max(1, round(height * smaller)), max(1, round(width * smaller)), channels
    version = f"{train.version}; held out: {test.version if test else 'every tenth'}"
    classes = train.features[label].classes
    return Labelled(train.name, version, image, label, shape, classes, train, test)


def _splits(options: DataOptions, progress: bool) -> tuple[str, ...]:
    """As `opening.splits`, of a data set that is prepared for that."""
    known = opening.splits(options)
    if known or options.folder is not None or options.file is not None:
        return known
    opening.open_source(options, progress)
    return opening.splits(options)


def _columns(source: Source) -> tuple[str, str]:
    """The names of the images and of the labels."""
    image, label = image_of(source.features), source.features.get("label")
    if image is None or label is None or not label.is_label:
        raise UserError(
            f"{source.name} has the features {', '.join(source.features)}, and a classifier learns "
            "from one image and a whole number called label; give data with both"
        )
    return image, "label"


def read(data: Labelled) -> tuple[Examples, Examples]:
    """(training examples, held-out ones): in memory, h x w x c bytes each.

    Raises:
      UserError: for less than 20 examples, and for labels that are not 0 to K - 1.
      RunError: for examples that cannot be read.
    """
    if data.train.count < _FEWEST:
        raise UserError(
            f"{data.name} has {data.train.count} labelled images; a classifier learns from "
            f"{_FEWEST} or more"
        )
    rows = np.arange(data.train.count)
    if data.test is None:
        is_held = rows % _TENTH == _TENTH - 1
        train, test = (
            _read(data, data.train, rows[~is_held]),
            _read(data, data.train, rows[is_held]),
        )
    else:
        train = _read(data, data.train, rows)
        test = _read(data, data.test, np.arange(data.test.count))
    several = np.unique(train.labels)
    lowest = int(min(train.labels.min(), test.labels.min()))
    highest = int(max(train.labels.max(), test.labels.max()))
    if len(several) < 2 or lowest < 0 or highest >= (data.classes or math.inf):
        raise UserError(
            f"{data.name} has labels from {lowest} to {highest}, {len(several)} of them different; "
            "give 0 to K - 1, of two classes or more"
        )
    return train, test


def _read(data: Labelled, source: Source, rows: np.ndarray) -> Examples:
    rows = rows[evenly(len(rows), _MOST)]
    images = np.empty((len(rows), *data.shape), np.uint8)
    labels = np.empty(len(rows), np.int32)
    for first in range(0, len(rows), _BLOCK):
        part = slice(first, first + _BLOCK)
        leaves = source.read(rows[part])
        images[part], labels[part] = resized(leaves[data.image], data.shape), leaves[data.label]
    return Examples(images, labels)
