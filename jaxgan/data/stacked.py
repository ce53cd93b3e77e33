"""Stacked images: three grey ones as the channels of one, with as many modes as triples of labels.

`stacked-mnist` has the 1,000 modes on which Metz et al., 2016, arXiv:1611.02163, count what a
generator forgets, in the 128,000 examples of Lin et al., PacGAN, 2018, arXiv:1712.04086: three
digits drawn independently, the first as red, and the label 100 a + 10 b + c. Any labelled data set
of images can be stacked so: `stacked-digits`, `stacked-fashion_mnist`.

Nothing is stored but the data set itself. Which three images example i is made of is a pure
function of i and of how many there are: numbers 3 i to 3 i + 2 of Philox's raw stream, which NumPy
guarantees.
"""

import functools

import numpy as np

from jaxgan.data.feeds import streams
from jaxgan.data.options import DataOptions
from jaxgan.data.source import Feature, Source, as_source
from jaxgan.errors import UserError
from jaxgan.options import replace

PREFIX = "stacked-"  # of the names
CHANNELS = 3
EXAMPLES = 128_000
_VERSION = "stacked 1 of "


def of_one(options: DataOptions) -> DataOptions | None:
    """The options of the grey images that are stacked; None for other data.

    Raises:
      UserError: for another number of channels than three.
    """
    if options.folder or options.file or not options.name.startswith(PREFIX):
        return None
    if options.channels not in (None, CHANNELS):
        raise UserError(
            f"data.channels={options.channels} of {options.name}: three grey images are its "
            "channels; leave it out"
        )
    name = options.name.removeprefix(PREFIX)
    return replace(options, {"name": name, "channels": 1, "features": "image,label"})


def is_stacked(version: str | None) -> bool:
    """Whether a source of this version was made by `opened`."""
    return (version or "").startswith(_VERSION)


def opened(name: str, grey: Source, resident_limit_mb: int = 2048) -> Source:
    """Triples of a source: `image` uint8 [H,W,3] and `label` int32, of the classes cubed.

    Args:
      name: of the source that is made.
      grey: its images [H,W,1] and their labels.
      resident_limit_mb: up to so many MiB of them that do not lie ready are read once, here, as
        each is in many examples.

    Raises:
      UserError: for a source without labels of a known number.
    """
    classes = grey.features["label"].classes if "label" in grey.features else None
    if not classes:
        raise UserError(
            f"data.name={name}: {grey.name} has no labels of a known number; stack a data set that "
            "has, such as stacked-mnist"
        )
    if grey.arrays is None and not streams(grey, resident_limit_mb):
        grey = as_source(grey.read(np.arange(grey.count)), grey.name)._replace(version=grey.version)
    height, width, _ = grey.features["image"].shape
    features = {
        "image": Feature((height, width, CHANNELS), np.dtype(np.uint8)),
        "label": Feature((), np.dtype(np.int32), classes**CHANNELS),
    }

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        return stacked(grey, classes, triples(grey.count)[indices])

    return Source(name, EXAMPLES, read, features, _VERSION + grey.version)


@functools.cache
def triples(count: int) -> np.ndarray:
    """Which of `count` images each example is made of, int32 [EXAMPLES, 3]."""
    stream = np.random.Philox(key=np.array([CHANNELS, EXAMPLES], np.uint64))
    high = stream.random_raw(EXAMPLES * CHANNELS) >> np.uint64(32)
    chosen = high * np.uint64(count) >> np.uint64(32)
    return chosen.astype(np.int32).reshape(EXAMPLES, CHANNELS)


def stacked(grey: Source, classes: int, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """The images of triples [n,3] of a source's examples, and their labels."""
    leaves = grey.read(chosen.reshape(-1).astype(np.int64))
    planes = leaves["image"].reshape(*chosen.shape, *leaves["image"].shape[1:3])
    image = np.ascontiguousarray(np.moveaxis(planes, 1, -1))
    labels = label_of(leaves["label"].reshape(chosen.shape), classes)
    return {"image": image, "label": labels.astype(np.int32)}


def label_of(labels: np.ndarray, classes: int) -> np.ndarray:
    """One label of each triple [n,3]: 100 a + 10 b + c where there are ten."""
    return labels @ classes ** np.arange(CHANNELS)[::-1]
