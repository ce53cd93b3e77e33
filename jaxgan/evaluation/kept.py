"""What an extractor says of real examples, kept: one `.npz` for each set, of arrays and a header of
JSON. Nothing in it is executed when it is read."""

import hashlib
import io
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgan import caches, files, terminal
from jaxgan.errors import RunError
from jaxgan.features import Described, Extractor
from jaxgan.paths import shown

_MOST = 2**28  # bytes; larger ones are computed again
_HEADER, _FEATURES, _PROBABILITIES = "header", "features", "probabilities"


def described(
    extractor: Extractor, about: dict[str, Any], images: Callable[[], np.ndarray]
) -> Described:
    """What the extractor says of images, computed or found.

    It is kept in ~/.cache/jaxgan/features where the extractor's digest covers all that features
    depend on. A file that is damaged is made again, with a line.

    Args:
      extractor: of which the digest counts.
      about: which images these are: the version of their data, and which of them.
      images: () -> uint8 [N,H,W,C].
    """
    folder = caches.features()
    if not folder or not extractor.is_whole:
        return extractor.describe(images())
    about = json.loads(json.dumps({**about, "extractor": extractor.digest}))
    text = json.dumps(about, sort_keys=True)
    name = f"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}.npz"
    path = pathlib.Path(folder).absolute() / name
    try:
        return _read(path, about)
    except FileNotFoundError:
        pass
    except Exception as error:  # of the disk, the archive, its arrays, or JSON of another shape
        reason = getattr(error, "strerror", None) or error
        terminal.complain(f"{shown(path)} is of no use ({reason}); it is made again")
    made = extractor.describe(images())
    if sum(a.nbytes for a in made if a is not None) < _MOST // 2:
        try:
            _write(path, about, made)
        except RunError as error:
            terminal.complain(f"features are not kept: {error}")
    return made


def _read(path: pathlib.Path, about: dict[str, Any]) -> Described:
    with np.load(io.BytesIO(files.read(path, _MOST)), allow_pickle=False) as file:
        header = json.loads(file[_HEADER].tobytes())
        names = [n for n in (_FEATURES, _PROBABILITIES) if n in file]
        arrays = [file[name] for name in names]
    if header["about"] != about or header["digest"] != _digest(arrays):
        raise ValueError("it is damaged or none of ours")
    return Described(arrays[0], arrays[1] if len(arrays) > 1 else None)


def _write(path: pathlib.Path, about: dict[str, Any], made: Described) -> None:
    arrays = [a for a in made if a is not None]
    header = json.dumps({"about": about, "digest": _digest(arrays)}).encode()
    named = dict(zip((_FEATURES, _PROBABILITIES), arrays))
    content: Any = {_HEADER: np.frombuffer(header, np.uint8), **named}
    with files.written_whole(path) as file:
        np.savez(file, **content)


def _digest(arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
