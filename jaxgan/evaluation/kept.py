"""What an extractor says of real examples, kept: a file for each set."""

import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgan import array_files, caches, terminal
from jaxgan.errors import RunError
from jaxgan.features import Described, Extractor
from jaxgan.paths import shown


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
    # Larger ones are computed again.
    if sum(array.nbytes for array in _arrays(made).values()) < array_files.MOST // 2:
        try:
            _write(path, about, made)
        except RunError as error:
            terminal.complain(f"features are not kept: {error}")
    return made


def _arrays(found: Described) -> dict[str, np.ndarray]:
    return {name: array for name, array in found._asdict().items() if array is not None}


def _read(path: pathlib.Path, about: dict[str, Any]) -> Described:
    header, arrays = array_files.read(path)
    if header["about"] != about or header["digest"] != array_files.digest_of("", arrays):
        raise ValueError("it is damaged or none of ours")
    return Described(arrays["features"], arrays.get("probabilities"))


def _write(path: pathlib.Path, about: dict[str, Any], made: Described) -> None:
    arrays = _arrays(made)
    digest = array_files.digest_of("", arrays)
    array_files.write(path, {"about": about, "digest": digest}, arrays)
