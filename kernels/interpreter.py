"""A kernel's programs, run on the host by Triton's interpreter over numpy arrays.

Where they read and write is checked.
"""

from typing import Any

import numpy as np

# Elements after each array: NaN after inputs, which poisons what reads too far, and a mark after
# outputs.
_GUARD = 64
_MARK = 77


class _HostBuffer:
    """The few methods of a torch tensor that Triton's interpreter calls, over a numpy array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.dtype = array, str(array.dtype)

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    def untyped_storage(self) -> "_HostBuffer":
        return self

    def cpu(self) -> "_HostBuffer":
        return self

    def copy_(self, other: Any) -> None:
        """The same memory: nothing to copy."""

    def new_empty(self, *_: Any, **__: Any) -> "_HostBuffer":
        return _HostBuffer.__new__(_HostBuffer)

    def set_(self, storage: "_HostBuffer", *_: Any) -> None:
        self.__dict__.update(storage.__dict__)

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return self.array.shape

    def stride(self) -> tuple[int, ...]:
        return tuple(s // self.array.itemsize for s in self.array.strides)


def interpreted(
    kernel: Any, inputs: Any, outputs: Any, grid: tuple[int, ...], constants: dict[str, Any]
) -> list[np.ndarray]:
    """Runs a kernel's programs one after another.

    Args:
      kernel: decorated by `triton.jit` with TRITON_INTERPRET set.
      inputs: arrays.
      outputs: shapes and dtypes.
      grid: programs along each axis.
      constants: of the kernel.

    Returns:
      The outputs, which hold NaN where the kernel wrote nothing.

    Raises:
      RuntimeError: where it wrote past the end of an output.
    """
    buffers = [
        np.concatenate([np.asarray(a).ravel(), np.full(_GUARD, np.nan, a.dtype)]) for a in inputs
    ]
    results = [np.full(int(np.prod(o.shape)) + _GUARD, np.nan, o.dtype) for o in outputs]
    for result in results:
        result[-_GUARD:] = _MARK
    pointers = [name for name in kernel.arg_names if name not in constants]
    arrays = dict(zip(pointers, map(_HostBuffer, buffers + results)))
    kernel[grid](**arrays, **constants)
    for result in results:
        if not (result[-_GUARD:] == _MARK).all():
            raise RuntimeError(f"{kernel.__name__} wrote past the end of an output")
    return [result[:-_GUARD].reshape(o.shape) for result, o in zip(results, outputs)]
