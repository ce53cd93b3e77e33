"""Gradient accumulation: a large batch in micro-batches, of which one is in memory at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgan.kernels.arrays import wide, wide_dtype


def over_micro_batches(function: Callable[[Any], Any], examples: Any, count: int) -> Any:
    """The mean of function(micro-batch) over `count` micro-batches of neighbouring examples.

    Floating leaves are averaged, in float32 at least; of others, on which micro-batches agree, the
    last is taken. Where it is differentiated, what a micro-batch leaves is computed again.

    Args:
      function: micro-batch -> a tree of arrays.
      examples: leaves [B, ...]; `count` divides B. A micro-batch has leaves [B / count, ...].
      count: 1 for the function itself.
    """
    if count == 1:
        return function(examples)
    parts = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), examples)
    results = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], parts))

    def total_of(result: Any) -> Array:
        return jnp.zeros(result.shape, wide_dtype(result) if _floats(result) else result.dtype)

    def added(total: Array, value: Array) -> Array:
        return total + wide(value) if _floats(value) else value

    def add(totals: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(added, totals, jax.tree.map(jnp.asarray, function(part))), None

    def mean(total: Array, result: Any) -> Array:
        return (total / count).astype(result.dtype) if _floats(result) else total

    totals, _ = lax.scan(
        jax.checkpoint(add, prevent_cse=False), jax.tree.map(total_of, results), parts
    )
    return jax.tree.map(mean, totals, results)


def _floats(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
