"""Examples that come one by one, as dicts of raw values, to leaves [n, ...]."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgan.data.columns import (
    Column,
    Feature,
    Unusable,
    as_array,
    image_column,
    is_image,
    name_of,
    number_column,
    text_column,
)
from jaxgan.data.names import chosen
from jaxgan.data.pixels import PixelError
from jaxgan.data.texts import BYTES, is_text
from jaxgan.errors import RunError, UserError

_BYTES_AT_ONCE = 2**25  # raw bytes that a read holds beside what it gives
_AT_FIRST, _AT_MOST = 8, 1024  # examples fetched at once, before and after their size is known
_PEEKED = 16  # examples that tell what a sequence holds

Row = Mapping[str, Any]
Fetch = Callable[[list[int]], Sequence[Row]]


def opened(
    name: str,
    data: Any,
    wanted: Iterable[str],
    size: tuple[int, int] | None,
    channels: int | None,
    text_bytes: int = BYTES,
) -> tuple:
    """(count, read, features, version) of a sequence whose elements are dicts or arrays.

    Raises:
      UserError: for a sequence that is empty or whose elements are of no use.
    """
    count = len(data)
    if not count:
        raise UserError(f"{name} holds no example")
    fetch = _fetch(name, data)
    places = spread(count)
    try:
        peeked = fetch(places)
    except Exception as error:
        if isinstance(error, UserError | MemoryError):
            raise
        raise UserError(f"{name}: its examples cannot be read: {one_line(error)}") from None
    columns = {}
    for key in chosen(wanted, peeked[0], name):
        try:
            values = [row[key] for row in peeked]
            if is_image(key, values[0]):
                columns[key] = image_column(values, size, channels)
            elif is_text(values[0]):
                columns[key] = text_column(key, text_bytes)
            else:
                columns[key] = number_column(values, _classes(data, key))
        except KeyError:
            raise UserError(f"{name}: {key} is not in all examples; choose others") from None
        except (Unusable, PixelError) as error:
            raise UserError(
                f"{name}: {key} of example 0 {error}; choose others of {', '.join(peeked[0])} by "
                "features"
            ) from None
    read = functools.partial(read_rows, name, fetch, columns)
    try:
        seen = read(np.array(places))
    except RunError as error:
        raise UserError(str(error)) from None
    digest = hashlib.sha256(f"{type(data).__name__} {count};".encode())
    for key in sorted(seen):
        digest.update(f"{key} {seen[key].dtype.str} {seen[key].shape};".encode())
        digest.update(np.ascontiguousarray(seen[key]).data)
    return count, read, features_of(columns), digest.hexdigest()[:16]


def spread(count: int) -> list[int]:
    """Some evenly spaced places of that many, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, _PEEKED).astype(np.int64)).tolist()


def features_of(columns: Mapping[str, Column]) -> dict[str, Feature]:
    """What examples hold, by name."""
    return {key: column.feature for key, column in columns.items()}


def read_rows(
    name: str, fetch: Fetch, columns: Mapping[str, Column], indices: np.ndarray
) -> dict[str, np.ndarray]:
    """Reads examples a few at a time, so that raw ones take no more than some 32 MiB.

    Args:
      name: of the source.
      fetch: which examples -> their raw values.
      columns: what becomes of them.
      indices: int [n].

    Returns:
      Leaves [n, ...].

    Raises:
      RunError: for examples that cannot be read or are of another kind than the first.
    """
    leaves = {
        key: np.empty((len(indices), *column.feature.shape), column.feature.dtype)
        for key, column in columns.items()
    }
    bytes_read = sum(leaf.nbytes for leaf in leaves.values()) // max(len(indices), 1)
    done, at_once = 0, _AT_FIRST
    while done < len(indices):
        part = indices[done : done + at_once].tolist()
        raw = fetched(name, fetch, part)
        for key, column in columns.items():
            leaves[key][done : done + len(part)] = _leaves(name, key, column, part, raw)
        done += len(part)
        bytes_raw = sum(_bytes(row[key]) for row in raw for key in columns) // len(raw)
        at_once = min(max(_BYTES_AT_ONCE // max(bytes_raw, bytes_read, 1), 1), _AT_MOST)
    return leaves


def _leaves(
    name: str, key: str, column: Column, indices: list[int], raw: Sequence[Row]
) -> np.ndarray | list[np.ndarray]:
    """The raw values of one feature as leaves [n, ...]."""
    if column.seen is None and not column.text:
        with contextlib.suppress(Unusable, KeyError):  # which are then looked for one by one
            values = as_array([row[key] for row in raw])
            if values.shape[1:] == column.feature.shape:
                return column.leaves(values)
    leaves = []
    for index, row in zip(indices, raw):
        try:
            leaves.append(column.leaf(row[key]))
        except KeyError:
            raise RunError(f"{name}: example {index} has no {key}; mend the data") from None
        except (Unusable, PixelError) as error:
            raise RunError(
                f"{name}: {key} of example {index} {error}; mend it, or choose a split without it"
            ) from None
    return leaves


def fetched(name: str, fetch: Fetch, indices: list[int]) -> Sequence[Row]:
    """The raw values of examples.

    Raises:
      RunError: that names the first of them that cannot be read.
    """
    try:
        return fetch(indices)
    except MemoryError:
        raise
    except Exception as error:  # readers' errors share no type
        failed, reason = _first_that_fails(fetch, indices), one_line(error)
        raise RunError(
            f"{name}: {failed} cannot be read: {reason}; a disk, a mount or the files may have "
            "failed or changed since they were opened: mend that and go on"
        ) from None


def _first_that_fails(fetch: Fetch, indices: list[int]) -> str:
    for index in indices:
        try:
            fetch([index])
        except Exception:
            return f"example {index}"
    return f"one of the examples {min(indices)} to {max(indices)}"


def _fetch(name: str, data: Any) -> Fetch:
    """Which examples -> dicts, whatever the sequence's own way is."""
    get_many = getattr(data, "__getitems__", None)

    def fetch(indices: list[int]) -> list[Row]:
        elements = get_many(indices) if get_many else [data[index] for index in indices]
        return [_row(name, element) for element in elements]

    return fetch


def _row(name: str, element: Any) -> Row:
    if isinstance(element, Mapping):
        return element
    if isinstance(element, tuple):
        raise UserError(
            f"{name}: its examples are tuples of {len(element)}; give dicts, such as "
            "{'image': image, 'label': label}"
        )
    if is_image("", element):
        return {"image": element}
    try:
        array = as_array(element)
    except Unusable as error:
        raise UserError(f"{name}: an example {error}; give dicts of arrays") from None
    key = name_of(array.dtype, array.shape)
    if key is None:
        raise UserError(
            f"{name}: an example is {array.dtype} {array.shape}, which is neither an image nor a "
            "point; give dicts, such as {'volume': array}"
        )
    return {key: array}


def _classes(data: Any, key: str) -> int | None:
    """How many classes a label has, where the data set declares it as TFDS and Hugging Face do."""
    info = getattr(data, "dataset_info", data)
    declared = getattr(info, "features", None)
    try:
        classes = getattr(declared[key], "num_classes", None)  # type: ignore[index]
    except (KeyError, TypeError):
        return None
    return classes if isinstance(classes, int) else None


def _bytes(value: Any) -> int:
    """About how much memory a raw value takes."""
    if hasattr(value, "nbytes"):
        return value.nbytes
    if hasattr(value, "getbands"):
        return value.width * value.height * len(value.getbands())
    return len(value) if isinstance(value, bytes | str) else 64


def one_line(error: BaseException) -> str:
    """An error's text on one line, of bounded length."""
    return " ".join(str(error).split())[:300] or type(error).__name__
