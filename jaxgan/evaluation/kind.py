"""What a kind of measuring is, by value, and what may be asked of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxgan.errors import UserError
from jaxgan.features import Extractor

Numbers = dict[str, Any]  # by name; None for what is not defined, NAME_error a standard error


class Row(NamedTuple):
    """A number in a table.

    Attributes:
      label: what it is called.
      form: its format.
      better: "lower" or "higher"; empty where neither is, as of a number that should equal 1.
    """

    label: str
    form: str
    better: str = ""


class Asked(NamedTuple):
    """What is asked of images; the other kinds take nothing but the defaults.

    Attributes:
      metrics: names of `jaxgan.evaluation.measures.MEASURES`; () for the usual ones.
      extractor: of features; None for the classifier of the data.
      per_class: each measure for each class, too.
      number: that is wanted in any case; of images its measure comes to the others.
    """

    metrics: tuple[str, ...] = ()
    extractor: Extractor | None = None
    per_class: bool = False
    number: str = ""


USUALLY = Asked()


class Kind(NamedTuple):
    """How samples of some data are measured.

    Attributes:
      data: their name.
      feature: of an example, that is measured.
      true: (count, seed) -> as many true ones, leaves [count, ...].
      measured: of samples [N, ...], by the names of `rows`; the labels that they were to have,
        int [N], may follow.
      rows: name -> how each number is shown, in order.
      warnings: (numbers, how many samples) -> what is wrong, a line each.
      extractor: name, digest and accuracy of what the images are described by; {} for none.
      usual: samples, where nobody says how many.
      most: samples that there are true examples for; None for any number.
      floor: (count, seed) -> the numbers of true examples; None to measure those of `true`.
      conditions: (names, count) -> features of true examples to make samples from, leaves
        [count, ...]; None to take those that the run keeps.
      about: what else tells how it was measured, as JSON takes it.
    """

    data: str
    feature: str
    true: Callable[[int, int], np.ndarray]
    measured: Callable[..., Numbers]
    rows: dict[str, Row]
    warnings: Callable[[Numbers, int], list[str]]
    extractor: dict[str, Any] = {}
    usual: int = 26_000
    most: int | None = None
    floor: Callable[[int, int], Numbers] | None = None
    conditions: Callable[[tuple[str, ...], int], dict[str, np.ndarray]] | None = None
    about: dict[str, Any] = {}

    def truth(self, count: int, seed: int) -> Numbers:
        """The numbers of so many true examples, the floor."""
        return self.floor(count, seed) if self.floor else self.measured(self.true(count, seed))


def check_nothing_asked(name: str, asked: Asked) -> None:
    """Raises `UserError` where data that are not measured by features are to be."""
    words = {
        "metrics": ",".join(asked.metrics),
        "extractor": asked.extractor.name if asked.extractor else "",
        "per_class": "true" if asked.per_class else "",
    }
    for option, word in words.items():
        if word:
            raise UserError(
                f"{option}={word} is for images in general, and {name} is measured by its modes; "
                f"leave out --{option.replace('_', '-')}"
            )
