"""A run over several processes, on one machine or many: how they find each other, agree, and stop
together.

Each process runs the same loop on its own devices and its own share of each batch;
`jaxgan.parallel` holds the step over all of them. The first process alone writes, so that the
others need neither its workdir nor a shared file system. All that the others must know goes through
the devices' own collectives. With one process every function here does nothing.
"""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.errors import RunError, UserError

_MESSAGE_BYTES = 1024  # of what a process tells the others at once
_LEAVE_SECONDS = 10
_THREE = "--coordinator-address, --num-processes and --process-id"
# May differ between the processes of a run: where data lie and how they are read.
_OWN = ("data.dir", "data.manual_dir", "data.read_threads")


# Starting and ending.
class Place(NamedTuple):
    """Which of several processes this is, in the terms of `jax.distributed.initialize`.

    Attributes:
      coordinator_address: host:port of the first process; None where the cluster tells.
      num_processes: how many.
      process_id: from 0.
      timeout: seconds to wait for the others.
    """

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    timeout: int = 300


def place(
    address: str | None,
    count: int | None,
    number: int | None,
    detected: bool,
    timeout: int | None = None,
) -> Place | None:
    """The place that the command line names; None for a run of one process. Without a timeout that
    of `Place`.

    Raises:
      UserError: flags that do not go together.
    """
    seconds = Place().timeout if timeout is None else timeout
    flags = {"--coordinator-address": address, "--num-processes": count, "--process-id": number}
    given = [name for name, value in flags.items() if value is not None]
    if detected:
        if given:
            raise UserError(
                f"--distributed asks the cluster for what {', '.join(given)} would say; leave "
                "out one or the other"
            )
        return Place(timeout=seconds)
    if not given:
        if timeout is not None:
            raise UserError(
                f"--initialization-timeout {timeout} but there are no other processes to wait "
                f"for; give {_THREE}"
            )
        return None
    if len(given) < len(flags):
        missing = [name for name in flags if name not in given]
        raise UserError(
            f"{', '.join(given)} without {', '.join(missing)}; several processes need all three, "
            "or --distributed alone"
        )
    assert address is not None and count is not None and number is not None
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator-address {address!r} is not HOST:PORT; use one such as localhost:12345"
        )
    if number >= count:
        raise UserError(
            f"--process-id {number} but --num-processes {count}; the processes are numbered from "
            f"0 to {count - 1}"
        )
    return Place(address, count, number, seconds)


@contextlib.contextmanager
def joined(here: Place | None) -> Iterator[None]:
    """Joins the other processes, before JAX looks for devices. After an error it does not wait long
    for them to end, too.

    Raises:
      UserError: where there is no cluster to detect, or processes have different numbers of
        devices.
      RunError: where another process was lost.
    """
    if here is None:
        yield
        return
    jax.config.update(
        "jax_cpu_collectives_implementation", "gloo"
    )  # of no meaning on GPUs, which have NCCL
    jax.config.update(
        "jax_enable_preemption_service", False
    )  # it would take SIGTERM, by which a run is stopped
    detection = None if here.coordinator_address is None else "deactivate"
    whom = (
        f"{here.num_processes} processes at {here.coordinator_address}"
        if here.coordinator_address
        else "the cluster's processes"
    )
    # JAX would abort the process at its timeout, with a trace of its C++; this comes first.
    with _ended_after(here.timeout, lambda: _why_alone(here)), _interruptible():
        print(f"waiting for {whom}, at most {here.timeout} s", flush=True)
        try:
            jax.distributed.initialize(
                *here[:3],
                cluster_detection_method=detection,
                initialization_timeout=here.timeout + _LEAVE_SECONDS,
            )
        except (ValueError, RuntimeError) as error:
            if here.coordinator_address is None:
                raise UserError(
                    f"--distributed found no cluster ({_line(error)}); give {_THREE}"
                ) from None
            raise UserError(
                f"--coordinator-address {here.coordinator_address} cannot be used: {_line(error)}"
            ) from None
    try:
        numbers = sorted(
            {len(jax.local_devices(process_index=i)) for i in range(jax.process_count())}
        )
        if len(numbers) > 1:  # JAX's collectives between processes want the same
            raise UserError(
                f"the processes have {' and '.join(map(str, numbers))} devices; give each the "
                "same number"
            )
        yield
    except BaseException as error:
        # The others may be waiting for this process, and it for them; then JAX would give up after
        # minutes, again by aborting.
        threading.Thread(
            target=lambda: (threading.Event().wait(_LEAVE_SECONDS), os._exit(2)), daemon=True
        ).start()
        if isinstance(error, ValueError | RuntimeError) and re.search(
            "gloo|nccl|coordination service", str(error), re.I
        ):
            raise RunError(
                f"another process was lost ({_line(error)}); start all processes again, with the "
                "same commands"
            ) from None
        raise


def _why_alone(here: Place) -> str:
    waited = f"{here.timeout} s (--initialization-timeout)"
    if here.coordinator_address is None:
        return (
            f"the processes that the cluster announced did not come together within {waited}; see "
            "their output"
        )
    if here.process_id:
        host, _, port = here.coordinator_address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OSError as error:
            reason = error.strerror or str(error)
            return (
                f"--coordinator-address {here.coordinator_address} cannot be reached ({reason}); "
                "start process 0 there, or mend it"
            )
    return (
        f"not all of {here.num_processes} processes came to {here.coordinator_address} within "
        f"{waited}; start the others, too, each with a --process-id of its own, and process 0 on "
        "the machine that has the address"
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the process at once: Python's own handler would wait for the C++ that waits for
    the others. Nothing is open yet."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _ended_after(seconds: int, why: Any) -> Iterator[None]:
    def end() -> None:
        print("jaxgan:", why(), file=sys.stderr, flush=True)
        os._exit(2)  # nothing is open yet

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


# Agreeing.
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
      UserError, RunError: what went wrong here, or in the first process of those where it did.
    """
    if jax.process_count() == 1:
        yield
        return
    failed: Exception | None = None
    try:
        yield
    except Exception as error:
        failed = error
    told = {
        "error": failed and [isinstance(failed, UserError), _line(failed)],
        "signals": (signals or [])[:1],
    }
    all_told = _exchange(told)
    if failed:
        raise failed
    for number, other in enumerate(all_told):
        if other["error"]:
            is_config, line = other["error"]
            raise (UserError if is_config else RunError)(f"process {number}: {line}")
        if stops is not None:
            stops += other["signals"]


def check_same(values: dict[str, Any]) -> None:
    """Raises `UserError` in every process where one was given other values, by name, than the
    first."""
    values = {name: value for name, value in values.items() if name not in _OWN}
    first = from_first_json(values)
    with together():
        for name in sorted(values.keys() | first.keys()):
            if (here := values.get(name)) != (there := first.get(name)):
                raise UserError(
                    f"{name}={here} here but {there} in process 0; start all processes with the "
                    "same config and data"
                )


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


def _line(error: BaseException) -> str:
    """One line, short enough for a message."""
    text = (
        str(error)
        if isinstance(error, UserError | RunError)
        else f"{type(error).__name__}: {error}"
    )
    text = " ".join(text.split()).encode("ascii", "replace").decode()
    return text if len(text) < 400 else f"{text[:200]} .. {text[-190:]}"
