"""Which of several programs that compute the same is taken: the fastest, by measuring each.

It knows nothing of what the programs are, nor of devices.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

ROUNDS = 7  # in each of which every candidate runs once
_ROUND_SECONDS = 0.2  # that a candidate runs in a round: the clock's noise is small beside it
_MOST_RUNS = 100  # of one round


class Ready(NamedTuple):
    """A candidate that was compiled.

    Attributes:
      result: what it computed, to be compared with what others did.
      run: n -> seconds that n runs took, on a copy of what they change.
    """

    result: Any
    run: Callable[[int], float]


class Candidate(NamedTuple):
    """name: for the user, and in what is remembered. ready: () -> Ready; raises where it fails."""

    name: str
    ready: Callable[[], Ready]


class Measured(NamedTuple):
    """Of a candidate: seconds of one run, in each round; fault: why it cannot be taken."""

    name: str
    seconds: tuple[float, ...] = ()
    fault: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """What the middle half of the rounds lies within."""
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return high - low


def _alone(value: Any) -> Any:
    return value


class Peers(NamedTuple):
    """How several processes that run the candidates together agree; one agrees with itself.

    Attributes:
      fault: why a candidate fails here, "" where it does not -> why it fails in any process.
      first: a value -> that of the first process.
    """

    fault: Callable[[str], str] = _alone
    first: Callable[[Any], Any] = _alone


ALONE = Peers()


def measured(
    candidates: Sequence[Candidate],
    differs: Callable[[Any, Any], str],
    peers: Peers = ALONE,
    rounds: int = ROUNDS,
) -> list[Measured]:
    """Compiles the candidates, compares what they compute, and times them in turn.

    Args:
      candidates: the first is what the others are compared with.
      differs: (what the first computed, what another did) -> in what they differ; "" where they are
        the same to rounding, and finite.
      peers: of several processes, which all call this alike.
      rounds: 5 or more; who begins changes from one to the next.

    Returns:
      One for each candidate. Where the first fails the others are not tried, as nothing tells
      whether they are right.
    """
    ready: dict[str, Ready] = {}
    faults: dict[str, str] = {}
    for candidate in candidates:
        this, fault = _made_ready(candidate)
        fault = peers.fault(fault)
        if this is not None and not fault and ready:
            fault = peers.fault(differs(next(iter(ready.values())).result, this.result))
        if this is None or fault:
            faults[candidate.name] = fault
            if not ready:
                faults |= {c.name: "not tried" for c in candidates[1:]}
                break
        else:
            ready[candidate.name] = this
    seconds = _timed(ready, peers, rounds, faults) if len(ready) > 1 else {}
    return [
        Measured(c.name, tuple(seconds.get(c.name, ())), faults.get(c.name, "")) for c in candidates
    ]


def _made_ready(candidate: Candidate) -> tuple[Ready | None, str]:
    try:
        return candidate.ready(), ""
    except Exception as error:  # of a compiler, a driver or the memory: it is no candidate then
        return None, " ".join(str(error).split())[:200] or type(error).__name__


def _timed(
    ready: dict[str, Ready], peers: Peers, rounds: int, faults: dict[str, str]
) -> dict[str, list[float]]:
    """Seconds of a run of each candidate, in each round; one that fails now gets a fault."""
    counts, seconds, first = {}, {name: [] for name in ready}, next(iter(ready))
    for number in range(-1, rounds):
        names = [name for name in ready if name not in faults]
        if first not in names:  # with which the others were to be compared
            return {}
        begins = number % len(names)
        for name in names[begins:] + names[:begins]:
            count, fault, taken = counts.get(name, 1), "", 0.0
            try:
                taken = ready[name].run(count)
            except Exception as error:
                fault = " ".join(str(error).split())[:200] or type(error).__name__
            if fault := peers.fault(fault):
                faults[name] = fault
                del seconds[name]
            elif number < 0:  # which warms up, and tells how many runs make a round
                many = int(_ROUND_SECONDS / max(taken, 1e-9))
                counts[name] = peers.first(min(max(many, 1), _MOST_RUNS))
            else:
                seconds[name].append(taken / count)
    return seconds


def winner(found: Sequence[Measured]) -> Measured:
    """The fastest; the first one where it is not slower than the others by more than their spread
    and its own.

    Args:
      found: as `measured` gives it.
    """
    plain = found[0]
    if not plain.seconds:
        return plain
    others = [other for other in found[1:] if other.seconds]
    faster = [o for o in others if plain.median - o.median > max(plain.spread, o.spread)]
    return min(faster, key=_median, default=plain)


def _median(of: Measured) -> float:
    return of.median


def line(
    found: Sequence[Measured],
    taken: Measured,
    steps: int,
    seconds: float,
    what: str = "kernels",
) -> str:
    """What was measured, for the user: milliseconds of a step, those that were taken first.

    Args:
      found, taken: the candidates, and the one of them.
      steps: of one run.
      seconds: that measuring took.
      what: is chosen.
    """

    def told(of: Measured) -> str:
        if not of.seconds:
            return f"{of.name} {of.fault or 'alone'}"
        low, high = (1e3 * s / steps for s in (min(of.seconds), max(of.seconds)))
        return f"{of.name} {1e3 * of.median / steps:.3f} ms a step ({low:.3f} to {high:.3f})"

    rounds = max(len(of.seconds) for of in found)
    others = "; ".join(told(of) for of in found if of is not taken)
    against = f" against {others}" if others else ""
    return f"{what}: {told(taken)}{against}: {rounds} rounds in turn, {seconds:.0f} s"
