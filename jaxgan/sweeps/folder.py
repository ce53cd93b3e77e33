"""A sweep's workdir: `sweep.json`, a run's workdir for each program in `groups/`, `table.md` and
`plot.png`."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxgan import files
from jaxgan.errors import UserError
from jaxgan.paths import shown

SWEEP, GROUPS, LOCK = "sweep.json", "groups", ".lock"
TABLE, PLOT = "table.md", "plot.png"


class Place(NamedTuple):
    """Where the state of a member lies.

    Attributes:
      workdir: of its program's run.
      index: its place among the members there.
      count: how many there are.
      options: that tell it from the config of that run, its seed among them.
    """

    workdir: pathlib.Path
    index: int
    count: int
    options: dict[str, Any]


@contextlib.contextmanager
def held(workdir: pathlib.Path) -> Iterator[None]:
    """Makes the workdir and holds it against a second sweep.

    Raises:
      UserError: a folder that cannot be written, or that another sweep holds.
    """
    with contextlib.ExitStack() as holding:
        try:
            files.make_folder(workdir)
            holding.enter_context(files.locked(workdir / LOCK))
        except BlockingIOError:
            raise UserError(
                f"workdir={shown(workdir)} is in use by another run; wait for it or choose another "
                "--workdir"
            ) from None
        except OSError as error:
            raise UserError(
                f"workdir={shown(workdir)} cannot be written: {error.strerror}; "
                f"{files.fix_of(error)}, or choose another --workdir"
            ) from None
        files.clear_unfinished(workdir)
        yield


def is_sweep(workdir: pathlib.Path) -> bool:
    """Whether a folder is the workdir of a sweep."""
    return (workdir / SWEEP).is_file()


def read(workdir: pathlib.Path) -> dict[str, Any]:
    """The content of `sweep.json`.

    Raises:
      UserError: where there is none, or it cannot be read.
    """
    path = workdir / SWEEP
    try:
        content = files.read_json(path)
        for member in content["members"]:
            content["groups"][member["group"]]["members"].index(member["member"])
        return content
    except FileNotFoundError:
        raise UserError(
            f"workdir={shown(workdir)} holds no sweep; begin one there by jaxgan sweep"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        raise UserError(
            f"{path} cannot be read: {reason}; restore it or choose another --workdir"
        ) from None


def place_of(workdir: pathlib.Path, member: int | None) -> Place:
    """Where a member lies; a run's own workdir is the place of its only one.

    Raises:
      UserError: no such member, or none named of a sweep, or one of what is no sweep.
    """
    if not is_sweep(workdir):
        if member is not None:
            raise UserError(
                f"member={member} but workdir={shown(workdir)} holds no sweep; leave out --member"
            )
        return Place(workdir, 0, 0, {})
    sweep = read(workdir)
    members = sweep["members"]
    if member is None or not 0 <= member < len(members):
        told = "" if member is None else f"member={member} but "
        raise UserError(
            f"{told}workdir={shown(workdir)} holds a sweep of {len(members)} members; name one by "
            f"--member, 0 to {len(members) - 1}"
        )
    about = members[member]
    group = sweep["groups"][about["group"]]
    options = {**about["options"], "seed": about["seed"]}
    where = workdir / GROUPS / str(about["group"])
    return Place(where, group["members"].index(member), len(group["members"]), options)


def check(workdir: pathlib.Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """What `sweep.json` says already; None for a new sweep.

    Args:
      workdir: held.
      about: what it is to say.

    Raises:
      UserError: another sweep, or something else, with the differences.
    """
    if not is_sweep(workdir):
        if taken := [n for n in ("config.json", "checkpoints", GROUPS) if (workdir / n).exists()]:
            raise UserError(
                f"workdir={shown(workdir)} holds {taken[0]} and no {SWEEP}; choose another "
                "--workdir"
            )
        return None
    before = read(workdir)
    changed = [
        f"{name} was {_short(before.get('options', {}).get(name))}, now {_short(value)}"
        for name, value in about["options"].items()
        if before.get("options", {}).get(name) != value
    ]
    changed += [
        f"{name} was {_short(before.get(name))}, now {_short(about[name])}"
        for name in ("recipe", "recipe_sha256", "varied", "seeds")
        if name in about and before.get(name) != about[name]
    ]
    if changed:
        raise UserError(
            f"workdir={shown(workdir)} holds another sweep: {'; '.join(changed[:3])}; choose "
            "another --workdir or those options"
        )
    return before


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:60]} .. {text[-50:]}"
