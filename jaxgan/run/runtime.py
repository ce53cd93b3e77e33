"""The process that trains: whether it has devices, and settings that make training faster, which
the command line and the benchmarks turn on and importing does not."""

import contextlib
import ctypes
import functools
import logging
import os
from collections.abc import Iterator
from typing import Any

import jax

from jaxgan import terminal
from jaxgan.config import RunOptions
from jaxgan.errors import UserError
from jaxgan.kernels import launch, probe

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


# On CPUs jaxlib hands convolutions to YNNPACK, which ran those of a GAN at a third of the rate of
# XLA's other library, Eigen, on cores with AVX2. The option leaves YNNPACK what it does well.
_ON_CPU = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    )
}
# By default XLA keeps cuDNN's convolutions, loops and collectives out of CUDA graphs, so that a
# step is many graphs with single launches in between, and the host drives the loop over steps. What
# stands beside a loop is often less than XLA's least size of a graph.
_ONE_GRAPH = {
    "xla_gpu_enable_command_buffer": (
        "FUSION,CUBLAS,CUBLASLT,CUDNN,CONVOLUTION,CUSTOM_CALL,COLLECTIVES,CONDITIONAL,WHILE"
    ),
    "xla_gpu_graph_min_graph_size": 1,
}


def compiler_options(platform: str, one_graph: bool = False) -> dict[str, Any] | None:
    """Options of XLA with which a training step runs faster on a platform, for `jax.jit(...,
    compiler_options=...)`; None for none, and where `options_refused` says why not.

    Args:
      platform: of the devices.
      one_graph: on GPUs, make one CUDA graph of all that is dispatched at once.
    """
    options = _options(platform, one_graph)
    return options if options and not options_refused(platform, one_graph) else None


@functools.cache
def options_refused(platform: str, one_graph: bool = False) -> str:
    """Why a program is compiled without the options for a platform, in a line; "" where it has
    them, or there are none. A choice in XLA_FLAGS comes first, and a version of XLA that does not
    know an option is left as it is."""
    options = _options(platform, one_graph)
    given = os.environ.get("XLA_FLAGS", "")
    if chosen := [name for name in options if name in given]:
        return f"XLA_FLAGS says what {chosen[0]} is"
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0]
        return f"XLA refuses it: {terminal.one_line(reason)}"
    return ""


def _options(platform: str, one_graph: bool) -> dict[str, Any]:
    if platform == "cpu":
        return _ON_CPU
    return _ONE_GRAPH if one_graph and platform in ("gpu", "cuda") else {}


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


def check_way(run: RunOptions, platform: str) -> tuple[str, list[str]]:
    """Which fused operations run on a platform, and whether its options can be had.

    Args:
      run: its `kernels`, for whose auto JAXGAN_KERNELS stands, and `one_graph`.
      platform: of the devices.

    Returns:
      The kernels that were asked for; where this GPU or XLA refuses these, their references. And a
      line for each thing that is refused.

    Raises:
      UserError: where Triton or a graph is asked for and there is no GPU, or no Triton.
    """
    if run.one_graph and platform != "gpu":
        raise UserError(
            f"one_graph=true needs a CUDA GPU, but this machine trains on {platform}; leave it out"
        )
    kernels, lines = check_kernels(run.kernels, platform)
    if run.one_graph and (reason := options_refused(platform, True)):
        lines.append(f"one_graph=true: training without, as {reason}")
    return kernels, lines


def why_no_triton(platform: str) -> str:
    """Why Triton's kernels cannot run on a platform; "" where they can."""
    try:
        return "".join(check_kernels("triton", platform)[1])
    except UserError as error:
        return str(error)


def check_kernels(kernels: str, platform: str) -> tuple[str, list[str]]:
    """As `check_way`, of the option `kernels` alone."""
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
    if asked == "triton" and (reason := probe.refusal()):
        return "xla", [f"{source}: training with xla, as the kernels do not run here: {reason}"]
    return asked, []
