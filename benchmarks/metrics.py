"""Seconds and memory of the measures: `python -m benchmarks.metrics`.

Each measure runs in a process of its own on random features, 50,000 x 2,048 for those of moments
and of subsets, 10,000 x 512 for those of neighbours, of classes and of directions. The memory is
what the process held at most beyond the features and all that is imported. `--only` chooses
measures.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from benchmarks import record
from jaxgan import memory, metrics


class Case(NamedTuple):
    """A measure, its features, and how many sets of them it takes."""

    metric: Callable[..., Any]
    rows: int
    size: int
    sets: int = 2


LARGE, SMALL = (50_000, 2_048), (10_000, 512)
CASES = {
    "frechet_distance": Case(metrics.frechet_distance, *LARGE),
    "kernel_distance": Case(metrics.kernel_distance, *LARGE),
    "precision_recall": Case(metrics.precision_recall, *SMALL),
    "density_coverage": Case(metrics.density_coverage, *SMALL),
    "nearest_neighbours": Case(metrics.nearest_neighbours, *SMALL),
    "memorisation": Case(metrics.memorisation, *SMALL, 3),
    "sliced_wasserstein": Case(metrics.sliced_wasserstein, *SMALL),
    "classifier_score": Case(metrics.classifier_score, *SMALL, 1),
}


class Cost(NamedTuple):
    """Of a measure.

    Attributes:
      seconds: by the clock.
      processor_seconds: of all threads, which say more where others use the machine.
      peak_bytes: at most beyond the features.
    """

    seconds: float
    processor_seconds: float
    peak_bytes: int


def measured(name: str, rows: int | None = None) -> Cost:
    """What a measure costs in this process, which has done nothing else."""
    case = CASES[name]
    rng = np.random.default_rng(0)
    shape = rows or case.rows, case.size
    sets = [rng.standard_normal(shape, np.float32) for _ in range(case.sets)]
    if case.metric is metrics.classifier_score:
        for each in sets:
            np.square(each, out=each)
            each /= each.sum(axis=1, keepdims=True)
    before, begin, busy = _peak(), time.perf_counter(), time.process_time()
    case.metric(*sets)
    return Cost(time.perf_counter() - begin, time.process_time() - busy, _peak() - before)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.metrics", __doc__)
    help = f"measures with commas between, of {', '.join(CASES)}"
    parser.add_argument("--only", metavar="NAMES", default=",".join(CASES), help=help)
    parser.add_argument("--rounds", type=int, default=3, help="of each (default: 3)")
    given, changes = record.parsed(parser, argv)
    if changes:
        parser.error(f"--{next(iter(changes))} is not taken here; nothing is trained")
    names = record.chosen(parser, "measure", given.only, CASES)
    rows, rounds = (200, 1) if given.quick else (None, given.rounds)
    about = record.machine(given.quick)
    record.show_machine(about)
    found: dict[str, list[Cost]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            # Of a child that was forked the peak would begin with the parent's.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found[name].append(pool.submit(measured, name, rows).result())
    for name, rounds_of in found.items():
        case, seconds = CASES[name], [cost.seconds for cost in rounds_of]
        busy = [cost.processor_seconds for cost in rounds_of]
        most = max(cost.peak_bytes for cost in rounds_of)
        print(
            f"{name:18s}  {rows or case.rows:6,} x {case.size:5,}  {record.shown(seconds)} s, "
            f"{record.shown(busy)} s of processors, {memory.shown(most)} beyond the features"
        )
        what = {"benchmark": "metrics", "metric": name, "rows": rows or case.rows}
        what |= {"size": case.size, "seconds": seconds, "processor_seconds": busy}
        what |= {"peak_bytes": most}
        record.append(given.json, {**what, **about})


if __name__ == "__main__":
    main()
