"""The doctor's page: rows of a label and a text, at most 100 characters wide, in ASCII."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from jaxgan import terminal
from jaxgan.doctor.advice import advise
from jaxgan.doctor.gathering import VARIABLES, gather
from jaxgan.memory import shown

_LABEL, _WIDTH = 19, 100
Found = dict[str, Any]
Row = tuple[str, str]


def main(as_json: bool = False) -> int:
    """Prints the page, or the same as JSON; returns the exit status, which is 0."""
    found = gather()
    advice = advise(found)
    text = json.dumps({**found, "advice": advice}, indent=2) if as_json else page(found, advice)
    lines = [terminal.one_line(line) for line in text.splitlines()]  # whatever names are in it
    terminal.show("\n".join(lines).encode("ascii", "backslashreplace").decode() + "\n")
    return 0


def page(found: Found, advice: list[str]) -> str:
    """All that was found, and the advice at the end."""
    lines = []
    for name, rows in SECTIONS.items():
        part = found.get(name)
        lines.append(name.replace("_", " "))
        if isinstance(part, dict) and isinstance(part.get("error"), str) and name != "jax":
            lines += _row("", f"not known: {part['error']}")
            continue
        try:
            lines += [line for label, text in rows(part) for line in _row(label, text)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            lines += _row("", f"not known: {type(error).__name__}")
    lines.append("advice")
    for line in advice or ["nothing to advise"]:
        lines += textwrap.wrap(line, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)


def _row(label: str, text: str) -> list[str]:
    first = f"  {label}".ljust(_LABEL) + " "
    options: dict[str, Any] = dict(break_on_hyphens=False, initial_indent=first)
    return textwrap.wrap(text or "-", _WIDTH, subsequent_indent=" " * (_LABEL + 1), **options)


def _machine(part: Found) -> Iterator[Row]:
    kind = "a virtual environment" if part["environment"] else "the system's environment"
    yield "jaxgan", f"{part['jaxgan']} on {part['python']} in {kind}"
    yield "system", f"{part['system']} {part['architecture']}, in the year {part['year']}"
    quota = f", of which a container leaves {part['quota']:g}" if part["quota"] else ""
    usable = part["usable"] or part["cores"]
    yield "cpu", f"{part['cpu']}, {usable} of {part['cores']} cores{quota}"


def _memory(part: Found) -> Iterator[Row]:
    total, free, limit = (shown(n) if n is not None else "unknown" for n in part.values())
    container = f", a container's limit of {limit}" if part["limit"] is not None else ""
    yield "memory", f"{free} free of {total}{container}"


def _software(part: Found) -> Iterator[Row]:
    versions = part["versions"]
    yield "installed", ", ".join(f"{name} {has}" for name, has in versions.items() if has)
    yield "not installed", ", ".join(name for name, has in versions.items() if not has) or "none"


def _jax(part: Found) -> Iterator[Row]:
    if part.get("error"):
        yield "devices", f"none: {part['error']}"
    kinds: dict[str, int] = {}
    for one in part.get("devices") or ():
        memory = f", {shown(one['memory'])}" if one["memory"] else ""
        text = f"{one['platform']}: {one['kind']}{memory}"
        kinds[text] = kinds.get(text, 0) + 1
    for text, count in kinds.items():
        yield "devices", f"{count} x {text}"
    driver = part.get("driver") or {}
    told = [f"{key} {driver[key]}" for key in ("module", "cuda") if driver.get(key)]
    yield "nvidia driver", ", ".join([*told, f"{driver.get('gpus', 0)} GPUs in this machine"])
    if part.get("complaint"):
        yield "jax complains", part["complaint"]
    if part.get("library"):
        yield "kernels", part["library"]
    kernels = part.get("kernels")
    if kernels:
        able = [name for name in ("xla", "plain", "triton", "interpret") if kernels[name] is True]
        yield "kernels", f"{', '.join(able)} can run; auto takes {kernels['auto']}"
        for name in ("triton", "interpret"):
            if kernels[name] is not True:
                yield "", f"not {name}: {kernels[name]}"
        if kernels.get("error"):
            yield "", kernels["error"]


def _environment(part: Found) -> Iterator[Row]:
    given = part["set"]
    for name, value in given.items():
        yield "", f"{name}={value}"
    yield "not set", ", ".join(name for name in VARIABLES if name not in given) or "none"
    yield "proxies", ", ".join(f"{name} is set" for name in part["proxies"]) or "none is set"


def _caches(part: Found) -> Iterator[Row]:
    for name, one in part.items():
        if "error" in one:
            yield name, f"{one.get('path', '')} {one['error']}".strip()
            continue
        more = "" if one["complete"] else "more than "
        what = f"{more}{one['files']:,} files, {shown(one['bytes'])}" if one["there"] else "none"
        yield name, f"{one['path']}: {what}{'' if one['writable'] else ', cannot be written'}"


def _data_sets(part: list[Found]) -> Iterator[Row]:
    for one in part:
        if "error" in one:
            yield one["name"], one["error"]
        else:
            yield (
                one["name"],
                f"{one['version']}, {one['format']}, {one['examples']:,} examples, "
                f"{shown(one['bytes'])}",
            )
    if not part:
        yield "", "none is prepared"


def _file_systems(part: Found) -> Iterator[Row]:
    for name, one in part.items():
        if "error" in one:
            yield name, one["error"]
            continue
        room = f"{shown(one['free'])} free of {shown(one['total'])}"
        yield name, f"{one['path']}: {one['type'] or 'unknown'}, {room}; {_abilities(one)}"


def _abilities(one: Found) -> str:
    names = [name for name in ("lock", "link", "symlink", "rename", "replace") if name in one]
    if one["writable"] is not True:
        return f"cannot be written: {one['writable']}"
    lacks = [f"no {name} ({one[name]})" for name in names if one[name] is not True]
    able = [name for name in names if one[name] is True]
    return ", ".join([*able, *lacks])


def _terminal(part: Found) -> Iterator[Row]:
    which = ", ".join(part["terminals"]) or "no stream"
    yield "terminal", f"{which}, {part['encoding']}, {part['width']} columns"
    yield "locale", f"{part['locale']}, names of files in {part['files']}"


def _limits(part: Found) -> Iterator[Row]:
    titles = {"NOFILE": "open files", "NPROC": "processes"}
    sizes = {"FSIZE": "file size", "AS": "addresses", "CORE": "core dumps"}
    told = [f"{titles[n]} {v or 'unlimited'}" for n, v in part.items() if n in titles]
    for name, title in sizes.items():
        if name in part:
            limit = "unlimited" if part[name] is None else shown(part[name])
            told.append(f"{title} {limit}")
    yield "limits", ", ".join(told)


SECTIONS = {
    "machine": _machine,
    "memory": _memory,
    "software": _software,
    "jax": _jax,
    "environment": _environment,
    "caches": _caches,
    "data_sets": _data_sets,
    "file_systems": _file_systems,
    "terminal": _terminal,
    "limits": _limits,
}
