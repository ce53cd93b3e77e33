"""Measures of samples beside real examples, each with a standard error, by the names that users
give."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxgan import metrics
from jaxgan.errors import UserError
from jaxgan.evaluation.kind import Numbers, Row
from jaxgan.features import Described, Extractor
from jaxgan.features.inception_v3 import FID
from jaxgan.metrics.arrays import TooFew, jackknife_error
from jaxgan.names import unknown

PARTS = 10
SURE = 0.9  # the probability of a class from which on a sample counts as named
_JACKKNIFE = "jackknife over tenths"
_TENTHS = "spread over disjoint tenths"
_Pair = Callable[[Described, Described], Numbers]


class Measure(NamedTuple):
    """What is computed of real examples and samples that are described alike.

    Attributes:
      rows: how its numbers are shown, by their names.
      measured: (real, made) -> its numbers and NAME_error, which is None of less than 100 rows.
        Raises `TooFew`.
      error: how the standard error is found.
      by_classes: needs probabilities, and says nothing of one class.
    """

    rows: dict[str, Row]
    measured: _Pair
    error: str
    by_classes: bool = False


def _frechet(real: Described, made: Described) -> Numbers:
    value = metrics.frechet_distance(real.features, made.features)
    if min(len(real.features), len(made.features)) < PARTS**2:
        return {"fd": value, "fd_error": None}
    of_parts = [[metrics.moments(x.features[i::PARTS]) for i in range(PARTS)] for x in (real, made)]
    without = []
    for i in range(PARTS):
        rest = [functools.reduce(metrics.merged, [*m[:i], *m[i + 1 :]]) for m in of_parts]
        without.append(metrics.frechet_distance(*rest))
    return {"fd": value, "fd_error": jackknife_error(without)}


def _kernel(real: Described, made: Described) -> Numbers:
    found = metrics.kernel_distance(real.features, made.features)
    return {"kid": found.value, "kid_error": found.error}


def _sliced(real: Described, made: Described) -> Numbers:
    return {"sliced": metrics.sliced_wasserstein(real.features, made.features).value}


def _precision(real: Described, made: Described) -> Numbers:
    return metrics.precision_recall(real.features, made.features)._asdict()


def _density(real: Described, made: Described) -> Numbers:
    return metrics.density_coverage(real.features, made.features)._asdict()


def _score(real: Described, made: Described) -> Numbers:
    found = metrics.classifier_score(_probabilities(made))
    return {"score": found.value, "score_error": found.error}


def _labels(real: Described, made: Described) -> Numbers:
    classes = _probabilities(made).shape[1]
    found = metrics.label_histogram(labels_of(made), classes, labels_of(real))
    sure = float((_probabilities(made).max(axis=1) >= SURE).mean())
    kl = found.kl if np.isfinite(found.kl) else None  # a class that the data have not
    return {"sure": sure, "rarest": found.rarest, "label_kl": kl}


def _probabilities(found: Described) -> np.ndarray:
    assert found.probabilities is not None
    return found.probabilities


def labels_of(found: Described) -> np.ndarray:
    """The most probable class of each, int64 [N]."""
    return _probabilities(found).argmax(axis=1)


def some(found: Described, rows: Any) -> Described:
    """Those of some rows."""
    probabilities = None if found.probabilities is None else found.probabilities[rows]
    return Described(found.features[rows], probabilities)


def _with_errors(measured: _Pair, jackknife: bool) -> _Pair:
    """The measure with the errors of all of its numbers, from ten more computations: of nine
    tenths each, or of a tenth each, which is cheaper where the time grows with the square."""

    def both(real: Described, made: Described) -> Numbers:
        numbers = measured(real, made)
        errors: Numbers = dict.fromkeys(numbers)
        if min(len(real.features), len(made.features)) >= PARTS**2:
            turns = [np.arange(len(x.features)) % PARTS for x in (real, made)]
            found = []
            for i in range(PARTS):
                rows = [turn != i if jackknife else turn == i for turn in turns]
                found.append(measured(some(real, rows[0]), some(made, rows[1])))
            for name in numbers:
                values = [each[name] for each in found]
                if None in values:
                    continue
                deviation = float(np.std(values, ddof=1) / np.sqrt(PARTS))
                errors[name] = jackknife_error(values) if jackknife else deviation
        return {**numbers, **{f"{name}_error": error for name, error in errors.items()}}

    return both


MEASURES = {
    "fd": Measure({"fd": Row("Frechet distance", ".3f", "lower")}, _frechet, _JACKKNIFE),
    "kid": Measure(
        {"kid": Row("kernel distance", ".5f", "lower")}, _kernel, "spread over disjoint subsets"
    ),
    "precision_recall": Measure(
        {
            "precision": Row("precision", ".4f", "higher"),
            "recall": Row("recall", ".4f", "higher"),
        },
        _with_errors(_precision, False),
        _TENTHS,
    ),
    "density_coverage": Measure(
        {"density": Row("density", ".4f"), "coverage": Row("coverage", ".4f", "higher")},
        _with_errors(_density, False),
        _TENTHS,
    ),
    "sliced": Measure(
        {"sliced": Row("sliced Wasserstein distance", ".4f", "lower")},
        _with_errors(_sliced, False),
        _TENTHS,
    ),
    "score": Measure({"score": Row("classifier score", ".3f", "higher")}, _score, _JACKKNIFE, True),
    "labels": Measure(
        {
            "sure": Row(f"named with {SURE} or more", ".2%", "higher"),
            "rarest": Row("share of the rarest class", ".2%", "higher"),
            "label_kl": Row("KL of labels from the data's", ".5f", "lower"),
        },
        _with_errors(_labels, True),
        _JACKKNIFE,
        True,
    ),
}
USUAL = ("fd", "kid", "precision_recall", "score", "labels")


def rows_of(measures: dict[str, Measure], extractor: Extractor) -> dict[str, Row]:
    """How their numbers are shown. The Frechet distance is called FID in one extractor's features
    alone."""
    rows = {name: row for measure in measures.values() for name, row in measure.rows.items()}
    if "fd" in rows and extractor.name == FID:
        rows["fd"] = rows["fd"]._replace(label="FID")
    return rows


def check_names(names: tuple[str, ...]) -> None:
    """Raises `UserError` for names of no measure."""
    for name in names:
        if name not in MEASURES:
            raise UserError(unknown("metric", name, MEASURES))


def of_number(name: str) -> tuple[str, ...]:
    """The measure that tells a number; () for "". Raises `UserError` for a number of none."""
    found = tuple(measure for measure, about in MEASURES.items() if name in about.rows)
    if name and not found:
        raise UserError(unknown("metric", name, [n for m in MEASURES.values() for n in m.rows]))
    return found


def named(names: tuple[str, ...], has_classes: bool) -> dict[str, Measure]:
    """The measures of these names, or the usual ones that an extractor allows.

    Raises:
      UserError: for another name, or a measure by classes where the extractor names none.
    """
    check_names(names)
    chosen = names or tuple(n for n in USUAL if has_classes or not MEASURES[n].by_classes)
    for name in chosen:
        if MEASURES[name].by_classes and not has_classes:
            raise UserError(
                f"metric {name} needs probabilities of classes, and the extractor gives features "
                "alone; let it return both, or leave that metric out"
            )
    return {name: MEASURES[name] for name in dict.fromkeys(chosen)}


def measured(measures: dict[str, Measure], real: Described, made: Described) -> Numbers:
    """The numbers of all measures; None for one that needs more rows."""
    numbers: Numbers = {}
    for measure in measures.values():
        try:
            numbers |= measure.measured(real, made)
        except TooFew:
            numbers |= dict.fromkeys(measure.rows)
    return numbers


def per_class(
    measures: dict[str, Measure],
    real: tuple[Described, np.ndarray],
    made: tuple[Described, np.ndarray],
) -> dict[str, Numbers]:
    """The numbers within each class that real examples have, by its number as text, as JSON has
    it; of each set its descriptions and labels int [N]."""
    alone = {name: measure for name, measure in measures.items() if not measure.by_classes}
    found = {}
    for label in range(int(real[1].max()) + 1):
        of_real, of_made = (some(x, labels == label) for x, labels in (real, made))
        found[str(label)] = {
            "real": len(of_real.features),
            "made": len(of_made.features),
            **measured(alone, of_real, of_made),
        }
    return found
