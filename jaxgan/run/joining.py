"""How the processes of a run come together before JAX looks for devices, and how one leaves the
others."""

import contextlib
import ctypes
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NamedTuple

import jax

from jaxgan import terminal
from jaxgan.errors import RunError, UserError, line_of
from jaxgan.run import addresses, handshake, signals

_LEAVE_SECONDS = 10
_IN_JAX_SECONDS = 60  # at least, for what no other process delays
_LOOK_SECONDS = 0.1  # how often Python looks for signals while others wait
_THREE = "--coordinator-address, --num-processes and --process-id"


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
    if addresses.host_and_port(address) is None:
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
def joined(here: Place | None, about: dict[str, Any] | None = None) -> Iterator[None]:
    """Joins the other processes, before JAX looks for devices. After an error it does not wait long
    for them to end, too.

    While it waits, handlers of signals run at once and may raise.

    Args:
      about: what all processes of the run must have been given alike, by name.

    Raises:
      UserError: the address cannot be used, this process is not of the run that is there, the
        others do not come, there is no cluster to detect, or processes have different numbers of
        devices.
      RunError: where another process was lost.
    """
    if here is None:
        yield
        return
    # Of no meaning on GPUs, which have NCCL.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM, by which a run is stopped.
    jax.config.update("jax_enable_preemption_service", False)
    # Its warning is of proxies, which `_without_proxy` keeps away.
    jax.config.update("jax_check_proxy_envs", False)
    with _losses_in_one_line(), contextlib.ExitStack() as held:
        numbers = _come_together(held, here, about or {})
        try:
            if len(numbers) > 1:  # JAX's collectives between processes want the same
                raise UserError(
                    f"the processes have {' and '.join(map(str, numbers))} devices; give each the "
                    "same number"
                )
            yield
        except BaseException as error:
            # The others may be waiting for this process, and it for them; then JAX would give up
            # after minutes, again by aborting.
            _end_after(_LEAVE_SECONDS, error)
            raise


@contextlib.contextmanager
def _losses_in_one_line() -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if isinstance(error, UserError | RunError) or not re.search(
            "gloo|nccl|coordination service", str(error), re.I
        ):
            raise
        raise RunError(
            f"another process was lost ({line_of(error)}); start all processes again, with the "
            "same commands"
        ) from None


def _come_together(held: contextlib.ExitStack, here: Place, about: dict[str, Any]) -> list[int]:
    """The different numbers of devices of the processes, in order, once JAX has joined them."""
    until, address = time.monotonic() + here.timeout, here.coordinator_address
    if address is None:
        terminal.say(f"waiting for the cluster's processes, at most {here.timeout} s")
        return _in_jax(here, None)
    count, number = here.num_processes, here.process_id
    assert count is not None and number is not None
    waiting = f"waiting for {count} processes at {address}, at most {here.timeout} s"
    desk = None

    def why() -> str:
        return _why_alone(here, desk)

    try:
        if number == 0:
            opened = _in_background(lambda: handshake.Desk(address, count, about))
            others = desk = _first_of(until, why, opened)
            held.callback(desk.close)  # what came late is told so until the run ends
            terminal.say(waiting)
        else:
            terminal.say(waiting)
            called = _in_background(lambda: handshake.call(address, count, number, about, until))
            # It gives up by itself, and then knows why.
            others = _first_of(until + 1, why, called)
            held.callback(others.close)
        coordinator = _first_of(until, why, others.all_came)
        numbers = _in_jax(here, coordinator, others.lost)
    except BaseException as error:
        if desk:
            desk.close(f"process 0: {line_of(error)}")
        raise
    others.joined()
    return numbers


def _in_jax(
    here: Place, coordinator: addresses.Coordinator | None, *lost: futures.Future[Any]
) -> list[int]:
    """Waits for what is done in JAX's C++. Those that came last get as long as the first."""
    seconds = max(here.timeout, _IN_JAX_SECONDS) if coordinator else here.timeout
    until = time.monotonic() + seconds

    def initialize_and_count() -> list[int]:
        _initialize(here, coordinator, seconds)
        processes = range(jax.process_count())  # waits until each has told its devices
        return sorted({len(jax.local_devices(process_index=i)) for i in processes})

    initialized = _in_background(initialize_and_count)
    try:
        return _first_of(until, lambda: _why_not_in_jax(here, seconds), initialized, *lost)
    except BaseException as error:
        _forget_jax()
        if not initialized.done():
            _end_after(_LEAVE_SECONDS, error)
        raise


def _initialize(here: Place, coordinator: addresses.Coordinator | None, seconds: int) -> None:
    address, bind_address = coordinator or (None, None)
    try:
        with _without_proxy():
            jax.distributed.initialize(
                address,
                *here[1:3],
                coordinator_bind_address=bind_address,
                cluster_detection_method="deactivate" if coordinator else None,
                # JAX would abort the process at its timeout; ours comes first.
                initialization_timeout=seconds + _LEAVE_SECONDS,
            )
    except (ValueError, RuntimeError) as error:
        if coordinator is None:
            raise UserError(
                f"--distributed found no cluster ({line_of(error)}); give {_THREE}"
            ) from None
        raise UserError(
            f"--coordinator-address {here.coordinator_address} cannot be used: {line_of(error)}"
        ) from None


@contextlib.contextmanager
def _without_proxy() -> Iterator[None]:
    """gRPC looks for a proxy when it makes a connection; an empty name means none."""
    name = "grpc_proxy"  # which goes before http_proxy and https_proxy
    before = os.environ.get(name)
    os.environ[name] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _why_not_in_jax(here: Place, seconds: int) -> str:
    if here.coordinator_address is None:
        return (
            "the processes that the cluster announced did not come together within "
            f"{seconds} s (--initialization-timeout); see their output"
        )
    return (
        f"JAX did not join the {here.num_processes} processes that came to "
        f"{here.coordinator_address} within {seconds} s; see their output, or give a longer "
        "--initialization-timeout"
    )


def _why_alone(here: Place, desk: handshake.Desk | None) -> str:
    missing = desk.missing() if desk else []
    which = f"; missing: {', '.join(map(str, missing[:10]))}" if missing else ""
    return (
        f"not all of {here.num_processes} processes came to {here.coordinator_address} within "
        f"{here.timeout} s (--initialization-timeout){which}; start the others, too, each with a "
        "--process-id of its own, and process 0 on the machine that has the address"
    )


# Waiting in Python.
def _in_background(work: Callable[[], Any]) -> futures.Future[Any]:
    """Does it in a thread that does not hold up the process's end, as those of a pool would."""
    done: futures.Future[Any] = futures.Future()

    def do() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return done


def _first_of(until: float, why_not: Callable[[], str], *awaited: futures.Future[Any]) -> Any:
    """What the first that is done returns, or raises; of `until` see `time.monotonic`."""
    while time.monotonic() < until or any(one.done() for one in awaited):
        futures.wait(awaited, _LOOK_SECONDS, futures.FIRST_COMPLETED)
        for one in awaited:
            if one.done():
                return one.result()
    raise UserError(why_not())


def _forget_jax() -> None:
    """Lets the process end at once: at its end JAX would wait for the others to end, too. Also no
    thread may be waiting in what then is taken down, so that it is kept for good."""
    with contextlib.suppress(ImportError, AttributeError):  # JAX has no public way
        from jax._src.distributed import global_state

        for kept in (global_state.client, global_state.service):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        global_state.client = global_state.service = None


def _end_after(seconds: float, error: BaseException) -> None:
    """Ends the process then, where it has not ended by itself."""
    status = 130 if isinstance(error, KeyboardInterrupt) else 2
    if isinstance(error, signals.Stopped):
        status = signals.status(str(error))

    def end() -> None:
        threading.Event().wait(seconds)
        os._exit(status)

    threading.Thread(target=end, daemon=True).start()
