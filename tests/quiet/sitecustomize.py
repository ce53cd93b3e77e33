"""For processes that tests start: without an NVIDIA driver the CUDA plugin, which the tests compile
with, only complains."""

import ctypes
import sys
import types

try:
    ctypes.CDLL("libcuda.so.1")
except OSError:
    stub = types.ModuleType("jax_plugins.xla_cuda12")
    stub.initialize = lambda: None
    sys.modules.update({"jax_plugins.xla_cuda12": stub, "jax_cuda12_plugin": None})
