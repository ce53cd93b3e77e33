"""Functions of a user's own files, as `my_gan.py:ring`: how they are loaded, and how their errors
are told."""

import contextlib
import errno
import hashlib
import inspect
import os
import pathlib
import sys
import tokenize
import traceback
import types
from collections.abc import Callable, Iterator
from typing import NamedTuple

from jaxgan.errors import RunError, UserError
from jaxgan.names import unknown
from jaxgan.paths import user_path


class Loaded(NamedTuple):
    """A function of a file.

    Attributes:
      function: as the file has it.
      source: the file's text.
      folder: from which the file may import, also while the function runs.
    """

    function: Callable
    source: str
    folder: str


def is_place(name: str) -> bool:
    """Whether a name says `FILE.py:FUNCTION`."""
    file, colon, _ = name.rpartition(":")
    return bool(colon) and file.endswith(".py")


def load(what: str, place: str, beside: str | None = None) -> Loaded:
    """The function at `FILE.py:FUNCTION`, of a file that is run for it.

    Args:
      what: it is to be, for messages, such as recipe.
      place: of the file, and the name of the function.
      beside: the folder from which the file may import; its own by default.

    Raises:
      UserError: a file that cannot be read or imported, with its own error's last line and line
        number; a function that it does not have.
    """
    path_text, _, function_name = place.rpartition(":")
    path = user_path(path_text, what)
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
            f"{what} {place}: {path} cannot be read: {reason}; give FILE.py:FUNCTION"
        ) from None
    module_name = f"_{what}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
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
    return Loaded(function, source, beside)


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


@contextlib.contextmanager
def blamed_on(place: str, source: str | None) -> Iterator[None]:
    """Tells an error that arose in a user's file by its last line and the number of the line in
    that file.

    Args:
      place: FILE.py:FUNCTION.
      source: the file's text; None where there is no such file, and nothing is told otherwise.
    """
    try:
        yield
    except (Exception, SystemExit) as raised:
        # Such as an error of a network, which a line of ours blames on its player.
        error = raised.__cause__ if isinstance(raised, UserError) else raised
        if source is None or error is None or isinstance(error, UserError | RunError):
            raise
        folder = user_path(place.rpartition(":")[0]).resolve().parent
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
