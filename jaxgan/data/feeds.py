"""From a source to the items that training steps take."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxgan.data.ahead import Place, ReadAhead
from jaxgan.data.order import Orders, OrdersOfMany
from jaxgan.data.reading import Leaves, bytes_of_one, empty, filler, loaded
from jaxgan.data.source import Source
from jaxgan.errors import UserError

_GATHERED_AT_ONCE = 2**22  # bytes that a thread gathers from arrays for one or more batches


def _nothing(*arguments: Any) -> None: ...


class Feed(NamedTuple):
    """The input of a run.

    Attributes:
      resident: leaves [N, ...] that live on the device for the whole run; {} when streaming.
      item: (step, count=1) -> what makes the batches of `count` steps, of this process's share:
        when resident which examples, int32 [B], when streaming leaves [B, ...]; for more steps than
        one with an axis [count] in front. Steps in order are read ahead; any other can be asked
        for. What it gives is not written again.
      fetch: pure (resident, item of one step) -> batch, leaves [B, ...]; compiled into the step.
      position: () -> where the reader is, as JSON, for the checkpoint; None when resident.
      seek: begins to read ahead from a position.
      num_examples: examples in the source.
      steps_per_epoch: full batches in it; the rest, another one each epoch, is left out.
      close: ends the threads.
    """

    resident: Any
    item: Callable[..., Any]
    fetch: Callable[[Any, Any], Any]
    position: Callable[[], Any]
    seek: Callable[[Any], None]
    num_examples: int
    steps_per_epoch: int
    close: Callable[[], None] = _nothing


def make_feed(
    source: Source,
    batch_size: int,
    seed: int | Sequence[int],
    share: slice = slice(None),
    resident_limit_mb: int = 2048,
    read_threads: int = 2,
    progress: bool = False,
    place: Place | None = None,
) -> Feed:
    """A feed of the batches that (seed, step) name.

    Args:
      source: the examples.
      batch_size: examples of a batch, over all processes.
      seed: of the order; of several seeds the batches come one after the other in one.
      share: which examples of each batch this process takes; those of the others are not read.
      resident_limit_mb: sources up to this many MiB are read whole; larger ones stream.
      read_threads: threads that read ahead when streaming, and at least how many load what is
        resident; 0 reads in the calling thread, for sources that bear no other.
      progress: show a bar while loading.
      place: (item, count) -> the item on the devices; when streaming it is called ahead, in a
        thread. None leaves items in the host's memory.

    Raises:
      UserError: for a batch larger than the source.
      RunError: for examples that cannot be read, here or when an item is asked for.
    """
    check_batch_size(source, batch_size)
    numbers = source.count, source.count // batch_size
    if isinstance(seed, int):
        together, orders = batch_size, Orders(seed, source.count, batch_size)
    else:
        together = len(seed) * batch_size
        orders = OrdersOfMany(seed, source.count, batch_size)

    if not streams(source, resident_limit_mb):

        def chosen(step: int, count: int = 1) -> Any:
            indices = orders.indices(step, count)[:, share]
            item = indices[0] if count == 1 else indices
            return place(item, count) if place else item

        resident = loaded(source, read_threads, progress)
        return Feed(resident, chosen, gathered, _nothing, _nothing, *numbers, orders.close)

    halted = threading.Event()
    fill, own = filler(source, halted.is_set), len(range(*share.indices(together)))

    def memory(steps: int) -> Leaves:
        return empty(source.features, steps, own)

    def read(step: int, leaves: Leaves) -> Leaves:
        steps = len(next(iter(leaves.values())))
        fill(orders.indices(step, steps)[:, share], leaves)
        return leaves

    batch_bytes = max(1, own * bytes_of_one(source.features))
    # A reader decodes: its batches are worth a thread each, and one that fails is one alone.
    block_bytes = 0 if source.arrays is None else _GATHERED_AT_ONCE
    ahead = ReadAhead(memory, read, read_threads, batch_bytes, block_bytes, place)

    def close() -> None:
        halted.set()
        ahead.close()
        orders.close()

    return Feed({}, ahead.item, as_it_is, ahead.position, ahead.seek, *numbers, close)


def check_batch_size(source: Source, batch_size: int) -> None:
    """Raises `UserError` for a batch larger than the source, or a source of too many examples."""
    if source.count >= 2**31:
        raise UserError(
            f"{source.name} has {source.count} examples; use less than {2**31}, a part of it"
        )
    if batch_size > source.count:
        raise UserError(
            f"batch_size={batch_size} exceeds the {source.count} examples of {source.name}; use "
            f"{source.count} or less"
        )


def streams(source: Source, resident_limit_mb: int) -> bool:
    """Whether a source is larger than what lives on the device."""
    return source.count * bytes_of_one(source.features) > resident_limit_mb * 2**20


def fetch_of(source: Source, resident_limit_mb: int) -> Callable[[Any, Any], Any]:
    """(resident, item) -> batch, of a source that streams or does not."""
    return as_it_is if streams(source, resident_limit_mb) else gathered


def gathered(resident: Mapping[str, Any], item: Any) -> dict[str, Any]:
    """The examples of these numbers, int32 [B], of leaves [N, ...]."""
    return {key: leaf[item] for key, leaf in resident.items()}


def as_it_is(resident: Any, item: Any) -> Any:
    del resident
    return item
