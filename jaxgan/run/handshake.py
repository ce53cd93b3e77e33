"""How the processes of a run find each other before JAX starts.

Each comes to process 0, at the address that all were given, and says who it is. It is turned away
with a reason, or waits; once all have come, process 0 tells them the port at which JAX's
coordinator will be. JAX alone would not do: its coordinator shares a port with that of another run,
and then one aborts the processes of the other.

Process 0 holds the address as long as it runs. So a second run cannot have it, and a process that
comes late is told so. What is said are lines of JSON; whoever says anything else, or nothing, is
hung up on and delays nobody.
"""

import contextlib
import errno
import importlib.metadata
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from jaxgan.errors import RunError, UserError
from jaxgan.run import addresses

_LINE_BYTES = 2**18  # of what is said at once
_ANSWER_SECONDS = 10  # for one line of the other side
_PARTING_SECONDS = 2
_RETRY_SECONDS = 0.2
_STRANGERS = 64  # who may be connected beyond the processes of the run
# May differ between the processes of a run: where data lie and how they are read.
_OWN = ("data.dir", "data.manual_dir", "data.read_threads", "recipe_folder")


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """How the options of this process differ from those of process 0, for a message; None where
    they do not."""
    for name in sorted((ours.keys() | theirs.keys()) - set(_OWN)):
        if (here := ours.get(name)) != (there := theirs.get(name)):
            return f"{name}={here} here but {there} in process 0"
    return None


class Wire:
    """A connection on which lines of JSON are said and heard; it may be closed by any thread."""

    def __init__(self, connection: socket.socket):
        self._socket, self._heard = connection, bytearray()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.settimeout(_ANSWER_SECONDS)

    def say(self, what: Any) -> None:
        """Does nothing where the other side has hung up: whoever hears next will know."""
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(what).encode() + b"\n")

    def hear(self, until: float | None = None) -> dict[str, Any] | None:
        """The next line; None where the other side has hung up, or says nothing until then (of
        `time.monotonic()`), too much, or no JSON object."""
        while b"\n" not in self._heard:
            if len(self._heard) > _LINE_BYTES or (until and time.monotonic() > until):
                return None
            left = until - time.monotonic() if until else _ANSWER_SECONDS
            try:
                self._socket.settimeout(min(_ANSWER_SECONDS, max(0.1, left)))
                more = self._socket.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                return None
            if not more:
                return None
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return said if isinstance(said, dict) else None

    def close(self) -> None:
        addresses.hang_up(self._socket)


class Desk:
    """Where the others come, in process 0: listens from its making until `close`.

    Attributes:
      all_came: done once all have come.
      lost: never done, unless a process that had come is lost before all have joined JAX; then it
        holds a `RunError`.

    Raises:
      UserError: when it is made, where the address is taken or cannot be listened at.
    """

    def __init__(self, address: str, count: int, about: dict[str, Any]):
        self.all_came: Future[addresses.Coordinator] = Future()
        self.lost: Future[Any] = Future()
        self._address, self._hello = address, _hello(count, 0, about)
        self._members: dict[int, Wire] = {}  # that wait, or join JAX
        self._left_to_come = set(range(1, count))
        self._free = threading.Semaphore(_STRANGERS + count)
        self._lock = threading.RLock()
        self._listening = addresses.listening(address)
        # Bound until JAX's coordinator shares it, so that no other program is given the port.
        self._reserved = addresses.reserved(self._listening[0])
        for listener in self._listening:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        self._go_on_if_all_came()

    def missing(self) -> list[int]:
        """The processes that have not come."""
        with self._lock:
            return sorted(self._left_to_come)

    def joined(self) -> None:
        """JAX has taken over in this process; the address stays held."""
        self._reserved.close()

    def close(self, reason: str | None = None) -> None:
        """Gives up the address, and tells those that wait or join why."""
        for listener in self._listening:
            addresses.hang_up(listener)
        self._reserved.close()
        if not reason:
            return
        with self._lock:
            self._tell({"refused": reason})
        # JAX aborts them when its coordinator is gone; they end by themselves first.
        until = time.monotonic() + _PARTING_SECONDS
        while self._members and time.monotonic() < until:
            time.sleep(0.02)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            self._free.acquire()
            try:
                connection, _ = listener.accept()
            except OSError as error:
                self._free.release()
                if error.errno not in (errno.ECONNABORTED, errno.EMFILE, errno.ENFILE):
                    return  # closed
                time.sleep(_RETRY_SECONDS)
                continue
            threading.Thread(target=self._receive, args=(connection,), daemon=True).start()

    def _receive(self, connection: socket.socket) -> None:
        """Hears one that came, and keeps an eye on it until it has joined."""
        try:
            with contextlib.suppress(OSError), contextlib.closing(Wire(connection)) as wire:
                hello = wire.hear(time.monotonic() + _ANSWER_SECONDS)
                if hello and _is_hello(hello) and self._welcomed(hello, wire):
                    self._go_on_if_all_came()
                    self._left(hello["process_id"], wire.hear() == {"joined": True})
        finally:
            self._free.release()

    def _welcomed(self, hello: dict[str, Any], wire: Wire) -> bool:
        with self._lock:
            reason = self._reason_against(hello)
            wire.say({"refused": reason} if reason else {"welcome": True})
            if not reason:
                self._left_to_come.discard(hello["process_id"])
                self._members[hello["process_id"]] = wire
        return not reason

    def _reason_against(self, hello: dict[str, Any]) -> str | None:
        ours, at, own = self._hello, self._address, "and give each run a port of its own"
        count, number = ours["num_processes"], hello["process_id"]
        if self.all_came.done():
            return (
                f"the {count} processes at --coordinator-address {at} came together before this "
                "one; give each run a port of its own, or end that run first"
            )
        for package in ("jaxgan", "jax", "jaxlib"):
            if hello[package] != ours[package]:
                return (
                    f"{package} {hello[package]} here but {ours[package]} in process 0 at "
                    f"{at}; install the same version for all processes"
                )
        if hello["num_processes"] != count:
            return (
                f"--num-processes {hello['num_processes']} here but {count} in process 0 at "
                f"{at}; start all with the same number, {own}"
            )
        if number not in self._left_to_come:
            return (
                f"--process-id {number} came to {at} before this one; number the processes from 0 "
                f"to {count - 1}, {own}"
            )
        if differs := differing(hello["about"], ours["about"]):
            return f"{differs} at {at}; start all processes with the same config, {own}"
        return None

    def _go_on_if_all_came(self) -> None:
        with self._lock:
            if self._left_to_come or self.all_came.done():
                return
            port = self._reserved.getsockname()[1]
            self._tell({"port": port})
            self.all_came.set_result(addresses.coordinator(self._address, port))

    def _left(self, number: int, has_joined: bool) -> None:
        with self._lock:
            del self._members[number]
            if not self.all_came.done():
                self._left_to_come.add(number)  # and may come again
            elif not has_joined and not self.lost.done():
                reason = (
                    f"process {number} was lost while the processes at {self._address} joined; see "
                    "its output, and start all processes again, with the same commands"
                )
                self._tell({"refused": reason})
                self.lost.set_exception(RunError(reason))

    def _tell(self, what: Any) -> None:
        for wire in self._members.values():
            wire.say(what)


class Call(NamedTuple):
    """What a process other than 0 has of it.

    Attributes:
      all_came: done once process 0 says so; or holds why not, as `Desk` says it.
      lost: never done, unless process 0 or another process is lost before this one has joined;
        then it holds a `RunError`.
      joined: tells process 0 that this process has joined JAX.
      close: hangs up.
    """

    all_came: "Future[addresses.Coordinator]"
    lost: "Future[Any]"
    joined: Callable[[], None]
    close: Callable[[], None]


def call(address: str, count: int, number: int, about: dict[str, Any], until: float) -> Call:
    """Comes to process 0, and returns once it has been welcomed.

    Args:
      until: of `time.monotonic()`, when to give up.

    Raises:
      UserError: where nobody is there until then, or this process is turned away.
    """
    wire = Wire(addresses.reached(address, until))
    wire.say(_hello(count, number, about))
    answer = wire.hear(min(until, time.monotonic() + _ANSWER_SECONDS))
    if answer != {"welcome": True}:
        wire.close()
        raise UserError((answer or {}).get("refused") or _no_process_0(address))
    all_came: Future[addresses.Coordinator] = Future()
    lost: Future[Any] = Future()

    def listen() -> None:
        said = wire.hear()
        if said is None or not isinstance(port := said.get("port"), int):
            reason = (said or {}).get("refused")
            all_came.set_exception(UserError(reason) if reason else RunError(_lost(address)))
            return
        all_came.set_result(addresses.coordinator(address, port))
        lost.set_exception(RunError((wire.hear() or {}).get("refused") or _lost(address)))

    def joined() -> None:
        wire.say({"joined": True})
        wire.close()

    threading.Thread(target=listen, daemon=True).start()
    return Call(all_came, lost, joined, wire.close)


def _no_process_0(address: str) -> str:
    return (
        f"what listens at --coordinator-address {address} does not answer as process 0 does; give "
        "each run a port of its own, at which no other program listens"
    )


def _lost(address: str) -> str:
    return (
        f"process 0 at {address} was lost before all had joined; see its output, and start all "
        "processes again, with the same commands"
    )


def _hello(count: int, number: int, about: dict[str, Any]) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("jaxgan", "jax", "jaxlib")}
    about = json.loads(json.dumps(about))  # as the other side reads it
    return {**versions, "num_processes": count, "process_id": number, "about": about}


def _is_hello(said: dict[str, Any]) -> bool:
    kinds = dict.fromkeys(("jaxgan", "jax", "jaxlib"), str)
    kinds |= {"num_processes": int, "process_id": int, "about": dict}
    return all(type(said.get(name)) is kind for name, kind in kinds.items())
