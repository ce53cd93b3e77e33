"""What a training step spends its time on: a trace of a few dispatches, and from it the time of
each phase of the step.

The phases are the moves of the game, the input before them and the averages after them; a rule that
takes all gradients first has a phase of its own for these. A fused operation counts for the phase
of its result, and what XLA computes once for two moves, such as a generator's pass, for one of
them.
"""

import collections
import gzip
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxgan.game import Game
from jaxgan.run import hlo
from jaxgan.run.hlo import Operation
from jaxgan.run.hooks import Dispatch, Hook

WARM_UP, TRACED = 3, 5  # dispatches
_LAUNCH_US = 50.0  # a shorter gap is the launch of the next operation
_FIRST_ROW = (
    10_000_000  # among the processes of a trace; those of the profiler have smaller numbers
)


def hook(folder: pathlib.Path, every: int, game: Game) -> Hook:
    """Traces a few steps of a run into a folder, and ends with a table of the phases of the game's
    step.

    Args:
      folder: made where it does not exist.
      every: steps, any of the run's intervals.
      game: that is trained.
    """
    recorder = Recorder(folder, phases_of(game))
    return Hook(every, before=recorder.before, after=recorder.after, end=recorder.end)


def phases_of(game: Game) -> tuple[str, ...]:
    """The named scopes of a game's step, in order; see `jaxgan.run.dispatch`, `jaxgan.rules`,
    `jaxgan.step`.
    """
    return ("input", *(move.name for move in game.moves), "gradients", "ema")


def start(folder: pathlib.Path) -> None:
    """Begins a trace into a folder, which `jax.profiler.stop_trace` ends; without Python's own
    calls, whose recording would slow down the host.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    jax.profiler.start_trace(str(folder), profiler_options=options)


def written(folder: pathlib.Path) -> tuple[pathlib.Path, list[dict[str, Any]]]:
    """The newest trace in a folder, and its events."""
    traces = folder.glob("plugins/profile/*/*.trace.json.gz")
    newest = max(traces, key=lambda path: path.stat().st_mtime)
    with gzip.open(newest) as file:
        return newest, json.load(file)["traceEvents"]


class Recorder:
    """Traces up to `TRACED` dispatches of a training loop, after `WARM_UP` of the same length;
    changes nothing that is computed.

    What is done between a run's steps is no part of a step. So a trace begins with the first
    dispatch of an interval between such doings, or where `TRACED` dispatches of one are left, and
    ends with it at the latest. `before` and `after` give the seconds that they spent on the
    profiler itself. Whatever goes wrong becomes a line at the end: a run is not lost for its
    profile.
    """

    def __init__(self, folder: pathlib.Path, phases: Sequence[str]):
        self._folder, self._phases = folder, phases
        self._seen: collections.Counter[int] = collections.Counter()  # dispatches, by their steps
        self._lines: list[str] = []
        self._text: Callable[[], str] = str
        self._first = self._count = self._steps = self._dispatches = 0
        self._started = self._wall = 0.0
        self._state, self._last_of_interval = "waiting", True

    def before(self, sent: Dispatch) -> float:
        """To be called before a dispatch."""
        begins, self._last_of_interval = (
            self._last_of_interval,
            sent.step + sent.count == sent.until,
        )
        if self._state == "tracing" and sent.count != self._count:
            # Another program, whose operations may have the same names.
            return self._stop(sent.arguments)
        enough_left = sent.until - sent.step >= TRACED * sent.count
        if (
            self._state != "waiting"
            or self._seen[sent.count] < WARM_UP
            or not (begins or enough_left)
        ):
            self._seen[sent.count] += 1
            return 0.0
        jax.block_until_ready(sent.arguments)
        began = time.perf_counter()
        try:
            if hasattr(sent.program, "lower"):  # the program that runs: it is not compiled again
                self._text = sent.program.lower(*sent.arguments).compile().as_text
            self._folder.mkdir(parents=True, exist_ok=True)
            start(self._folder)
        except Exception as error:
            self._fail(error)
        else:
            self._state, self._started = "tracing", time.perf_counter()
            self._first, self._count = sent.step, sent.count
        return time.perf_counter() - began

    def after(self, state: Any) -> float:
        """To be called after a dispatch, with the state that it gives."""
        if self._state != "tracing":
            return 0.0
        self._steps += self._count
        self._dispatches += 1
        enough = self._last_of_interval or self._dispatches == TRACED
        return self._stop(state) if enough else 0.0

    def end(self) -> list[str]:
        """Lines for the user, at the end of a run."""
        if self._state == "tracing":  # what the run did since would count for its steps
            jax.profiler.stop_trace()
            return ["no profile: the run was stopped while it was traced"]
        if self._state == "waiting":
            most = max(self._seen.values(), default=0)
            return [
                f"no profile: this run had {most} dispatches of equally many steps, "
                f"{WARM_UP + TRACED} are enough"
            ]
        if self._state == "traced":
            try:
                self._lines = self._summary()
            except Exception as error:
                self._fail(error)
        return self._lines

    def _stop(self, state: Any) -> float:
        jax.block_until_ready(state)
        ended = time.perf_counter()
        self._wall = ended - self._started
        try:
            jax.profiler.stop_trace()
            self._state = "traced"
        except Exception as error:
            self._fail(error)
        return time.perf_counter() - ended

    def _fail(self, error: Exception) -> None:
        self._state = "failed"
        self._lines = [f"no profile: {' '.join(str(error).split())[:300] or type(error).__name__}"]

    def _summary(self) -> list[str]:
        trace, events = written(self._folder)
        text = self._text()
        if not text:
            return [
                "no table of phases, which a run of several processes cannot make; the trace is "
                f"{trace}"
            ]
        found = hlo.operations(events, text, self._phases)
        if not found:
            return [
                "no table of phases: the profiler recorded no operation of the step; its trace is "
                f"{trace}"
            ]
        times = hlo.milliseconds(found, self._steps, self._wall)
        perfetto, summary = trace.parent / "perfetto_trace.json.gz", trace.parent / "phases.json"
        with gzip.open(perfetto, "wt") as file:
            json.dump({"traceEvents": with_phases(events, found)}, file)
        record = {
            "first_step": self._first + 1,
            "steps": self._steps,
            "steps_per_call": self._count,
            "wall_ms_per_step": 1e3 * self._wall / self._steps,
            "ms_per_step": times,
        }
        summary.write_text(json.dumps(record, indent=1) + "\n")
        wall, last = record["wall_ms_per_step"], self._first + self._steps
        return [
            f"profile of steps {self._first + 1} to {last}: {wall:.3f} ms a step, {self._count} a "
            "dispatch",
            *table(times, self._phases),
            f"phases on a time line: open {perfetto} at https://ui.perfetto.dev",
            f"all operations: tensorboard --logdir {self._folder} (pip install tensorboard xprof); "
            f"this table: {summary}",
        ]


def table(times: dict[str, float], phases: Sequence[str]) -> list[str]:
    """The lines of a table of milliseconds a step: phase, ms, percent. What took no time is left
    out.
    """
    whole = sum(times.values()) or 1.0
    names = [name for name in (*phases, hlo.OTHER, hlo.OUTSIDE, hlo.IDLE) if times.get(name)]
    rows = [f"{name:20s} {times[name]:8.3f}  {100 * times[name] / whole:7.1f}" for name in names]
    return [f"{'phase':20s}  ms/step  percent", *rows]


def with_phases(events: list[dict[str, Any]], found: list[Operation]) -> list[dict[str, Any]]:
    """The events for Perfetto, with a row above each device's that shows which phase runs when."""
    phases = {(o.name, o.start): o.phase for o in found}
    marked = []
    for e in filter(None, events):  # the profiler ends its list with an empty one
        args = e.get("args", {})
        phase = phases.get((args.get("hlo_op", e.get("name")), e.get("ts", -1.0)))
        marked.append({**e, "cat": phase, "args": {**args, "phase": phase}} if phase else e)
    for pid, device in enumerate(sorted({o.device for o in found}), _FIRST_ROW):
        row = {"ph": "M", "pid": pid}
        title = f"phases of the step on {device}"
        marked.append({**row, "name": "process_name", "args": {"name": title}})
        marked.append({**row, "name": "process_sort_index", "args": {"sort_index": -1}})
        for phase, begin, end in _stretches([o for o in found if o.device == device]):
            at = {"pid": pid, "tid": 0, "ts": begin, "dur": end - begin}
            marked.append({"ph": "X", **at, "name": phase, "cat": phase})
    return marked


def _stretches(found: list[Operation]) -> list[tuple[str, float, float]]:
    """(phase, start, end) of one device, instants of one phase together."""
    stretches: list[tuple[str, float, float]] = []
    for begin, end, running in hlo.instants(found):
        phase = running[0].phase
        if stretches and stretches[-1][0] == phase and begin - stretches[-1][2] < _LAUNCH_US:
            begin = stretches.pop()[1]
        stretches.append((phase, begin, end))
    return stretches
