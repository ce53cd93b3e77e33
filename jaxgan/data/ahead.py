"""Batches that threads read, and bring to the devices, before they are asked for."""

import collections
import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgan.data.reading import Leaves

_AHEAD = 4  # blocks that each thread reads ahead
_BYTES_AHEAD = 2**28  # of large batches, fewer
_MOST_STEPS = 64  # of small ones, read as one block

Place = Callable[[Any, int], Any]
_Future = concurrent.futures.Future


class Block(NamedTuple):
    """Batches that one thread reads: leaves [last - first, B, ...] of the steps first to last."""

    first: int
    last: int
    leaves: _Future[Leaves]


class ReadAhead:
    """The items of steps in order.

    Threads read blocks of whole items, as handing one from thread to thread takes as long as a
    small batch. Another thread brings the next item to the devices while they are at work. Beside
    the block in use up to `_AHEAD` blocks for each thread are held, `_BYTES_AHEAD` in all, but one
    at least, and one for each thread after the second.

    Args:
      memory: steps -> new memory, leaves [steps, B, ...]. Called where items are asked for: threads
        have heaps of their own, which return what is large to the system, to be cleared anew.
      fill: (step, leaves) -> the leaves, with the batches from that step on; called in the threads.
      threads: how many read; 0 for none, then all is done when it is asked for.
      batch_bytes: of a batch.
      block_bytes: up to which items are read as one block.
      place: (item, count) -> the item as the devices take it; None for as it is.
    """

    def __init__(
        self,
        memory: Callable[[int], Leaves],
        fill: Callable[[int, Leaves], Leaves],
        threads: int,
        batch_bytes: int,
        block_bytes: int,
        place: Place | None,
    ) -> None:
        self._memory, self._fill = memory, fill
        self._place, self._threads = place, threads
        self._batch_bytes, self._block_bytes = batch_bytes, block_bytes
        pool = concurrent.futures.ThreadPoolExecutor
        self._readers = pool(threads, "jaxgan-read") if threads else None
        self._placer = pool(1, "jaxgan-place") if threads and place else None
        self._next = 0
        self._blocks: collections.deque[Block] = collections.deque()
        self._coming: tuple[int, int, _Future[Any]] | None = None  # step, count, item

    def item(self, step: int, count: int = 1) -> Any:
        """What makes the batches of `count` steps: leaves [B, ...] of one, [count, B, ...] of
        more."""
        if step != self._next:
            self.seek({"next_index": step})
        try:
            if self._coming and self._coming[:2] == (step, count):
                item = self._coming[2].result()
            else:
                item = self._made(self._covering(step, count), step, count)
        except BaseException:
            self.seek(self.position())  # what failed is read anew where it is asked for again
            raise
        self._next = step = step + count
        while self._blocks and self._blocks[0].last <= step:
            self._blocks.popleft()
        if self._placer:
            made = self._placer.submit(self._made, self._covering(step, count), step, count)
            self._coming = step, count, made
        return item

    def position(self) -> dict[str, int]:
        return {"next_index": self._next}

    def seek(self, position: Any) -> None:
        self._next = int(position["next_index"])
        for block in self._blocks:
            block.leaves.cancel()
        self._blocks.clear()
        if self._coming:
            self._coming[2].cancel()
        self._coming = None

    def close(self) -> None:
        """Ends the threads, after what they are at."""
        for pool in (self._readers, self._placer):
            if pool:
                pool.shutdown(cancel_futures=True)

    def _covering(self, step: int, count: int) -> Sequence[Block]:
        """The blocks that hold these steps, after further ones have been asked for."""
        if self._readers is None:
            done: _Future[Leaves] = _Future()
            done.set_result(self._fill(step, self._memory(count)))
            return [Block(step, step + count, done)]
        together = min(_MOST_STEPS, self._block_bytes // self._batch_bytes)
        steps = count * max(1, together // count)
        fitting = _BYTES_AHEAD // (steps * self._batch_bytes)
        ahead = max(1, self._threads - 1, min(_AHEAD * self._threads, fitting))
        last = self._blocks[-1].last if self._blocks else step
        while last < step + count or len(self._blocks) <= ahead:
            leaves = self._readers.submit(self._fill, last, self._memory(steps))
            self._blocks.append(Block(last, last + steps, leaves))
            last += steps
        return [b for b in self._blocks if b.first < step + count and step < b.last]

    def _made(self, blocks: Sequence[Block], step: int, count: int) -> Any:
        parts = []
        for block in blocks:
            some = slice(max(step - block.first, 0), step + count - block.first)
            parts.append({name: leaf[some] for name, leaf in block.leaves.result().items()})
        item = parts[0]
        if len(parts) > 1:  # where the length of dispatches changes
            item = {name: np.concatenate([part[name] for part in parts]) for name in item}
        if count == 1:
            item = {name: leaf[0] for name, leaf in item.items()}
        return self._place(item, count) if self._place else item
