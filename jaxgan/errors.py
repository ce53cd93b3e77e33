"""The two errors a user sees. The text of each is one line; the command line prints it and exits
with 2."""


class UserError(ValueError):
    """A mistake in what was asked for; the text names the field, the numbers and the fix."""


class RunError(RuntimeError):
    """A run that cannot go on: a loss that is not finite, a disk that is full, checkpoints that
    cannot be read."""
