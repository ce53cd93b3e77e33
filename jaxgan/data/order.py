"""In which order a run takes its examples: a pure function of (seed, step)."""

import concurrent.futures
import functools
import threading
from collections.abc import Sequence

import numpy as np


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` examples in an epoch, int64 [count]: a pure function of its arguments.

    From Philox's raw numbers, whose stream NumPy guarantees; `permutation` may change.
    """
    return _order(seed, epoch, count)


def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    numbers = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(count)
    return np.argsort(numbers, kind="stable")


def evenly(count: int, wanted: int) -> np.ndarray:
    """So many of `count` rows at even distances, or all where there are fewer, int64: of data that
    are sorted some of each sort."""
    return np.linspace(0, count - 1, min(wanted, count)).astype(np.int64)


def batch_indices(seed: int, step: int, batch_size: int, count: int) -> np.ndarray:
    """Which examples make the batch of a step, int32 [batch_size]."""
    epoch, place = divmod(step, count // batch_size)
    order = epoch_order(seed, epoch, count)
    return order[place * batch_size : (place + 1) * batch_size].astype(np.int32)


class Orders:
    """What `batch_indices` gives, for many steps at once and from any thread.

    The next epoch's order is made while one is in use: that of a million examples takes a tenth of
    a second, for which a device would stand still. Up to three or four orders are held.

    Args:
      seed: of the order.
      count: of the examples, less than 2**31.
      batch_size: examples of a batch.
    """

    def __init__(self, seed: int, count: int, batch_size: int) -> None:
        self._seed, self._count, self._batch_size = seed, count, batch_size
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "jaxgan-order")
        self._lock = threading.Lock()
        self._made: dict[int, concurrent.futures.Future[np.ndarray]] = {}

    def indices(self, step: int, steps: int) -> np.ndarray:
        """Which examples make the batches of `steps` steps from `step` on, int32 [steps,
        batch_size]."""
        size, parts = self._batch_size, []
        while steps:
            epoch, place = divmod(step, self._count // size)
            taken = min(steps, self._count // size - place)
            order = self._of(epoch)
            parts.append(order[place * size : (place + taken) * size].reshape(taken, size))
            step, steps = step + taken, steps - taken
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown(cancel_futures=True)

    def _of(self, epoch: int) -> np.ndarray:
        with self._lock:
            for needed in (epoch, epoch + 1):
                if needed not in self._made:
                    self._made[needed] = self._pool.submit(self._make, needed)
            # Threads may be at either side of an epoch's edge.
            for old in [e for e in self._made if not epoch - 1 <= e <= epoch + 2]:
                del self._made[old]
            order = self._made[epoch]
        return order.result()

    def _make(self, epoch: int) -> np.ndarray:
        return _order(self._seed, epoch, self._count).astype(np.int32)


class OrdersOfMany:
    """The orders of several seeds, whose batches are put one after the other into one.

    Args:
      seeds: of the orders.
      count, batch_size: as for `Orders`.
    """

    def __init__(self, seeds: Sequence[int], count: int, batch_size: int) -> None:
        self._orders = [Orders(seed, count, batch_size) for seed in seeds]

    def indices(self, step: int, steps: int) -> np.ndarray:
        """Which examples make the batches of `steps` steps, int32 [steps, seeds * batch_size]."""
        return np.concatenate([of_seed.indices(step, steps) for of_seed in self._orders], axis=1)

    def close(self) -> None:
        """Ends the threads."""
        for of_seed in self._orders:
            of_seed.close()
