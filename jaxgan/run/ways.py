"""In which of several ways a run compiles its step.

Options name the way by hand. Where they leave more than one open, the run's own step is timed in
each (`jaxgan.run.choice`), and the answer is remembered (`jaxgan.run.remembered`): a run that is
resumed keeps its way, and with it its bits.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.config import RunOptions, step_options
from jaxgan.data import Feed
from jaxgan.game import GANState
from jaxgan.run import choice, parallel, processes, remembered, runtime
from jaxgan.run.choice import Candidate, Peers, Ready
from jaxgan.run.parallel import Program, Way
from jaxgan.run.subject import Subject

# How far two ways may be apart: metrics of their own size, the state after a step of how far the
# step moved it. On a CPU the references and jax.nn were apart by 1e-6 and 0.1 in the moments.
TOLERANCE = {"float32": 0.02, "bfloat16": 0.2}
_COMPARED = 2  # steps of a dispatch whose metrics are compared; the second shows the first update
# Of a player, with a factor: Adam's first step is as long for a gradient that is all rounding, so
# that parameters were apart by 1e-5 and 0.4. Moments tell of the gradients themselves.
_PARTS = {"params": 3.0, "ema": 3.0, "opt_state": 1.0, "model_state": 1.0}
_ROUNDING = 1e-6  # of numbers that hardly move


class Work(NamedTuple):
    """What is timed: steps of a run, from where it stands.

    Attributes:
      subject, feed, devices: of the run.
      state, resident: on the devices.
      steps: of one dispatch.
    """

    subject: Subject
    feed: Feed
    devices: list[Any]
    state: GANState
    resident: Any
    steps: int


def open_ways(run: RunOptions, platform: str) -> list[Way]:
    """The ways that options leave open on a platform; the first is taken where nothing is measured,
    and of the others those come first that launch least."""
    asked, _ = runtime.check_way(run, platform)
    graphs = (False, True) if run.one_graph is None else (run.one_graph,)
    if runtime.options_refused(platform, one_graph=True):
        graphs = (False,)
    if platform != "gpu":
        return [Way("xla" if asked == "auto" else asked, **step_options(run))]
    kinds = (asked,)
    if asked == "auto":
        kinds = ("xla",) if runtime.why_no_triton(platform) else ("xla", "triton")
    first, *others = (Way(k, g, **step_options(run)) for k in kinds for g in graphs)
    return [first, *sorted(others, key=_many_graphs)]


def _many_graphs(way: Way) -> bool:
    return not way.one_graph


def program(
    work: Work, run: RunOptions, workdir: pathlib.Path, say: Callable[[str], None]
) -> Program:
    """The program of a run: in the only way that is open, the one it had before, or the fastest.

    Args:
      work: what is timed.
      run: the options.
      workdir: of the run, where the process that writes keeps the answer.
      say: of what is measured, a line.
    """
    open_to_it = work.subject.ways
    ways = open_to_it(open_ways(run, work.devices[0].platform), len(work.devices))
    if len(ways) == 1:
        return program_of(work, ways[0])
    writes, known, key = processes.is_first(), None, {}
    with processes.together():
        if writes:
            key = _key(work, run)
            known = remembered.recall(workdir, key)
    known = processes.from_first_json(known)
    if known and (before := [way for way in ways if _as_json(way) == known["way"]]):
        say(f"{known['line']} on {known['made']}")
        with processes.together():
            if writes:
                remembered.keep_in(workdir, known)
        return program_of(work, before[0])
    say(f"timing the step in {len(ways)} ways: {', '.join(map(str, ways))}")
    best, programs, line = _fastest(work, ways)
    say(line)
    with processes.together():
        if writes:
            remembered.keep(workdir, key, _as_json(ways[best]), line)
    return programs[best]


def _as_json(way: Way) -> list[Any]:
    """What is measured of a way."""
    return [way.kernels, way.one_graph, *([way.together] if way.together else [])]


def _key(work: Work, run: RunOptions) -> dict[str, Any]:
    """What the time of a step depends on."""
    of_run = {"game": work.subject.fingerprint(), "batch_size": run.batch_size, "steps": work.steps}
    of_run |= step_options(run)
    return {**of_run, "streams": not work.resident, **remembered.machine(work.devices)}


def _fastest(work: Work, ways: list[Way]) -> tuple[int, list[Program], str]:
    """(which way, the programs of all, what was measured)."""
    began = time.perf_counter()
    programs = [program_of(work, way) for way in ways]
    candidates = [
        Candidate(str(way), functools.partial(ready, work, program))
        for way, program in zip(ways, programs)
    ]
    differs = functools.partial(apart, _on_host(work.state), work.subject.game.dtype)
    peers = Peers(processes.fault_of_any, processes.from_first_json)
    found = choice.measured(candidates, differs, peers)
    best = choice.winner(found)
    what = "members" if ways[0].together else "kernels"
    line = choice.line(found, best, work.steps, time.perf_counter() - began, what)
    line += work.subject.rates(found, best, work.steps)
    index, line = processes.from_first_json([found.index(best), line])
    return index, programs, line


def program_of(work: Work, way: Way) -> Program:
    """The steps of a run, compiled in a way by their first call."""
    return work.subject.program(work.feed, work.devices, way)


def ready(work: Work, program: Program) -> Ready:
    """Compiles a program and takes its first steps: the state after one, metrics of a dispatch."""
    step = int(work.state.step)
    one, items = work.feed.item(step), work.feed.item(step, work.steps)

    def held() -> Any:
        return program.hold(_copied(work.state))

    after, metrics = program.of(1)(held(), work.resident, one)
    told = program.told(_on_host(metrics))
    result = {"state": _on_host(program.state(after)), "metrics": told}
    many = program.of(work.steps)
    if work.steps > 1:
        _, metrics = many(held(), work.resident, items)
        result["metrics of a dispatch"] = program.told(_on_host(metrics))

    def run(count: int) -> float:
        state = jax.block_until_ready(held())
        began = time.perf_counter()
        for _ in range(count):
            state, _ = many(state, work.resident, items)
        jax.block_until_ready(state)
        return time.perf_counter() - began

    return Ready(result, run)


def apart(start: Any, dtype: Any, first: Any, other: Any) -> str:
    """In what two results of `ready` differ by more than rounding; "" for nothing.

    Args:
      start: the state before, on the host.
      dtype: what the game computes in.
      first, other: results.
    """
    most = TOLERANCE[jnp.dtype(dtype).name]
    for name in first.keys() - {"state"}:
        for key, told in first[name].items():
            a, b = (np.ravel(x)[:_COMPARED].astype(np.float64) for x in (told, other[name][key]))
            if not np.all(np.abs(a - b) <= most * np.maximum(np.abs(a), most)):
                return f"computes {key} = {_shown(b)}, not {_shown(a)}"
    for name in start.players:
        for part, factor in _PARTS.items():
            was, is_first, is_other = (
                _floats(getattr(of.players[name], part))
                for of in (start, first["state"], other["state"])
            )
            moved, found = _norm(is_first - was), _norm(is_first - is_other)
            if not found <= factor * most * moved + _ROUNDING * _norm(is_first):
                where = f"{part} of {name}"
                return f"leads {where} {found:.2g} away from where a step of {moved:.2g} leads it"
    return ""


def _shown(values: np.ndarray) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _floats(tree: Any) -> np.ndarray:
    """All floating numbers of a tree, in a row."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return np.concatenate([np.zeros(0), *(np.ravel(leaf).astype(np.float64) for leaf in leaves)])


def _norm(numbers: np.ndarray) -> float:
    return float(np.linalg.norm(numbers))


@jax.jit
def _copied(state: GANState) -> GANState:
    """A copy, which a program may take apart."""
    return jax.tree.map(jnp.copy, state)


def _on_host(tree: Any) -> Any:
    def array(leaf: Any) -> np.ndarray:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(array, parallel.local(tree))
