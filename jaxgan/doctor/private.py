"""What must not stand in a report: names of users and hosts, addresses, and where things lie."""

import getpass
import os
import pathlib
import re
import socket
from typing import Any, NamedTuple

_ADDRESSES = re.compile(
    r"\b\w[\w+.-]*://\S+"  # URLs
    r"|[\w.+-]+@[\w.-]+"  # somebody at some host
    r"|\b(?:GPU|MIG)-[0-9a-fA-F-]{8,}"  # the number of a device
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"
    r"|(?<![\w:])(?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{1,4}(?![\w:])"
)
_PATH = re.compile(r"(?<![\w~.<>/])(?:~|/)[^\s:'\",;()=<>]*")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|ADDRESS|HOST|URL|SERVER|USER", re.I)
_LONGEST = 160  # characters of a text


class Names(NamedTuple):
    """homes: paths of home folders; users, hosts: names."""

    homes: tuple[str, ...]
    users: tuple[str, ...]
    hosts: tuple[str, ...]


def known_names() -> Names:
    """Those of this machine and user; what cannot be found out is left out."""
    variables = ("USER", "LOGNAME", "USERNAME", "SUDO_USER")
    users = {os.environ.get(name, "") for name in variables} | {_or_empty(getpass.getuser)}
    homes = {os.environ.get("HOME", ""), os.environ.get("USERPROFILE", ""), _own_home()}
    homes |= {os.path.realpath(home) for home in homes if home}
    node = _or_empty(socket.gethostname)
    hosts = {node, os.environ.get("HOSTNAME", ""), _or_empty(lambda: os.uname().nodename)}
    hosts |= {host.partition(".")[0] for host in hosts}
    return Names(
        tuple(sorted((h.rstrip("/") for h in homes if len(h) > 1), key=len, reverse=True)),
        tuple(sorted(name for name in users if len(name) > 1)),
        tuple(sorted((h for h in hosts - {"localhost"} if len(h) > 1), key=len, reverse=True)),
    )


def short_path(path: Any, names: Names) -> str:
    """A path without the home folder, by its last two parts where it is long."""
    text = str(path)
    for home in names.homes:
        if text == home or text.startswith(home + "/"):
            text = "~" + text[len(home) :]
            break
    text = re.sub(r"^/(home|Users)/[^/]+", r"/\1/<user>", text)
    parts = [part for part in pathlib.PurePosixPath(text).parts if part != "/"]
    if parts[:1] == ["~"]:
        text = "~/" + "/".join([".."] * (len(parts) > 4) + parts[1:][-2 if len(parts) > 4 else 0 :])
        text = text.rstrip("/")
    elif len(parts) > 2:
        text = "../" + "/".join(parts[-2:])
    return _unnamed(text, names)


def told(text: Any, names: Names) -> str:
    """A text that somebody else wrote, such as an error, on one line."""
    text = _ADDRESSES.sub("<address>", " ".join(str(text).split()))
    text = _PATH.sub(lambda found: short_path(found[0], names), text)
    text = _unnamed(text, names)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]}.."


def variable(name: str, value: str, names: Names) -> str:
    """The value of an environment variable, or only that it is set."""
    if _SECRET.search(name) or "://" in value:
        return "set"
    return told(value, names) or "empty"


def scrubbed(tree: Any, names: Names) -> Any:
    """The same tree of dicts, lists and texts without homes and names."""
    if isinstance(tree, dict):
        return {scrubbed(key, names): scrubbed(value, names) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [scrubbed(value, names) for value in tree]
    return _unnamed(tree, names) if isinstance(tree, str) else tree


def _unnamed(text: str, names: Names) -> str:
    for home in names.homes:
        text = re.sub(re.escape(home) + r"(?![\w.-])", "~", text)
    for kind, found in (("<host>", names.hosts), ("<user>", names.users)):
        for name in found:
            whole = rf"(?<![A-Za-z0-9<]){re.escape(name)}(?![A-Za-z>])\d*"
            text = re.sub(whole, kind, text, flags=re.I)
    return text


def _own_home() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_dir
    except (ImportError, KeyError, AttributeError):
        return ""


def _or_empty(ask: Any) -> str:
    try:
        return ask()
    except (OSError, KeyError, ImportError, AttributeError):
        return ""
