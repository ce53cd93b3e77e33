"""NVIDIA's driver, as the system tells of it. Imports no JAX."""

import ctypes
import pathlib
import re
from typing import Any


def driver() -> dict[str, Any]:
    """NVIDIA's driver: the version of its module and of the CUDA that it runs, None where they are
    not told; how many GPUs the system has."""
    cuda = None
    try:
        number = ctypes.c_int(0)
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
        cuda = f"{number.value // 1000}.{number.value % 1000 // 10}"
    except (OSError, AttributeError):
        pass
    try:
        text = pathlib.Path("/proc/driver/nvidia/version").read_text()
        module = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", text)
    except OSError:
        module = None
    gpus = [path for path in pathlib.Path("/dev").glob("nvidia*") if path.name[6:].isdigit()]
    return {"module": module[0] if module else None, "cuda": cuda, "gpus": len(gpus)}
