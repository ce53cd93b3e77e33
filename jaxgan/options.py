"""Options of a run and of a recipe: frozen dataclasses whose fields carry their help and their
bounds.

They are declared once. The command line, `--help` and `config.json` come from the fields; a field
that is itself such a dataclass is a group, whose options are named with a dot: `data.name`,
`--data.name`.
"""

import contextlib
import dataclasses
import math
import pathlib
import types
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxgan.errors import UserError
from jaxgan.names import unknown

KINDS = "int, float, str, bool, a Literal of texts, or one of them or None"


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field with its help and bounds: low <= value, above < value, value < below, value in
    choices."""
    metadata = dict(help=help, low=low, above=above, below=below, choices=choices)
    return dataclasses.field(default=default, metadata=metadata)


def fields(options: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """(dotted name, field, value) of every option."""
    for field in dataclasses.fields(options):
        if isinstance(field.type, str):  # where annotations are not evaluated
            field.type = typing.get_type_hints(type(options))[field.name]
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field, value


def to_dict(options: Any) -> dict[str, Any]:
    """Dotted names to values, as JSON takes them."""
    return {name: value for name, _, value in fields(options)}


def dotted(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"log": {"every": 10}} and groups of options as {"log.every": 10}."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        flat |= (
            dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return flat


def replace(options: Any, changes: dict[str, Any]) -> Any:
    """The options with these names set, dotted or nested; text is read as the field's type, and
    bounds are checked."""
    known = {name: field for name, field, _ in fields(options)}
    for name, value in dotted(changes).items():
        if any(other.startswith(f"{name}.") for other in known):
            example = next(other for other in known if other.startswith(f"{name}."))
            raise UserError(
                f"{name}={shown(value)} is no group of options; give a dict, such as "
                f"{{{example.removeprefix(name + '.')!r}: ...}}"
            )
        if name not in known:
            raise UserError(unknown("field", name, known))
        options = _set(options, name.split("."), checked(name, known[name], value))
    return options


def with_values(options: Any, values: dict[str, Any]) -> Any:
    """The options with these dotted names set to what is given, without looking at it, such as to
    numbers that are traced."""
    for name, value in values.items():
        options = _set(options, name.split("."), value)
    return options


def _set(options: Any, path: list[str], value: Any) -> Any:
    if len(path) > 1:
        value = _set(getattr(options, path[0]), path[1:], value)
    return dataclasses.replace(options, **{path[0]: value})


class Kind(NamedTuple):
    """What an option may be: int, float, str or bool; of texts only `choices`, where there are."""

    kind: Any
    choices: tuple[str, ...] = ()
    or_none: bool = False


def kind_of(hint: Any) -> Kind | None:
    """The kind that a type says, see `KINDS`; None for another type."""
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    parts = typing.get_args(hint) if union else (hint,)
    kinds = [part for part in parts if part is not type(None)]
    if len(kinds) != 1:
        return None
    choices = typing.get_args(kinds[0]) if typing.get_origin(kinds[0]) is typing.Literal else ()
    kind = str if choices else kinds[0]
    if kind not in (int, float, str, bool) or not all(isinstance(c, str) for c in choices):
        return None
    return Kind(kind, choices, len(parts) > len(kinds))


def checked(name: str, field: dataclasses.Field, value: Any) -> Any:
    """A value of a field's type within its bounds, from text or from a value of about that type."""
    found = kind_of(field.type)
    if found is None:
        raise UserError(f"option {name} is of type {field.type}; use {KINDS}")
    value = _parsed(name, field, found, value)
    bounds = {"low": None, "above": None, "below": None, "choices": found.choices, **field.metadata}
    if bounds["choices"] and value is not None and value not in bounds["choices"]:
        raise UserError(f"{name}: " + unknown("value", str(value), bounds["choices"]))
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name}={shown(value)} is not a finite number; use one")
    if bounds["low"] is not None and value < bounds["low"]:
        raise UserError(f"{name}={shown(value)} is too small; use {bounds['low']} or more")
    if bounds["above"] is not None and value <= bounds["above"]:
        raise UserError(f"{name}={shown(value)} is too small; use more than {bounds['above']}")
    if bounds["below"] is not None and value >= bounds["below"]:
        raise UserError(f"{name}={shown(value)} is too large; use less than {bounds['below']}")
    return value


def _parsed(name: str, field: dataclasses.Field, found: Kind, value: Any) -> Any:
    kind = found.kind
    if found.or_none and (value is None or str(value).lower() == "none"):
        return None
    if kind is bool:
        if str(value).lower() not in ("true", "false"):
            raise UserError(f"{name}={shown(value)} is neither true nor false; use one of them")
        return str(value).lower() == "true"
    if kind is str:
        return _text(name, value)
    try:
        number = kind(value if isinstance(value, str) else str(value))
    except ValueError:
        # 8.0 is a whole number, where Python or JSON made a float of it.
        if kind is int and isinstance(value, float) and value.is_integer():
            return int(value)
        noun = {int: "a whole number", float: "a number"}[kind]
        example = field.default if isinstance(field.default, int | float) else 1
        example = f"{example}, or none" if found.or_none else example
        raise UserError(
            f"{name}={shown(value)} is not {noun}; use {noun} such as {example}"
        ) from None
    return number


def _text(name: str, value: Any) -> str:
    if isinstance(value, type | np.dtype):  # jnp.bfloat16, np.float32
        with contextlib.suppress(TypeError):
            return np.dtype(value).name
    if isinstance(value, str | pathlib.PurePath | int | float):
        return str(value)
    fix = f"give {','.join(map(str, value))!r}" if isinstance(value, list | tuple) else "give one"
    raise UserError(f"{name}={shown(value)} is no text but {type(value).__name__}; {fix}")


def shown(value: Any) -> str:
    """A value for a message, on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) < 80 else f"{text[:60]}..{text[-10:]}"
