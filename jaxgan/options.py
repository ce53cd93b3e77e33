"""How an option is declared: a dataclass field that carries its help text and its bounds."""

import dataclasses
from typing import Any


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A field with its help text and its bounds: low <= value, above < value, value < below."""
    return dataclasses.field(
        default=default, metadata=dict(help=help, low=low, above=above, below=below)
    )
