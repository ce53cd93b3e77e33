"""A source: how many examples there are, and a function that reads some of them."""

import operator
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxgan.data import arrays, rows
from jaxgan.data.columns import Feature
from jaxgan.data.names import chosen
from jaxgan.data.texts import BYTES
from jaxgan.errors import UserError
from jaxgan.terminal import one_line

__all__ = ["Feature", "Source", "as_source", "select"]


class Source(NamedTuple):
    """Examples that can be read in any order.

    Attributes:
      name: for messages and for the run's config.
      count: how many examples there are.
      read: which examples, int64 [n] -> leaves [n, ...], one for each feature, of its shape and
        type. Called from several threads at once. Raises `RunError` for what cannot be read.
      features: what one example holds, by name.
      version: changes when the data change.
      arrays: leaves [N, ...] where the data lie ready, in memory or mapped: one for each feature,
        exactly of its shape and dtype. `read` gives the same.
    """

    name: str
    count: int
    read: Callable[[np.ndarray], dict[str, np.ndarray]]
    features: dict[str, Feature]
    version: str
    arrays: Mapping[str, np.ndarray] | None = None


def as_source(
    data: Any,
    name: str = "data",
    *,
    features: Iterable[str] = (),
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    text_bytes: int = BYTES,
) -> Source:
    """A source of what is at hand.

    Args:
      data: a source; one array [N, ...], which is `image` where it is uint8 of 3 or 4 axes or
        floating of 4, and `point` where it is floating of 2; a dict of arrays of one length; or
        anything with `__len__` and `__getitem__` whose elements are dicts of arrays or such arrays
        (data sources of TFDS and Grain, data sets of Hugging Face). What is called `image`, and
        uint8 [H,W,C] of 1, 3 or 4 channels, is taken as images: whole or floating pixels become
        uint8. Fields of other numbers want another name. Texts become their bytes.
      name: what messages call it.
      features: which to read; all by default.
      size: (h, w) that images are cropped and resized to; None leaves them as they are.
      channels: 1, 3 or 4 that images are converted to; None leaves them as they are.
      text_bytes: L of texts, uint8 [L] of UTF-8, which are cut to that or filled up with zeros.

    Raises:
      UserError: for what cannot be examples.
    """
    if isinstance(data, Source):
        return select(_checked(data), features)
    _check_shape(name, size, channels, text_bytes)
    if isinstance(data, str | bytes | pathlib.PurePath):
        raise UserError(
            f"{name} is text and not data; open files by DataOptions(folder=..) or (file=..)"
        )
    if isinstance(data, Mapping) or (hasattr(data, "shape") and hasattr(data, "dtype")):
        return Source(name, *arrays.opened(name, data, features, size, channels, text_bytes))
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return Source(name, *rows.opened(name, data, features, size, channels, text_bytes))
    raise UserError(
        f"{name} is {type(data).__name__}; give an array, a dict of arrays, or a sequence of them"
    )


def _check_shape(name: str, size: Any, channels: Any, text_bytes: Any) -> None:
    sides = size if isinstance(size, tuple | list) and len(size) == 2 else (0,)
    if size is not None and not all(type(side) is int and 0 < side < 2**15 for side in sides):
        raise UserError(f"{name}: size={size!r}; give (height, width) in pixels, or None")
    if channels not in (None, 1, 3, 4):
        raise UserError(f"{name}: channels={channels!r}; give 1 (grey), 3 (RGB), 4 (RGBA) or None")
    if type(text_bytes) is not int or text_bytes < 1:
        raise UserError(f"{name}: text_bytes={text_bytes!r}; give a whole number of 1 or more")


def _checked(source: Source) -> Source:
    """The source, whose numbers may be NumPy's.

    Raises:
      UserError: for what `Source` does not say of its fields.
    """
    name, count = one_line(source.name), source.count
    fix = "see jaxgan.data.Source"
    if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
        raise UserError(f"source {name} has count={count!r}; give a whole number of 1 or more")
    if not callable(source.read):
        raise UserError(f"source {name} has read={source.read!r}, which is no function; {fix}")
    if not isinstance(source.features, Mapping) or not source.features:
        raise UserError(f"source {name} has features={source.features!r}; give a dict of Feature")
    features = {}
    for key, feature in source.features.items():
        try:
            shape, dtype = tuple(map(operator.index, feature.shape)), np.dtype(feature.dtype)
            if not isinstance(key, str) or any(size < 1 for size in shape):
                raise TypeError
            if dtype not in (np.uint8, np.int32, np.float32):
                raise TypeError
        except (TypeError, AttributeError):
            raise UserError(
                f"source {name} has the feature {key!r}: {feature!r}; give a name and a "
                "Feature(shape, dtype) of whole numbers from 1 on and uint8, int32 or float32"
            ) from None
        features[key] = Feature(shape, dtype, feature.classes)
    _check_arrays(name, int(count), features, source.arrays)
    return source._replace(
        name=name, count=int(count), features=features, version=one_line(source.version)
    )


def _check_arrays(name: str, count: int, features: dict[str, Feature], ready: Any) -> None:
    """Raises `UserError` for `arrays` that are not what the features promise."""
    if ready is None:
        return
    told = {key: ((count, *feature.shape), feature.dtype) for key, feature in features.items()}
    found = {}
    if isinstance(ready, Mapping):
        found = {
            key: (leaf.shape, leaf.dtype)
            for key, leaf in ready.items()
            if isinstance(leaf, np.ndarray)
        }
    for key in told:
        if found.get(key) != told[key]:
            raise UserError(
                f"source {name} has {key!r} in arrays as {found.get(key)}, its features promise "
                f"{told[key]}; make them equal, or leave arrays out"
            )


def select(source: Source, wanted: Iterable[str]) -> Source:
    """The source with only the wanted features, or as it is where none is named."""
    names = chosen(wanted, source.features, source.name)
    if set(names) == set(source.features):
        return source

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        leaves = source.read(indices)
        return {key: leaves[key] for key in names}

    ready = source.arrays and {key: source.arrays[key] for key in names}
    features = {key: source.features[key] for key in names}
    return source._replace(read=read, features=features, arrays=ready)
