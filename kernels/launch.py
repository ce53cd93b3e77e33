"""Where Triton is met: importing it, launching a kernel from JAX, and choosing between it and XLA.

An operation has a reference in jax.numpy, which runs everywhere, and may have Triton kernels, which run on CUDA GPUs. Which of
the two is lowered is a matter of the platform, of the argument `implementation` and of the environment variable

    JAXGAN_KERNELS=auto|xla|triton|interpret

which stands for `implementation=None` and is read when a function is traced:

    auto        Triton for the operations and sizes of `FASTER_FROM` on a CUDA GPU, XLA otherwise
    xla         the reference, compiled by XLA
    triton      the kernels; an error on any platform but CUDA
    interpret   the kernels, run on the host by Triton's interpreter; slow, for tests
"""

import functools
import importlib.util
import inspect
import math
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.kernels.interpreter import interpreted

IMPLEMENTATIONS = ("auto", "xla", "triton", "interpret")

# Operation -> fewest elements from which its Triton kernels were at least as fast as XLA, alone and inside the step, in
# benchmarks/results/kernels.jsonl. No GPU has been at hand to measure on, so nothing is listed, and `auto` leaves all to XLA.
FASTER_FROM: dict[str, int] = {}

# Stands for triton.language until a kernel is needed: importing jaxgan does not import Triton.
tl: Any = types.SimpleNamespace(constexpr="constexpr")

# Compute capability that kernels are compiled for where no GPU is present.
CAPABILITY_WITHOUT_GPU = 90


def resolve(implementation: str | None) -> str:
    """The implementation asked for: the argument, or JAXGAN_KERNELS where it is None.

    Raises:
      ValueError: for an unknown name, and for Triton where it cannot be imported.
    """
    source, name = "implementation", implementation
    if implementation is None:
        source, name = "JAXGAN_KERNELS", os.environ.get("JAXGAN_KERNELS") or "auto"
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"{source}={name!r} is unknown; use {', '.join(IMPLEMENTATIONS)}")
    if name in ("triton", "interpret"):
        try:
            interpreting = load_triton(interpret=name == "interpret")[1]
        except ImportError as error:
            raise ValueError(f"{source}={name!r} cannot run: {error}") from error
        if interpreting != (name == "interpret"):
            raise ValueError(
                f"{source}={name!r} came too late: Triton was imported for the other mode; begin a new process"
            )
    return name


def load_triton(interpret: bool = False) -> tuple[Any, bool]:
    """Triton, imported when it is first asked for, and whether it interprets its kernels, which its first import decides.

    Raises:
      ImportError: with the reason and the remedy.
    """
    if interpret and "triton" not in sys.modules:
        os.environ["TRITON_INTERPRET"] = "1"
    return _imported()


@functools.cache
def _imported() -> tuple[Any, bool]:
    try:
        triton: Any = importlib.import_module("triton")
        importlib.import_module("triton.language")
    except Exception as error:  # a broken installation raises whatever it likes
        raise ImportError(
            f"importing triton failed ({error}); install jaxgan with the extra cuda12 or cuda13, or triton>=3.6,<3.9"
        ) from error
    return triton, bool(triton.knobs.runtime.interpret)


class Kernel:
    """A function in Triton's language, which `made` turns into a Triton kernel."""

    def __init__(self, function: Callable) -> None:
        self.function, self._made = function, None

    def made(self) -> Any:
        if self._made is None:
            triton, _ = load_triton()
            self._made = triton.jit(self.function)
            # Where Triton looks for the names that the function uses.
            names = self.function.__globals__
            names["tl"] = triton.language
            names.update(
                {
                    name: value.made()
                    for name, value in list(names.items())
                    if isinstance(value, Kernel)
                }
            )
        return self._made


jit = Kernel


def uses_triton(
    operation: str, implementation: str, platform: str, operands: Sequence[Any]
) -> bool:
    """Whether an operation on these operands, each with the axis of lanes in front, is lowered to its kernels.

    Raises:
      ValueError: where Triton is asked for on a platform that has none, or for float64, which the kernels do not compute in.
    """
    if implementation == "triton" and platform != "cuda":
        raise ValueError(
            f"{operation}(implementation='triton') cannot run on {platform}: Triton kernels need a CUDA GPU; "
            "use implementation=None or 'xla', or JAXGAN_KERNELS=auto"
        )
    in_float64 = any(o.dtype == jnp.float64 for o in operands)
    if implementation == "triton" and in_float64:
        raise ValueError(
            f"{operation}(implementation='triton') was given float64; use float32, or implementation=None or 'xla'"
        )
    sizes = [math.prod(o.shape) for o in operands]
    # A grid of no programs, or of more lanes than its second axis may have, cannot be launched.
    if implementation == "xla" or in_float64 or not all(sizes) or operands[0].shape[0] > 65535:
        return False
    faster_from = FASTER_FROM.get(operation)
    if (
        implementation == "auto"
        and platform == "cuda"
        and faster_from is not None
        and max(sizes) >= faster_from
    ):
        return (
            importlib.util.find_spec("triton") is not None
            and importlib.util.find_spec("jax_triton") is not None
        )
    return implementation in ("triton", "interpret")


def call(
    kernel: Any,
    inputs: tuple[Array, ...],
    outputs: tuple[Any, ...],
    grid: tuple[int, ...],
    warps: int = 4,
    **constants: Any,
) -> Any:
    """Launches a kernel from a JAX function that is being traced.

    Args:
      kernel: made by `jit`; its parameters are pointers to the inputs, pointers to the outputs, then constants.
      inputs: arrays, taken as contiguous.
      outputs: shapes and dtypes, `jax.ShapeDtypeStruct`.
      grid: programs along each axis.
      warps: of 32 threads in a program.
      constants: compiled into the kernel.

    Returns:
      A list of the output arrays.
    """
    kernel = kernel.made() if isinstance(kernel, Kernel) else kernel
    if load_triton()[1]:
        host = lambda *arrays: interpreted(kernel, arrays, outputs, grid, constants)
        return jax.pure_callback(host, outputs, *inputs, vmap_method="sequential")
    bridge = _jax_triton()
    named = {bridge.outputs: outputs}
    return bridge.triton_call(
        *inputs,
        kernel=kernel,
        grid=grid,
        num_warps=warps,
        compute_capability=_capability(),
        **named,
        **constants,
    )


@functools.cache
def _capability() -> int | None:
    """None where there is a GPU to ask."""
    try:
        jax.devices("cuda")
    except RuntimeError:
        return CAPABILITY_WITHOUT_GPU
    return None


def cdiv(n: int, d: int) -> int:
    """n / d, rounded up."""
    return -(-n // d)


def power_of_two(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


def like(x: Any) -> jax.ShapeDtypeStruct:
    """An output of x's shape and dtype."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def wide_dtype(x: Any) -> Any:
    """What the operations compute in: float32, or float64 where x is that."""
    return jnp.float64 if x.dtype == jnp.float64 else jnp.float32


def wide(x: Array) -> Array:
    """x in the dtype that the operations compute in."""
    return x.astype(wide_dtype(x))


def floating(name: str, x: Any) -> Array:
    """x as an array.

    Raises:
      ValueError: where its numbers are of another kind.
    """
    x = jnp.asarray(x)
    if x.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16, jnp.float64):
        raise ValueError(f"{name} is {x.dtype}; use float32, bfloat16 or float16")
    return x


def check_positive(slope: float, gain: float) -> None:
    """Raises `ValueError` where the sign of a LeakyReLU's output would not be that of its input."""
    if not (0 < slope < math.inf and 0 < gain < math.inf):
        raise ValueError(
            f"slope={slope} and gain={gain} must be greater than 0, and finite: the backward pass reads signs from outputs"
        )


class _Bridge:
    triton_call: Any = None
    outputs = ""


def _jax_triton() -> type[_Bridge]:
    """jax-triton, imported at the first launch, because without a CUDA plugin its import fails."""
    if _Bridge.triton_call is None:
        kept = os.environ.get("TRITON_CACHE_DIR")
        try:
            import jax_triton
        except ImportError as error:
            raise ValueError(
                f"implementation='triton' cannot run: importing jax_triton failed ({error}); install jaxgan[cuda12]"
            ) from error
        os.environ.pop(
            "TRITON_CACHE_DIR", None
        )  # jax-triton 0.3 sets it to the empty string, which triton.compile refuses
        if kept is not None:
            os.environ["TRITON_CACHE_DIR"] = kept
        _Bridge.triton_call = staticmethod(jax_triton.triton_call)
        _Bridge.outputs = (
            "out_type"
            if "out_type" in inspect.signature(jax_triton.triton_call).parameters
            else "out_shape"
        )
    return _Bridge
