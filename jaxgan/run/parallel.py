"""One step on many devices.

The state is replicated and has no device axis, on one device or many; only the batch is split. So a
state, a checkpoint and a sample are the same however many devices there are, and however many
processes hold them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.game import Game, GANState
from jaxgan.kernels import using
from jaxgan.run import dispatch, runtime
from jaxgan.step import make_step

AXIS = "devices"


def data_parallel(step: Callable, devices: Sequence[Any] | None = None) -> Callable:
    """A training step, pmapped over devices, for a loop of one's own.

    Args:
      step: `make_step(game, AXIS)`.
      devices: which devices; None for all of this process.

    Returns:
      step(state, batch): the batch has leaves [devices, B, ...]; state and metrics are replicated,
      and the given state is donated. `pmap` is `jit(shard_map)`; in new code `jax.shard_map(...,
      check_vma=False)` is the same. With the default `check_vma=True` automatic differentiation
      already sums the gradients of replicated parameters, and the step's mean leaves them too large
      by the number of devices.
    """
    return jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0, devices=devices)


class Way(NamedTuple):
    """How a step is compiled.

    Attributes:
      kernels: of the fused operations, see `jaxgan.kernels.launch`.
      one_graph: whether a dispatch is one CUDA graph, as far as XLA can make it one.
      accumulate, remat: of `make_step`.
      together: of an ensemble, how many members a program takes at once; 0 of a run alone.
    """

    kernels: str = "auto"
    one_graph: bool = False
    accumulate: int = 1
    remat: str = "none"
    together: int = 0

    def __str__(self) -> str:
        compiled = self.kernels + " in one graph" * self.one_graph
        if not self.together:
            return compiled
        members = "one after the other" if self.together == 1 else f"{self.together} together"
        return f"{members} ({compiled})"


USUAL = Way()


def local(tree: Any) -> Any:
    """This process's copy of replicated arrays."""
    return tree if jax.process_count() == 1 else jax.tree.map(lambda x: x.addressable_data(0), tree)


def _as_it_is(tree: Any) -> Any:
    return tree


class Program(NamedTuple):
    """The compiled steps of a run.

    Attributes:
      of: count -> (held, resident, item) -> (held, metrics): the program of so many steps, for an
        item that lies where `placing` says; what is held is donated, metrics are [] of one step and
        [count] of more.
      hold: a replicated state -> the form in which it is trained.
      state: what is held -> this process's copy of the state.
      told: metrics on the host -> by name, each one array.
    """

    of: Callable[[int], Any]
    hold: Callable[[GANState], Any] = _as_it_is
    state: Callable[[Any], GANState] = local
    told: Callable[[Any], dict[str, Any]] = _as_it_is


def make_program(
    game: Game, fetch: Callable[[Any, Any], Any], devices: Sequence[Any], way: Way = USUAL
) -> Program:
    """The programs that train a game on devices.

    On one device there is nothing to average, and `jit` runs the step alone: over a mesh of one
    device XLA still makes its collectives, which took a tenth of a small step on a CPU.

    Args:
      game: that is trained.
      fetch: (resident, item) -> a batch.
      devices: all of the mesh.
      way: how they are compiled.
    """
    options = runtime.compiler_options(devices[0].platform, way.one_graph)
    of_step: Any = dict(accumulate=way.accumulate, remat=way.remat)
    of_game = make_step(game, AXIS if len(devices) > 1 else None, **of_step)

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        with using(None if way.kernels == "auto" else way.kernels):
            return of_game(state, batch)

    single, many = dispatch.one_step(step, fetch), dispatch.many_steps(step, fetch)
    if len(devices) == 1:
        one, more = (
            jax.jit(run, donate_argnums=0, compiler_options=options) for run in (single, many)
        )
        return Program(lambda count: one if count == 1 else more)
    mesh = Mesh(np.array(devices), (AXIS,))

    def mapped(run: Callable, items: PartitionSpec) -> Callable:
        specs: Any = dict(
            in_specs=(PartitionSpec(), PartitionSpec(), items), out_specs=PartitionSpec()
        )
        over_devices = jax.shard_map(
            run, mesh=mesh, check_vma=False, **specs
        )  # see `data_parallel`
        return jax.jit(over_devices, donate_argnums=0, compiler_options=options)

    one, more = (mapped(run, _split(count)) for run, count in ((single, 1), (many, 2)))
    return Program(lambda count: one if count == 1 else more)


def placing(devices: Sequence[Any], streamed: bool) -> Callable[[Any, int], Any] | None:
    """(item, count) -> the item of this process, leaves [B, ...] or [count, B, ...], on devices;
    None where the program itself takes it from the host.

    On one device it takes the numbers of examples ten times faster than `device_put` does, and what
    lies in a processor's memory it uses there. Whole examples would hold up the dispatch to a GPU.
    """
    mesh = Mesh(np.array(devices), (AXIS,))
    if len(devices) == 1 and (devices[0].platform == "cpu" or not streamed):
        return None

    def place(item: Any, count: int) -> Any:
        sharding = NamedSharding(mesh, _split(count))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), item)

    return place


def _split(count: int) -> PartitionSpec:
    """How the items of so many steps lie on devices: [B, ...], or [count, B, ...]."""
    return PartitionSpec(AXIS) if count == 1 else PartitionSpec(None, AXIS)


def shapes(
    state: Any, resident: Any, item: Any, count: int, devices: Sequence[Any]
) -> tuple[Any, Any, Any]:
    """The arguments of a program of `count` steps as shapes, where a run has its arrays.

    Args:
      state, resident, item: shapes, `item` of one step.
      count: of steps.
      devices: of the program.
    """
    mesh = Mesh(np.array(devices), (AXIS,))

    def placed(tree: Any, spec: PartitionSpec, *axes: int) -> Any:
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((*axes, *x.shape), x.dtype, sharding=sharding), tree
        )

    everywhere, axes = PartitionSpec(), () if count == 1 else (count,)
    if len(devices) == 1:  # the item comes from the host
        item = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*axes, *x.shape), x.dtype), item)
    else:
        item = placed(item, _split(count), *axes)
    return placed(state, everywhere), placed(resident, everywhere), item


def chosen_devices(count: int | None) -> list[Any]:
    """The first `count` devices, all by default, of this process or as many of each process; those
    of a process side by side."""
    processes = range(jax.process_count())
    each = (count or jax.device_count()) // jax.process_count()
    return [device for i in processes for device in jax.local_devices(process_index=i)[:each]]


def own_share(batch_size: int) -> slice:
    """Which examples of each batch are those of this process."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def replicate(tree: Any, devices: Sequence[Any]) -> Any:
    """The same arrays on every device; with several processes each gives the same."""
    sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put(x: Any) -> Any:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(x))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        # device_put would gather the array, a whole data set maybe, from every process to compare.
        return jax.make_array_from_process_local_data(sharding, np.asarray(x))

    return jax.tree.map(put, tree)
