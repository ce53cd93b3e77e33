"""Arrays and a header of JSON in one `.npz`. Nothing in it is executed when it is read."""

import hashlib
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgan import files

MOST = 2**28  # bytes of a file
_HEADER = "header"


def write(path: pathlib.Path, header: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a file whole, or leaves what was there.

    Raises:
      RunError: where it cannot be written.
    """
    named: Any = {_HEADER: np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays}
    with files.written_whole(path) as file:
        np.savez(file, **named)


def read(path: pathlib.Path) -> tuple[Any, dict[str, np.ndarray]]:
    """(header, arrays) of a file; raises errors of many kinds for what `write` did not write."""
    with np.load(io.BytesIO(files.read(path, MOST)), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(arrays.pop(_HEADER).tobytes()), arrays


def digest_of(about: str, arrays: Mapping[str, np.ndarray]) -> str:
    """sha256, hex, of a text and of arrays with their names."""
    digest = hashlib.sha256(about.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\0{name} {array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
