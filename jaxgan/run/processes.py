"""A run over several processes, on one machine or many: how they agree, and stop together. How they
find each other is in `jaxgan.run.joining`.

Each process runs the same loop on its own devices and its own share of each batch;
`jaxgan.parallel` holds the step over all of them. The first process alone writes, so that the
others need neither its workdir nor a shared file system. All that the others must know goes through
the devices' own collectives. With one process every function here does nothing.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.errors import AlarmStop, RunError, UserError, line_of
from jaxgan.run.handshake import differing
from jaxgan.run.signals import Stopped

_MESSAGE_BYTES = 1024  # of what a process tells the others at once
# What an error of one process is in the others; the last one where it is none of these.
_KINDS = {kind.__name__: kind for kind in (UserError, KeyboardInterrupt, AlarmStop, RunError)}
_STOPPED = Stopped.__name__  # by a signal, whose name is all there is to tell


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def agreed_stops(signals: list[str]) -> list[str]:
    """The list of signals at which the run stops: with one process its own, which `signals` is;
    with several, a list that `together` fills, so that all stop at the same step."""
    return signals if jax.process_count() == 1 else []


@contextlib.contextmanager
def together(signals: list[str] | None = None, stops: list[str] | None = None) -> Iterator[None]:
    """Work that each process does alone, after which all wait for each other: an error of one is an
    error of all.

    Nothing in it may communicate. Ends in one small collective, so it belongs where the host waits
    anyway.

    Args:
      signals: those that this process got.
      stops: gets the signals of all processes, see `agreed_stops`.

    Raises:
      UserError, RunError, KeyboardInterrupt: what went wrong here, or in the first process of those
        where it did.
    """
    if jax.process_count() == 1:
        yield
        return
    failed: BaseException | None = None
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        failed = error
    told = {
        "error": None if failed is None else _told(failed),
        "signals": (signals or [])[:1],
    }
    try:
        all_told = _exchange(told)
    except (ValueError, RuntimeError):  # a process was lost, maybe by what failed here, too
        if failed is None:
            raise
        all_told = []
    if failed is not None:
        raise failed
    for number, other in enumerate(all_told):
        if other["error"]:
            kind, line = other["error"]
            if kind == _STOPPED:
                raise Stopped(line)
            raise _KINDS[kind](f"process {number}: {line}")
        if stops is not None:
            stops += other["signals"]


def _told(error: BaseException) -> list[str]:
    """As what the other processes raise it, and its text."""
    if isinstance(error, Stopped):
        return [_STOPPED, str(error)]
    kind = next((kind for kind in _KINDS.values() if isinstance(error, kind)), RunError)
    return [kind.__name__, line_of(error)]


def check_same(values: dict[str, Any]) -> None:
    """Raises `UserError` in every process where one was given other values, by name, than the
    first; where data lie, and how they are read, may differ."""
    first = from_first_json(values)
    with together():
        if differs := differing(values, first):
            raise UserError(f"{differs}; start all processes with the same config and data")


def fault_of_any(fault: str) -> str:
    """Why something cannot be done, "" where it can, in the first process where it cannot."""
    if jax.process_count() == 1:
        return fault
    return next(filter(None, (told["fault"] for told in _exchange({"fault": fault[:200]}))), "")


def from_first_json(value: Any) -> Any:
    """The first process's value, of what JSON can say, in every process."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    (size,) = _broadcast(np.array([text.size], np.int32))
    text = text[:size] if is_first() else np.zeros(size, np.uint8)
    return json.loads(_broadcast(text).tobytes())


def from_first(state: Any) -> Any:
    """The first process's arrays and keys, bit for bit, in every process; each gives a tree of the
    same shapes."""
    if jax.process_count() == 1:
        return state

    def is_key(x: Any) -> bool:
        return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)

    leaves, structure = jax.tree.flatten(state)
    arrays = [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in leaves]
    # As one array of bytes: the broadcast is a sum with zeros, which as numbers would turn -0.0
    # into 0.0.
    data = _broadcast(np.concatenate([np.frombuffer(a.tobytes(), np.uint8) for a in arrays]))
    parts = np.split(data, np.cumsum([a.nbytes for a in arrays])[:-1])
    received = [
        np.frombuffer(part.tobytes(), a.dtype).reshape(a.shape) for part, a in zip(parts, arrays)
    ]
    return structure.unflatten(
        [
            jax.random.wrap_key_data(jnp.asarray(a), impl=jax.random.key_impl(x))
            if is_key(x)
            else a
            for a, x in zip(received, leaves)
        ]
    )


def _broadcast(array: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(array))


def _exchange(told: Any) -> list[Any]:
    """What each process tells, in the order of the processes."""
    from jax.experimental import multihost_utils

    page = np.zeros(_MESSAGE_BYTES, np.uint8)
    text = json.dumps(told).encode()
    page[: len(text)] = np.frombuffer(text, np.uint8)
    return [json.loads(bytes(row).rstrip(b"\0")) for row in multihost_utils.process_allgather(page)]
