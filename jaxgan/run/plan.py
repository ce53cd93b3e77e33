"""What a run would take: parameters, and bytes of memory. Nothing is read, trained or written."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxgan import memory
from jaxgan.config import RunOptions, check_run
from jaxgan.data import DataOptions, Source
from jaxgan.data.feeds import check_batch_size, fetch_of, streams
from jaxgan.game import Game, GANState, PlayerState
from jaxgan.kernels import using
from jaxgan.run import dispatch, first, parallel, runtime, ways
from jaxgan.run.beginning import source_of


class PlayerPlan(NamedTuple):
    """A player's share.

    Attributes:
      parameters: how many numbers are trained.
      params, optimizer, average, others: bytes of these, of the optimizer's state, of their average
        and of the model's own state, such as running means.
    """

    parameters: int
    params: int
    optimizer: int
    average: int
    others: int


class Plan(NamedTuple):
    """What a run would take, in bytes where nothing else is said.

    Attributes:
      players: by name.
      state: all that training changes, on each device.
      batch, batch_size: a whole batch, and how many examples that are.
      data, examples: the source, and how many examples it has.
      resident: whether the data live on each device; else they stream.
      scratch: of a step on each device, as XLA tells of the program it compiled; None where XLA
        tells nothing.
      devices, platform: how many, and of which kind.
      needed: of the memory that `free` is of.
      free: of a device, or of the machine where its cores are the devices; None where unknown.
    """

    players: dict[str, PlayerPlan]
    state: int
    batch: int
    batch_size: int
    data: int
    examples: int
    resident: bool
    scratch: int | None
    devices: int
    platform: str
    needed: int
    free: int | None

    @property
    def fits(self) -> bool | None:
        """Whether it fits; None where that is not known."""
        return None if self.free is None or self.scratch is None else self.needed <= self.free


def plan(
    game: Game | Callable[[dict[str, Any]], Game], source: Any, run: RunOptions = RunOptions()
) -> Plan:
    """What `jaxgan.train` of the same would take, in one process.

    The step is compiled, which the persistent cache of programs keeps for the run.

    Args:
      game: the variant, or a function that makes it for examples of such features.
      source: as in `jaxgan.train`; `DataOptions` are opened, see `jaxgan.data.needs_preparing`.
      run: the options of every run.

    Raises:
      UserError: what `train` would refuse.
    """
    first.check_given(game)
    first.check_arguments(run, None, ())
    if isinstance(source, DataOptions):
        run = dataclasses.replace(run, data=source)
    check_run(run, jax.local_device_count())
    devices = jax.local_devices()[: run.devices or jax.local_device_count()]
    with using(runtime.check_way(run, devices[0].platform)[0]):
        opened = source_of(source, keep=False)
        check_batch_size(opened, run.batch_size)
        game = first.game_of(game, opened.features, run.dtype)
        template = first.template_of(game, opened.features, run)
        first.check_step(game, template, opened.features, run, len(devices))
        scratch = _scratch(game, template, opened, run, devices)
    return _summed(template, opened, run, scratch, devices)


def size_of(tree: Any) -> int:
    """Bytes of arrays, or of shapes."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _player(state: PlayerState) -> PlayerPlan:
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
    parts = state.params, state.opt_state, state.ema, state.model_state
    return PlayerPlan(count, *map(size_of, parts))


def _scratch(
    game: Game, template: GANState, source: Source, run: RunOptions, devices: list[Any]
) -> int | None:
    """Bytes that the program of a dispatch takes beside what it is given and gives."""
    every = run.log.every, run.log.checkpoint_every, run.log.sample_every
    count = dispatch.steps_per_call(run.steps_per_call, devices[0].platform, list(every))
    fetch = fetch_of(source, run.data.resident_limit_mb)
    batch = first.batch_of(source.features, run.batch_size)
    resident, item = {}, batch
    if not streams(source, run.data.resident_limit_mb):
        resident = first.batch_of(source.features, source.count)
        item = jax.ShapeDtypeStruct((run.batch_size,), "int32")
    way = ways.open_ways(run, devices[0].platform)[0]
    program = parallel.make_program(game, fetch, devices, way).of(count)
    arguments = parallel.shapes(template, resident, item, count, devices)
    # A program may be too large to be compiled, or a platform may not tell.
    with contextlib.suppress(jax.errors.JaxRuntimeError, NotImplementedError):
        return getattr(program.lower(*arguments).compile().memory_analysis(), _TEMPORARY, None)
    return None


_TEMPORARY = "temp_size_in_bytes"


def _summed(
    template: GANState, source: Source, run: RunOptions, scratch: int | None, devices: list[Any]
) -> Plan:
    count, platform = len(devices), devices[0].platform
    state = size_of(template)
    batch = size_of(first.batch_of(source.features, run.batch_size))
    data = size_of(first.batch_of(source.features, source.count))
    resident = not streams(source, run.data.resident_limit_mb)
    each, kept = state + batch // count + (scratch or 0), data if resident else 0
    needed, free = each + kept, _free(devices)
    if platform == "cpu":  # all in one memory, in which the devices use the data where they lie
        needed, free = count * each + kept, memory.of_machine().free
    about = batch, run.batch_size, data, source.count, resident, scratch, count, platform
    players = {name: _player(player) for name, player in template.players.items()}
    return Plan(players, state, *about, needed, free)


def _free(devices: list[Any]) -> int | None:
    """Of the device with the least."""
    told = [device.memory_stats() or {} for device in devices]
    if not all("bytes_limit" in stats for stats in told):
        return None
    return min(stats["bytes_limit"] - stats.get("bytes_in_use", 0) for stats in told)


def lines(plan: Plan) -> list[str]:
    """A plan for the user."""
    players = [
        f"{name}: {of.parameters:,} parameters, {memory.shown(of.params)}; "
        f"{memory.shown(sum(of[1:]))} with the optimizer's state and the average"
        for name, of in plan.players.items()
    ]
    live = "live on each device" if plan.resident else "stream"
    scratch = "not told by XLA" if plan.scratch is None else memory.shown(plan.scratch)
    many = f" on each of {plan.devices} devices" if plan.devices > 1 else ""
    return [
        *players,
        f"state: {memory.shown(plan.state)}{many}",
        f"batch: {plan.batch_size:,} examples, {memory.shown(plan.batch)}",
        f"data: {plan.examples:,} examples, {memory.shown(plan.data)}, which {live}",
        f"scratch of a step: {scratch}{many}",
        f"memory: {_verdict(plan)}",
    ]


def _verdict(plan: Plan) -> str:
    where = "of this machine" if plan.platform == "cpu" else f"of each {plan.platform} device"
    needed = f"about {memory.shown(plan.needed)} are needed"
    if plan.free is None:
        return f"{needed}; what is free {where} is not known"
    free = f"{needed}, {memory.shown(plan.free)} {where} are free"
    if plan.fits is None:
        return f"{free}; without the scratch of a step"
    if plan.fits:
        return f"{free}: it fits"
    stream = ", or let the data stream with --data.resident-limit-mb 0" * plan.resident
    return f"{free}: it does not fit; use a smaller --batch-size or network{stream}"
