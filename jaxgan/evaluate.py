"""Measures of a trained run's samples, beside those of as many true examples.

What is measured follows from the data: `KINDS` holds, for each kind of data that can be measured, a
function of what `config.json` says of the run.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgan.data import mixtures
from jaxgan.errors import UserError
from jaxgan.evaluation import measures
from jaxgan.evaluation.images import of_images
from jaxgan.evaluation.kind import USUALLY, Asked, Kind, Numbers
from jaxgan.evaluation.mixtures import of_mixture
from jaxgan.evaluation.stacked import of_stacked
from jaxgan.evaluation.tables import shown as table
from jaxgan.game import GANState
from jaxgan.run.restore import restore
from jaxgan.sampling import Sampler

__all__ = ["KINDS", "Asked", "Evaluation", "Kind", "evaluate", "evaluations", "kind_of", "table"]
KINDS: tuple[Callable[[dict[str, Any], Asked], Kind | None], ...] = (
    of_mixture,
    of_stacked,
    of_images,
)


class Evaluation(NamedTuple):
    """Of a run.

    Attributes:
      kind: how it was measured.
      step: of the checkpoint.
      count: samples, and true examples.
      samples, truth: the numbers of the run's samples, and those of true examples, the floor.
      warnings: what is wrong with the samples, a line each.
      passed_over: a line for each damaged checkpoint.
    """

    kind: Kind
    step: int
    count: int
    samples: Numbers
    truth: Numbers
    warnings: list[str]
    passed_over: tuple[str, ...]


def evaluate(
    workdir: str | pathlib.Path,
    game: Any = None,
    *,
    count: int | None = None,
    seed: int = 0,
    step: int | str | None = None,
    averaged: bool = True,
    asked: Asked = USUALLY,
) -> Evaluation:
    """Measures samples of a workdir's run.

    Args:
      workdir: of a run.
      game: as for `restore`; None for a run of a recipe.
      count: how many samples, and true examples; None for as many as is usual for the data.
      seed: of both.
      step: of one of the checkpoints that are kept, or "best"; None for the newest.
      averaged: with the players' averages, or with the parameters of training.
      asked: which metrics of images, by which extractor.

    Raises:
      UserError: a workdir that cannot be restored, or data of which nothing is known.
    """
    options: Any = dict(count=count, seed=seed, averaged=averaged, asked=asked)
    return evaluations(workdir, game, steps=[step], **options)[0]


def evaluations(
    workdir: str | pathlib.Path,
    game: Any = None,
    *,
    steps: Sequence[int | str | None],
    count: int | None = None,
    seed: int = 0,
    averaged: bool = True,
    asked: Asked = USUALLY,
) -> list[Evaluation]:
    """`evaluate` of several checkpoints of one workdir, beside the same true examples."""
    measures.check_names(asked.metrics)
    kind, truth, found = None, None, []
    for step in steps:
        run = restore(workdir, game, step)
        if kind is None:
            kind = kind_of(run.about, asked)
        if kind is None:
            raise UserError(_nothing_known(workdir))
        asked_for = count or kind.usual
        samples = min(asked_for, kind.most or asked_for)
        sampler = Sampler(run.game, run.pixels, averaged)
        try:
            numbers = numbers_of(kind, sampler, run.state, samples, seed, run.conditions)
            truth = truth or kind.truth(samples, seed)
        except (UserError, ValueError) as error:
            raise UserError(f"workdir={workdir}: {error}") from None
        warnings = [*_fewer(samples, count), *kind.warnings(numbers, samples)]
        told = numbers, truth, warnings, run.passed_over
        found.append(Evaluation(kind, int(run.state.step), samples, *told))
    return found


def numbers_of(
    kind: Kind,
    sampler: Sampler,
    state: GANState,
    count: int,
    seed: int,
    conditions: dict[str, np.ndarray],
) -> Numbers:
    """The numbers of samples of a state.

    Args:
      kind: how they are measured.
      sampler: of the game.
      state: whose players make them.
      count: of samples.
      seed: of their latents.
      conditions: that the run keeps, whose names count where the kind knows better ones.

    Raises:
      UserError: where the game does not make what is measured.
      ValueError: for samples that cannot be measured.
    """
    if conditions and kind.conditions:
        conditions = kind.conditions(tuple(conditions), count)
    made = sampler.sample(state, jax.random.key(seed), count, conditions)
    if kind.feature not in made:
        raise UserError(
            f"its game makes {', '.join(made)}, and {kind.data} is measured by {kind.feature!r}; "
            "let the game make that"
        )
    labels = conditions.get("label") if kind.conditions else None
    return kind.measured(made[kind.feature], labels)


def kind_of(about: dict[str, Any], asked: Asked = USUALLY) -> Kind | None:
    """How samples of a run are measured, from the content of its `config.json`; None where nobody
    knows.

    Raises:
      UserError: for data that cannot be had, or what is asked that does not go with them.
    """
    return next(filter(None, (make(about, asked) for make in KINDS)), None)


def _nothing_known(workdir: Any) -> str:
    spread = [name for name, mixture in mixtures.MIXTURES.items() if mixture.deviation]
    return (
        f"workdir={workdir}: of its data nothing is known that samples can be measured by; "
        f"evaluate takes runs on images and on {', '.join(spread)}"
    )


def _fewer(count: int, asked_for: int | None) -> list[str]:
    if asked_for is None or count == asked_for:
        return []
    return [
        f"num={asked_for} but there are {count} real images to compare with and as many for the "
        f"floor: {count} samples"
    ]
