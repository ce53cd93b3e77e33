"""Settings of the process that make training faster; the command line and the benchmarks turn them
on, importing does not."""

import ctypes
import functools
import os

import jax

from jaxgan.caches import compiled_programs as cache_dir
from jaxgan.errors import UserError
from jaxgan.kernels import launch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt


def keep_compiled_programs() -> None:
    """Turns on JAX's persistent compilation cache, where its folder can be written, so that a
    second run starts faster."""
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(cache_dir(), os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(cache_dir()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@functools.cache
def compiler_options(platform: str) -> dict[str, str] | None:
    """Options of XLA with which a training step runs faster on a platform, for `jax.jit(...,
    compiler_options=...)`; None for none.

    On CPUs jaxlib hands convolutions to YNNPACK, which ran those of a GAN at a third of the rate of
    XLA's other library, Eigen, on cores with AVX2. The option leaves YNNPACK what it does well. A
    choice in XLA_FLAGS comes first, and a jaxlib that does not know the option is left as it is.
    """
    name = "xla_cpu_experimental_ynn_fusion_type"
    if platform != "cpu" or name in os.environ.get("XLA_FLAGS", ""):
        return None
    options = {name: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory for the next step; returns whether it could.

    XLA:CPU allocates a step's scratch memory anew in every step. Blocks of that size otherwise go
    back to the system at once and come again page by page, which took a third of a small step.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # not Linux, or another C library
        return False
    return all(
        [
            mallopt(_M_MMAP_THRESHOLD, 1 << 30),
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1),
            mallopt(_M_TOP_PAD, 64 << 20),
        ]
    )


def check_kernels(kernels: str, platform: str) -> None:
    """Raises `UserError` where the fused operations that the option `kernels` or JAXGAN_KERNELS
    asks for cannot run on a platform."""
    source, asked = f"kernels={kernels}", kernels
    if asked == "auto" and (given := os.environ.get("JAXGAN_KERNELS")):
        source, asked = f"JAXGAN_KERNELS={given}", given
    if asked == "triton" and platform != "gpu":
        raise UserError(
            f"{source} needs a CUDA GPU, but this machine trains on {platform}; use auto or xla"
        )
    try:
        launch.resolve(asked)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None
