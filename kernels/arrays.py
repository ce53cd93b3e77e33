"""Small functions on operands that the operations share: dtypes, shapes and checks."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def like(x: Any) -> jax.ShapeDtypeStruct:
    """An output of x's shape and dtype."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def wide_dtype(x: Any) -> Any:
    """What the operations compute in: float32, or float64 where x is that."""
    return jnp.float64 if x.dtype == jnp.float64 else jnp.float32


def wide(x: Array) -> Array:
    """x in the dtype that the operations compute in."""
    return x.astype(wide_dtype(x))


def along_channels(vector: Array, x: Array) -> Array:
    """vector [C] as [1,...,1,C], of x's rank."""
    return jnp.expand_dims(vector, tuple(range(x.ndim - 1)))


def over_rows(x: Array) -> Array:
    """The sums of x [...,C] over all axes but the last, [C]."""
    return jnp.sum(x, axis=range(x.ndim - 1))


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
    """Raises `ValueError` where the sign of a LeakyReLU's output would not be its input's."""
    if not (0 < slope < math.inf and 0 < gain < math.inf):
        raise ValueError(
            f"slope={slope} and gain={gain} must be greater than 0, and finite: "
            "the backward pass reads signs from outputs"
        )
