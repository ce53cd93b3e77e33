"""Which classes samples have, as a classifier names them, beside those of the data."""

from typing import Any, NamedTuple

import numpy as np

from jaxgan.metrics import arrays, modes


class LabelHistogram(NamedTuple):
    """Of N samples.

    Attributes:
      counts: int64 [K], of each class.
      modes: classes with a sample or more.
      rarest: share of the rarest class.
      kl: KL(shares of the samples | shares of the data), in nats; infinite where a sample has a
        class that the data lack. Of N true samples it is about (K - 1) / 2N.
    """

    counts: np.ndarray
    modes: int
    rarest: float
    kl: float


def label_histogram(labels: Any, classes: int, real_labels: Any = None) -> LabelHistogram:
    """The classes of samples.

    Holds the labels and K numbers.

    Args:
      labels: int [N], such as the most probable class of each sample.
      classes: K.
      real_labels: int [M], of the data; None for equal shares.

    Raises:
      ValueError: for what are no labels below K, and for none.

    References:
      Srivastava et al., VEEGAN, 2017, and Lin et al., PacGAN, 2018, count the modes of stacked
      digits so.
    """
    classes = arrays.whole("classes", classes, 2)
    counts = _counted("labels", labels, classes)
    truth = np.full(classes, 1.0 / classes)
    if real_labels is not None:
        truth = _counted("real labels", real_labels, classes).astype(np.float64)
        truth /= truth.sum()
    rarest = float(counts.min() / counts.sum())
    return LabelHistogram(counts, modes.modes_covered(counts), rarest, modes.kl(counts, truth))


def _counted(name: str, given: Any, classes: int) -> np.ndarray:
    labels = arrays.labels_of(name, given)
    arrays.check_rows(name, len(labels), 1)
    if labels.max() >= classes:
        raise ValueError(f"the {name} reach to {labels.max()}, and there are {classes} classes")
    return np.bincount(labels, minlength=classes)
