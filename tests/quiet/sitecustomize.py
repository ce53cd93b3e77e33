"""For processes that tests start: faults, and no CUDA plugin, which the tests compile with, and
which only complains where there is no NVIDIA driver."""

import ctypes
import os
import pathlib
import sys
import types

if fault := os.environ.get("JAXGAN_TESTS_FAULT"):
    tests = str(pathlib.Path(__file__).parent.parent)
    sys.path.append(tests)
    import faults

    sys.path.remove(tests)
    faults.begin(fault)

try:
    ctypes.CDLL("libcuda.so.1")
except OSError:
    stub = types.ModuleType("jax_plugins.xla_cuda12")
    stub.initialize = lambda: None
    sys.modules.update({"jax_plugins.xla_cuda12": stub, "jax_cuda12_plugin": None})
