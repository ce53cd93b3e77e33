"""Names that a user writes, and the line that says which there are."""

import difflib
from collections.abc import Iterable

_MOST_LISTED = 12


def listed(names: Iterable[str]) -> str:
    """Names in a row; of many the first, and how many more there are."""
    names = list(names)
    more = len(names) - _MOST_LISTED
    text = ", ".join(names[:_MOST_LISTED])
    return f"{text} and {more} more" if more > 0 else text


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line for a name that is not known, with the nearest that are."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    name = name if len(name) <= 80 else f"{name[:80]}.."
    if near:
        return f"unknown {kind} {name!r}; did you mean {' or '.join(near)}?"
    return f"unknown {kind} {name!r}; use {listed(known)}"
