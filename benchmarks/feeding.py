"""How fast a feed brings examples to a device, and what it takes from the steps meanwhile."""

import statistics
import time
from typing import Any

import jax
import numpy as np

from benchmarks import record
from benchmarks.workload import Workload
from jaxgan import data
from jaxgan.config import Config
from jaxgan.run import parallel

ITEMS = (1, 25)  # steps of a dispatch
STRETCH = 10  # steps, or a dispatch


def rate(config: Config, source: Any, batches: int, count: int) -> float:
    """Examples a second that reach a program of `count` steps on the device. One that is given
    whole batches looks at a number of each feature: what a step does with them is not counted.
    """
    run, device = config.run, jax.devices()[0]
    reading = run.data.resident_limit_mb, run.data.read_threads
    place = parallel.placing([device], data.streams(source, reading[0]))
    feed = data.make_feed(source, run.batch_size, run.seed, slice(None), *reading, False, place)
    resident = jax.device_put(feed.resident, device)

    @jax.jit
    def seen(resident: Any, item: Any) -> Any:
        batch = feed.fetch(resident, item)
        if resident:  # gathered here
            return batch
        return jax.tree.map(lambda leaf: leaf.ravel()[0], batch)

    calls, start = max(1, batches // count), 0.0
    for call in range(calls + 2):
        if call == 2:  # two are not counted
            start = time.perf_counter()
        made = seen(resident, feed.item(call * count, count))
        if call in (1, calls + 1) or call % 10 == 9:
            jax.block_until_ready(made)
    found = calls * count * run.batch_size / (time.perf_counter() - start)
    feed.close()
    return found


def numpys_rate(config: Config, source: Any, batches: int) -> float:
    """Examples a second of NumPy's own gather from a source's arrays, in the order of a run."""
    run = config.run
    chosen = [
        data.batch_indices(run.seed, step, run.batch_size, source.count).astype(int)
        for step in range(batches)
    ]
    arrays = [np.asarray(array).view(np.ndarray) for array in source.arrays.values()]
    start = time.perf_counter()
    for indices in chosen:
        _ = [array.take(indices, axis=0) for array in arrays]
    return batches * run.batch_size / (time.perf_counter() - start)


def rates(config: Config, source: Any, batches: int, rounds: int) -> dict[str, Any]:
    """Rounds of `rate` for each length of item, and of NumPy's gather, in turn."""
    found: dict[str, list[float]] = {str(count): [] for count in ITEMS}
    found["numpy"] = []
    for _ in range(rounds):
        for count in ITEMS:
            found[str(count)].append(rate(config, source, batches, count))
        found["numpy"].append(numpys_rate(config, source, batches))
    middle = {name: statistics.median(rates) for name, rates in found.items()}
    return {
        "samples": found,
        "images_per_s": {name: middle[name] for name in map(str, ITEMS)},
        "share_of_numpy": {
            str(count): [ours / own for ours, own in zip(found[str(count)], found["numpy"])]
            for count in ITEMS
        },
    }


def cost(resident: Config, streamed: Config, source: Any, steps: int, rounds: int) -> Any:
    """Rounds of two workloads that begin anew; in each, short stretches of both in turn, of which
    the median ratio counts: of the time, and of the processor's time, which others blur less.
    """
    kinds, times, adds = ("resident", "streamed"), ([], []), ([], [])
    for _ in range(rounds):
        pair = [Workload(config, source=source) for config in (resident, streamed)]
        found: tuple[list[Any], list[Any]] = [], []
        for stretch in range(1 + max(1, steps // STRETCH)):
            for which in (0, 1) if stretch % 2 else (1, 0):
                start = np.array([time.perf_counter(), time.process_time()])
                trained = pair[which].run(STRETCH)
                spent = np.array([time.perf_counter(), time.process_time()]) - start
                if stretch:  # the first compiles
                    found[which].append(1e3 * spent / trained)
        for which, workload in enumerate(pair):
            times[which].append(np.median(found[which], axis=0)[0])
            workload.feed.close()
        ratios = np.median(np.divide(found[1], found[0]), axis=0)
        for kind, ratio in zip(adds, ratios):
            kind.append(100 * (ratio - 1))
    middles = dict(zip(kinds, times))
    return {"steps": steps, "ms_per_step": middles, "samples": adds[0], "samples_cpu": adds[1]}


def show_rates(part: str, found: dict[str, Any]) -> None:
    for count, rates in found["samples"].items():
        if count == "numpy":
            print(f"{'numpy gathers':26s} {record.shown(rates, 0)} examples/s")
            continue
        share = record.shown(found["share_of_numpy"][count], 2)
        label = f"{part}, items of {count}"
        print(f"{label:26s} {record.shown(rates, 0)} examples/s; {share} of numpy's")


def show_cost(found: dict[str, Any]) -> None:
    for which, times in found["ms_per_step"].items():
        print(f"{f'bare step, {which}':26s} {record.shown(times, 3)} ms")
    print(f"streaming adds             {record.shown(found['samples'], 2)} percent")
    print(f"of the processor's time    {record.shown(found['samples_cpu'], 2)} percent")
