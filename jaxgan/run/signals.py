"""Signals that stop a run: it finishes the step under way, saves, and ends."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

STOPPING = (
    "SIGTERM",
    "SIGINT",
    "SIGHUP",
    "SIGUSR1",
)  # SIGHUP: a lost terminal; SIGUSR1: SLURM's warning


@contextlib.contextmanager
def stop_signals() -> Iterator[list[str]]:
    """A list that stays empty until one of `STOPPING` comes, then holds its name. A second one acts
    as it did before. In a thread that is not the main one, where Python handles no signals, the
    list stays empty."""
    stopped: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    known = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in known}

    def stop(number: int, frame: Any) -> None:
        stopped.append(signal.Signals(number).name)
        signal.signal(number, before[signal.Signals(number)])

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # such as SIGHUP under nohup
            signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
