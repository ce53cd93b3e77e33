"""The floating-point operations that a training step's mathematics needs, counted from its jaxpr, and what devices can do at best.

The count is the same on every backend and with every implementation: a multiplication and an addition for each pair that a matrix
product or a convolution joins, padding included, zeros that an automatic derivative stuffs between pixels left out. Work between
those - activations, norms, losses, blur, optimizers - moves bytes rather than computing, and is not counted; nor is what no result
depends on. So `rate * model_flops / peak` is the share of the device's arithmetic that the model itself uses.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core


class Peak(NamedTuple):
    """What a device can do at best: dense FLOP/s by kind of arithmetic, and bytes a second to and from its memory."""

    float32: float
    tf32: float
    bfloat16: float
    bandwidth: float


# NVIDIA's data sheets: H100 (2023, SXM5 and PCIe columns), H200 (2024, SXM), A100 (2021). They give tensor-core rates with
# sparsity for Hopper; dense is half of that.
PEAKS = {
    "NVIDIA H100 80GB HBM3": Peak(67e12, 494.7e12, 989.4e12, 3.35e12),
    "NVIDIA H100 PCIe": Peak(51e12, 378e12, 756e12, 2.0e12),
    "NVIDIA H200": Peak(67e12, 494.7e12, 989.4e12, 4.8e12),
    "NVIDIA A100-SXM4-80GB": Peak(19.5e12, 156e12, 312e12, 2.039e12),
    "NVIDIA A100-SXM4-40GB": Peak(19.5e12, 156e12, 312e12, 1.555e12),
}


def peak_flops(device: str, dtype: str) -> float | None:
    """Dense FLOP/s of a device, by its `device_kind`, for arrays of a dtype; None where the device is not in `PEAKS`.

    JAX's products and convolutions of float32 use TF32 on these GPUs unless told otherwise, so that is their peak.
    """
    peak = PEAKS.get(device)
    return peak and (peak.bfloat16 if dtype in ("bfloat16", "float16") else peak.tf32)


def utilisation(model_flops: float, steps_per_s: float, device: str, dtype: str) -> float | None:
    """The share of a device's peak that steps of `model_flops` use; None where the peak is not known."""
    peak = peak_flops(device, dtype)
    return peak and model_flops * steps_per_s / peak


def model_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of the matrix products and convolutions of one call, such as of a training step.

    Args:
      function: traceable by JAX; compiled or not.
      arguments: arrays, or `jax.ShapeDtypeStruct`s in their place.

    Raises:
      ValueError: where they stand in a loop whose number of rounds only running it tells.
    """
    return _flops(jax.make_jaxpr(function)(*arguments).jaxpr, None)


def _flops(jaxpr: Any, wanted: list[bool] | None) -> int:
    """Of what the wanted results of a jaxpr depend on; None for all of them."""
    wanted = wanted or [True] * len(jaxpr.outvars)
    needed = {
        v for v, want in zip(jaxpr.outvars, wanted) if want and not isinstance(v, core.Literal)
    }
    total = 0
    for equation in reversed(jaxpr.eqns):
        live = [v in needed for v in equation.outvars]
        if any(live) or equation.effects:
            needed |= {v for v in equation.invars if not isinstance(v, core.Literal)}
            total += _of_equation(equation, live)
    return total


def _of_equation(equation: Any, live: list[bool]) -> int:
    name, params = equation.primitive.name, equation.params
    if name in _COUNTS:
        return 2 * _COUNTS[name](
            *[v.aval.shape for v in equation.invars], equation.outvars[0].aval.shape, params
        )
    if name == "cond":
        return max(_flops(branch.jaxpr, None) for branch in params["branches"])
    if name == "while":
        if any(_flops(inner, None) for inner in _inner(params)):
            raise ValueError(
                "products in a while loop cannot be counted, its rounds are not known; use lax.scan"
            )
        return 0
    rounds = params["length"] if name == "scan" else 1
    if name == "shard_map":
        rounds = params["mesh"].size
    # A call gives what its body gives, so what nobody uses of it is not computed either; a loop's body feeds itself.
    return rounds * sum(
        _flops(inner, live if rounds == 1 and len(inner.outvars) == len(live) else None)
        for inner in _inner(params)
    )


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs in an equation's params."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part


# --------------------------------------------------------------------------------------- multiplications, from shapes and params
def _of_product(left: tuple, right: tuple, out: tuple, params: dict[str, Any]) -> int:
    (contracted, _), _ = params["dimension_numbers"]
    return math.prod(out) * math.prod(left[i] for i in contracted)


def _of_convolution(images: tuple, kernel: tuple, out: tuple, params: dict[str, Any]) -> int:
    _, inputs, *window = params["dimension_numbers"].rhs_spec
    # Of the pixels of zero-dilated images, one in prod(lhs_dilation) is not zero.
    return (
        math.prod(out)
        * kernel[inputs]
        * math.prod(kernel[i] for i in window)
        // math.prod(params["lhs_dilation"])
    )


def _of_maps(small: tuple, kernel: tuple) -> int:
    """[L,B,h,w,O] and [L,k,k,I,O]: k * k * I at each place of the smaller map; see `jaxgan.kernels.convolution`."""
    return math.prod(small) * math.prod(kernel[1:4])


_COUNTS: dict[str, Callable[..., int]] = {
    "dot_general": _of_product,
    "conv_general_dilated": _of_convolution,
    "gan_convolve": lambda images, kernel, out, params: _of_maps(out, kernel),
    "gan_spread": lambda small, kernel, out, params: _of_maps(small, kernel),
    "gan_correlate": lambda images, small, out, params: _of_maps(small, out),
}
