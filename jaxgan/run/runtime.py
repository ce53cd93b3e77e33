"""The process that trains: whether it has devices, and settings that make training faster, which
the command line and the benchmarks turn on and importing does not."""

import contextlib
import ctypes
import functools
import logging
import os
from collections.abc import Iterator

import jax

from jaxgan import terminal
from jaxgan.errors import UserError
from jaxgan.kernels import launch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt


def check_devices() -> list[str]:
    """Lets JAX look for devices; returns a line for each kind that it looked for in vain, where
    nobody asked for others.

    Raises:
      UserError: where it finds none.
    """
    with _logged("jax._src.xla_bridge") as problems:
        try:
            jax.devices()
        except Exception as error:  # AssertionError where JAX_PLATFORMS=cuda and CUDA is not there
            asked = os.environ.get("JAX_PLATFORMS")
            reason = str(error).partition(" (set ")[0] or "; ".join(problems)
            where = f"JAX_PLATFORMS={asked}: " if asked else ""
            fix = "unset it to train on what there is" if asked else "run jaxgan doctor"
            raise UserError(f"{where}JAX finds no device: {reason}; {fix}") from None
    if os.environ.get("JAX_PLATFORMS"):
        return []
    return [f"JAX goes on with {jax.default_backend()}: {problem}" for problem in problems]


def find_devices() -> None:
    """As `check_devices`, for the command line: says what JAX could not use."""
    for line in check_devices():
        terminal.complain(line)


@contextlib.contextmanager
def _logged(name: str) -> Iterator[list[str]]:
    """What a logger says as warnings and errors, a line each, in place of its pages."""
    lines: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        error = record.exc_info[1] if record.exc_info else None
        lines.append(" ".join(str(error or record.getMessage()).split()))
        return False

    logger = logging.getLogger(name)
    logger.addFilter(note)
    try:
        yield lines
    finally:
        logger.removeFilter(note)


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


def why_no_triton(platform: str) -> str:
    """Why Triton's kernels cannot run on a platform; "" where they can."""
    try:
        check_kernels("triton", platform)
    except UserError as error:
        return str(error)
    return ""


def check_graph(one_graph: bool | None, platform: str) -> None:
    """Raises `UserError` where one CUDA graph is asked for and there are none."""
    if one_graph and platform != "gpu":
        raise UserError(
            f"one_graph=true needs a CUDA GPU, but this machine trains on {platform}; leave it out"
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
