"""The address at which the processes of a run find each other: whether it can be had, held and
reached."""

import contextlib
import errno
import ipaddress
import os
import socket
import time
from typing import NamedTuple

from jaxgan.errors import UserError, line_of

_RETRY_SECONDS = 0.2


class Coordinator(NamedTuple):
    """Where JAX's coordinator is, as host:port: for all, and where process 0 binds it."""

    address: str
    bind_address: str


def host_and_port(address: str) -> tuple[str, int] | None:
    """Of HOST:PORT or [IPv6]:PORT; None for anything else."""
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or (":" in bare and bare == host) or not (port.isascii() and port.isdecimal()):
        return None
    return (bare, int(port)) if 0 < int(port) < 2**16 else None


def listening(address: str) -> list[socket.socket]:
    """Sockets that listen at the address alone, or, where it is a host's name, which another
    machine may resolve otherwise, at all addresses of this machine.

    Raises:
      UserError: the address is taken, or another machine's, or needs rights.
    """
    host, port = _split(address)
    found = _resolved(address)
    try:
        if _is_exact(host):
            return _of_this_machine(found, port)
        for bound in _of_this_machine(found, 0):
            bound.close()
        return [_everywhere(port)]
    except OSError as error:
        raise UserError(_why_not_listening(address, error)) from None


def _of_this_machine(
    found: list[tuple[socket.AddressFamily, str]], port: int
) -> list[socket.socket]:
    """Sockets that listen at those addresses that this machine has; an `OSError` where it has none,
    or where the port is not free at one."""
    sockets, foreign = [], None
    with contextlib.ExitStack() as opened:
        for family, where in found:
            try:
                bound = socket.create_server((where, port), family=family)
                sockets.append(opened.enter_context(bound))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                foreign = error
        if not sockets and foreign:
            raise foreign
        opened.pop_all()
    return sockets


def _everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _why_not_listening(address: str, error: OSError) -> str:
    given, port = f"--coordinator-address {address}", address.rpartition(":")[2]
    if error.errno == errno.EADDRINUSE:
        return (
            f"{given}: port {port} is taken by another run or program on this machine; give each "
            "run a port of its own"
        )
    if error.errno == errno.EACCES:
        return f"{given}: port {port} needs rights that this process lacks; use one from 1024 on"
    return (
        f"{given} is no address of this machine ({os.strerror(error.errno or 0)}); give one that "
        "is, or start process 0 on the machine that has it"
    )


def reserved(listening: socket.socket) -> socket.socket:
    """A port at the same address that a program which shares ports, as JAX's coordinator does, may
    have too."""
    reserved = socket.socket(listening.family)
    if hasattr(socket, "SO_REUSEPORT"):
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if listening.family == socket.AF_INET6:
        only = listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        reserved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    where = listening.getsockname()
    reserved.bind((where[0], 0, *where[2:]))
    return reserved


def coordinator(address: str, port: int) -> Coordinator:
    """JAX's coordinator at the same host and another port."""
    at = f"{address.rpartition(':')[0]}:{port}"
    return Coordinator(at, at if _is_exact(_split(address)[0]) else f"[::]:{port}")


def _is_exact(host: str) -> bool:
    """Whether it means the same address on every machine."""
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def reached(address: str, until: float) -> socket.socket:
    """A connection to who listens there, as soon as somebody does.

    Args:
      until: of `time.monotonic()`, when to give up.

    Raises:
      UserError: nobody is there until then, or the host is unknown.
    """
    host, port = _split(address)
    while True:
        left = until - time.monotonic()
        try:
            connection = socket.create_connection((host, port), max(0.1, min(left, 5)))
            # The system may give a call to a free port that very port as its own.
            if connection.getsockname() != connection.getpeername():
                return connection
            connection.close()
            reason = os.strerror(errno.ECONNREFUSED)
        except (OSError, UnicodeError) as error:
            if _is_unknown(error):
                raise UserError(_unknown_host(address, error)) from None
            reason = getattr(error, "strerror", None) or str(error)
        if time.monotonic() + _RETRY_SECONDS > until:
            raise UserError(
                f"--coordinator-address {address} cannot be reached ({reason}); start process 0 "
                "there, or mend it"
            )
        time.sleep(_RETRY_SECONDS)


def hang_up(connection: socket.socket) -> None:
    """Closes it, whoever uses it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes who waits at it, which closing would not
    connection.close()


def _split(address: str) -> tuple[str, int]:
    found = host_and_port(address)
    assert found  # `place` has checked it
    return found


def _resolved(address: str) -> list[tuple[socket.AddressFamily, str]]:
    host, port = _split(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(_unknown_host(address, error)) from None
    return list(dict.fromkeys((family, str(where[0])) for family, _, _, _, where in found))


def _is_unknown(error: Exception) -> bool:
    """Whether a host does not exist, rather than that the name service does not answer now."""
    if isinstance(error, socket.gaierror):
        return error.errno != socket.EAI_AGAIN
    return isinstance(error, UnicodeError)


def _unknown_host(address: str, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or line_of(error)
    return (
        f"--coordinator-address {address}: the host {_split(address)[0]!r} is not known here "
        f"({reason}); use the name or the address of the machine of process 0"
    )
