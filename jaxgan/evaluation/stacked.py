"""Samples of stacked images, by the triples that a classifier of one finds."""

from typing import Any

import numpy as np

from jaxgan import data
from jaxgan.config import RunOptions
from jaxgan.data import stacked
from jaxgan.evaluation.kind import USUALLY, Asked, Kind, Numbers, Row, check_nothing_asked
from jaxgan.metrics.stacked import labels_of, shares_of_data, stacked_coverage
from jaxgan.run.restore import known_options

SURE = 0.99  # of held-out images a classifier has to name right to count modes by


def of_stacked(about: dict[str, Any], asked: Asked = USUALLY) -> Kind | None:
    """The kind of a run on stacked images; None for other data."""
    if not stacked.is_stacked(about.get("data_version")):
        return None
    from jaxgan.features import classifier

    options = known_options(RunOptions(), about).data
    check_nothing_asked(options.name, asked)
    of_one = stacked.of_one(options)
    assert of_one is not None
    grey, judge = data.open_source(of_one), classifier(of_one)
    labels = grey.read(np.arange(grey.count))["label"]
    classes = int(grey.features["label"].classes or labels.max() + 1)
    shares = shares_of_data(labels, classes)

    def true(count: int, seed: int) -> np.ndarray:
        chosen = np.random.default_rng(seed).integers(grey.count, size=(count, stacked.CHANNELS))
        return stacked.stacked(grey, classes, chosen)["image"]

    def classify(images: np.ndarray) -> np.ndarray:
        probabilities = judge.describe(images).probabilities
        assert probabilities is not None
        return probabilities

    def measured(samples: np.ndarray, labels: Any = None) -> Numbers:
        return stacked_coverage(labels_of(samples, classify), shares)._asdict()

    def warnings(numbers: Numbers, count: int) -> list[str]:
        if (judge.accuracy or 0.0) >= SURE:
            return []
        return [
            f"the classifier names {judge.accuracy or 0:.1%} of held-out images right; with less "
            f"than {SURE:.0%} it finds modes that are not there"
        ]

    rows = {
        "modes": Row(f"triples of labels, of {classes**stacked.CHANNELS:,}", ",d", "higher"),
        "reverse_kl": Row("reverse KL from equal shares", ".4f", "lower"),
        "data_kl": Row("reverse KL from shares of the data", ".4f", "lower"),
    }
    return Kind(options.name, "image", true, measured, rows, warnings, judge.about())
