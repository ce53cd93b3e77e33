"""Readers of what XLA compiled and of what its profiler saw: pure functions of a program's text and
a trace's events.

The profiler names the operations of the compiled program. Which phase of a step an operation
belongs to stands in the program's text, as the `jax.named_scope` under which Python made it; traces
of a CPU carry no scopes at all, so the two are joined here.
"""

import collections
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

OTHER, OUTSIDE, IDLE = "other", "outside the step", "idle"

# They stand for memory; no operation of theirs runs, and none has a phase.
_NO_OPERATION = {"parameter", "constant", "tuple"}
# Their time is that of the operations inside, as far as those are recorded.
_CONTAINERS = {"while", "call", "conditional"}


class Instruction(NamedTuple):
    """A line of HLO.

    Attributes:
      name: unique in the program.
      type: of the result, such as f32[128,7,7,64]{3,2,1,0}.
      opcode: such as fusion.
      operands: their names; of a parameter or constant, what stands between its parentheses.
      rest: the text after the operands.
      root: whether it gives its computation's result.
    """

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    root: bool

    @property
    def scope(self) -> str:
        """The `op_name` that JAX gave it, such as
        jit(run)/generator/jvp(DCGANGenerator)/Dense_0/dot_general.
        """
        found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.rest)
        return found[1] if found else ""

    def attribute(self, key: str) -> str:
        """The value of `key=value` or `key="value"`; "" where there is none."""
        found = re.search(rf'\b{key}="?%?([^",\s]+)', self.rest)
        return found[1] if found else ""


Computation = dict[str, Instruction]


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """The computations of a program by name, callees before callers, and which is the entry."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = re.match(r" ?(ENTRY )?%?([\w.-]+) \(.*\{$", line)
        if header:
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
            continue
        found = re.match(r"\s+(ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\((.*)$", line)
        if current is not None and found:
            inside, rest = _closed(found[5])
            names = (inside,)
            if found[4] not in ("parameter", "constant"):
                names = tuple(re.findall(r"%([\w.-]+)", inside))
            current[found[2]] = Instruction(
                found[2], found[3], found[4], names, rest, bool(found[1])
            )
    return computations, entry


def _closed(text: str) -> tuple[str, str]:
    """Splits what follows an open parenthesis at the one that closes it."""
    depth = 1
    for at, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if not depth:
            return text[:at], text[at + 1 :]
    return text, ""


def phase_of(scope: str, phases: Sequence[str]) -> str | None:
    """The phase whose name stands in a path of scopes, the outermost of several; None where none
    does.
    """
    names = "|".join(map(re.escape, phases))
    found = re.search(rf"(?:^|[/(])({names})(?=[/)]|$)", scope)
    return found[1] if found else None


def phases_of(text: str, phases: Sequence[str]) -> dict[str, tuple[str, str]]:
    """name -> (phase, opcode) of the operations of a compiled program.

    An operation's phase is the one in its scope, or that of most of the operations that it is made
    of. XLA adds operations without a scope, such as copies. Of these the phase is

    1. that of most operations which it feeds, or else
    2. that of most operations which feed it, or else
    3. `OTHER`.
    """
    found: dict[str, str | None] = {}
    opcodes: dict[str, str] = {}
    inside: dict[str, str | None] = {}  # of a computation: the phase of most of it
    for name, computation in parse(text)[0].items():
        users: dict[str, list[str]] = collections.defaultdict(list)
        for i in computation.values():
            opcodes[i.name] = i.opcode
            callee = next(filter(None, map(i.attribute, ("calls", "body", "to_apply"))), None)
            phase = phase_of(i.scope, phases) or (inside.get(callee) if callee else None)
            named = "/" in i.scope and i.opcode not in _NO_OPERATION
            found[i.name] = phase or (OTHER if named else None)
            for operand in i.operands:
                users[operand].append(i.name)
        nameless = [
            i for i in computation.values() if not found[i.name] and i.opcode not in _NO_OPERATION
        ]
        for i in reversed(nameless):
            found[i.name] = _most(found.get(user) for user in users[i.name])
        for i in nameless:
            found[i.name] = found[i.name] or _most(found.get(operand) for operand in i.operands)
        inside[name] = _most(found[i.name] for i in computation.values())
    return {name: (phase or OTHER, opcodes[name]) for name, phase in found.items()}


def _most(phases: Iterable[str | None]) -> str | None:
    counts = collections.Counter(phase for phase in phases if phase is not None)
    return counts.most_common(1)[0][0] if counts else None


class Operation(NamedTuple):
    """One execution of one operation: its start and end in microseconds; `container`: others run
    inside it.
    """

    device: str
    name: str
    phase: str
    start: float
    end: float
    container: bool = False


def operations(
    events: list[dict[str, Any]], text: str, phases: Sequence[str] = ()
) -> list[Operation]:
    """What ran on the devices.

    On a GPU these are the kernels and copies of its streams, on a CPU the operations that XLA's
    executor started. Of a CPU operation that goes on in other threads, an event of its own marks
    the end.

    Args:
      events: of a trace, its `traceEvents`.
      text: of the program that was traced.
      phases: names of scopes.
    """
    table = phases_of(text, phases)
    module = (re.match(r"HloModule ([\w.<>-]+)", text) or ["", ""])[1]
    meta = [e for e in events if e.get("ph") == "M"]
    threads = {
        (e["pid"], e.get("tid")): e["args"]["name"] for e in meta if e["name"] == "thread_name"
    }
    hosts = {e["pid"]: e["args"]["name"] for e in meta if e["name"] == "process_name"}
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
            if not threads.get((e["pid"], e["tid"]), "").startswith("Stream"):
                continue  # rows that the profiler derives from the streams
            device = hosts[e["pid"]]
        elif "hlo_op" in args and not gpus:
            device = f"cpu:{args.get('device_ordinal', 0)}"
        else:
            continue
        name = args.get("hlo_op", e["name"])
        phase, opcode = table.get(name, (phase_of(args.get("tf_op", ""), phases) or OTHER, ""))
        if args.get("hlo_module", module) != module:
            phase = OUTSIDE
        end = e["ts"] + e.get("dur", 0.0)
        if ends[name] and e["pid"] not in gpus:
            end = max(end, ends[name].popleft())
        found.append(Operation(device, name, phase, e["ts"], end, opcode in _CONTAINERS))
    return found


def instants(found: list[Operation]) -> Iterator[tuple[float, float, list[Operation]]]:
    """(start, end, the operations that run) of one device, in order, wherever any does."""
    opened = [(o.start, 1, i) for i, o in enumerate(found)]
    closed = [(o.end, 0, i) for i, o in enumerate(found)]
    active: set[int] = set()
    before = 0.0
    for at, opens, i in sorted(opened + closed):
        if active and at > before:
            running = [found[j] for j in sorted(active)]
            yield before, at, [o for o in running if not o.container] or running
        before = at
        (active.add if opens else active.discard)(i)


def milliseconds(found: list[Operation], steps: int, wall: float) -> dict[str, float]:
    """Milliseconds a step of each phase that ran, and of idle time; they add up to those that
    passed.

    At an instant when several operations run, each gets its part of the instant.

    Args:
      found: of any number of devices, over whom the mean is taken.
      steps: how many steps ran.
      wall: the seconds in which they did.
    """
    total: dict[str, float] = collections.defaultdict(float)
    devices = sorted({o.device for o in found})
    for device in devices:
        for start, end, running in instants([o for o in found if o.device == device]):
            for o in running:
                total[o.phase] += (end - start) / len(running)
    of_step = {phase: us / 1e3 / steps / len(devices) for phase, us in total.items()}
    return {**of_step, IDLE: max(0.0, 1e3 * wall / steps - sum(of_step.values()))}
