"""A data set of TensorFlow Datasets as a source, read without TensorFlow."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgan.data.columns import (
    Column,
    Unusable,
    dtype_of,
    image_column,
    is_image,
    number_column,
    text_column,
)
from jaxgan.data.names import chosen, split_names
from jaxgan.data.options import DataOptions, image_size
from jaxgan.data.pixels import PixelError, decoded
from jaxgan.data.rows import features_of, fetched, one_line, read_rows, spread
from jaxgan.data.source import Source
from jaxgan.data.texts import BYTES
from jaxgan.data.tfds_preparing import found_builder, open_builder, prepare_anew
from jaxgan.errors import RunError, UserError
from jaxgan.names import listed


def opened(options: DataOptions, progress: bool = False) -> Source:
    """The examples of a split of a data set, which is prepared first where it is not.

    Raises:
      UserError: for a data set that cannot be had, and features and splits that it does not have.
    """
    tfds = _package(options)
    (tfds.enable_progress_bar if progress else tfds.disable_progress_bar)()
    builder = open_builder(options)
    usable, others = _features(builder.info.features)
    names = _chosen(options, usable, others)
    wanted = {name: usable[name] for name in names}
    fetch, count = _records(builder, options, wanted)
    name = options.name
    try:
        peeked = fetched(name, fetch, spread(count))
        columns = {key: _column(key, wanted[key], peeked, options) for key in names}
    except RunError as error:
        anew = prepare_anew(options, builder.data_path.parent)
        raise UserError(f"{error}, or {anew}") from None
    except (Unusable, PixelError) as error:
        raise UserError(f"data.name={name}: {error}; pass --data.features with others") from None
    read = functools.partial(read_rows, name, fetch, columns)
    version = f"{builder.info.full_name} {options.split}"
    return Source(name, count, read, features_of(columns), version)


def is_prepared(options: DataOptions) -> bool:
    """Whether a data set needs no preparing. Nothing is written; raises as `opened`."""
    _package(options)
    return found_builder(options)[0] is not None


def _package(options: DataOptions) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"data.name={options.name} needs tensorflow-datasets ({error}); install it, or train "
            "on --data.name shapes"
        ) from None
    return tfds


def _features(features: Any, prefix: str = "") -> tuple[dict[str, Any], dict[str, str]]:
    """The features that can be used, by name, and why the others cannot; those of dicts as a/b."""
    import tensorflow_datasets as tfds

    usable, others = {}, {}
    for key, feature in features.items():
        name = f"{prefix}{key}"
        if isinstance(feature, tfds.features.FeaturesDict):
            more_usable, more_others = _features(feature, f"{name}/")
            usable.update(more_usable)
            others.update(more_others)
        else:
            reason = _why_unusable(feature)
            if reason:
                others[name] = reason
            else:
                usable[name] = feature
    return usable, others


def _why_unusable(feature: Any) -> str:
    """Why a feature cannot be used; empty where it can."""
    import tensorflow_datasets as tfds

    if _is_text(feature):
        return ""
    if isinstance(feature, tfds.features.LabeledImage):
        return "an image of labels"
    if isinstance(feature, tfds.features.Image):
        return ""
    if isinstance(getattr(feature, "feature", None), tfds.features.Image):
        return "a sequence of images"
    info = feature.get_tensor_info()
    if not hasattr(info, "shape"):
        return "a sequence of dicts"
    if None in info.shape:
        return "of varying shape"
    try:
        dtype_of(np.dtype(info.np_dtype), len(info.shape))
    except (Unusable, TypeError):
        return "texts" if np.dtype(info.np_dtype).kind in "OSU" else str(info.np_dtype)
    return ""


def _is_text(feature: Any) -> bool:
    """Whether a value is one text."""
    info = feature.get_tensor_info()
    return getattr(info, "shape", None) == () and np.dtype(info.np_dtype).kind in "OSU"


def _chosen(
    options: DataOptions, usable: Mapping[str, Any], others: Mapping[str, str]
) -> tuple[str, ...]:
    """The features to read: those asked for, or `image` and a `label` that is a whole number."""
    name, asked = f"data.name={options.name}", split_names(options.features)
    can_be_used = f"pass --data.features with some of {listed(sorted(usable))}"
    if not usable:
        can_be_used = "choose another data set, it has nothing that can be used"
    for key in asked:
        if key in others:
            raise UserError(f"{name}: {key} is {others[key]} and cannot be used; {can_be_used}")
    if asked:
        return chosen(asked, usable, name)
    if "image" not in usable:
        raise UserError(f"{name} has no feature 'image'; {can_be_used}")
    return ("image", "label") if _is_whole_number(usable.get("label")) else ("image",)


def _is_whole_number(feature: Any) -> bool:
    if feature is None:
        return False
    info = feature.get_tensor_info()
    return info.shape == () and np.dtype(info.np_dtype).kind in "iub"


def _column(
    key: str, feature: Any, peeked: Sequence[Mapping[str, Any]], options: DataOptions
) -> Column:
    import tensorflow_datasets as tfds

    values = [row[key] for row in peeked]
    try:
        if isinstance(feature, tfds.features.Image):
            shape: Any = feature.shape
            declared = shape[-1] if feature.np_dtype != np.float32 else None
            channels = options.channels or (declared if declared in (1, 3, 4) else None)
            return image_column(values, image_size(options), channels)
        if _is_text(feature):
            return text_column(key, options.text_bytes or BYTES)
        if is_image(key, values[0]):
            return image_column(values, image_size(options), options.channels)
        return number_column(values, getattr(feature, "num_classes", None))
    except (Unusable, PixelError) as error:
        raise Unusable(f"{key} of example 0 {error}") from None


def _records(builder: Any, options: DataOptions, wanted: Mapping[str, Any]) -> tuple[Any, int]:
    """(which examples -> dicts of the wanted features, how many there are).

    Images stay encoded: they are decoded here, in one way whatever decoders are installed, and what
    is not wanted is not looked at.
    """
    import tensorflow_datasets as tfds

    try:
        records = builder.as_data_source(
            split=options.split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        count = len(records)
    except MemoryError:
        raise
    except Exception as error:  # of a split that does not exist, or of damaged files
        name, splits = options.name, listed(builder.info.splits)
        reason = f"{one_line(error)}; use one of {splits}"
        if isinstance(error, NotImplementedError | OSError | RuntimeError):
            reason = f"{one_line(error)}; {prepare_anew(options, builder.data_path.parent)}"
        raise UserError(f"data.split={options.split!r} of {name}: {reason}") from None
    if not count:
        raise UserError(
            f"data.split={options.split!r} of {options.name} holds no example; choose a larger part"
        )
    tree, skipped = {}, {}
    for key, feature in wanted.items():
        *parents, leaf = key.split("/")
        branch, skip = tree, skipped
        for parent in parents:
            branch, skip = branch.setdefault(parent, {}), skip.setdefault(parent, {})
        branch[leaf] = feature
        if isinstance(feature, tfds.features.Image):
            skip[leaf] = tfds.decode.SkipDecoding()
    parser = tfds.features.FeaturesDict(tree)

    floating = [
        key
        for key, feature in wanted.items()
        if isinstance(feature, tfds.features.Image) and feature.np_dtype == np.float32
    ]

    def parsed(record: bytes) -> dict[str, Any]:
        if not record:  # what array_record gives where its file has become shorter
            raise ValueError("its record is empty")
        example: Any = parser.deserialize_example_np(record, decoders=skipped)
        row = _flat(example)
        for key in floating:  # TFDS keeps the four bytes of a number as the channels of a PNG
            row[key] = np.asarray(decoded(row[key])).view(np.float32)
        return row

    def fetch(indices: list[int]) -> list[dict[str, Any]]:
        return [parsed(record) for record in records.__getitems__(indices)]

    return fetch, count


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}/"))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
