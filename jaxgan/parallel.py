"""One step on many devices, and many steps in one dispatch.

The state is replicated and has no device axis, on one device or many; only the batch is split. So a state, a checkpoint and a
sample are the same thing however many devices there are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.config import LogConfig
from jaxgan.game import Game
from jaxgan.step import make_step

AXIS = "devices"


def data_parallel(step: Callable, devices: Sequence[Any] | None = None, batch_axes: Any = 0) -> Callable:
    """The step, mapped over devices.

    Args:
      step: `make_step(game, AXIS)`.
      devices: which devices; None for all.
      batch_axes: the axis of the batch's arrays that is split, which has the length of `devices`; None for a replicated one.

    Returns:
      step(state, batch): state and metrics replicated; the given state is donated. `pmap` is `jit(shard_map)`: the same in new
      code is `jax.shard_map(..., check_vma=False)`. With the default `check_vma=True` automatic differentiation already sums
      the gradients of replicated parameters, and the step's mean leaves them too large by the number of devices.
    """
    return jax.pmap(step, AXIS, in_axes=(None, batch_axes), out_axes=None, donate_argnums=0, devices=devices)


def many_steps(step: Callable, fetch: Callable[[Any, Any], Any]) -> Callable:
    """K steps in one call: run(state, (resident, items)) -> (state, metrics [K, ...]).

    Args:
      step: (state, batch) -> (state, metrics).
      fetch: (resident, item) -> batch, see `jaxgan.data.Feed`; the leaves of items are [K, ...], those of an item [...].
    """

    def one_step(state: Any, resident: Any, item: Any) -> tuple[Any, Any]:
        # Without the barrier XLA:CPU gathers each pixel again wherever a layer reads it.
        return step(state, lax.optimization_barrier(fetch(resident, item)))

    def run(state: Any, feed: tuple[Any, Any]) -> tuple[Any, Any]:
        resident, items = feed
        if jax.tree.leaves(items)[0].shape[0] == 1:  # XLA:CPU runs convolutions in a loop many times slower
            state, metrics = one_step(state, resident, jax.tree.map(lambda x: x[0], items))
            return state, jax.tree.map(lambda x: jnp.expand_dims(x, 0), metrics)
        return lax.scan(lambda s, item: one_step(s, resident, item), state, items)

    return run


def default_steps_per_call(log: LogConfig, platform: str) -> int:
    """Steps in one dispatch: XLA:CPU runs a step inside a loop several times slower, a GPU waits for Python without one."""
    return log.steps_per_call or (1 if platform == "cpu" else 25)


def make_program(game: Game, fetch: Callable[[Any, Any], Any], devices: Sequence[Any]) -> Callable:
    """The compiled program of a training run: (state, (resident, items)) -> (state, metrics [K]), items split by `split`.

    On one device there is nothing to average, and `jit` runs the same step: `pmap` of one device still makes its collectives, which
    took a tenth of a small step on a CPU.
    """
    if len(devices) > 1:
        return data_parallel(many_steps(make_step(game, AXIS), fetch), devices, batch_axes=(None, 0))
    run = many_steps(make_step(game), fetch)
    return jax.jit(lambda state, feed: run(state, (feed[0], jax.tree.map(lambda x: x[0], feed[1]))), donate_argnums=0)


def split(items: Any, count: int) -> Any:
    """[K, B, ...] -> [count, K, B / count, ...]: the share of each device."""
    return jax.tree.map(lambda x: np.moveaxis(np.reshape(x, (x.shape[0], count, x.shape[1] // count, *x.shape[2:])), 1, 0), items)


def replicate(tree: Any, devices: Sequence[Any]) -> Any:
    """The same arrays on every device."""
    return jax.device_put(tree, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec()))
