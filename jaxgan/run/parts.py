"""The compiled steps of an ensemble: its members in parts, one part after the other.

A part of one member runs the very program of its run alone, and all members may be one part. Which
is fastest differs: on CPUs convolutions under `vmap` took up to twice the time of the members in
turn, small dense layers less than that. Over several devices each part is split, and members need
nothing of each other, so that there are no collectives.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxgan import members
from jaxgan.game import GANState
from jaxgan.kernels import using
from jaxgan.members import Making, Numbers
from jaxgan.run import dispatch, runtime
from jaxgan.run.parallel import Program, Way
from jaxgan.step import make_step

AXIS = "members"


class Shared(NamedTuple):
    """What the members of an ensemble have in common.

    Attributes:
      making: numbers of one member, float32 [] -> its game.
      numbers: {name: [n]}.
      count: n.
      batch_size: examples of one member.
      fetch: (resident, item) -> a batch, also of several members one after the other.
    """

    making: Making
    numbers: dict[str, np.ndarray]
    count: int
    batch_size: int
    fetch: Callable[[Any, Any], Any]


def sizes(count: int, devices: int) -> list[int]:
    """How many members a part may have: as few as devices allow, all, and of many about the root of
    both; each is a program that has to be compiled.

    Args:
      count: of the members, a multiple of the devices.
      devices: over which each part is split.
    """
    least = [n for n in range(devices, count + 1, devices) if count % n == 0]
    if count < 6 * devices:
        return sorted({least[0], count})
    middle = (devices * count) ** 0.5
    return sorted({least[0], min(least, key=lambda n: abs(np.log(n / middle))), count})


def make_program(shared: Shared, devices: Sequence[Any], way: Way) -> Program:
    """The programs that train an ensemble, whose items are the members' one after the other.

    What is held is a tuple of states, of a part each; metrics are a tuple of the parts', leaves
    [members] or [count, members]. Parts of one member have no axis of members, as in its run alone.
    """
    options = runtime.compiler_options(devices[0].platform, way.one_graph)
    size, parts = way.together, shared.count // way.together
    numbers = [
        {name: values[_place(part, size)] for name, values in shared.numbers.items()}
        for part in range(parts)
    ]
    one, many = (_compiled(shared, way, devices, options, count) for count in (1, 2))

    def of(count: int) -> Callable:
        program, examples = one if count == 1 else many, size * shared.batch_size

        def run(held: tuple[GANState, ...], resident: Any, item: Any) -> tuple[Any, Any]:
            done = []
            for part, state in enumerate(held):
                place = slice(part * examples, (part + 1) * examples)
                index = place if count == 1 else (slice(None), place)
                own = item if parts == 1 else jax.tree.map(lambda x, at=index: x[at], item)
                done.append(program(state, resident, own, numbers[part]))
            return tuple(state for state, _ in done), tuple(metrics for _, metrics in done)

        return run

    whole = jax.jit(members.joined if size == 1 else _concatenated)

    def state(held: tuple[GANState, ...]) -> GANState:
        if len(devices) > 1:
            held = jax.tree.map(partial(_on_one, devices[0]), held)
        return held[0] if parts == 1 < size else whole(held)

    return Program(of, _holding(parts, size, devices), state, partial(told, shared.count))


def _place(part: int, size: int) -> Any:
    """The members of a part: of one, its number."""
    return part if size == 1 else slice(part * size, (part + 1) * size)


def _compiled(
    shared: Shared, way: Way, devices: Sequence[Any], options: Any, count: int
) -> Callable:
    """(state, resident, item, numbers) -> (state, metrics) of a part, for one step or many."""
    each = way.together // len(devices)
    of_step: Any = {"accumulate": way.accumulate, "remat": way.remat}

    def step_of(numbers: Numbers) -> Callable:
        def step(state: GANState, batch: Any) -> tuple[GANState, Any]:
            with using(None if way.kernels == "auto" else way.kernels):
                if way.together == 1:
                    return make_step(shared.making(numbers), **of_step)(state, batch)
                batches = jax.tree.map(lambda x: x.reshape(each, -1, *x.shape[1:]), batch)
                return members.step_of(shared.making, numbers, state, batches, **of_step)

        return step

    def run(state: GANState, resident: Any, item: Any, numbers: Numbers) -> tuple[GANState, Any]:
        made = dispatch.one_step if count == 1 else dispatch.many_steps
        return made(step_of(numbers), shared.fetch)(state, resident, item)

    if len(devices) > 1:
        on_members = PartitionSpec(AXIS)
        over_time = on_members if count == 1 else PartitionSpec(None, AXIS)
        states = members.in_parts(PartitionSpec(), on_members)
        specs: Any = dict(
            in_specs=(states, PartitionSpec(), over_time, on_members),
            out_specs=(states, over_time),
        )
        mesh = Mesh(np.array(devices), (AXIS,))
        run = jax.shard_map(run, mesh=mesh, check_vma=False, **specs)
    return jax.jit(run, donate_argnums=0, compiler_options=options)


def _holding(parts: int, size: int, devices: Sequence[Any]) -> Callable[[GANState], Any]:
    """state -> a tuple of the parts' states, in memory of their own."""
    mesh = Mesh(np.array(devices), (AXIS,))

    def placed(spec: PartitionSpec) -> Any:
        return jax.sharding.NamedSharding(mesh, spec)

    where = members.in_parts(placed(PartitionSpec()), placed(PartitionSpec(AXIS)))

    def split(state: GANState) -> tuple[GANState, ...]:
        def part(number: int) -> GANState:
            place = _place(number, size)
            own = jax.tree.map(lambda leaf: leaf[place], (state.key, state.players))
            # JAX hands on what is not changed; each part gives its buffers away.
            return jax.tree.map(jnp.copy, GANState(state.step, *own))

        return tuple(part(number) for number in range(parts))

    if len(devices) == 1:
        return jax.jit(split)
    return jax.jit(split, out_shardings=(where,) * parts)


def _on_one(device: Any, array: Any) -> Any:
    """An array that lies in parts, as one on a device, by way of the host.

    What is computed of parts would need collectives, of which several at a time wait for each other
    on XLA:CPU without end where there are fewer cores than devices.
    """
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = _on_one(device, jax.random.key_data(array))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    return jax.device_put(np.asarray(array), device)


def _concatenated(held: tuple[GANState, ...]) -> GANState:
    both = [(state.key, state.players) for state in held]
    return GANState(held[0].step, *jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *both))


def told(count: int, metrics: tuple[dict[str, Any], ...]) -> dict[str, np.ndarray]:
    """Metrics of `count` members on the host, by parts -> leaves [n] or [steps, n]."""
    joined = np.stack if len(metrics) == count else np.concatenate
    return {name: joined([m[name] for m in metrics], -1) for name in metrics[0]}
