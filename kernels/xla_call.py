"""How a Triton kernel is launched: by XLA's own custom call, as one of XLA's own kernels.

Triton stops at its first intermediate language (`ttir_triton`), and XLA compiles that text with the
rest of the program. So a launch is an instruction like any fusion: it lies in the same CUDA graph,
and its code is kept with the program.
"""

import importlib
from typing import Any

import jax
import numpy as np
from jax import Array

TARGET = "__gpu$xla.gpu.triton"
STAGES = 3  # of loads ahead in a kernel's loops; Triton's own default


def xla_call(
    kernel: Any,
    inputs: tuple[Array, ...],
    outputs: tuple[Any, ...],
    grid: tuple[int, ...],
    warps: int,
    constants: dict[str, Any],
) -> list[Array]:
    """Launches a kernel on a CUDA GPU; arguments and results as of `launch.call`."""
    ttir = importlib.import_module("jaxgan.kernels.ttir_triton").ttir
    dtypes = tuple(str(array.dtype) for array in (*inputs, *outputs))
    # 32 bits, as XLA reads them.
    x, y, z = (np.int32(n) for n in (*grid, 1, 1)[:3])
    call = jax.ffi.ffi_call(TARGET, outputs)
    results = call(
        *inputs,
        name=kernel.__name__,
        ir=ttir(kernel, dtypes, tuple(constants.items()), warps),
        num_stages=np.int32(STAGES),
        num_warps=np.int32(warps),
        grid_x=x,
        grid_y=y,
        grid_z=z,
        debug=False,
    )
    return list(results)
