"""Arrays from files that PyTorch saved, without PyTorch.

Such a file is a pickle, which may execute anything. Here a pickle may name nothing but what a state
dict is made of, and anything else is refused.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
_MAGIC = 0x1950A86A20F9469CFC6C  # at the beginning of files before PyTorch 1.6


class _Tensor(NamedTuple):
    """Where the numbers of an array lie."""

    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def state_dict(content: bytes) -> dict[str, np.ndarray]:
    """name -> array, of a state dict that `torch.save` wrote, in either of its formats.

    Raises:
      ValueError: for anything else, and for a damaged file.
    """
    try:
        is_zip = zipfile.is_zipfile(io.BytesIO(content))
        tensors, storage = _of_zip(content) if is_zip else _of_pickles(content)
        return {name: _array(tensor, storage) for name, tensor in tensors.items()}
    except ValueError:
        raise
    except Exception as error:  # unpickling damaged bytes raises anything
        raise ValueError(f"it is damaged or of another kind ({type(error).__name__})") from None


def _of_zip(content: bytes) -> tuple[dict[str, _Tensor], Callable[[str], bytes]]:
    archive = zipfile.ZipFile(io.BytesIO(content))
    (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = pickled.removesuffix("data.pkl")

    def storage(key: str) -> bytes:
        return archive.read(f"{folder}data/{key}")

    return _checked(_Unpickler(io.BytesIO(archive.read(pickled))).load()), storage


def _of_pickles(content: bytes) -> tuple[dict[str, _Tensor], Callable[[str], bytes]]:
    file = io.BytesIO(content)
    if _Unpickler(file).load() != _MAGIC:
        raise ValueError("it does not begin as one")
    for _ in ("protocol", "machine"):
        _Unpickler(file).load()
    unpickler = _Unpickler(file)
    tensors, numbers = _checked(unpickler.load()), {}
    for key in _Unpickler(file).load():
        count = int.from_bytes(file.read(8), "little")
        numbers[key] = file.read(count * np.dtype(unpickler.dtypes[key]).itemsize)
    return tensors, numbers.__getitem__


class _Unpickler(pickle.Unpickler):
    """Knows the names that a state dict is made of, and no others."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="utf-8")
        self.dtypes: dict[str, str] = {}  # of storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuilt_parameter
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise ValueError(f"it names {module}.{name}, which no state dict needs")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, dtype, key, *_ = pid
        self.dtypes[key] = dtype
        return key, dtype


def _rebuilt(
    storage: tuple[str, str], offset: int, shape: tuple, strides: tuple, *_: Any
) -> _Tensor:
    return _Tensor(*storage, offset, shape, strides)


def _rebuilt_parameter(tensor: _Tensor, *_: Any) -> _Tensor:
    return tensor


def _checked(found: Any) -> dict[str, _Tensor]:
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(x, _Tensor) for x in found.values()):
        raise ValueError("it holds something else than arrays by name")
    return dict(found)


def _array(tensor: _Tensor, storage: Callable[[str], bytes]) -> np.ndarray:
    flat = np.frombuffer(storage(tensor.storage), tensor.dtype)
    strides = tuple(stride * flat.itemsize for stride in tensor.strides)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides))
    is_before = min((0, tensor.offset, *tensor.shape, *tensor.strides)) < 0
    if math.prod(tensor.shape) and (is_before or last >= len(flat)):
        raise ValueError("an array lies beyond its numbers; the file is cut off")
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.shape, strides, writeable=False
    )
