"""Batches of images: any image data set of TensorFlow Datasets, read without TensorFlow, and shapes that the program draws.

`load` gives a `Feed`. Small data sets live on the device and the host only sends which examples make the next batch; large ones
are read ahead by Grain. Both give the same batches, bit for bit: those of step t are a pure function of (seed, t).
"""

from jaxgan.data.feeds import Feed, epoch_order, load

__all__ = ["Feed", "epoch_order", "load"]
