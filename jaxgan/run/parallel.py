"""One step on many devices, and many steps in one dispatch.

The state is replicated and has no device axis, on one device or many; only the batch is split. So a state, a checkpoint and a
sample are the same thing however many devices there are, and however many processes hold them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan import runtime
from jaxgan.config import LogConfig
from jaxgan.game import Game
from jaxgan.step import make_step

AXIS = "devices"


def data_parallel(
    step: Callable, devices: Sequence[Any] | None = None, batch_axes: Any = 0
) -> Callable:
    """The step, mapped over devices.

    Args:
      step: `make_step(game, AXIS)`.
      devices: which devices; None for all.
      batch_axes: the axis of the batch's arrays that is split, which has the length of `devices`; None for a replicated one.

    Returns:
      step(state, batch): state and metrics replicated; the given state is donated. `pmap` is `jit(shard_map)`: the same in new
      code is `jax.shard_map(..., check_vma=False)`. With the default `check_vma=True` automatic differentiation already sums
      the gradients of replicated parameters, and the step's mean leaves them too large by the number of devices.

      With several processes each gives the shares of its own devices; the state is replicated by `replicate`.
    """
    if jax.process_count() > 1:
        return _over_processes(step, devices or chosen_devices(None), batch_axes)
    return jax.pmap(
        step, AXIS, in_axes=(None, batch_axes), out_axes=None, donate_argnums=0, devices=devices
    )


def _over_processes(step: Callable, devices: Sequence[Any], batch_axes: Any) -> Callable:
    """The program that `pmap` makes, without its conversions.

    `pmap` gives each process arrays of its own devices and makes them global again at the next call. For a typed key it does so
    through NumPy, so that the host would wait for each step before it can send the next. Here the state stays global.
    """
    mesh = Mesh(np.array(devices), (AXIS,))
    none = lambda axis: axis is None
    specs = jax.tree.map(
        lambda axis: PartitionSpec() if axis is None else PartitionSpec(AXIS),
        batch_axes,
        is_leaf=none,
    )
    over_shares = lambda change, batch: jax.tree.map(
        lambda axis, part: part if axis is None else jax.tree.map(change, part),
        batch_axes,
        batch,
        is_leaf=none,
    )
    on_a_device = lambda state, batch: step(state, over_shares(lambda x: jnp.squeeze(x, 0), batch))
    # check_vma=False: see above.
    mapped = jax.shard_map(
        on_a_device,
        mesh=mesh,
        in_specs=(PartitionSpec(), specs),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    program = jax.jit(
        mapped, donate_argnums=0, compiler_options=runtime.compiler_options(devices[0].platform)
    )
    split_over = NamedSharding(mesh, PartitionSpec(AXIS))
    return lambda state, batch: program(
        state, over_shares(lambda x: jax.make_array_from_process_local_data(split_over, x), batch)
    )


def many_steps(step: Callable, fetch: Callable[[Any, Any], Any]) -> Callable:
    """K steps in one call: run(state, (resident, items)) -> (state, metrics [K, ...]).

    Args:
      step: (state, batch) -> (state, metrics).
      fetch: (resident, item) -> batch, see `jaxgan.data.Feed`; the leaves of items are [K, ...], those of an item [...].
    """

    def one_step(state: Any, resident: Any, item: Any) -> tuple[Any, Any]:
        with jax.named_scope("input"):
            # Without the barrier XLA:CPU gathers each pixel again wherever a layer reads it.
            batch = lax.optimization_barrier(fetch(resident, item))
        return step(state, batch)

    def run(state: Any, feed: tuple[Any, Any]) -> tuple[Any, Any]:
        resident, items = feed
        if (
            jax.tree.leaves(items)[0].shape[0] == 1
        ):  # XLA:CPU runs convolutions in a loop many times slower
            state, metrics = one_step(state, resident, jax.tree.map(lambda x: x[0], items))
            return state, jax.tree.map(lambda x: jnp.expand_dims(x, 0), metrics)
        unpack: list[Callable[[Array], Any]] = []

        def packed_step(state: Any, item: Any) -> tuple[Any, Array]:
            state, metrics = one_step(state, resident, item)
            packed, back = ravel_pytree(
                metrics
            )  # written by one kernel instead of one for each metric
            unpack.append(back)
            return state, packed

        state, packed = lax.scan(packed_step, state, items)
        return state, jax.vmap(unpack[-1])(packed)

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
        return data_parallel(
            many_steps(make_step(game, AXIS), fetch), devices, batch_axes=(None, 0)
        )
    run = many_steps(make_step(game), fetch)
    alone = lambda state, feed: run(state, (feed[0], jax.tree.map(lambda x: x[0], feed[1])))
    return jax.jit(
        alone, donate_argnums=0, compiler_options=runtime.compiler_options(devices[0].platform)
    )


def chosen_devices(count: int | None) -> list[Any]:
    """The first `count` devices, all by default, of this process or as many of each process; those of a process side by side."""
    each = (count or jax.device_count()) // jax.process_count()
    return [
        device
        for i in range(jax.process_count())
        for device in jax.local_devices(process_index=i)[:each]
    ]


def own_share(batch_size: int) -> slice:
    """Which examples of each batch are those of this process."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def split(items: Any, count: int) -> Any:
    """[K, B, ...] -> [count, K, B / count, ...]: the share of each device."""
    return jax.tree.map(
        lambda x: np.moveaxis(
            np.reshape(x, (x.shape[0], count, x.shape[1] // count, *x.shape[2:])), 1, 0
        ),
        items,
    )


def replicate(tree: Any, devices: Sequence[Any]) -> Any:
    """The same arrays on every device; with several processes each gives the same."""
    sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put(x: Any) -> Any:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                put(jax.random.key_data(x)), impl=jax.random.key_impl(x)
            )
        # device_put would gather the array, a whole data set maybe, from every process to compare.
        return jax.make_array_from_process_local_data(sharding, np.asarray(x))

    return jax.tree.map(put, tree)


def local(tree: Any) -> Any:
    """Replicated arrays as this process alone holds them, so that it can compute with them while the others do something else."""
    return tree if jax.process_count() == 1 else jax.tree.map(lambda x: x.addressable_data(0), tree)
