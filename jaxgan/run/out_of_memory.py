"""The one door for memory that does not suffice, the machine's and the devices'."""

import contextlib
import re
from collections.abc import Callable, Iterator

from jaxgan.errors import RunError

_FIX = (
    "use a smaller batch_size, smaller networks, dtype=bfloat16 or more devices; "
    "data.resident_limit_mb=0 streams the data"
)
_DEVICES = re.compile(r"RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY|out of memory", re.I)
_ASKED = re.compile(r"(?:allocat\w+|allocate) ([\d.]+ ?(?:[KMGT]i?B|bytes))", re.I)


def is_out(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice: NumPy's, Python's, or XLA's, which has no
    type of its own."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and not isinstance(error, RunError)
        and bool(_DEVICES.search(str(error)))
    )


@contextlib.contextmanager
def told(kept: Callable[[], str] | None = None, fix: str = _FIX) -> Iterator[None]:
    """Turns such an error of the block into a `RunError`.

    Args:
      kept: () -> which checkpoint is left.
      fix: what helps.
    """
    try:
        yield
    except Exception as error:
        if not is_out(error):
            raise
        whose = "this machine's memory" if isinstance(error, MemoryError) else "a device's memory"
        asked = _ASKED.search(str(error))
        needed = f" ({asked[1]} were asked for)" if asked else ""
        what = f"; {kept()}" if kept else ""
        raise RunError(f"{whose} does not suffice{needed}{what}; {fix}") from None
