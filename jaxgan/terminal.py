"""The one door to the terminal, which may show ASCII alone, be closed, or go away in mid-run.

Nothing that is said may end what says it. A line is one line whatever names are in it, and of
bounded length.
"""

import contextlib
import os
import sys
from typing import Any

_LONGEST = 2000  # characters of a line


def open_closed_streams() -> None:
    """Opens the null device for a standard stream that is closed (`2>&-`).

    The next file that is opened would otherwise take its number, and get what C++ says on it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def say(text: Any) -> None:
    """A line on standard output."""
    _write(sys.stdout, one_line(text) + "\n")


def complain(text: Any) -> None:
    """A line on standard error, by the program's name."""
    _write(sys.stderr, f"jaxgan: {one_line(text)}\n")


def show(page: str) -> None:
    """A page of our own lines on standard output."""
    _write(sys.stdout, page)


def one_line(text: Any) -> str:
    """A text on one line: what cannot be printed is escaped, the middle of a long one left out."""
    text = " ".join(str(text).splitlines())
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} .. {text[-_LONGEST // 2 :]}"


def is_shown() -> bool:
    """Whether somebody looks at standard error: bars are for people."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False


def bar(**options: Any) -> Any:
    """A bar of tqdm on standard error."""
    from tqdm import tqdm

    return tqdm(file=lasting_stderr(), **options)


def above(bar: Any, text: Any) -> None:
    """A line on standard error, above a bar that stays."""
    bar.write(one_line(text), file=lasting_stderr())


def lasting_stderr() -> Any:
    """Standard error, for those who write to it themselves, such as tqdm: no write fails."""
    return _Lasting()


class _Lasting:
    def __init__(self) -> None:
        self._stream = sys.stderr
        self.encoding = getattr(sys.stderr, "encoding", None) or "ascii"

    def write(self, text: str) -> None:
        _write(self._stream, text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return is_shown()

    def fileno(self) -> int:
        return self._stream.fileno()


def _write(stream: Any, text: str) -> None:
    if stream is None:
        return
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except (OSError, ValueError):  # nobody reads, the disk is full, the terminal or stream is gone
        _silence(stream)


def _silence(stream: Any) -> None:
    """Sends what is still to be said to nowhere; half of it may be waiting in a buffer."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
