"""Texts as arrays of one size: UTF-8, uint8 [L], filled up with zeros."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxgan import terminal

BYTES = 128  # L, where nobody says more
_told: set[str] = set()


def is_text(value: Any) -> bool:
    """Whether the value of one example is a text; NumPy's are Python's, too."""
    return isinstance(value, str | bytes)


def encoded(value: str | bytes, length: int, name: str) -> np.ndarray:
    """A text as uint8 [length]; a longer one ends after a whole character, which is told once.

    Args:
      value: bytes are taken for UTF-8.
      length: L.
      name: of the feature, for the line.
    """
    raw = value.encode(errors="replace") if isinstance(value, str) else bytes(value)
    if len(raw) > length:
        if name not in _told:
            _told.add(name)
            terminal.complain(
                f"{name}: texts of more than {length} bytes are cut; data.text_bytes says how many"
            )
        raw = raw[: _whole(raw, length)]
    return np.frombuffer(raw.ljust(length, b"\0"), np.uint8)


def _whole(raw: bytes, length: int) -> int:
    """The last place up to `length` before which a character ends; those of UTF-8 go on with bytes
    of 10xxxxxx."""
    end = length
    while end > max(length - 4, 0) and raw[end] & 0xC0 == 0x80:
        end -= 1
    return length if raw[end] & 0xC0 == 0x80 else end


def texts_of(leaf: Iterable[Any]) -> list[str]:
    """The texts of a feature, uint8 [n, L]."""
    return [bytes(np.asarray(row)).rstrip(b"\0").decode(errors="replace") for row in leaf]
