"""Signals that stop a run: between two steps it saves and ends, before them it ends at once.

This module is imported before JAX, and imports nothing that takes time.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

# SIGHUP: a terminal that was closed; SIGUSR1: SLURM's warning.
STOPPING = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
_AGAIN_SECONDS = 0.05


class Stopped(KeyboardInterrupt):
    """A signal came where it may end the program at once; its text is the signal's name.

    Notebooks and libraries know Ctrl-C by its base class.
    """


class _Handled:
    """What the process's handlers know: signals belong to the process."""

    noted: list[str] | None = None  # None where no handlers are in place
    at_once = False
    saves = False
    writes = False


_now = _Handled()


@contextlib.contextmanager
def handled(to_the_end: bool = False) -> Iterator[list[str]]:
    """A list that gets the name of each of `STOPPING` that comes while the block lasts.

    The second signal of a name acts as it did before. Within another such block this one has the
    other's handlers and list. In a thread that is not the main one, where Python handles no
    signals, the list stays empty.

    Args:
      to_the_end: the process ends with the block, and nothing is left that could be stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    if _now.noted is not None:
        yield _now.noted
        return
    known = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in known}
    # What is ignored stays so, such as SIGHUP under nohup. None is a handler of C's.
    ours = [n for n, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    noted: list[str] = []

    def note(number: int, frame: Any) -> None:
        if _now.at_once and _imports(frame):
            _send_again(number)
            return
        noted.append(signal.Signals(number).name)
        signal.signal(number, before[signal.Signals(number)])
        if _now.at_once:
            raise Stopped(noted[-1])

    def raise_again(unraisable: Any) -> None:
        """Where the handler ran within a callback of the garbage collector, of which JAX has some,
        nothing else learns what it raised."""
        if isinstance(unraisable.exc_value, Stopped) and noted:
            number = signal.Signals[noted.pop()]
            signal.signal(number, note)
            _send_again(number)
        else:
            unraisable_before(unraisable)

    unraisable_before, sys.unraisablehook = sys.unraisablehook, raise_again
    _now.noted = noted
    for number in ours:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_IGN if to_the_end else before[number])
        sys.unraisablehook = unraisable_before
        _now.noted, _now.at_once, _now.saves, _now.writes = None, False, False, False


def _imports(frame: Any) -> bool:
    """Whether a module is being imported: one of C's that is interrupted prints a page of its own,
    and whoever imports it says that it is not installed."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    """Sends this process a signal in a moment."""
    timer = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def at_once(whether: bool = True) -> Iterator[None]:
    """While the block lasts, a signal that is handled raises `Stopped`; or it only is noted."""
    before, _now.at_once = _now.at_once, whether
    try:
        if whether and _now.noted:  # it came where it was only noted
            raise Stopped(_now.noted[0])
        yield
    finally:
        _now.at_once = before and not _now.saves


def only_noted() -> None:
    """From now on signals are noted, and whoever trains saves before it ends."""
    if threading.current_thread() is threading.main_thread():
        _now.at_once, _now.saves = False, True


def raise_if_early() -> None:
    """Raises `Stopped` where a signal came that was to end the program, as the errors that follow
    from it are no news."""
    if _now.noted and _now.at_once:
        raise Stopped(_now.noted[0])


def when(error: BaseException) -> str:
    """When a signal ended the program, by the error that it led to, for a message."""
    if _now.writes:
        return "at once"
    early = isinstance(error, Stopped) or not _now.saves
    return "before there was anything to save" if early else "at once; whole checkpoints are kept"


def writes_what_stays() -> None:
    """The program, which trains nothing, writes files that a signal leaves incomplete."""
    _now.writes = True


def status(name: str) -> int:
    """The exit status of a program that a signal ended, as shells give it."""
    return 128 + signal.Signals[name]
