"""Many steps in one dispatch: a host that waits for Python between short steps would let a GPU
wait, too."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

Fetch = Callable[[Any, Any], Any]
_MOST = 25  # steps in a dispatch that nobody asked for


def one_step(step: Callable, fetch: Fetch) -> Callable:
    """run(state, resident, item) -> (state, metrics): a step on the batch that `fetch(resident,
    item)` gives."""

    def run(state: Any, resident: Any, item: Any) -> tuple[Any, Any]:
        with jax.named_scope("input"):
            batch = fetch(resident, item)
            # Without the barrier XLA:CPU gathers each pixel again wherever a layer reads it. Of a
            # streamed item it would make a copy, which XLA keeps out of CUDA graphs.
            if jax.tree.leaves(resident):
                batch = lax.optimization_barrier(batch)
        return step(state, batch)

    return run


def many_steps(step: Callable, fetch: Fetch) -> Callable:
    """run(state, resident, items) -> (state, metrics [K]): K steps, for items with leaves [K,
    ...]."""
    single = one_step(step, fetch)

    def run(state: Any, resident: Any, items: Any) -> tuple[Any, Any]:
        shapes = jax.eval_shape(single, state, resident, jax.tree.map(lambda x: x[0], items))[1]
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        unpacked = ravel_pytree(zeros)[1]

        def packed_step(state: Any, item: Any) -> tuple[Any, Array]:
            state, metrics = single(state, resident, item)
            packed, _ = ravel_pytree(metrics)  # one kernel writes them all
            return state, packed

        state, packed = lax.scan(packed_step, state, items)
        return state, jax.vmap(unpacked)(packed)

    return run


def steps_per_call(asked: int | None, platform: str, intervals: list[int]) -> int:
    """Steps in one dispatch; what is asked for, or the most up to 25 that fill every interval.

    XLA:CPU runs a step inside a loop several times slower, so there it is one.

    Args:
      asked: by the user, if anything.
      platform: of the devices.
      intervals: of the hooks, in steps.
    """
    if asked:
        return asked
    if platform == "cpu":
        return 1
    common = math.gcd(*intervals)
    return max(count for count in range(1, _MOST + 1) if common % count == 0)
