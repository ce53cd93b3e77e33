"""A run's folder: who holds it, which run it holds, and what can be read back from it.

It gets `config.json`, `metrics.jsonl`, `samples/`, `checkpoints/`, `tensorboard/`, for a recipe of
the user `recipe.py`, for a conditional game `conditions.npz`, and `best/` where it is evaluated.
"""

import contextlib
import errno
import functools
import os
import pathlib
import uuid
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxgan import files
from jaxgan.config import RunOptions, differences
from jaxgan.errors import RunError, UserError
from jaxgan.options import to_dict
from jaxgan.paths import shown
from jaxgan.run import checkpoint
from jaxgan.sweeps.folder import is_sweep

CONFIG, CHECKPOINTS, LOCK = "config.json", "checkpoints", ".lock"
BEST = "best"  # holds the best checkpoint by a metric
RECIPE, CONDITIONS = "recipe.py", "conditions.npz"
# Errors that say that something else lies where a file or folder of ours belongs.
_IN_THE_WAY = (errno.ELOOP, errno.ENOTDIR, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ENXIO)
_MOST_BYTES = 2**30  # of conditions, unpacked
# What NumPy and zipfile raise of a file that is none of theirs, or that promises too much.
_ODD = (OSError, ValueError, KeyError, EOFError, TypeError, MemoryError, zipfile.BadZipFile)
_SHOWN = 5  # differences that a message names
_RESULTS = (CONFIG, "metrics.jsonl", "samples")


class Held(NamedTuple):
    """A workdir that is held: lines for the user; check: () -> None, raises `RunError` where it was
    moved, removed or let to another run meanwhile."""

    lines: list[str]
    check: Callable[[], None]


@contextlib.contextmanager
def held(workdir: pathlib.Path) -> Iterator[Held]:
    """Makes the workdir and holds it against a second run.

    An error in the block takes back what was made here, unless there is a result in it that was not
    there before.

    Raises:
      UserError: a folder that cannot be written, or that another run holds.
    """
    checkpoints, lock = workdir / CHECKPOINTS, workdir / LOCK
    had_results = workdir.is_dir() and has_results(workdir)
    wanted = checkpoints, lock, workdir, *workdir.parents
    made = [path for path in wanted if not os.path.lexists(path)]
    with contextlib.ExitStack() as holding:
        try:
            files.make_folder(checkpoints)
            held_lock = holding.enter_context(files.locked(lock))
        except BlockingIOError:
            raise UserError(
                f"workdir={shown(workdir)} is in use by another run; wait for it or choose another "
                "--workdir"
            ) from None
        except OSError as error:
            _take_back(made)
            raise UserError(_why_not_written(workdir, error)) from None
        try:
            reason = held_lock.missing
            for folder in () if reason else (workdir, workdir / "samples"):
                files.clear_unfinished(folder)
            lines = [_without_lock(workdir, reason)] if reason else []
            yield Held(lines, functools.partial(_check_held, workdir, held_lock))
        except BaseException:
            if had_results or not has_results(workdir):
                _take_back(made)
            raise


def _check_held(workdir: pathlib.Path, lock: files.Lock) -> None:
    if not lock.is_ours():
        raise RunError(
            f"{shown(workdir)} or the {LOCK} in it was moved or removed while the run went on; "
            "move it back and run the same command again"
        )


def _why_not_written(workdir: pathlib.Path, error: OSError) -> str:
    within = [n for n in (CHECKPOINTS, LOCK) if error.filename == str(workdir / n)]
    where = f"{within[0]}: " if within else ""
    fix = "choose another --workdir"
    if within and error.errno in _IN_THE_WAY:
        fix = f"move that away, or {fix}"
    else:
        fix = f"{files.fix_of(error)}, or {fix}"
    return f"workdir={shown(workdir)} cannot be written: {where}{error.strerror}; {fix}"


def _without_lock(workdir: pathlib.Path, reason: str) -> str:
    return (
        f"the file system of {shown(workdir)} has no locks ({reason}); take care that no second "
        "run trains there"
    )


def _take_back(made: list[pathlib.Path]) -> None:
    """Removes the lock and the empty folders among them; `rmdir` takes none that holds anything."""
    with contextlib.suppress(OSError):
        for path in made:
            path.rmdir() if path.is_dir() else path.unlink()


def has_results(workdir: pathlib.Path) -> bool:
    """Whether anything in a workdir is a result of training."""
    return bool(checkpoint.steps_in(workdir / CHECKPOINTS)) or any(
        os.path.lexists(workdir / name) for name in _RESULTS
    )


def check(
    workdir: pathlib.Path,
    about: dict[str, Any],
    steps: int,
    must_resume: bool,
    ignored: tuple[str, ...],
    defaults: dict[str, Any],
) -> None:
    """Raises `UserError` where the workdir holds another run, or one that is further on.

    Args:
      workdir: held.
      about: what `config.json` is to say; what the folder's says beside it is not compared.
      steps: to train to.
      must_resume: refuse to begin anew.
      ignored: of `about`, what may differ.
      defaults: of `about`, what it was in a run that does not say it; those of `RunOptions` are
        known.
    """
    where, done = f"workdir={shown(workdir)}", checkpoint.steps_in(workdir / CHECKPOINTS)
    checkpoint.check_names(workdir / CHECKPOINTS)
    if (workdir / CONFIG).exists():
        # An option that the run did not know of had its default's meaning.
        silent = {"game": about.get("game")}  # which only runs from Python tell
        before = {**silent, **to_dict(RunOptions()), **defaults, **read_config(workdir)}
        compared = {name: value for name, value in about.items() if name not in ignored}
        changed = differences({name: before.get(name) for name in compared}, compared)
        if changed and all(line.startswith("recipe_sha256 ") for line in changed):
            raise UserError(
                f"{where} was trained with another text of {about['recipe']}, kept there "
                f"as {RECIPE}; choose another --workdir, or go on with --accept-changed-recipe"
            )
        if changed and all(line.startswith("game ") for line in changed):
            raise UserError(
                f"{where} was trained with another game, or by another version of JAX; "
                "choose another workdir, or go on with this game by --accept-changed-recipe or, in "
                "Python, may_differ=('game',)"
            )
        if changed:
            more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            raise UserError(
                f"{where} holds another run: {'; '.join(changed[:_SHOWN])}{more}; choose "
                "another --workdir or that config"
            )
    elif is_sweep(workdir):
        raise UserError(f"{where} holds a sweep; go on with it by jaxgan sweep, or choose another")
    elif done or has_results(workdir):
        raise UserError(f"{where} holds results but no {CONFIG}; choose another --workdir")
    if must_resume and not done:
        raise UserError(
            f"{where} holds no checkpoint to resume from; leave out --resume to begin anew"
        )
    if done and done[-1] > steps:
        raise UserError(
            f"steps={steps} but {workdir} is already at step {done[-1]}; use --steps {done[-1]} "
            "or more"
        )


def run_id_of(workdir: pathlib.Path) -> str:
    """What tells this run from all others, in its config and its checkpoints; a new one for a run
    that is begun."""
    known = read_config(workdir) if os.path.lexists(workdir / CONFIG) else {}
    found = known.get("run_id")
    return found if isinstance(found, str) else uuid.uuid4().hex


def about_run(run: RunOptions, named: bool) -> dict[str, Any]:
    """What `config.json` says of a run's options; those of data only where they name the data."""
    values = to_dict(run)
    return values if named else {n: v for n, v in values.items() if not n.startswith("data.")}


def about_data(source: Any) -> dict[str, Any]:
    """What `config.json` says of a source: another of these is another run."""
    example = {
        name: {"shape": list(f.shape), "dtype": np.dtype(f.dtype).name, "classes": f.classes}
        for name, f in source.features.items()
    }
    return {"examples": source.count, "data_version": source.version, "example": example}


def write(
    workdir: pathlib.Path, about: dict[str, Any], conditions: dict[str, Any], recipe: str | None
) -> None:
    """Writes what tells which run this is, where it is not there as it should be.

    Raises:
      RunError: where that cannot be written.
    """
    known = read_config(workdir) if (workdir / CONFIG).exists() else {}
    # A finished run that is asked again, with other kernels say, keeps the config that it was
    # trained with.
    same = all(known.get(name) == about.get(name) for name in ("steps", "run_id"))
    if not same or differences(known, about):
        files.write_json(workdir / CONFIG, about)
    if recipe is not None and _differs(workdir / RECIPE, recipe):
        files.set_aside(workdir / RECIPE)
        with files.written_whole(workdir / RECIPE) as file:
            file.write(recipe.encode())
    if conditions:
        if not known:
            files.set_aside(workdir / CONDITIONS)
        with files.written_whole(workdir / CONDITIONS) as file:
            np.savez(file, **conditions)


def _differs(path: pathlib.Path, text: str) -> bool:
    try:
        return files.read(path) != text.encode()
    except OSError:
        return True


def read_conditions(workdir: pathlib.Path, features: dict[str, Any]) -> dict[str, np.ndarray]:
    """What samples are conditioned on, leaves [N, ...]; {} where the game needs nothing.

    Args:
      workdir: of a run.
      features: of an example.

    Raises:
      RunError: where the file cannot be read, or holds what no example has.
    """
    path = workdir / CONDITIONS
    if not os.path.lexists(path):
        return {}
    try:
        with files.opened_to_read(path) as file, zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                raise ValueError(f"it unpacks to more than {_MOST_BYTES} bytes")
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            file.seek(0)
            with np.load(file, allow_pickle=False) as content:
                conditions = {name: content[name] for name in names}
        for name, leaf in conditions.items():
            feature = features[name]
            if (
                leaf.shape != (len(leaf), *feature.shape)
                or not len(leaf)
                or leaf.dtype != feature.dtype
            ):
                raise ValueError(f"{name} is {leaf.dtype} of shape {leaf.shape}")
            if feature.classes and not (leaf.min() >= 0 and leaf.max() < feature.classes):
                raise ValueError(f"{name} has {leaf.max()}, there are {feature.classes} classes")
        return conditions
    except _ODD as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        raise RunError(f"{path} cannot be read: {reason}; restore it from a copy") from None


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """The content of `config.json`.

    Raises:
      UserError: where it cannot be read.
    """
    path = workdir / CONFIG
    try:
        content = files.read_json(path)
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return content
    except (OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        raise UserError(
            f"{path} cannot be read: {reason}; restore it or choose another --workdir"
        ) from None
