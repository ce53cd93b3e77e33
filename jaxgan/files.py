"""Files that are written whole or not at all."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from jaxgan.errors import RunError


@contextlib.contextmanager
def written_whole(path: pathlib.Path) -> Iterator[Any]:
    """A file to write bytes to, which takes its name when the block ends, in place of what had it
    before.

    Raises:
      RunError: where it cannot be written; what had the name before is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A new name of its own: nothing is written through a link that lies in the folder.
        options: dict[str, Any] = dict(
            dir=path.parent, prefix=".", suffix=path.suffix, delete=False
        )
        with tempfile.NamedTemporaryFile(**options) as file:
            try:
                yield file
                file.close()
                os.chmod(file.name, 0o666 & ~_umask())
                os.replace(file.name, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        reason = error.strerror or error
        raise RunError(
            f"{path} cannot be written: {reason}; make room or choose another place"
        ) from None


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON; raises as `written_whole`."""
    with written_whole(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
