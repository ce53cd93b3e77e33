"""Which implementation of an operation runs.

An operation has a reference in jax.numpy, which runs everywhere, and may have Triton kernels,
which run on CUDA GPUs. The implementations:

    auto        the same as xla; a run of `jaxgan train` may choose otherwise for itself
    xla         the reference, compiled by XLA, with the operation's own rules of differentiation
    triton      the kernels; an error on any platform but CUDA
    interpret   the kernels, run on the host by Triton's interpreter; slow, for tests
    plain       jax.nn, jax.numpy and jax.lax with JAX's own automatic differentiation

The argument `implementation` decides; where it is None the innermost `using`, then the environment
variable JAXGAN_KERNELS, then auto. The choice is made while a function is traced: a function that
`jax.jit` has traced before keeps what it was traced with.

Importing jaxgan imports no Triton. Kernels and what launches them stand in files named
`<operation>_triton.py`, which import Triton plainly and are imported by the first launch.
"""

import contextlib
import contextvars
import functools
import importlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.kernels.interpreter import interpreted
from jaxgan.kernels.xla_call import xla_call

IMPLEMENTATIONS = ("auto", "xla", "triton", "interpret", "plain")

_MOST_LANES = 65535  # programs along the second axis of a CUDA grid

_in_scope: contextvars.ContextVar[str | None] = contextvars.ContextVar("using", default=None)


@contextlib.contextmanager
def using(implementation: str | None) -> Iterator[None]:
    """Within the block `implementation=None` means this one, for what is traced in this thread.

    Its place is inside the function that is traced. Around a call of a function that `jax.jit` has
    traced before it changes nothing.

    Args:
      implementation: one of `IMPLEMENTATIONS`; None changes nothing.

    Raises:
      ValueError: as `resolve`.
    """
    if implementation is None:
        yield
        return
    token = _in_scope.set(resolve(implementation))
    try:
        yield
    finally:
        _in_scope.reset(token)


def resolve(implementation: str | None) -> str:
    """The implementation asked for: the argument, `using`, JAXGAN_KERNELS or auto, in this order.

    Raises:
      ValueError: for an unknown name, and for Triton where it cannot be imported.
    """
    source, name = "implementation", implementation
    if name is None:
        name = _in_scope.get()
    if name is None:
        source, name = "JAXGAN_KERNELS", os.environ.get("JAXGAN_KERNELS") or "auto"
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"{source}={name!r} is unknown; use {', '.join(IMPLEMENTATIONS)}")
    if name in ("triton", "interpret"):
        try:
            interpreting = load_triton(interpret=name == "interpret")
        except ImportError as error:
            raise ValueError(f"{source}={name!r} cannot run: {error}") from error
        if interpreting != (name == "interpret"):
            raise ValueError(
                f"{source}={name!r} came too late: Triton was imported for the other mode; "
                "begin a new process"
            )
    return name


def uses_triton(
    operation: str, implementation: str, platform: str, operands: Sequence[Any]
) -> bool:
    """Whether an operation on these operands is lowered to its kernels.

    Args:
      operation: its public name.
      implementation: resolved.
      platform: "cpu", "cuda", ...
      operands: with shapes and dtypes, each with the axis of lanes in front.

    Raises:
      ValueError: where Triton is asked for on a platform that has none, or for float64, which the
        kernels do not compute in.
    """
    if implementation == "triton" and platform != "cuda":
        raise ValueError(
            f"{operation}(implementation='triton') cannot run on {platform}: Triton kernels need "
            "a CUDA GPU; use implementation=None or 'xla', or JAXGAN_KERNELS=auto"
        )
    in_float64 = any(o.dtype == jnp.float64 for o in operands)
    if implementation == "triton" and in_float64:
        raise ValueError(
            f"{operation}(implementation='triton') was given float64; use float32, "
            "or implementation=None or 'xla'"
        )
    sizes = [math.prod(o.shape) for o in operands]
    # A grid of no programs, or of more lanes than its second axis may have, cannot be launched.
    launchable = all(sizes) and operands[0].shape[0] <= _MOST_LANES and not in_float64
    if not launchable:
        return False
    return implementation in ("triton", "interpret")


def load_triton(interpret: bool = False) -> bool:
    """Imports Triton where that has not happened, and says whether it interprets its kernels.

    Triton reads TRITON_INTERPRET when it is imported, so the first import decides.

    Raises:
      ImportError: with the reason and the remedy.
    """
    if interpret and "triton" not in sys.modules:
        os.environ["TRITON_INTERPRET"] = "1"
    return _interpreting()


@functools.cache
def _interpreting() -> bool:
    try:
        triton: Any = importlib.import_module("triton")
        importlib.import_module("triton.language")
    except Exception as error:  # a broken installation raises whatever it likes
        raise ImportError(
            f"importing triton failed ({error}); install jaxgan with the extra cuda12 or cuda13, "
            "or triton>=3.6,<3.10"
        ) from error
    return bool(triton.knobs.runtime.interpret)


def in_triton(file: str, name: str) -> Callable[..., Any]:
    """The function `name` of kernels/<file>.py, which is imported when the function is called."""

    def launch(*operands: Any, **params: Any) -> Any:
        module = importlib.import_module(f"jaxgan.kernels.{file}")
        return getattr(module, name)(*operands, **params)

    return launch


def call(
    kernel: Any,
    inputs: tuple[Array, ...],
    outputs: tuple[Any, ...],
    grid: tuple[int, ...],
    warps: int = 4,
    **constants: Any,
) -> Any:
    """Launches a Triton kernel from a JAX function that is being traced.

    Args:
      kernel: decorated by `triton.jit`; its parameters are pointers to the inputs, pointers to the
        outputs, then constants; a pointer that has no array is the constant None.
      inputs: arrays, taken as contiguous.
      outputs: shapes and dtypes, `jax.ShapeDtypeStruct`.
      grid: programs along each axis.
      warps: of 32 threads in a program.
      constants: compiled into the kernel.

    Returns:
      A list of the output arrays.
    """
    if load_triton():

        def on_host(*arrays: Any) -> Any:
            return interpreted(kernel, arrays, outputs, grid, constants)

        return jax.pure_callback(on_host, outputs, *inputs, vmap_method="sequential")
    return xla_call(kernel, inputs, outputs, grid, warps, constants)
