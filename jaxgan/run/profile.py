"""What a training step spends its time on: a trace of a few dispatches, and from it the time of each phase of the step.

The profiler names the operations of the compiled program. Which phase an operation belongs to stands in the program's text, as the
`jax.named_scope` under which Python made it; CPU traces carry no scopes at all, so the two are joined here. A fused operation counts
for the phase of its result. At an instant when several operations run, each gets its part of the instant, so that the phases and the
time when nothing ran add up to the time that passed.
"""

import collections
import gzip
import json
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax

from jaxgan.game import Game
from jaxgan.run.hooks import Dispatch, Hook, Moment

PHASES = (
    "input",
    "generate",
    "discriminator_update",
    "generator_update",
    "ema",
)  # the named scopes of `parallel` and `step`
OTHER, OUTSIDE, IDLE = "other", "outside the step", "idle"
WARM_UP, TRACED = 3, 5  # dispatches

_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = .*? ([\w-]+)\(([^)]*)\)")
_OP_NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_PHASE = re.compile(rf"(?:^|[/(])({'|'.join(PHASES)})(?=[/)]|$)")
_NEITHER_MAKES_NOR_MOVES = {"parameter", "constant", "tuple"}
_CONTAINERS = {
    "while",
    "call",
    "conditional",
}  # their time is that of the operations inside, as far as those are recorded


def start(folder: pathlib.Path) -> None:
    """Begins a trace into a folder, without Python's own calls, which would slow down the host; `jax.profiler.stop_trace` ends it."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    jax.profiler.start_trace(str(folder), profiler_options=options)


def written(folder: pathlib.Path) -> tuple[pathlib.Path, list[dict[str, Any]]]:
    """The newest trace in a folder, and its events."""
    newest = max(
        folder.glob("plugins/profile/*/*.trace.json.gz"), key=lambda path: path.stat().st_mtime
    )
    with gzip.open(newest) as file:
        return newest, json.load(file)["traceEvents"]


class Operation(NamedTuple):
    """One execution of one operation: device, name, phase, start and end in microseconds; container: others may run inside it."""

    device: str
    name: str
    phase: str
    start: float
    end: float
    container: bool = False


def phase_of(op_name: str) -> str | None:
    """The phase in an operation's path of scopes; the outermost counts. None where the path has none."""
    found = _PHASE.search(op_name)
    return found[1] if found else None


def phases_of(hlo: str) -> dict[str, tuple[str, str]]:
    """name -> (phase, opcode) of the operations of a compiled program, from its text.

    An operation that XLA added, such as a copy, has no scope: it belongs to the phase of most operations that it is made of, else
    to that of those which it feeds, else of those which feed it.
    """
    phases: dict[str, str | None] = {}
    opcodes: dict[str, str] = {}
    inside: dict[str, str | None] = {}  # of a computation: the phase of most of it
    for block in hlo.split("\n\n"):  # callees come before their callers
        lines = [
            (found, line) for line in block.splitlines() if (found := _INSTRUCTION.match(line))
        ]
        users: dict[str, list[str]] = collections.defaultdict(list)
        for found, line in lines:
            name, opcode, operands = found.groups()
            path = _OP_NAME.search(line)
            called = re.search(r"(?:calls|body|to_apply)=%?([\w.-]+)", line)
            opcodes[name] = opcode
            phases[name] = phase_of(path[1]) if path else None
            if phases[name] is None and called:
                phases[name] = inside.get(called[1])
            if (
                phases[name] is None
                and path
                and "/" in path[1]
                and opcode not in _NEITHER_MAKES_NOR_MOVES
            ):
                phases[name] = OTHER
            for operand in re.findall(r"%([\w.-]+)", operands):
                users[operand].append(name)
        for found, _ in reversed(lines):
            if phases[found[1]] is None and found[2] not in _NEITHER_MAKES_NOR_MOVES:
                phases[found[1]] = _most(phases.get(user) for user in users[found[1]])
        for found, _ in lines:
            if phases[found[1]] is None and found[2] not in _NEITHER_MAKES_NOR_MOVES:
                phases[found[1]] = _most(
                    phases.get(operand) for operand in re.findall(r"%([\w.-]+)", found[3])
                )
        if header := re.match(r"\s*(?:ENTRY )?%?([\w.-]+) ", block):
            inside[header[1]] = _most(phases[found[1]] for found, _ in lines)
    return {name: (phase or OTHER, opcodes[name]) for name, phase in phases.items()}


def _most(phases: Iterable[str | None]) -> str | None:
    counts = collections.Counter(phase for phase in phases if phase is not None)
    return counts.most_common(1)[0][0] if counts else None


def operations(events: list[dict[str, Any]], hlo: str) -> list[Operation]:
    """What ran on the devices, from the events of a trace (`traceEvents`) and the text of the program that was traced.

    On a GPU these are the kernels and copies of its streams; on a CPU the operations that XLA's executor started. Of a CPU operation
    that goes on in other threads, an event of its own marks the end.
    """
    table, module = phases_of(hlo), (re.match(r"HloModule ([\w.<>-]+)", hlo) or ["", ""])[1]
    names = {
        (e["pid"], e.get("tid")): e["args"]["name"]
        for e in events
        if e.get("ph") == "M" and e["name"] == "thread_name"
    }
    hosts = {
        e["pid"]: e["args"]["name"]
        for e in events
        if e.get("ph") == "M" and e["name"] == "process_name"
    }
    gpus = {pid for pid, name in hosts.items() if name.startswith("/device:")}
    complete = sorted((e for e in events if e.get("ph") == "X"), key=lambda e: e["ts"])
    ends: dict[str, collections.deque[float]] = collections.defaultdict(collections.deque)
    for e in complete:
        if e["name"].startswith("end: "):
            ends[e["name"][5:]].append(e["ts"])
    found = []
    for e in complete:
        args = e.get("args", {})
        if e["pid"] in gpus:
            if not names.get((e["pid"], e["tid"]), "").startswith("Stream"):
                continue  # rows that the profiler derives from the streams
            device = hosts[e["pid"]]
        elif "hlo_op" in args and not gpus:
            device = f"cpu:{args.get('device_ordinal', 0)}"
        else:
            continue
        name = args.get("hlo_op", e["name"])
        phase, opcode = table.get(name, (phase_of(args.get("tf_op", "")) or OTHER, ""))
        if args.get("hlo_module", module) != module:
            phase = OUTSIDE
        end = e["ts"] + e.get("dur", 0.0)
        if ends[name] and e["pid"] not in gpus:
            end = max(end, ends[name].popleft())
        found.append(Operation(device, name, phase, e["ts"], end, opcode in _CONTAINERS))
    return found


def instants(found: list[Operation]) -> Iterator[tuple[float, float, list[Operation]]]:
    """(start, end, the operations that run) of one device, in order, wherever any does."""
    edges = sorted(
        [(o.start, 1, i) for i, o in enumerate(found)]
        + [(o.end, 0, i) for i, o in enumerate(found)]
    )
    active: set[int] = set()
    before = 0.0
    for at, opens, i in edges:
        if active and at > before:
            running = [found[j] for j in sorted(active)]
            yield before, at, [o for o in running if not o.container] or running
        before = at
        (active.add if opens else active.discard)(i)


def milliseconds(found: list[Operation], steps: int, wall: float) -> dict[str, float]:
    """Milliseconds a step of each phase, of idle time, and of what else ran; the sum is `wall` milliseconds a step.

    Args:
      found: of any number of devices, over whom the mean is taken.
      steps: how many steps ran.
      wall: the seconds in which they did.
    """
    total: dict[str, float] = {phase: 0.0 for phase in (*PHASES, OTHER, OUTSIDE)}
    devices = sorted({o.device for o in found})
    for device in devices:
        for start, end, running in instants([o for o in found if o.device == device]):
            for o in running:
                total[o.phase] += (end - start) / len(running)
    total = {phase: us / 1e3 / steps / max(1, len(devices)) for phase, us in total.items()}
    return {**total, IDLE: max(0.0, 1e3 * wall / steps - sum(total.values()))}


def table(phases: dict[str, float]) -> list[str]:
    """The lines of a table of milliseconds a step: phase, ms, percent. What took no time and is no phase of the step is left out."""
    whole = sum(phases.values()) or 1.0
    rows = [(phase, ms) for phase, ms in phases.items() if ms or phase in PHASES]
    return [
        f"{'phase':20s}  ms/step  percent",
        *(f"{phase:20s} {ms:8.3f}  {100 * ms / whole:7.1f}" for phase, ms in rows),
    ]


def with_phases(events: list[dict[str, Any]], found: list[Operation]) -> list[dict[str, Any]]:
    """The events for Perfetto, with a row above each device's that shows which phase runs when."""
    phases = {(o.name, o.start): o.phase for o in found}
    marked = []
    for e in filter(None, events):  # the profiler ends its list with an empty one
        phase = phases.get((e.get("args", {}).get("hlo_op", e.get("name")), e.get("ts", -1.0)))
        marked.append(
            {**e, "cat": phase, "args": {**e.get("args", {}), "phase": phase}} if phase else e
        )
    for i, device in enumerate(sorted({o.device for o in found})):
        pid = 10_000_000 + i
        marked.append(
            {
                "ph": "M",
                "pid": pid,
                "name": "process_name",
                "args": {"name": f"phases of the step on {device}"},
            }
        )
        marked.append(
            {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": -1}}
        )
        rows: list[list[Any]] = []
        for start, end, running in instants([o for o in found if o.device == device]):
            phase = running[0].phase
            if (
                rows and rows[-1][0] == phase and start - rows[-1][2] < 50.0
            ):  # a shorter gap is the launch of the next operation
                rows[-1][2] = end
            else:
                rows.append([phase, start, end])
        marked += [
            {"ph": "X", "pid": pid, "tid": 0, "name": p, "cat": p, "ts": s, "dur": e - s}
            for p, s, e in rows
        ]
    return marked


class Recorder:
    """Traces up to TRACED dispatches of a training loop, after WARM_UP of the same length; changes nothing that is computed.

    An interval's records, samples and checkpoints are no part of a step and end a trace, so it begins with an interval, or where
    TRACED dispatches of one are left. Methods give the seconds that they spent on the profiler itself, in which nothing trains.
    Whatever goes wrong here becomes a line of the report: a run is not lost for its profile.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder, self._seen, self._lines = folder, collections.Counter[int](), list[str]()
        self._hlo: Callable[[], str] = str
        self._steps = self._dispatches = self._first = self._count = 0
        self._started, self._wall, self._state, self._begins = 0.0, 0.0, "waiting", True

    def before(self, program: Any, arguments: Any, step: int, count: int, until: int) -> float:
        """To be called before a dispatch of `count` steps from `step` on, in an interval that ends at `until`."""
        begins, self._begins = self._begins, False
        if (
            self._state == "tracing" and count != self._count
        ):  # another program, whose operations may have the same names
            return self._stop(arguments)
        if (
            self._state != "waiting"
            or self._seen[count] < WARM_UP
            or not (begins or until - step >= TRACED * count)
        ):
            self._seen[count] += 1
            return 0.0
        jax.block_until_ready(arguments)
        before = time.perf_counter()
        try:
            if hasattr(program, "lower"):
                self._hlo = (
                    program.lower(*arguments).compile().as_text
                )  # of the program that runs: it is not compiled again
            self._folder.mkdir(parents=True, exist_ok=True)
            start(self._folder)
            self._started, self._state = time.perf_counter(), "tracing"
            self._first, self._count = step, count
        except Exception as error:
            self._fail(error)
        return time.perf_counter() - before

    def after(self, state: Any) -> float:
        """To be called after a dispatch."""
        if self._state != "tracing":
            return 0.0
        self._steps += self._count
        self._dispatches += 1
        return self._stop(state) if self._dispatches == TRACED else 0.0

    def at_interval(self, state: Any) -> float:
        """To be called before what an interval ends with."""
        self._begins = True
        return self._stop(state) if self._state == "tracing" else 0.0

    def report(self, state: Any) -> list[str]:
        """Lines for the user, at the end of a run."""
        if self._state == "tracing":
            self._stop(state)
        if self._state == "waiting":
            most = max(self._seen.values(), default=0)
            self._lines = [
                f"no profile: this run had {most} dispatches of equally many steps, {WARM_UP + TRACED} are enough"
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
        hlo = self._hlo()
        if not hlo:
            return [
                f"no table of phases, which a run of several processes cannot make; the trace is {trace}"
            ]
        found = operations(events, hlo)
        if not found:
            return [
                f"no table of phases: the profiler recorded no operation of the step; its trace is {trace}"
            ]
        phases = milliseconds(found, self._steps, self._wall)
        perfetto, summary = trace.parent / "perfetto_trace.json.gz", trace.parent / "phases.json"
        with gzip.open(perfetto, "wt") as file:
            json.dump({"traceEvents": with_phases(events, found)}, file)
        record = {
            "first_step": self._first + 1,
            "steps": self._steps,
            "steps_per_call": self._count,
        }
        record |= {"wall_ms_per_step": 1e3 * self._wall / self._steps, "ms_per_step": phases}
        summary.write_text(json.dumps(record, indent=1) + "\n")
        last = self._first + self._steps
        return [
            f"profile of steps {self._first + 1} to {last}: {1e3 * self._wall / self._steps:.3f} ms a step, {self._count} a dispatch",
            *table(phases),
            f"phases on a time line: open {perfetto} at https://ui.perfetto.dev",
            f"all operations: tensorboard --logdir {self._folder} (pip install tensorboard xprof); this table: {summary}",
        ]


def hook(folder: pathlib.Path, every: int, game: Game) -> Hook:
    """Traces a few steps of a run into a folder, and ends with a table of the phases of the game's step."""
    recorder = Recorder(folder, ("input", *(move.name for move in game.moves), "ema"))

    def before(sent: Dispatch) -> float:
        return recorder.before(sent.program, sent.arguments, sent.step, sent.count, sent.until)

    def do(moment: Moment) -> float:
        return recorder.at_interval(moment.state)

    return Hook(every, do, before, recorder.after, recorder.report)
