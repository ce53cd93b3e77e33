"""How much memory this process may take: the machine's, and what a container leaves of it."""

import os
import pathlib
from typing import NamedTuple

_NO_LIMIT = 2**60  # what cgroups of version 1 say where there is none is near 2**63


class Memory(NamedTuple):
    """Bytes; None for what this system does not tell.

    Attributes:
      total: of the machine.
      free: of it, without swapping, and within the limit.
      limit: of the control groups, as in containers and under SLURM; None where there is none.
    """

    total: int | None
    free: int | None
    limit: int | None


def of_machine(root: str | pathlib.Path = "/") -> Memory:
    """The memory of this machine, of which Linux tells most.

    Args:
      root: where `proc` and `sys` are; another one in tests.
    """
    root = pathlib.Path(root)
    told = {}
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdigit():
            told[name] = int(number[0]) * 1024
    total, free, limit = told.get("MemTotal") or _pages(), told.get("MemAvailable"), None
    for folder in groups(root, "memory"):
        most = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if most is None or most >= _NO_LIMIT:
            continue
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
        left = most - (used or 0) + _of_files(folder)
        limit = most if limit is None else min(limit, most)
        free = left if free is None else min(free, left)
    return Memory(total, None if free is None else max(free, 0), limit)


def most() -> int | None:
    """Bytes that this process may take at all: the machine's, or the limit of control groups."""
    found = of_machine()
    return found.total if found.limit is None else found.limit


def shown(count: float) -> str:
    """Bytes for the user."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            break
        count, unit = count / 1024, "GiB"
    return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"


def groups(root: pathlib.Path, controller: str) -> list[pathlib.Path]:
    """The folders of this process's control groups, the innermost first; none where there are none.

    In a container the folder that the kernel names may be another's view; then it is the root.
    """
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, names, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not names:
            top = root / "sys/fs/cgroup"
        elif controller in names.split(","):
            top = root / "sys/fs/cgroup" / controller
        else:
            continue
        inner = top / path.strip("/")
        inner = inner if ".." not in inner.parts and inner.is_dir() else top
        found += [inner, *(p for p in inner.parents if p == top or top in p.parents)]
    return found


def _of_files(folder: pathlib.Path) -> int:
    """Bytes of files that a control group keeps and would give back."""
    words = _text(folder / "memory.stat").split()
    stat = dict(zip(words[::2], words[1::2]))
    return int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def _number(path: pathlib.Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _pages() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
