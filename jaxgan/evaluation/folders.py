"""Two sets of images from anywhere, in folders or files of arrays, beside each other."""

import pathlib
from typing import Any

import numpy as np

from jaxgan.data import opening
from jaxgan.data.columns import image_of
from jaxgan.data.options import DataOptions
from jaxgan.data.source import Source
from jaxgan.errors import UserError
from jaxgan.evaluate import Evaluation
from jaxgan.evaluation import images, kept, measures
from jaxgan.evaluation.kind import Asked, Kind, Numbers
from jaxgan.evaluation.real import Part, leaves
from jaxgan.features import Described, Extractor
from jaxgan.paths import shown, user_path

_FEWEST = 4  # images, so that halves have moments
FILES = (".npz", ".npy")


def check(path: str | pathlib.Path) -> pathlib.Path:
    """The path of a folder of images or a file of arrays.

    Raises:
      UserError: for what is neither.
    """
    place = user_path(path, "path")
    if not place.is_dir() and not (place.is_file() and place.suffix.lower() in FILES):
        what = "does not exist" if not place.exists() else "is neither"
        raise UserError(
            f"{shown(place)} {what}; give a folder of images, or a file .npz or .npy of arrays"
        )
    return place


def compare(
    first: str | pathlib.Path,
    second: str | pathlib.Path,
    asked: Asked,
    count: int | None = None,
    image_size: int | None = None,
) -> Evaluation:
    """Measures the images of the second place beside those of the first, which count as real.

    As many of both are taken, at even distances in the order of their names. Where the extractor
    says which shape it sees, all images are cropped about the middle to it and resized, bicubic,
    by Pillow; those for another extractor are left as they are.

    Args:
      first, second: a folder of images, or a file of arrays, such as `jaxgan sample` writes.
      asked: its extractor describes the images; classes of `per_class` are those that it names.
      count: at most so many of both.
      image_size: the side to which images are cropped and resized first; None for no such.

    Raises:
      UserError: for what are no images, less than four of them, or no extractor.
    """
    extractor = asked.extractor
    if extractor is None:
        raise UserError(
            "two sets of images are compared in features, and none are named; give --features-of "
            "DATASET, such as mnist, or --extractor FILE.py:FUNCTION"
        )
    measures.check_names(asked.metrics)
    places = check(first), check(second)
    parts = [_opened(place, extractor, image_size) for place in places]
    there = min(len(part.rows) for part in parts)
    number = min(count or there, there)
    if number < _FEWEST:
        raise UserError(
            f"{number} images are too few to compare; give {_FEWEST} or more in both places"
        )
    real, made = (_described(extractor, part, number, i == 0) for i, part in enumerate(parts))
    halves = measures.some(real, slice(0, None, 2)), measures.some(real, slice(1, None, 2))
    if real.features.shape[1] != made.features.shape[1]:
        raise UserError(
            f"the extractor gives {real.features.shape[1]} features of {shown(places[0])} and "
            f"{made.features.shape[1]} of {shown(places[1])}; give --image-size"
        )
    chosen = measures.named(asked.metrics, real.probabilities is not None)
    if asked.per_class and real.probabilities is None:
        raise UserError("per_class needs an extractor that names classes; leave out --per-class")
    samples, truth = (_numbers(chosen, *sets, asked.per_class) for sets in ((real, made), halves))
    extra = [len(part.rows) for part in parts]
    about = {
        "real": f"{number} of {extra[0]} images of {shown(places[0])}",
        "made": f"{number} of {extra[1]} images of {shown(places[1])}",
        "floor": f"its halves, of {number // 2} each, where distances are higher for the number",
        "data_version": [part.source.version for part in parts],
        "errors": {name: measure.error for name, measure in chosen.items()},
    }
    rows = measures.rows_of(chosen, extractor)
    kind = Kind(
        shown(places[0]),
        "image",
        lambda count, seed: leaves(parts[0], ("image",), count)["image"],
        lambda samples, labels=None: samples,
        rows,
        lambda numbers, count: [],
        extractor.about(),
        about=about,
    )
    warnings = images.warnings_of(extractor, real.features.shape[1], number)
    return Evaluation(kind, 0, number, samples, truth, warnings, ())


def _opened(place: pathlib.Path, extractor: Extractor, side: int | None) -> Part:
    options: dict[str, Any] = {"folder" if place.is_dir() else "file": str(place)}
    options |= {"image_size": side, "cache": None}
    if extractor.shape and side is None:
        height, width, channels = extractor.shape
        options |= {"height": height, "width": width, "channels": channels}
    source = opening.open_source(DataOptions(**options))
    return Part(_of_images(source, place), np.arange(source.count), shown(place))


def _of_images(source: Source, place: pathlib.Path) -> Source:
    """The source with its one image, called so."""
    name = image_of(source.features)
    if name is None:
        raise UserError(
            f"{shown(place)} has the features {', '.join(source.features)}; give one array of "
            "images [N,H,W,C], or one that is called image"
        )

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"image": source.read(indices)[name]}

    return source._replace(read=read, features={"image": source.features[name]}, arrays=None)


def _described(extractor: Extractor, part: Part, count: int, keep: bool) -> Described:
    def read() -> np.ndarray:
        return leaves(part, ("image",), count)["image"]

    shape = part.source.features["image"].shape
    about = {"version": part.source.version, "image": list(shape), "count": count}
    return kept.described(extractor, about, read) if keep else extractor.describe(read())


def _numbers(
    chosen: dict[str, measures.Measure], real: Described, made: Described, per_class: bool
) -> Numbers:
    numbers = measures.measured(chosen, real, made)
    if per_class:
        labelled = [(each, measures.labels_of(each)) for each in (real, made)]
        numbers["per_class"] = measures.per_class(chosen, *labelled)
    return numbers
