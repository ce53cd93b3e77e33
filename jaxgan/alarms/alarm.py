"""An alarm as a value: a pure function of the last looks of a run, with what usually helps."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

Look = dict[str, float]  # what was measured at a step, by name, and the `step`
Window = tuple[Look, ...]  # the last looks, oldest first
MOST_LOOKS = 40  # of a window


class Rung(NamedTuple):
    """What made an alarm ring: a measure, its number at the last look, the threshold, and the step
    of the first look of those that were beyond it."""

    measure: str
    value: float
    threshold: float
    since: int


class Alarm(NamedTuple):
    """A sign that a run is sick.

    Attributes:
      name: of the sickness.
      says: what is so where it rings, in a few words.
      helps: what usually helps.
      rings: window -> Rung, or None. Pure, and without the measures that it needs it is None.
    """

    name: str
    says: str
    helps: str
    rings: Callable[[Window], Rung | None]


Found = tuple[str, float, float]  # a measure, its value, and the threshold that it is beyond
Beyond = Callable[[Look, Window], Found | None]  # of a look, and of those before


def held(looks: int, beyond: Beyond) -> Callable[[Window], Rung | None]:
    """Rings where each of the last `looks` looks is beyond a threshold.

    Args:
      looks: how many.
      beyond: (look, the looks before these) -> the measure, its value and the threshold that it is
        beyond; None where it is not.
    """
    return partial(_held, looks, beyond)


def _held(looks: int, beyond: Beyond, window: Window) -> Rung | None:
    if len(window) < looks:
        return None
    before, last = window[:-looks], window[-looks:]
    found = [beyond(look, before) for look in last]
    if any(one is None for one in found):
        return None
    assert found[-1] is not None
    return Rung(*found[-1], since=int(last[0]["step"]))


def below(measure: str, threshold: float) -> Beyond:
    """A measure under a threshold."""
    return partial(_below, measure, threshold)


def _below(measure: str, threshold: float, look: Look, before: Window) -> Found | None:
    value = look.get(measure)
    return None if value is None or value >= threshold else (measure, value, threshold)


def above(measure: str, threshold: float) -> Beyond:
    """A measure over a threshold."""
    return partial(_above, measure, threshold)


def _above(measure: str, threshold: float, look: Look, before: Window) -> Found | None:
    value = look.get(measure)
    return None if value is None or value <= threshold else (measure, value, threshold)


def grown(beginning: str, factor: float, least: float, looks: int) -> Beyond:
    """A measure whose size is over `factor` times what was usual before, the median, and over
    `least`; of several the one that grew most.

    Args:
      beginning: of the names of the measures.
      factor, least: see above.
      looks: before, which there must be for anything to be usual.
    """
    return partial(_grown, beginning, factor, least, looks)


def _grown(
    beginning: str, factor: float, least: float, looks: int, look: Look, before: Window
) -> Found | None:
    found = []
    for name in (name for name in look if name.startswith(beginning)):
        usual = [abs(other[name]) for other in before if name in other]
        if len(usual) >= looks:
            threshold = max(least, factor * statistics.median(usual))
            found.append((abs(look[name]) / threshold, (name, abs(look[name]), threshold)))
    share, most = max(found, default=(0.0, None))
    return most if share > 1.0 else None


def either(one: Beyond, other: Beyond) -> Beyond:
    """The first of the two that is beyond its threshold."""
    return partial(_either, one, other)


def _either(one: Beyond, other: Beyond, look: Look, before: Window) -> Found | None:
    return one(look, before) or other(look, before)


def unless(other: Beyond, beyond: Beyond) -> Beyond:
    """As `beyond`, but where `other` is."""
    return partial(_unless, other, beyond)


def _unless(other: Beyond, beyond: Beyond, look: Look, before: Window) -> Found | None:
    return None if other(look, before) else beyond(look, before)


def smallest(beginning: str, threshold: float) -> Beyond:
    """The smallest of several measures under a threshold; beginning: of their names."""
    return partial(_smallest, beginning, threshold)


def _smallest(beginning: str, threshold: float, look: Look, before: Window) -> Found | None:
    found = [(value, name) for name, value in look.items() if name.startswith(beginning)]
    value, name = min(found, default=(threshold, ""))
    return (name, value, threshold) if value < threshold else None
