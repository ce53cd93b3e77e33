"""Any measure for each class by itself."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgan.metrics import arrays
from jaxgan.metrics.arrays import TooFew


def per_class(
    metric: Callable[..., Any], *sets: tuple[Any, Any], classes: int | None = None, **options: Any
) -> dict[int, Any]:
    """What a measure says of the rows of each class, by the class.

    `per_class(frechet_distance, (real, real_labels), (made, made_labels))` is the Frechet distance
    within each class, and `per_class(memorisation, ...)` looks for copies within each.

    Holds the rows of one class of each set beside what the measure holds.

    Args:
      metric: a function of as many arrays as there are sets.
      sets: each a pair (rows [N,F], labels int [N]).
      classes: K; by default up to the highest label of any set.
      options: of the measure.

    Returns:
      For each class from 0 to K - 1 what the measure returns; None for a class of which a set has
      too few rows for it.

    Raises:
      ValueError: labels that do not go with rows, and all that the measure raises.
    """
    if not sets:
        raise ValueError("per_class takes one pair (rows, labels) or more")
    rows = [arrays.real("rows", each[0]) for each in sets]
    labels = [arrays.labels_of("labels", each[1], len(of)) for each, of in zip(sets, rows)]
    highest = max(int(each.max(initial=-1)) for each in labels)
    count = highest + 1 if classes is None else arrays.whole("classes", classes, 1)
    if highest >= count:
        raise ValueError(f"the labels reach to {highest}, and there are {count} classes")
    return {label: _of(metric, rows, labels, label, options) for label in range(count)}


def _of(
    metric: Callable[..., Any],
    rows: list[np.ndarray],
    labels: list[np.ndarray],
    label: int,
    options: dict[str, Any],
) -> Any:
    try:
        return metric(*(each[of == label] for each, of in zip(rows, labels)), **options)
    except TooFew:
        return None
