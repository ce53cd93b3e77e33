"""Arrays [N, ...], in memory or mapped, as a source."""

import functools
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxgan.data.columns import (
    Column,
    Unusable,
    as_array,
    check_fits,
    dtype_of,
    image_column,
    is_image,
    name_of,
    number_column,
)
from jaxgan.data.names import chosen
from jaxgan.data.pixels import PixelError
from jaxgan.errors import RunError, UserError

_BYTES_AT_ONCE = 2**25  # raw bytes that a read holds beside what it gives
_BYTES_SEEN = 2**26  # of a large array that are looked at, evenly spaced
BYTES_HASHED = 2**31  # arrays up to this size are hashed whole


def opened(
    name: str,
    data: Any,
    wanted: Iterable[str],
    size: tuple[int, int] | None,
    channels: int | None,
) -> tuple:
    """(count, read, features, version) of one array or of a dict of arrays.

    Raises:
      UserError: for arrays of different lengths and for what is no number.
    """
    named = _named(name, data)
    arrays = {key: _array(name, key, named[key]) for key in chosen(wanted, named, name)}
    count = _length(name, arrays)
    columns = {}
    for key, array in arrays.items():
        try:
            columns[key] = _column(key, array, size, channels)
        except (Unusable, PixelError) as error:
            raise UserError(
                f"{name}: {key} {error}; mend it, or choose others by features"
            ) from None
    read = functools.partial(_read, name, arrays, columns)
    return count, read, {key: column.feature for key, column in columns.items()}, _hash(arrays)


def _named(name: str, data: Any) -> Mapping[str, Any]:
    if isinstance(data, Mapping):
        if not data:
            raise UserError(f"{name} holds no array; give one or more")
        return {str(key): value for key, value in data.items()}
    array = _array(name, "the array", data)
    key = name_of(array.dtype, array.shape[1:]) if array.ndim else None
    if key is None:
        raise UserError(
            f"{name} is an array of {array.dtype} {array.shape}, which is neither images (uint8 "
            "[N,H,W] or [N,H,W,C], floating [N,H,W,C]) nor points (floating [N,D]); name it by a "
            "dict, such as {'volume': array}"
        )
    return {key: array}


def _array(name: str, key: str, value: Any) -> np.ndarray:
    try:
        array = as_array(value)
    except Unusable as error:
        raise UserError(f"{name}: {key} {error}; give arrays of one shape") from None
    if not array.ndim:
        raise UserError(
            f"{name}: {key} is one value and not an array [N, ...]; leave it out, or choose others "
            "by features"
        )
    return array


def _length(name: str, arrays: Mapping[str, np.ndarray]) -> int:
    first, *others = arrays
    count = len(arrays[first])
    for key in others:
        if len(arrays[key]) != count:
            raise UserError(
                f"{name}: {first} holds {count} examples and {key} {len(arrays[key])}; give arrays "
                "of one length"
            )
    if not count:
        raise UserError(f"{name} holds no example: {first} has shape {arrays[first].shape}")
    return count


def _column(
    key: str, array: np.ndarray, size: tuple[int, int] | None, channels: int | None
) -> Column:
    dtype = dtype_of(array.dtype, array.ndim - 1)
    if 0 in array.shape:
        raise Unusable(f"has shape {array.shape}, which is empty")
    if is_image(key, array[0]):
        return image_column(_spaced(array), size, channels)
    classes = None
    if np.issubdtype(dtype, np.floating) and not np.isfinite(_spaced(array).astype(dtype)).all():
        raise Unusable("holds numbers that are not finite in float32; leave those examples out")
    if dtype == np.int32:
        check_fits(_spaced(array))
        if key == "label" and array.ndim == 1 and array.min() >= 0:
            classes = int(array.max()) + 1
    return number_column([array[0]], classes)


def _spaced(array: np.ndarray) -> np.ndarray:
    """All examples of an array, or of a large one evenly spaced ones."""
    return array[:: -(-array.nbytes // _BYTES_SEEN) or 1]


def _read(
    name: str,
    arrays: Mapping[str, np.ndarray],
    columns: Mapping[str, Column],
    indices: np.ndarray,
) -> dict[str, np.ndarray]:
    leaves = {}
    for key, column in columns.items():
        array = arrays[key]
        at_once = max(1, _BYTES_AT_ONCE * len(array) // array.nbytes)
        try:
            if len(indices) <= at_once:
                leaves[key] = column.leaves(array[indices])
                continue
            leaves[key] = np.empty((len(indices), *column.feature.shape), column.feature.dtype)
            for first in range(0, len(indices), at_once):
                part = slice(first, first + at_once)
                leaves[key][part] = column.leaves(array[indices[part]])
        except (Unusable, PixelError) as error:
            raise RunError(f"{name}: an example's {key} {error}; mend the data") from None
    return leaves


def _hash(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b()
    for key in sorted(arrays):
        array = arrays[key]
        digest.update(f"{key} {array.dtype.str} {array.shape};".encode())
        seen = array if array.nbytes <= BYTES_HASHED else _spaced(array)
        at_once = max(1, _BYTES_AT_ONCE * len(seen) // max(seen.nbytes, 1))
        for first in range(0, len(seen), at_once):
            digest.update(np.ascontiguousarray(seen[first : first + at_once]).data)
    return digest.hexdigest()[:16]
