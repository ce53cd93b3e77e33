"""Words of the command line: flags, values, and whole numbers."""

from typing import Any

from jaxgan.errors import UserError


def flag(name: str) -> str:
    """The flag of an option, --data.image-size for data.image_size."""
    return "--" + name.replace("_", "-")


def shown_value(value: Any) -> str:
    """A value as an option takes it."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def dashed(word: str) -> str:
    """A word whose flag may be written with underscores, as in Python and config.json."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word


def whole(name: str, text: str, low: int, below: int) -> int:
    """A whole number with low <= number < below; raises `UserError` for other text."""
    try:
        value = int(text)
    except ValueError:
        raise UserError(
            f"{name}={text[:40]!r} is not a whole number; use one such as {low}"
        ) from None
    if value < low:
        raise UserError(f"{name}={text[:40]} is too small; use {low} or more")
    if value >= below:
        raise UserError(f"{name}={text[:40]} is too large; use less than {below}")
    return value


def number(name: str, text: str, above: float, most: float) -> float:
    """A number with above < number <= most; raises `UserError` for other text."""
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{name}={text[:40]!r} is not a number; use one such as {most:g}") from None
    if not above < value <= most:
        raise UserError(f"{name}={text[:40]} is not above {above:g} and up to {most:g}")
    return value


def checkpoint(text: str) -> int | str | None:
    """A step, "best", or None for "newest", as `restore` takes it; raises `UserError` for other
    text."""
    if text in ("newest", "best"):
        return None if text == "newest" else text
    if not text.isdecimal():
        raise UserError(f"checkpoint={text[:40]!r} is none of newest, best and a step; use one")
    return whole("checkpoint", text, 0, 2**31)


def near_multiples(number: int, factor: int) -> str:
    """'8 or 12' for 10 and 4."""
    below = number // factor * factor
    return " or ".join(str(n) for n in (below, below + factor) if n)
