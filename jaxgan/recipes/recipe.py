"""Recipes: functions whose keyword arguments are options and that return a `Game`.

Those of the library are in `jaxgan.recipes`; anyone's own may be in any file, as `my_gan.py:ring`.
"""

import contextlib
import dataclasses
import errno
import hashlib
import inspect
import os
import pathlib
import sys
import tokenize
import traceback
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxgan.errors import RunError, UserError
from jaxgan.game import Game
from jaxgan.names import unknown
from jaxgan.options import KINDS, Kind, checked, dotted, fields, kind_of, replace, to_dict
from jaxgan.paths import user_path

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
    """The recipe `FILE.py:FUNCTION`.

    Args:
      place: of the file, and the name of the function.
      beside: the folder from which the file may import; its own by default.

    Raises:
      UserError: a file that cannot be read or imported, with its own error's last line and line
        number; a function that it does not have.
    """
    path_text, _, function_name = place.rpartition(":")
    path = user_path(path_text, "recipe")
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError(errno.EINVAL, "it is no plain file")
        with tokenize.open(path) as file:  # in the encoding that the file says, as Python reads it
            source = file.read()
        if "\0" in source:
            raise ValueError("it holds a zero byte")
    except (OSError, ValueError, SyntaxError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"recipe {place}: {path} cannot be read: {reason}; give FILE.py:FUNCTION"
        ) from None
    module_name = f"_recipe_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    module = types.ModuleType(module_name)
    module.__file__ = str(path)
    sys.modules[module_name] = module  # dataclasses and pickles look for a class's module there
    beside = beside or str(path.resolve().parent)
    with importing_from(beside), blamed_on(place, source):
        exec(compile(source, str(path), "exec"), module.__dict__)
    function = getattr(module, function_name, None)
    if not callable(function):
        own = {
            n
            for n, v in vars(module).items()
            if inspect.isfunction(v) and v.__module__ == module_name
        }
        raise UserError(
            f"{path}: " + unknown("function", function_name, own or {"a function of yours"})
        )
    found = from_function(function, place, source)

    def make(example: dict[str, Any], options: Any) -> Game:
        with importing_from(beside):
            return found.make(example, options)

    return found._replace(make=make)


@contextlib.contextmanager
def importing_from(folder: str) -> Iterator[None]:
    """As for a script: what lies in the folder of a file can be imported. Where it changes the
    current folder, that ends with the block, as paths of the command's are relative, too."""
    sys.path.insert(0, folder)
    with contextlib.ExitStack() as here:
        with contextlib.suppress(OSError):  # it was removed
            here.enter_context(contextlib.chdir(os.getcwd()))
        try:
            yield
        finally:
            sys.path.remove(folder)


def with_defaults(found: Recipe, name: str, changes: dict[str, Any]) -> Recipe:
    """A recipe under another name, with other defaults of its own options and of the run's, by
    dotted names."""
    known = {option for option, _, _ in fields(found.options)}
    own = {option: value for option, value in changes.items() if option in known}
    rest = {option: value for option, value in changes.items() if option not in known}
    options, defaults = replace(found.options, own), {**found.defaults, **rest}
    return found._replace(name=name, options=options, defaults=defaults)


@contextlib.contextmanager
def blamed_on(name: str, source: str | None) -> Iterator[None]:
    """Tells an error that arose in a user's file by its last line and the number of the line in
    that file."""
    try:
        yield
    except (Exception, SystemExit) as raised:
        # Such as an error of a network, which a line of ours blames on its player.
        error = raised.__cause__ if isinstance(raised, UserError) else raised
        if source is None or error is None or isinstance(error, UserError | RunError):
            raise
        folder = user_path(name.rpartition(":")[0], "recipe").resolve().parent
        frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, SyntaxError) and error.filename:
            frames.append((error.filename, error.lineno))
        if isinstance(error, SystemExit):  # a script that ends itself would end the command
            error = RuntimeError(f"it ends itself by sys.exit({error.code!r})")
        # What lies beside the file is the user's, too.
        own = [
            (file, line) for file, line in frames if pathlib.Path(file).resolve().parent == folder
        ]
        if not own:
            raise
        # Not as traceback formats it: JAX and Flax add notes.
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        text = " ".join(f"{type(error).__name__}: {text}".split())[:300]
        raise UserError(f"{own[-1][0]} line {own[-1][1]}: {text}") from error


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
