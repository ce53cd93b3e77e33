"""The floating-point operations that a training step's mathematics needs, counted from its jaxpr,
and what devices can do at best.

The count is the same on every backend and with every implementation: a multiplication and an
addition for each pair that a matrix product or a convolution joins, padding included, zeros that an
automatic derivative stuffs between pixels left out. What is written twice, such as a generator's
pass in two moves, counts once, and what no result depends on not at all; XLA does the same. Work
between products - activations, norms, losses, blur, optimizers - moves bytes rather than computing,
and is not counted. So `rate * model_flops / peak` is the share of the device's arithmetic that the
model itself uses.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core


class Peak(NamedTuple):
    """What a device can do at best: dense FLOP/s, and bytes a second of its memory."""

    tf32: float
    bfloat16: float
    bandwidth: float


# NVIDIA's data sheets: H100 (2023, SXM5 and PCIe columns), H200 (2024, SXM), A100 (2021). They give
# tensor-core rates with sparsity for Hopper; dense is half of that.
PEAKS = {
    "NVIDIA H100 80GB HBM3": Peak(494.7e12, 989.4e12, 3.35e12),
    "NVIDIA H100 PCIe": Peak(378e12, 756e12, 2.0e12),
    "NVIDIA H200": Peak(494.7e12, 989.4e12, 4.8e12),
    "NVIDIA A100-SXM4-80GB": Peak(156e12, 312e12, 2.039e12),
    "NVIDIA A100-SXM4-40GB": Peak(156e12, 312e12, 1.555e12),
}


def peak_flops(device: str, dtype: str) -> float | None:
    """Dense FLOP/s of a device, by its `device_kind`, for arrays of a dtype; None where `PEAKS` has
    it not.

    JAX's products and convolutions of float32 use TF32 on these GPUs unless told otherwise.
    """
    peak = PEAKS.get(device)
    return peak and (peak.bfloat16 if dtype in ("bfloat16", "float16") else peak.tf32)


def model_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of `function(*arguments)`; arguments may be shapes.

    Raises:
      ValueError: for products in a loop whose number of rounds only running it tells.
    """
    return _flops(jax.make_jaxpr(function)(*arguments).jaxpr)


class _Values:
    """Numbers of values, equal where the same equation makes them of the same values.

    Attributes:
      made: (FLOPs, the values that an equation reads, those that it writes), in order.
    """

    def __init__(self) -> None:
        self.made: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = []
        self._known: dict[Any, tuple[int, ...]] = {}
        self._next = 0

    def fresh(self, count: int) -> tuple[int, ...]:
        self._next += count
        return tuple(range(self._next - count, self._next))

    def of_equation(self, equation: Any, reads: tuple[int, ...]) -> tuple[int, ...]:
        key = equation.primitive.name, str(sorted(equation.params.items(), key=str)), reads
        if key not in self._known:
            self._known[key] = self.fresh(len(equation.outvars))
            self.made.append((_of_equation(equation), reads, self._known[key]))
        return self._known[key]

    def literal(self, value: Any) -> int:
        key = "literal", str(getattr(value, "dtype", type(value))), str(value)
        if key not in self._known:
            self._known[key] = self.fresh(1)
        return self._known[key][0]


def _flops(jaxpr: Any) -> int:
    """Of what the results of a jaxpr depend on."""
    values = _Values()
    inputs = values.fresh(len(jaxpr.constvars) + len(jaxpr.invars))
    needed = set(_walk(jaxpr, inputs, values))
    total = 0
    for flops, reads, writes in reversed(values.made):
        if needed.intersection(writes):
            needed.update(reads)
            total += flops
    return total


def _walk(jaxpr: Any, inputs: tuple[int, ...], values: _Values) -> tuple[int, ...]:
    """The numbers of a jaxpr's results; what it calls is walked as if it stood there."""
    numbers = dict(zip((*jaxpr.constvars, *jaxpr.invars), inputs))

    def read(variable: Any) -> int:
        literal = isinstance(variable, core.Literal)
        return values.literal(variable.val) if literal else numbers[variable]

    for equation in jaxpr.eqns:
        reads = tuple(map(read, equation.invars))
        called = _called(equation)
        if called is None:
            writes = values.of_equation(equation, reads)
        else:
            constants = tuple(values.fresh(len(called.constvars)))
            writes = _walk(called, (*constants, *reads), values)
        numbers |= zip(equation.outvars, writes)
    return tuple(map(read, jaxpr.outvars))


def _called(equation: Any) -> Any:
    """The jaxpr of a call, which gives what its body gives; None for any other equation."""
    name = equation.primitive.name
    if name not in ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "checkpoint"):
        return None
    (inner,) = _inner({k: v for k, v in equation.params.items() if k in ("jaxpr", "call_jaxpr")})
    return inner


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name in _COUNTS:
        shapes = [v.aval.shape for v in equation.invars]
        return 2 * _COUNTS[name](*shapes, equation.outvars[0].aval.shape, params)
    inner = [_flops(jaxpr) for jaxpr in _inner(params)]
    if name == "cond":
        return max(inner)
    if name == "while" and any(inner):
        raise ValueError(
            "products in a while loop cannot be counted, its rounds are not known; use lax.scan"
        )
    rounds = params["length"] if name == "scan" else 1
    if name == "shard_map":
        rounds = params["mesh"].size
    return rounds * sum(inner)


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs in an equation's params."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part


def _of_product(left: tuple, right: tuple, out: tuple, params: dict[str, Any]) -> int:
    (contracted, _), _ = params["dimension_numbers"]
    return math.prod(out) * math.prod(left[i] for i in contracted)


def _of_convolution(images: tuple, kernel: tuple, out: tuple, params: dict[str, Any]) -> int:
    _, inputs, *window = params["dimension_numbers"].rhs_spec
    joined = math.prod(out) * kernel[inputs] * math.prod(kernel[i] for i in window)
    # Of the pixels of zero-dilated images, one in prod(lhs_dilation) is not zero.
    return joined // math.prod(params["lhs_dilation"])


def _of_maps(small: tuple, kernel: tuple) -> int:
    """[L,B,h,w,O] and [L,k,k,I,O]: k * k * I at each place of the smaller map; see
    `jaxgan.kernels.convolution`.
    """
    return math.prod(small) * math.prod(kernel[1:4])


def _of_convolve(images: tuple, kernel: tuple, out: tuple, params: dict[str, Any]) -> int:
    return _of_maps(out, kernel)


def _of_spread(small: tuple, kernel: tuple, out: tuple, params: dict[str, Any]) -> int:
    return _of_maps(small, kernel)


def _of_correlate(images: tuple, small: tuple, out: tuple, params: dict[str, Any]) -> int:
    return _of_maps(small, out)


_COUNTS: dict[str, Callable[..., int]] = {
    "dot_general": _of_product,
    "conv_general_dilated": _of_convolution,
    "gan_convolve": _of_convolve,
    "gan_spread": _of_spread,
    "gan_correlate": _of_correlate,
}
