"""The one door through which paths come in that a user wrote."""

import os
import pathlib
import re
from typing import Any

from jaxgan.errors import UserError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # gs://bucket; pathlib makes gs:/bucket of it
_MOST_FOLDERS = 500
_LONGEST_NAME = 255  # bytes of a part of a path
_LONGEST_SHOWN = 120


def user_path(text: Any, name: str = "path") -> pathlib.Path:
    """The path that a user means, with `~` expanded.

    Args:
      text: a string or a path.
      name: the option it came from, for the message.

    Raises:
      UserError: for what is no path on this machine's file systems.
    """
    if not isinstance(text, str | pathlib.PurePath):
        raise UserError(f"{name}={text!r} is {type(text).__name__}; give a path as text")
    text = str(text)
    if not text.strip():
        raise UserError(f"{name} is empty; give a path")
    if "\0" in text:
        raise UserError(f"{name}={shown(text)} holds a zero byte; give a path without one")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name}={shown(text)} is not UTF-8; rename it") from None
    if is_address(text):
        scheme = text.partition(":")[0]
        raise UserError(
            f"{name}={shown(text)} is an address ({scheme}:), and only folders and files of this "
            "machine can be used; mount the store, or copy from it, and give the path"
        )
    if text.count("/") > _MOST_FOLDERS:
        raise UserError(
            f"{name}={shown(text)} lies in more than {_MOST_FOLDERS} folders; give a path with less"
        )
    if any(len(part) > _LONGEST_NAME for part in text.encode().split(b"/")):
        raise UserError(
            f"{name}={shown(text)} holds a name of more than {_LONGEST_NAME} bytes, which no file "
            "system takes; give a shorter one"
        )
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError:  # no HOME and no entry for the user, as in containers, or no such user
        raise UserError(
            f"{name}={shown(text)} begins with a home folder that is not known here; give the path "
            "from the root, or set HOME"
        ) from None


def _here() -> str:
    try:
        return f"{os.getcwd()}/"
    except OSError:  # it was removed
        return ""


def is_address(text: str) -> bool:
    """Whether a text is the address of a store, such as gs://bucket, and no path."""
    return bool(_ADDRESS.match(text))


def shown(path: Any) -> str:
    """A path for a message: from the current folder where it is below it, printable, on one line,
    its middle left out where it is long."""
    text = str(path).removeprefix(_here())
    if not text.isprintable():
        text = ascii(text)[1:-1]
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"{text[:30]}..{text[-(_LONGEST_SHOWN - 32) :]}"
