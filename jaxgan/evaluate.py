"""Measures of a trained run's samples, beside those of as many true examples.

What is measured follows from the data: `KINDS` holds, for each kind of data that can be measured, a
function of what `config.json` says of the run.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgan import data
from jaxgan.config import RunOptions
from jaxgan.data import mixtures, stacked
from jaxgan.errors import UserError
from jaxgan.metrics import modes
from jaxgan.metrics.stacked import labels_of, shares_of_data, stacked_coverage
from jaxgan.run.restore import known_options, restore
from jaxgan.sampling import Sampler

SURE = 0.99  # of held-out images a classifier has to name right to count modes by

Numbers = dict[str, Any]  # by name; None for what is not defined


class Kind(NamedTuple):
    """How samples of some data are measured.

    Attributes:
      data: their name.
      feature: of an example, that is measured.
      true: (count, seed) -> as many true ones, leaves [count, ...].
      measured: of samples [N, ...], by the names of `rows`.
      rows: name -> (label, format) of each number, in order.
      warnings: (numbers, how many samples) -> what is wrong, a line each.
      extractor: name, digest and accuracy of what the images are described by; {} for none.
    """

    data: str
    feature: str
    true: Callable[[int, int], np.ndarray]
    measured: Callable[[np.ndarray], Numbers]
    rows: dict[str, tuple[str, str]]
    warnings: Callable[[Numbers, int], list[str]]
    extractor: dict[str, Any] = {}


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
    count: int = 26_000,
    seed: int = 0,
    step: int | None = None,
    averaged: bool = True,
) -> Evaluation:
    """Measures samples of a workdir's run.

    Args:
      workdir: of a run.
      game: as for `restore`; None for a run of a recipe.
      count: how many samples, and true examples.
      seed: of both.
      step: of one of the checkpoints that are kept; None for the newest.
      averaged: with the players' averages, or with the parameters of training.

    Raises:
      UserError: a workdir that cannot be restored, or data of which nothing is known.
    """
    run = restore(workdir, game, step)
    kind = kind_of(run.about)
    if kind is None:
        spread = [name for name, mixture in mixtures.MIXTURES.items() if mixture.deviation]
        raise UserError(
            f"workdir={workdir}: of its data nothing is known that samples can be measured by; "
            f"evaluate takes runs on {', '.join(spread)} and stacked-mnist"
        )
    sampler = Sampler(run.game, run.pixels, averaged)
    made = sampler.sample(run.state, jax.random.key(seed), count, run.conditions)
    if kind.feature not in made:
        raise UserError(
            f"workdir={workdir}: its game makes {', '.join(made)}, and {kind.data} is measured by "
            f"{kind.feature!r}; let the game make that"
        )
    try:
        found = kind.measured(made[kind.feature])
    except ValueError as error:
        raise UserError(f"workdir={workdir}: {error}") from None
    truth, warnings = kind.measured(kind.true(count, seed)), kind.warnings(found, count)
    at_step = int(run.state.step)
    return Evaluation(kind, at_step, count, found, truth, warnings, run.passed_over)


def kind_of(about: dict[str, Any]) -> Kind | None:
    """How samples of a run are measured, from the content of its `config.json`; None where nobody
    knows."""
    return next(filter(None, (make(about) for make in KINDS)), None)


def _of_mixture(about: dict[str, Any]) -> Kind | None:
    name = mixtures.name_of(about.get("data_version"))
    if name is None or not mixtures.MIXTURES[name].deviation:
        return None
    mixture = mixtures.MIXTURES[name]
    all_modes, size = mixture.centres.shape

    def measured(samples: np.ndarray) -> Numbers:
        return modes.coverage(samples, *mixture)._asdict()

    def warnings(numbers: Numbers, count: int) -> list[str]:
        if not modes.is_collapsed_within(modes.Coverage(**numbers), count, size):
            return []
        share = modes.true_share(size)
        return [
            f"collapse within modes: {100 * numbers['high_quality']:.1f} % of the samples "
            f"are within {modes.NEAR:.0f} deviations, of true ones {100 * share:.1f} %"
        ]

    rows = {
        "modes": (f"modes covered, of {all_modes}", "d"),
        "high_quality": ("within 3 deviations of one", ".2%"),
        "reverse_kl": ("reverse KL over modes", ".5f"),
        "reverse_kl_2500": ("the same of the first 2,500", ".5f"),
        "binned_kl": ("reverse KL with a bin off the modes", ".5f"),
        "spread": ("spread within modes, of the true one", ".3f"),
        "tightest": ("the least of a mode", ".3f"),
    }
    return Kind(name, "point", mixture.drawn, measured, rows, warnings)


def _of_stacked(about: dict[str, Any]) -> Kind | None:
    if not stacked.is_stacked(about.get("data_version")):
        return None
    from jaxgan.features import classifier

    options = known_options(RunOptions(), about).data
    of_one = stacked.of_one(options)
    assert of_one is not None
    grey, judge = data.open_source(of_one), classifier(of_one)
    labels = grey.read(np.arange(grey.count))["label"]
    classes = int(grey.features["label"].classes or labels.max() + 1)
    shares = shares_of_data(labels, classes)

    def true(count: int, seed: int) -> np.ndarray:
        chosen = np.random.default_rng(seed).integers(grey.count, size=(count, stacked.CHANNELS))
        return stacked.stacked(grey, classes, chosen)["image"]

    def classify(images: np.ndarray) -> np.ndarray:
        probabilities = judge.describe(images).probabilities
        assert probabilities is not None
        return probabilities

    def measured(samples: np.ndarray) -> Numbers:
        return stacked_coverage(labels_of(samples, classify), shares)._asdict()

    def warnings(numbers: Numbers, count: int) -> list[str]:
        if (judge.accuracy or 0.0) >= SURE:
            return []
        return [
            f"the classifier names {judge.accuracy or 0:.1%} of held-out images right; with less "
            f"than {SURE:.0%} it finds modes that are not there"
        ]

    rows = {
        "modes": (f"triples of labels, of {classes**stacked.CHANNELS:,}", ",d"),
        "reverse_kl": ("reverse KL from equal shares", ".4f"),
        "data_kl": ("reverse KL from shares of the data", ".4f"),
    }
    about_judge = {"name": judge.name, "digest": judge.digest, "accuracy": judge.accuracy}
    return Kind(options.name, "image", true, measured, rows, warnings, about_judge)


KINDS: tuple[Callable[[dict[str, Any]], Kind | None], ...] = (_of_mixture, _of_stacked)


def table(found: Evaluation) -> str:
    """The numbers of samples and of true examples side by side, a line each."""
    lines = [f"{'':37s}{'samples':>10s}{'truth':>10s}"]
    for name, (label, form) in found.kind.rows.items():
        cells = [_shown(numbers[name], form) for numbers in (found.samples, found.truth)]
        lines.append(f"{label:37s}{cells[0]:>10s}{cells[1]:>10s}")
    if by := found.kind.extractor:
        accuracy = "" if by["accuracy"] is None else f", {by['accuracy']:.2%} of held-out right"
        lines.append(f"by {by['name']} {by['digest'][:12]}{accuracy}")
    return "\n".join([*lines, *found.warnings]) + "\n"


def _shown(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)
