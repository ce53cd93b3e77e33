"""The errors a user sees. The text of each is one line; the command line prints it and exits with
its status."""

import contextlib
from collections.abc import Iterator


class UserError(ValueError):
    """A mistake in what was asked for; the text names the field, the numbers and the fix."""

    status = 2  # with which the command line ends


class RunError(RuntimeError):
    """A run that cannot go on: a loss that is not finite, a disk that is full, checkpoints that
    cannot be read."""

    status = 2


class AlarmStop(RunError):
    """A run that an alarm stopped; it is saved."""

    status = 3


@contextlib.contextmanager
def blamed(what: str) -> Iterator[None]:
    """Turns an error of a part that a user gave, such as a network that cannot be traced, into a
    `UserError` that names the part; the error itself is its cause."""
    try:
        yield
    except (UserError, RunError, MemoryError):
        raise
    except Exception as error:
        raise UserError(f"{what}: {line_of(error)}") from error


def line_of(error: BaseException) -> str:
    """One line of ASCII, short enough for a message to another process; with the error's type where
    it is none of the two above."""
    text = str(error)
    if not isinstance(error, UserError | RunError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    text = " ".join(text.split()).encode("ascii", "replace").decode()
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) < 400 else f"{text[:200]} .. {text[-190:]}"
