"""Faults that tests inject: a file system, clock, terminal, reader or tensor that fails.

A file system fails through Python's audit events: each `open`, `mkdir`, `rename`, `scandir` or
`flock` of this process passes one hook, which may raise what the system would have raised, or hold
the call until the test lets it go. What C++ writes is not seen; there a limit on the size of files
stands in for a full disk.
"""

import contextlib
import errno
import io
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # a process that is started with a fault loads this file before all others
    import numpy as np
    import optax

    from jaxgan.data import Source

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink")


class _Fault(NamedTuple):
    """applies: (event, its arguments) -> whether it is this one's; act: raises, or waits."""

    applies: Callable[[str, tuple], bool]
    act: Callable[[str, tuple], None]


_active: list[_Fault] = []
_hooked: list[bool] = []
_for_good = contextlib.ExitStack()


def _hook(event: str, arguments: tuple) -> None:
    for fault in tuple(_active):
        if fault.applies(event, arguments):
            fault.act(event, arguments)


@contextlib.contextmanager
def _injected(applies: Callable[[str, tuple], bool], act: Callable) -> Iterator[None]:
    if not _hooked:  # a hook stays for the life of the process
        sys.addaudithook(_hook)
        _hooked.append(True)
    fault = _Fault(applies, act)
    _active.append(fault)
    try:
        yield
    finally:
        _active.remove(fault)


def _raising(number: int) -> Callable[[str, tuple], None]:
    def act(event: str, arguments: tuple) -> None:
        name = arguments[0] if arguments and isinstance(arguments[0], str | os.PathLike) else None
        raise OSError(number, os.strerror(number), *([os.fspath(name)] if name else []))

    return act


def _below(folder: Any, arguments: tuple) -> bool:
    try:
        return os.fspath(arguments[0]).startswith(str(folder))
    except (TypeError, IndexError, AttributeError):  # a descriptor, or bytes
        return False


def _writes(event: str, arguments: tuple) -> bool:
    """Whether an event is one that makes, changes or removes something."""
    if event != "open":
        return event in _CHANGING
    mode, flags = arguments[1] or "", arguments[2] or 0
    return bool(set(mode) & set("wax+")) or bool(flags & _WRITING)


# File systems.
def without_locks(number: int = errno.ENOSYS) -> Any:
    """No `flock`, as on some network file systems."""
    return _injected(lambda event, _: event == "fcntl.flock", _raising(number))


def read_only(folder: Any) -> Any:
    """Nothing below the folder can be made, changed or removed."""
    return _injected(lambda e, a: _writes(e, a) and _below(folder, a), _raising(errno.EROFS))


def full(folder: Any, number: int = errno.ENOSPC) -> Any:
    """Nothing new can be made below the folder."""

    def applies(event: str, arguments: tuple) -> bool:
        makes = event == "os.mkdir" or (event == "open" and _writes(event, arguments))
        return makes and _below(folder, arguments)

    return _injected(applies, _raising(number))


def unreadable(folder: Any, number: int = errno.EACCES) -> Any:
    """The folder cannot be listed, nor what is below it opened."""

    def applies(event: str, arguments: tuple) -> bool:
        return event in ("open", "os.scandir", "os.listdir") and _below(folder, arguments)

    return _injected(applies, _raising(number))


@contextlib.contextmanager
def not_kept(number: int = errno.EIO) -> Iterator[None]:
    """Everything can be written, and nothing is kept: each `fsync` fails, as over a network."""
    whole = os.fsync

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    os.fsync = fail
    try:
        yield
    finally:
        os.fsync = whole


def failing_after(count: int, folder: Any, number: int = errno.EIO) -> Any:
    """The first `count` calls that change something below the folder work, all later ones fail."""
    left = [count]

    def applies(event: str, arguments: tuple) -> bool:
        if not (_writes(event, arguments) and _below(folder, arguments)):
            return False
        left[0] -= 1
        return left[0] < 0

    return _injected(applies, _raising(number))


@contextlib.contextmanager
def slow(folder: Any) -> Iterator[threading.Event]:
    """Calls that change something below the folder wait until the event is set, and do so at the
    end of the block."""
    go_on = threading.Event()

    def act(event: str, arguments: tuple) -> None:
        assert go_on.wait(60), "nobody let it go on"

    try:
        with _injected(lambda e, a: _writes(e, a) and _below(folder, a), act):
            yield go_on
    finally:
        go_on.set()


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Files of this process end at `size` bytes: "File too large", for C++ too, as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Clocks.
class JumpingClock:
    """seconds(): what its user last set, whatever time it is; goes back, too."""

    def __init__(self, now: float = 1e9) -> None:
        self.now = now

    def seconds(self) -> float:
        return self.now


# Terminals.
class AsciiTerminal(io.TextIOWrapper):
    """A stream that shows ASCII alone; `shown` is what it got."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii", errors="strict")

    @property
    def shown(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]


class LostTerminal(io.StringIO):
    """A terminal that went away: each write and flush fails."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def flush(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


# Readers and tensors.
def numbers(count: int = 100, read: Callable | None = None) -> "Source":
    """A source of points about (2, 0), read by `read` where it is given."""
    import numpy as np

    from jaxgan.data import Feature, Source

    points = np.random.default_rng(0).normal((2, 0), 1, (count, 2)).astype(np.float32)

    def read_points(indices: "np.ndarray") -> dict[str, "np.ndarray"]:
        return {"point": points[indices]}

    return Source(
        "numbers", count, read or read_points, {"point": Feature((2,), np.dtype(np.float32))}, "1"
    )


def breaking(step: int, batch_size: int, error: type[Exception] = OSError) -> Any:
    """(a source whose batch of that step cannot be read, its faults, which end when they are
    cleared)."""
    import numpy as np

    from jaxgan.data import batch_indices

    source, faults = numbers(), [error("the disk is gone")]
    bad = batch_indices(0, step, batch_size, source.count)

    def read(indices: "np.ndarray") -> dict[str, "np.ndarray"]:
        if faults and np.array_equal(indices, bad):
            raise faults[0]
        return source.read(indices)

    return numbers(read=read), faults


def turning_nan(step: int) -> "optax.GradientTransformation":
    """Descent by gradients whose update of that step, counted from 1, is NaN: the step's loss is
    still finite, as it is that of the weights before it."""
    import jax
    import jax.numpy as jnp
    import optax

    def update(updates: Any, count: Any, params: Any = None) -> tuple[Any, Any]:
        bad = jnp.where(count == step, jnp.nan, -0.01)
        return jax.tree.map(lambda u: u * bad.astype(u.dtype), updates), count + 1

    return optax.GradientTransformation(lambda params: jnp.ones((), jnp.int32), update)


# In a process of its own, see `quiet/sitecustomize.py`.
def signal_at(name: str, number: int) -> Any:
    """This process gets a signal at its so manieth audit event, wherever it then is: each import,
    open and compilation of Python's is one."""
    left = [number]

    def applies(event: str, arguments: tuple) -> bool:
        left[0] -= 1
        return left[0] == 0

    def act(event: str, arguments: tuple) -> None:
        os.kill(os.getpid(), signal.Signals[name])

    return _injected(applies, act)


def without_home() -> Any:
    """No HOME and a user without an entry in passwd, as in containers."""
    import pwd

    def nobody(*_: Any) -> Any:
        raise KeyError("getpwuid(): uid not found")

    pwd.getpwuid = pwd.getpwnam = nobody
    for name in ("HOME", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)
    return contextlib.nullcontext()


def begin(what: str) -> None:
    """Injects a fault for as long as this process lasts, such as `signal_at SIGTERM 1000`."""
    name, *arguments = what.split()
    numbers = [int(text) if text.isdigit() else text for text in arguments]
    fault: Any = {f.__name__: f for f in (without_locks, without_home, signal_at)}[name]
    _for_good.enter_context(fault(*numbers))
