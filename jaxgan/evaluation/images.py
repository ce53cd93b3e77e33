"""Samples of images, in the features of an extractor, beside images that were held out."""

import functools
from typing import Any

import numpy as np

from jaxgan.config import RunOptions
from jaxgan.data.columns import image_of
from jaxgan.data.options import DataOptions
from jaxgan.errors import UserError
from jaxgan.evaluation import kept, measures
from jaxgan.evaluation.kind import USUALLY, Asked, Kind, Numbers, Row
from jaxgan.evaluation.real import Part, held_out, leaves, with_labels
from jaxgan.features import Described, Extractor
from jaxgan.run.restore import feature_of, known_options

USUAL = 10_000  # samples
_ROUGH = 0.9  # of held-out images a classifier names right, below which a line warns


def of_images(about: dict[str, Any], asked: Asked = USUALLY) -> Kind | None:
    """The kind of a run on images of data that options name; None for other data.

    Raises:
      UserError: for data that cannot be had, and without labels where no extractor is given.
    """
    example = about.get("example") or {}
    image = image_of({name: feature_of(**feature) for name, feature in example.items()})
    if image is None or "data.name" not in about:
        return None
    options = known_options(RunOptions(), about).data
    measures.check_names((*asked.metrics, *measures.of_number(asked.number)))
    real, floor = held_out(with_labels(options))
    extractor = asked.extractor or classifier_of(options)
    sets = Sets(image, real, floor, extractor, asked)
    changed = [] if about.get("data_version") == floor.source.version else [_CHANGED]

    def warnings(numbers: Numbers, count: int) -> list[str]:
        return [*changed, *sets.warnings(count)]

    most = min(len(real.rows), len(floor.rows))
    told = {
        "real": real.words,
        "floor": floor.words,
        "data_version": floor.source.version,
        "errors": {name: measure.error for name, measure in sets.measures.items()},
    }
    return Kind(
        floor.source.name,
        image,
        sets.images,
        sets.measured,
        sets.rows,
        warnings,
        extractor.about(),
        USUAL,
        most,
        sets.truth,
        sets.conditions,
        told,
    )


_CHANGED = "the data are others now than the run was trained on"


def classifier_of(options: DataOptions) -> Extractor:
    """The classifier of the data.

    Raises:
      UserError: where there can be none, with what to do then.
    """
    from jaxgan import features

    try:
        return features.classifier(options)
    except UserError as error:
        raise UserError(
            f"{error}; or describe images by a function of yours, --extractor FILE.py:FUNCTION"
        ) from None


class Sets:
    """The real images of a run's data, described once for each count.

    Args:
      image: the name of the feature.
      real: that samples are compared with.
      floor: that are compared with `real` for the floor.
      extractor: of features.
      asked: as above.
    """

    def __init__(self, image: str, real: Part, floor: Part, extractor: Extractor, asked: Asked):
        self._image, self._real, self._floor, self._extractor = image, real, floor, extractor
        self._asked = asked
        self._described = functools.cache(self._described_anew)
        # A few tell whether the extractor names classes, and that it can describe such images.
        few = extractor.describe(self._read(floor, 2))
        self._has_classes = few.probabilities is not None
        self._size = few.features.shape[1]
        self.measures = measures.named(asked.metrics, self._has_classes)
        if asked.number:
            also = measures.of_number(asked.number)
            self.measures |= measures.named(also, self._has_classes)
        self.rows = measures.rows_of(self.measures, extractor)
        if asked.per_class and not (self._has_classes and self._labelled(real)):
            raise UserError(
                f"per_class needs data with labels and an extractor that names classes; "
                f"{real.source.name} has {', '.join(real.source.features)}; leave out --per-class"
            )
        if self._labels_fit(few) and self._labelled(floor):
            self.rows["as_asked"] = Row("named as the label asked for", ".2%", "higher")

    def _labels_fit(self, few: Described) -> bool:
        classes = self._real.source.features.get("label")
        known = None if classes is None else classes.classes
        return few.probabilities is not None and few.probabilities.shape[1] == known

    def _labelled(self, part: Part) -> bool:
        label = part.source.features.get("label")
        return label is not None and label.is_label

    def _read(self, part: Part, count: int) -> np.ndarray:
        return leaves(part, (self._image,), count)[self._image]

    def images(self, count: int, seed: int = 0) -> np.ndarray:
        """Real images for the floor, uint8 [count,H,W,C]: the same for each seed."""
        return self._read(self._floor, count)

    def conditions(self, names: tuple[str, ...], count: int) -> dict[str, np.ndarray]:
        """Features of the images of the floor."""
        return leaves(self._floor, names, count)

    def _described_anew(self, is_real: bool, count: int) -> Described:
        part = self._real if is_real else self._floor
        about = {
            "version": part.source.version,
            "image": [self._image, *part.source.features[self._image].shape],
            "which": part.words,
            "count": count,
        }
        return kept.described(self._extractor, about, lambda: self._read(part, count))

    def truth(self, count: int, seed: int = 0) -> Numbers:
        """The numbers of real images."""
        labels = None
        if self._labelled(self._floor):
            labels = leaves(self._floor, ("label",), count)["label"]
        return self._numbers(self._described(False, count), labels)

    def measured(self, samples: np.ndarray, labels: np.ndarray | None = None) -> Numbers:
        """The numbers of samples, uint8 [N,H,W,C], beside as many real images."""
        return self._numbers(self._extractor.describe(samples), labels)

    def _numbers(self, made: Described, labels: np.ndarray | None) -> Numbers:
        count = len(made.features)
        real = self._described(True, count)
        numbers = measures.measured(self.measures, real, made)
        right = None
        if labels is not None and "as_asked" in self.rows:
            right = measures.labels_of(made) == labels
            numbers["as_asked"] = float(right.mean())
        if self._asked.per_class:
            real_labels = leaves(self._real, ("label",), count)["label"]
            of_made = measures.labels_of(made) if labels is None else labels
            found = measures.per_class(self.measures, (real, real_labels), (made, of_made))
            if right is not None:
                for label, of_class in found.items():
                    own = right[of_made == int(label)]
                    of_class["as_asked"] = float(own.mean()) if len(own) else None
            numbers["per_class"] = found
        return numbers

    def warnings(self, count: int) -> list[str]:
        """What makes the numbers of so many samples of little use."""
        return warnings_of(self._extractor, self._size, count)


def warnings_of(extractor: Extractor, size: int, count: int) -> list[str]:
    """What makes numbers of so many samples, in so many features, of little use."""
    found, accuracy = [], extractor.accuracy
    if accuracy is not None and accuracy < _ROUGH:
        found.append(
            f"the classifier names {accuracy:.1%} of held-out images right: what it does not "
            "tell apart its features do not show"
        )
    if count < 2 * size:
        found.append(
            f"{count} samples are few for {size} features: the Frechet distance is "
            f"mostly chance; use {2 * size} or more where the data have as many"
        )
    return found
