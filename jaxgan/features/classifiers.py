"""A classifier of a data set as an extractor: the kept one, or one that is trained now."""

import json
import pathlib
import time
from typing import Any

import flax.traverse_util
import numpy as np

from jaxgan import terminal
from jaxgan.data.options import DataOptions
from jaxgan.errors import RunError
from jaxgan.features import extractor, kept, labelled, network
from jaxgan.features.extractor import Described, Extractor
from jaxgan.features.kept import Entry, Kept, Unsound
from jaxgan.features.labelled import Labelled
from jaxgan.features.network import Settings
from jaxgan.paths import shown


def classifier(options: DataOptions, settings: Settings | None = None) -> Extractor:
    """The classifier of the data that the options name, as an extractor.

    It learns from all of the split `train`, whichever split the options name, and is tried on
    `test`; where there is no such split, every tenth example is held out. The first time it is
    trained, in a minute or two, with a line and a bar; then it is kept in
    ~/.cache/jaxgan/classifiers, and found again for the same data, architecture and settings.
    Its features are those of the layer before the logits.

    Raises:
      UserError: for data that cannot be had, and for those without labelled images.
      RunError: for examples that cannot be read.
    """
    return as_extractor(found(options, settings)[0])


def found(options: DataOptions, settings: Settings | None = None) -> tuple[Kept, str]:
    """The classifier, and the path where it is kept, which is empty where it cannot be; arguments
    and errors are those of `classifier`."""
    settings, progress = settings or Settings(), terminal.is_shown()
    data = labelled.opened(options, progress)
    about = _about(data, settings)
    folder = kept.root()
    if folder is None:
        terminal.complain(f"the classifier of {data.name} cannot be kept: set HOME")
        return _trained(data, about, settings, progress), ""
    path, made = folder / kept.name_of(about), None
    if known := _known(path, about):
        return known, str(path)
    try:
        with kept.alone(path):
            if known := _known(path, about):  # another process was faster
                return known, str(path)
            made = _trained(data, about, settings, progress)
            kept.write(path, made)
            return made, str(path)
    except (OSError, RunError) as error:
        if isinstance(error, RunError) and made is None:  # of the data
            raise
        reason = f"{shown(folder)}: {error.strerror or error}" if type(error) is OSError else error
        terminal.complain(f"the classifier of {data.name} cannot be kept: {reason}")
        return made or _trained(data, about, settings, progress), ""


def as_extractor(made: Kept) -> Extractor:
    """The extractor that a classifier is."""
    classes, shape = made.preprocessing["classes"], tuple(made.preprocessing["shape"])
    settings = Settings(**made.about["settings"])
    params = flax.traverse_util.unflatten_dict(made.weights, sep="/")
    net = network.network(settings, classes)

    def judge(images: np.ndarray) -> tuple[Any, Any]:
        return network.described(net, params, extractor.resized(images, shape))

    def describe(images: np.ndarray) -> Described:
        return extractor.in_blocks(judge, extractor.checked(images), extractor.BLOCK)

    name = f"classifier of {made.about['data']}"
    return Extractor(name, made.digest, made.accuracy, describe, True, shape)


def _about(data: Labelled, settings: Settings) -> dict[str, Any]:
    about = {
        "data": data.name,
        "version": data.version,
        "shape": data.shape,
        "architecture": network.ARCHITECTURE,
        "settings": settings._asdict(),
    }
    return json.loads(json.dumps(about))  # as it is read again


def _known(path: pathlib.Path, about: dict[str, Any]) -> Kept | None:
    try:
        entry = Entry(path, kept.read(path))
    except (FileNotFoundError, Unsound):
        return None
    return entry.kept if entry.kept.about == about else None


def _trained(data: Labelled, about: dict[str, Any], settings: Settings, progress: bool) -> Kept:
    train, test = labelled.read(data)
    classes = data.classes or int(max(train.labels.max(), test.labels.max())) + 1
    count, shape = len(train.labels), " x ".join(map(str, data.shape))
    terminal.complain(
        f"training a classifier of {data.name}: {count:,} images of {shape}, {classes} classes"
    )
    begin = time.perf_counter()
    params = network.trained(train.images, train.labels, classes, settings, progress)
    seconds = time.perf_counter() - begin
    weights: Any = flax.traverse_util.flatten_dict(params, sep="/")
    preprocessing = {
        "architecture": network.ARCHITECTURE,
        "shape": list(data.shape),
        "classes": classes,
        "resized": extractor.RESIZED,
    }
    held_out = f"{len(test.labels):,} held-out images, {data.held_out}"
    made = Kept(about, preprocessing, weights, 0.0, held_out, seconds, time.time())
    probabilities = as_extractor(made).describe(test.images).probabilities
    assert probabilities is not None
    accuracy = float((probabilities.argmax(1) == test.labels).mean())
    return made._replace(accuracy=accuracy)
