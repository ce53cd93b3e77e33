"""The folder of a run: held against a second run, and checked before anything in it is changed."""

import contextlib
import fcntl
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from jaxgan import checkpoint
from jaxgan.config import Config, differences, to_dict
from jaxgan.errors import UserError


@contextlib.contextmanager
def owned(workdir: pathlib.Path) -> Iterator[pathlib.Path]:
    """Makes the workdir and holds it against a second run; gives its folder of checkpoints.

    An error in the block takes back what was made here, unless there is a result in it.

    Raises:
      UserError: where it cannot be made, or another run holds it.
    """
    checkpoints, lock_file = workdir / "checkpoints", workdir / ".lock"
    made = [
        path for path in (checkpoints, lock_file, workdir, *workdir.parents) if not path.exists()
    ]
    try:
        str(workdir).encode()  # Orbax takes no other names
        checkpoints.mkdir(parents=True, exist_ok=True)
        lock = lock_file.open("w")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not UTF-8"
        raise UserError(
            f"workdir={str(workdir)!a} cannot be written: {reason}; choose another --workdir"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"workdir={workdir} is in use by another run; wait for it or choose another "
                "--workdir"
            ) from None
        try:
            yield checkpoints
        except BaseException:
            if not _holds_results(workdir):
                _take_back(made)
            raise


def _holds_results(workdir: pathlib.Path) -> bool:
    return any((workdir / name).exists() for name in ("config.json", "metrics.jsonl"))


def _take_back(made: list[pathlib.Path]) -> None:
    """Removes the lock and the empty folders among them; `rmdir` takes none that holds anything."""
    with contextlib.suppress(OSError):
        for path in made:
            path.rmdir() if path.is_dir() else path.unlink()


def check(workdir: pathlib.Path, config: Config, must_resume: bool) -> None:
    """Raises `UserError` where the workdir holds another run, or one that is further on."""
    path, steps = workdir / "config.json", checkpoint.steps_in(workdir / "checkpoints")
    if path.exists():
        if changed := differences(read_json(path), to_dict(config)):
            raise UserError(
                f"workdir={workdir} holds another run: {'; '.join(changed)}; choose another "
                "--workdir or that config"
            )
    elif steps or any((workdir / name).exists() for name in ("metrics.jsonl", "samples")):
        raise UserError(
            f"workdir={workdir} holds results but no config.json; choose another --workdir"
        )
    if must_resume and not steps:
        raise UserError(
            f"workdir={workdir} holds no checkpoint to resume from; leave out --resume to begin "
            "anew"
        )
    if steps and steps[-1] > config.steps:
        raise UserError(
            f"steps={config.steps} but {workdir} is already at step {steps[-1]}; use --steps "
            f"{steps[-1]} or more"
        )


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file; raises `UserError` where there is none."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return content
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read: {' '.join(str(error).split())}; restore it or choose another "
            "--workdir"
        ) from None
