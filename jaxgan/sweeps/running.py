"""A sweep from its plan to its end: a run for each program, one after the other."""

import importlib.metadata
import pathlib
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxgan import config as configs
from jaxgan import files, terminal
from jaxgan.config import Config
from jaxgan.data import Source
from jaxgan.errors import UserError
from jaxgan.options import to_dict
from jaxgan.paths import shown
from jaxgan.run import checkpoint, signals
from jaxgan.run.beginning import source_of
from jaxgan.run.ensembles import AllEnded, Ensemble, asked
from jaxgan.run.train import train
from jaxgan.run.workdir import CHECKPOINTS
from jaxgan.sweeps import folder, grouping, results
from jaxgan.sweeps.grouping import Group
from jaxgan.sweeps.plan import Member, Plan, config_of
from jaxgan.user_files import blamed_on

_MAY_CHANGE = ("steps", "recipe_sha256", "recipe_folder")  # where it was accepted
_PACKAGES = ("jaxgan", "jax", "jaxlib", "flax", "optax")


class How(NamedTuple):
    """How a sweep is trained, beside its plan.

    Attributes:
      together: at most how many members a program takes at once; None to measure.
      must_resume: refuse to begin anew.
      may_differ: names in which a resumed sweep may differ, as in `train`.
      progress: show bars while loading data.
    """

    together: int | None = None
    must_resume: bool = False
    may_differ: tuple[str, ...] = ()
    progress: bool = False


def swept(plan: Plan, workdir: pathlib.Path, how: How) -> bool:
    """Trains all members of a plan, or goes on where they were; whether all are done, as where no
    signal came.

    Raises:
      UserError: before anything is compiled.
      RunError: as `train`; of members that are not finite only where all of a program are.
    """
    recipe = plan.config.recipe
    if how.must_resume and not folder.is_sweep(workdir):
        raise UserError(
            f"workdir={shown(workdir)} holds no sweep to resume; leave out --resume to begin anew"
        )
    with (
        signals.handled() as signalled,
        folder.held(workdir),
        blamed_on(recipe.name, recipe.source),
    ):
        groups = opened(plan, workdir, how)
        for line in lines(plan, groups):
            terminal.say(line)
        for number, group in enumerate(groups):
            place = workdir / folder.GROUPS / str(number)
            if _is_done(workdir, number, group.config.run.steps):
                continue
            terminal.say(f"program {number}, {_members_told(group.members)}")
            try:
                state = train(
                    asked(_ensemble(group, how.together)),
                    group.config.run.data,
                    place,
                    group.config.run,
                    about={**configs.described(group.config), "sweep": _about_group(group)},
                    recipe=recipe.source,
                    may_differ=how.may_differ,
                    defaults=to_dict(recipe.options),
                    progress=how.progress,
                )
            except AllEnded as error:  # which says nothing of the others
                terminal.complain(error)
                _keep(workdir, number, error.ended)
                continue
            if int(state.step) == group.config.run.steps:
                _keep(workdir, number, {})
            if signalled:
                if int(state.step) == group.config.run.steps:
                    terminal.say(f"stopped by {signalled[0]}; the same command goes on")
                return False
        for line in results.written(workdir):
            terminal.say(line)
    return True


def opened(plan: Plan, workdir: pathlib.Path, how: How) -> list[Group]:
    """The programs of a sweep, as `sweep.json` has them or as they are found now, which it is then
    made to say."""
    about = _about(plan)
    before = folder.check(workdir, _without(about, how.may_differ))
    if before:
        groups = [
            Group(
                config_of(plan, plan.members[of["members"][0]]),
                [plan.members[name] for name in of["members"]],
                tuple(of["numbers"]),
            )
            for of in before["groups"]
        ]
        now = {name: about[name] for name in _MAY_CHANGE if name in about}
        if {**before, **now} != before:
            files.write_json(workdir / folder.SWEEP, {**before, **now})
        return groups
    groups = grouping.grouped(plan, sources(how.progress))
    for group in groups:
        asked(_ensemble(group, how.together)).devices(group.config.run)
    of_member = {m.name: number for number, group in enumerate(groups) for m in group.members}
    files.write_json(
        workdir / folder.SWEEP,
        {
            **about,
            "members": [
                {"member": m.name, "seed": m.seed, "options": m.options, "group": of_member[m.name]}
                for m in plan.members
            ],
            "groups": [
                {"members": [m.name for m in group.members], "numbers": list(group.numbers)}
                for group in groups
            ],
            "versions": {
                **{n: _version(n) for n in _PACKAGES},
                "python": platform.python_version(),
            },
            "results": [],
        },
    )
    return groups


def sources(progress: bool = False, keep: bool = True) -> Callable[[Config], Source]:
    """config -> its data, each opened once; arguments as for `open_source`."""
    opened: dict[str, Source] = {}

    def source(config: Config) -> Source:
        name = repr(config.run.data)
        if name not in opened:
            opened[name] = source_of(config.run.data, progress, keep)
        return opened[name]

    return source


def _about(plan: Plan) -> dict[str, Any]:
    """What `sweep.json` says of a plan."""
    of_run = configs.described(plan.config)
    kept = {"recipe", "recipe_sha256", "recipe_folder", "steps"}
    options = {
        name: value
        for name, value in of_run.items()
        if name not in kept | {*plan.varied, "seed"} and configs.is_of_training(name)
    }
    about = {name: of_run[name] for name in sorted(kept) if name in of_run}
    return {**about, "options": options, "varied": plan.varied, "seeds": plan.seeds}


def _without(about: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if name not in names}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _about_group(group: Group) -> dict[str, Any]:
    """What the `config.json` of a program's run says of its members."""
    members = [{"member": m.name, "seed": m.seed, "options": m.options} for m in group.members]
    return {"members": members, "numbers": list(group.numbers)}


def _ensemble(group: Group, together: int | None) -> Ensemble:
    def make(features: Any, numbers: dict[str, Any]) -> Any:
        return grouping.game_of(group.config, features, numbers)

    members = group.members
    numbers = {name: tuple(m.options[name] for m in members) for name in group.numbers}
    names, seeds = (tuple(getattr(m, part) for m in members) for part in ("name", "seed"))
    return Ensemble(names, seeds, numbers, make, together)


def lines(plan: Plan, groups: list[Group]) -> list[str]:
    """What a sweep will train."""
    cells, programs = len(plan.cells()), len(groups)
    options = " x ".join(f"{len(v)} of {name}" for name, v in plan.varied.items()) or "no options"
    many = "programs" if programs > 1 else "program"
    first = (
        f"sweep of {len(plan.members)} members: {options}, {len(plan.seeds)} seeds, "
        f"in {programs} {many}"
    )
    if cells == 1:
        return [first]
    shared = [
        f"program {number}: {_members_told(group.members)}"
        + (f"; {', '.join(group.numbers)} of each" if group.numbers else "")
        for number, group in enumerate(groups)
    ]
    return [first, *shared]


def _members_told(members: list[Member]) -> str:
    names = [m.name for m in members]
    if len(names) == 1:
        return f"member {names[0]}"
    if names == list(range(names[0], names[-1] + 1)):
        return f"members {names[0]} to {names[-1]}"
    return f"{len(names)} members, {names[0]} to {names[-1]}"


def _is_done(workdir: pathlib.Path, number: int, steps: int) -> bool:
    """Whether a program's run has nothing left to do: it is at its last step, or all of its members
    ended."""
    state = folder.read(workdir).get("done", {}).get(str(number))
    if not state:
        return False
    there = checkpoint.steps_in(workdir / folder.GROUPS / str(number) / CHECKPOINTS)
    if there and there[-1] > steps:
        raise UserError(
            f"steps={steps} but program {number} of {shown(workdir)} is already at step "
            f"{there[-1]}; use --steps {there[-1]} or more"
        )
    return bool(state["ended"]) or there[-1:] == [steps]


def _keep(workdir: pathlib.Path, number: int, ended: dict[int, Any]) -> None:
    """Writes that a program's run is done."""
    about = folder.read(workdir)
    told = {"ended": {str(name): list(how) for name, how in ended.items()}}
    done = {**about.get("done", {}), str(number): told}
    files.write_json(
        workdir / folder.SWEEP, {**about, "done": done, "results": results.results_of(workdir)}
    )
