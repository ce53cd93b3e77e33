"""What can be made again of a workdir: its game, its newest state, and what samples are conditioned
on."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxgan import config as configs
from jaxgan import members
from jaxgan.config import RunOptions
from jaxgan.data import Feature
from jaxgan.data.columns import pixels_of
from jaxgan.errors import RunError, UserError
from jaxgan.game import Game, GANState
from jaxgan.options import fields, replace, shown
from jaxgan.paths import shown as shown_path
from jaxgan.paths import user_path
from jaxgan.recipes import recipe as recipes
from jaxgan.run import checkpoint, ensembles, finite, first, saved
from jaxgan.run import workdir as workdirs
from jaxgan.sampling import conditions_of
from jaxgan.sweeps import folder as folder_of_sweep


class Restored(NamedTuple):
    """A run read back.

    Attributes:
      game: the variant.
      state: its newest whole state, or that of the step that was asked for.
      pixels: features that are images of uint8.
      conditions: features that samples are made from, leaves [N, ...]; {} for none.
      about: the content of `config.json`.
      passed_over: a line for each damaged checkpoint.
    """

    game: Game
    state: GANState
    pixels: tuple[str, ...]
    conditions: dict[str, np.ndarray]
    about: dict[str, Any]
    passed_over: tuple[str, ...]


def restore(
    workdir: str | pathlib.Path,
    game: Game | Callable[[dict[str, Any]], Game] | None = None,
    step: int | str | None = None,
    *,
    member: int | None = None,
    may_differ: tuple[str, ...] = (),
) -> Restored:
    """The newest whole state of a workdir, or that of a step, and its game.

    Args:
      workdir: of a run; another process may be training there.
      game: as it was given to `train`; None for a run of a recipe, which the workdir knows.
      step: of one of the checkpoints that are kept; "best" for the best by the metric of
        `evaluate_metric`; None for the newest.
      member: of a sweep's workdir; None for a run's.
      may_differ: ("game",) to take a game that computes something else than the one trained.

    Raises:
      UserError: a workdir without checkpoint, or without that of the step, or without recipe and
        no game given; another game than the one that was trained.
      RunError: a state that cannot be read or is not finite.
    """
    place = folder_of_sweep.place_of(user_path(workdir, "workdir"), member)
    workdir = place.workdir
    if not (workdir / workdirs.CONFIG).is_file() or not steps_of(workdir):
        raise UserError(
            f"workdir={workdir} holds no checkpoint; train there first, by jaxgan train or train()"
        )
    folder, at = _place_of(workdir, step)
    about = {**workdirs.read_config(workdir), **place.options}
    example = features_of(workdir, about)
    run = known_options(RunOptions(), about)
    made = first.game_of(game or _recipe_of(workdir, about), example, run.dtype)
    template = first.template_of(made, example, run)
    _check_game(workdir, about, game, made, template, example, run, may_differ)
    held = ensembles.stacked(template, place.count) if place.count else template
    found = saved.restore(folder, held, False, at, about.get("run_id"))
    assert found is not None  # steps_in was not empty
    if place.count:
        found = found._replace(state=members.alone(found.state, place.index))
    finite.check_restored(found.state, workdir)
    pixels = pixels_of(example)
    conditions = workdirs.read_conditions(workdir, example)
    if not conditions and (names := conditions_of(made, found.state, example)):
        raise RunError(
            f"{workdir / workdirs.CONDITIONS} is missing, from which examples are made "
            f"({', '.join(names)}); restore it, or train on in this workdir, which writes it again"
        )
    return Restored(made, found.state, pixels, conditions, about, tuple(found.damaged))


def steps_of(workdir: pathlib.Path) -> list[int]:
    """The steps whose checkpoints are kept, oldest first, that of the best among them."""
    folders = workdir / workdirs.CHECKPOINTS, workdir / workdirs.BEST
    return sorted({step for folder in folders for step in checkpoint.steps_in(folder)})


def _place_of(workdir: pathlib.Path, step: Any) -> tuple[pathlib.Path, Any]:
    """The folder in which a checkpoint lies, and its step; None for the newest there."""
    folder, best = workdir / workdirs.CHECKPOINTS, workdir / workdirs.BEST
    kept = checkpoint.steps_in(best)
    if step == workdirs.BEST:
        if not kept:
            raise UserError(
                f"workdir={shown_path(workdir)} keeps no best checkpoint; train with "
                "--evaluate-every N"
            )
        return best, None
    held = checkpoint.steps_in(folder)
    only_best = step in kept if step is not None else not held
    return (best if only_best and step not in held else folder), step


def _check_game(
    workdir: pathlib.Path,
    about: dict[str, Any],
    given: Any,
    game: Game,
    template: GANState,
    example: dict[str, Feature],
    run: RunOptions,
    may_differ: tuple[str, ...],
) -> None:
    """Refuses a game that was given and is not the one that was trained."""
    if given is None or about.get("game") is None or "sweep" in about or "game" in may_differ:
        return
    if first.fingerprint(game, template, example, run) != about["game"]:
        raise UserError(
            f"workdir={shown_path(workdir)} was trained with another game, or by another version "
            "of JAX; give that game, or pass may_differ=('game',) to take this one"
        )


def features_of(workdir: pathlib.Path, about: dict[str, Any]) -> dict[str, Feature]:
    """The features of an example, from the content of `config.json`."""
    try:
        found = {name: feature_of(**f) for name, f in about["example"].items()}
        if not found:
            raise ValueError("no feature")
        return found
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(
            f"{workdir / workdirs.CONFIG} does not tell what an example is; restore it, or train "
            "on in this workdir"
        ) from None


def feature_of(shape: list[int], dtype: str, classes: int | None = None) -> Feature:
    """A feature, as `config.json` tells it."""
    if not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"shape {shape}")
    if not (classes is None or (type(classes) is int and classes > 0)):
        raise ValueError(f"classes {classes}")
    return Feature(tuple(shape), np.dtype(dtype), classes)


def _recipe_of(workdir: pathlib.Path, about: dict[str, Any]) -> Callable[[dict[str, Any]], Game]:
    name = about.get("recipe")
    if not isinstance(name, str | None):
        raise UserError(
            f"{workdir / workdirs.CONFIG} does not tell the recipe but {shown(name)}; restore it, "
            "or give the game: restore(workdir, game)"
        )
    if name is None:
        raise UserError(
            f"workdir={workdir} was trained from Python; give its game: restore(workdir, game)"
        )
    if about.get("recipe_sha256"):
        place = f"{workdir / workdirs.RECIPE}:{name.rpartition(':')[2]}"
        found = recipes.from_file(place, about.get("recipe_folder"))
        if found.sha256 != about["recipe_sha256"]:
            raise UserError(
                f"{workdir / workdirs.RECIPE} is another text than the run was trained with; "
                "restore it, or give the game: restore(workdir, game)"
            )
    else:
        found = configs.begun(configs.recipes.find(name)).recipe
    options = known_options(found.options, about)
    return lambda example: found.make(example, options)


def known_options(options: Any, about: dict[str, Any]) -> Any:
    """The options with the values that `config.json` has for them."""
    names = [name for name, _, _ in fields(options)]
    return replace(options, {name: about[name] for name in names if name in about})


def with_label(run: Restored, label: int) -> dict[str, np.ndarray]:
    """The conditions of a run with this label alone.

    Raises:
      UserError: a game that takes no label, or a label that the data have not.
    """
    classes = classes_of(run, f"label={label}", "--label")
    if classes and label >= classes:
        raise UserError(
            f"label={label} but the data have {classes} classes; use {classes - 1} or less"
        )
    labels = np.full_like(run.conditions["label"], label)
    return {**run.conditions, "label": labels}


def classes_of(run: Restored, asked: str, option: str) -> int | None:
    """How many classes the labels have that a run's game makes examples from; None where the data
    do not tell.

    Raises:
      UserError: a game that takes no label.
    """
    if "label" not in run.conditions:
        raise UserError(f"{asked} but this game is not conditioned on labels; leave out {option}")
    return run.about["example"]["label"].get("classes")
