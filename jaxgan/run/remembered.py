"""Which way of compiling was the fastest: kept in the run's workdir, and for further runs of the
same game on the same machine in the cache folder."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
from typing import Any

from jaxgan import caches, files
from jaxgan.driver import driver
from jaxgan.errors import RunError

IN_WORKDIR = "kernels.json"
_SHOWN = ("device", "jax", "game")  # of what a choice depends on
_PACKAGES = ("jax", "jaxlib", "triton", "jaxgan")


def machine(devices: list[Any]) -> dict[str, Any]:
    """What a time depends on beside the game: devices, driver and versions."""
    kinds = {
        "device": devices[0].device_kind,
        "devices": len(devices),
        "driver": driver()["module"],
        "platform": " ".join(devices[0].client.platform_version.split()),
        "flags": os.environ.get("XLA_FLAGS", ""),
    }
    return {**kinds, **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def folder() -> pathlib.Path | None:
    """Where it is kept for further runs; None where there is no home folder."""
    own = caches.own()
    return pathlib.Path(own, "kernels") if own else None


def recall(workdir: pathlib.Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """What was chosen for this run before, or for such a run on this machine; None for nothing
    that can be read.

    Args:
      workdir: of the run.
      about: what the choice depends on, as JSON.
    """
    kept = folder()
    places = [workdir / IN_WORKDIR, *([kept / _name(about)] if kept else [])]
    return next(filter(None, map(_read, places)), None)


def of_run(workdir: pathlib.Path) -> dict[str, Any] | None:
    """What a run was compiled as; None where that was not chosen by measuring."""
    return _read(workdir / IN_WORKDIR)


def keep(workdir: pathlib.Path, about: dict[str, Any], way: list[Any], line: str) -> None:
    """Writes a choice into the workdir and, where there is room, into the cache folder.

    Args:
      workdir, about: as of `recall`.
      way: what was taken.
      line: what was measured, for the user.

    Raises:
      RunError: a workdir that cannot be written.
    """
    made = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    chosen = {"way": way, "line": line, "made": made, "about": about}
    keep_in(workdir, chosen)
    if kept := folder():
        with contextlib.suppress(RunError):  # it is measured again then
            files.write_json(kept / _name(about), chosen)


def keep_in(workdir: pathlib.Path, chosen: dict[str, Any]) -> None:
    """Writes a choice into a workdir, where it is not there already.

    Raises:
      RunError: where it cannot be written.
    """
    if of_run(workdir) != chosen:
        files.write_json(workdir / IN_WORKDIR, chosen)


def all_kept() -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """Files of the cache folder and the choices in them, the newest last."""
    kept = folder()
    try:
        paths = sorted(kept.glob("*.json")) if kept else []
    except OSError:
        return []
    found = [(path, chosen) for path in paths if (chosen := _read(path))]
    return sorted(found, key=_made)


def _made(entry: tuple[pathlib.Path, dict[str, Any]]) -> str:
    return entry[1]["made"]


def _name(about: dict[str, Any]) -> str:
    text = json.dumps(about, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32] + ".json"


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    """A choice; None for a file that is not there, cannot be read or is none."""
    try:
        chosen = files.read_json(path)
        kernels, one_graph, *members = chosen["way"]  # of older ones without members
        about = chosen["about"]
        texts = kernels, chosen["line"], chosen["made"], *(about[key] for key in _SHOWN)
        numbers = len(members) < 2 and all(type(n) is int for n in (*members, about["batch_size"]))
        if isinstance(one_graph, bool) and numbers and all(isinstance(t, str) for t in texts):
            return chosen
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None
