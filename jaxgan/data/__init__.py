"""Data by value: a `Source` is a count and a function that reads; a `Feed` makes batches of it.

Sources are data sets of TensorFlow Datasets, read without TensorFlow, folders of images, files of
arrays, points and shapes that the program draws, and whatever arrays or sequences are at hand.
What has to be decoded, resized or drawn is so once, and kept for later runs to map.
Small ones live on the device, and the host only sends which examples make the next batch; large
ones are read ahead. Both give the same batches, bit for bit: those of step t are a pure function of
(seed, t).
"""

from jaxgan.data.cached import prepared
from jaxgan.data.feeds import Feed, make_feed, streams
from jaxgan.data.opening import needs_preparing, open_source
from jaxgan.data.options import DataOptions
from jaxgan.data.order import batch_indices, epoch_order
from jaxgan.data.source import Feature, Source, as_source
from jaxgan.data.texts import texts_of

__all__ = [
    "DataOptions",
    "Feature",
    "Feed",
    "Source",
    "as_source",
    "batch_indices",
    "epoch_order",
    "make_feed",
    "needs_preparing",
    "open_source",
    "prepared",
    "streams",
    "texts_of",
]
