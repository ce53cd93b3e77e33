"""Recipes: functions whose keyword arguments are options and that return a `Game`.

Those of the library are in `jaxgan.recipes`; anyone's own may be in any file, as `my_gan.py:ring`.
"""

import dataclasses
import hashlib
import inspect
import pathlib
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxgan.errors import UserError
from jaxgan.game import Game
from jaxgan.options import KINDS, Kind, checked, dotted, fields, kind_of, replace, to_dict
from jaxgan.paths import user_path
from jaxgan.user_files import blamed_on, importing_from, load

REQUIRED = "<required>"


class Recipe(NamedTuple):
    """A recipe that was found.

    Attributes:
      name: as the command line has it.
      make: (example, options) -> Game; example: what one example of the data is, name ->
        `jaxgan.data.Feature`.
      options: the defaults of its options, a frozen dataclass.
      defaults: of the run's options, by dotted names: the data, the batch size, the steps.
      about: one line.
      source: the text of the user's file; None for a recipe of the library.
    """

    name: str
    make: Callable[[dict[str, Any], Any], Game]
    options: Any
    defaults: dict[str, Any]
    about: str
    source: str | None = None

    @property
    def title(self) -> str:
        """The name without the folders of a user's file, which may lie elsewhere on resuming."""
        file, _, function = self.name.rpartition(":")
        return self.name if self.source is None else f"{pathlib.Path(file).name}:{function}"

    @property
    def folder(self) -> str | None:
        """Where a user's file lies, with what it may import."""
        file = self.name.rpartition(":")[0]
        return None if self.source is None else str(user_path(file, "recipe").resolve().parent)

    @property
    def sha256(self) -> str | None:
        """Of the user's file."""
        return None if self.source is None else hashlib.sha256(self.source.encode()).hexdigest()


def recipe(**defaults: Any) -> Callable[[Callable], Callable]:
    """Decorates a recipe with its defaults of the run's options: `@recipe(steps=1000, data={"name":
    "ring"})`.

    A recipe without the decorator begins with the defaults of every run.
    """

    def decorated(function: Callable) -> Callable:
        function.run_defaults = dotted(defaults)  # type: ignore[attr-defined]
        return function

    return decorated


def from_function(function: Callable, name: str, source: str | None = None) -> Recipe:
    """The recipe that a function is.

    A first parameter called `example` takes what an example of the data is. All others are options,
    of type int, float, str, bool, a Literal of texts, one of these or None, or a group (a frozen
    dataclass of such, with defaults). Their help is read from the `Args:` of the docstring.

    Raises:
      UserError: a parameter that cannot be an option.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, ValueError) as error:
        raise UserError(f"recipe {name}: its options cannot be read: {error}") from None
    takes_example = bool(parameters) and parameters[0].name == "example"
    helps = _args_of(inspect.getdoc(function) or "")
    declared = []
    for parameter in parameters[takes_example:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UserError(
                f"recipe {name}: {str(parameter).partition(':')[0]} is no option; name each of them"
            )
        declared.append(_field(name, parameter, hints.get(parameter.name), helps))
    kind = dataclasses.make_dataclass("Options", declared, frozen=True)

    def make(example: dict[str, Any], options: Any) -> Game:
        values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        with blamed_on(name, source):
            game = function(example, **values) if takes_example else function(**values)
        if not isinstance(game, Game):
            raise UserError(
                f"recipe {name} returns {type(game).__name__}, not a jaxgan.Game; return the game"
            )
        return game

    about = (inspect.getdoc(function) or "").partition("\n")[0]
    return Recipe(name, make, kind(), getattr(function, "run_defaults", {}), about, source)


def from_file(place: str, beside: str | None = None) -> Recipe:
    """The recipe `FILE.py:FUNCTION`; arguments and errors are those of `user_files.load`."""
    loaded = load("recipe", place, beside)
    found = from_function(loaded.function, place, loaded.source)

    def make(example: dict[str, Any], options: Any) -> Game:
        with importing_from(loaded.folder):
            return found.make(example, options)

    return found._replace(make=make)


def with_defaults(found: Recipe, name: str, changes: dict[str, Any]) -> Recipe:
    """A recipe under another name, with other defaults of its own options and of the run's, by
    dotted names."""
    known = {option for option, _, _ in fields(found.options)}
    own = {option: value for option, value in changes.items() if option in known}
    rest = {option: value for option, value in changes.items() if option not in known}
    options, defaults = replace(found.options, own), {**found.defaults, **rest}
    return found._replace(name=name, options=options, defaults=defaults)


def check_given(found: Recipe, options: Any) -> None:
    """Raises `UserError` for an option without default that was not given."""
    for name, value in to_dict(options).items():
        if value is REQUIRED:
            flag = name.replace("_", "-")
            raise UserError(f"recipe {found.name} needs --{flag}; it has no default")


def _field(name: str, parameter: inspect.Parameter, hint: Any, helps: dict[str, str]) -> Any:
    given = parameter.default is not parameter.empty
    if dataclasses.is_dataclass(parameter.default if given else hint):
        return parameter.name, *_group(name, parameter, hint, given)
    if hint is None and given and parameter.default is not None:
        hint = type(parameter.default)
    _kind(name, parameter.name, hint)
    metadata = dict(help=helps.get(parameter.name, ""))
    field: Any = dataclasses.field(default=REQUIRED, metadata=metadata)
    if given:
        field.type = hint
        try:
            field.default = checked(parameter.name, field, parameter.default)
        except UserError as error:
            raise UserError(f"recipe {name}: the default {error}") from None
    return parameter.name, hint, field


def _group(name: str, parameter: inspect.Parameter, hint: Any, given: bool) -> tuple[Any, Any]:
    """The type of a group of options and a field with its default."""
    try:
        group = parameter.default if given else hint()
    except TypeError:
        raise UserError(
            f"group {parameter.name!r} of recipe {name} has options without defaults; give them "
            "some"
        ) from None
    if type(group).__hash__ is None:
        raise UserError(
            f"group {parameter.name!r} of recipe {name} can change; declare it by "
            "@dataclasses.dataclass(frozen=True)"
        )
    for option, field, _ in fields(group):
        _kind(name, f"{parameter.name}.{option}", field.type)
    return type(group), dataclasses.field(default=group)


def _kind(name: str, option: str, hint: Any) -> Kind:
    found = kind_of(hint)
    if found is None:
        of_type = "has neither type nor default" if hint is None else f"is of type {hint}"
        raise UserError(
            f"option {option!r} of recipe {name} {of_type}; use {KINDS}, or a dataclass of them"
        )
    return found


def _args_of(doc: str) -> dict[str, str]:
    """name -> text of the `Args:` of a docstring."""
    _, _, rest = doc.partition("Args:\n")
    found: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if not line.startswith("  "):
            if line.strip():
                break
            continue
        head, colon, text = line.strip().partition(": ")
        if colon and not line.startswith("    ") and head.replace("_", "").isalnum():
            name = head
            found[name] = text
        elif name:
            found[name] += " " + line.strip()
    return found
