"""Versions of packages, and those that are not what jaxgan asks for."""

import importlib.metadata
import re
from typing import Any

PACKAGES = (
    *("jaxgan", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets"),
    *("array_record", "numpy", "pillow", "scikit-learn", "tensorboardX", "tensorflow"),
    *("triton", "jax-cuda12-plugin", "jax-cuda13-plugin"),
)
_COMPARED = {
    ">=": lambda found, asked: found >= asked,
    ">": lambda found, asked: found > asked,
    "<=": lambda found, asked: found <= asked,
    "<": lambda found, asked: found < asked,
    "==": lambda found, asked: found == asked,
    "!=": lambda found, asked: found != asked,
}


def installed() -> dict[str, str | None]:
    """package -> version; None where it is not installed."""
    return {name: version(name) for name in PACKAGES}


def version(name: str) -> str | None:
    """Of a package."""
    try:
        return str(importlib.metadata.version(name))
    except Exception:  # not installed, or its metadata are damaged in whatever way
        return None


def mismatches(requirements: list[str] | None = None) -> list[dict[str, Any]]:
    """What is missing, or of a version that the requirements do not allow.

    Args:
      requirements: as in a package's metadata; by default those of jaxgan. Those of extras count
        where the package is installed.

    Raises:
      PackageNotFoundError: where jaxgan itself is not installed.
    """
    if requirements is None:
        requirements = importlib.metadata.requires("jaxgan") or []
    wrong: dict[str, dict[str, Any]] = {}
    for line in requirements:
        text, _, marker = line.partition(";")
        of_extra = "extra" in marker
        found = re.match(r"\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*\(?([^)]*)", text)
        if found is None or re.search(r"extra == .(bench|dev|test)", marker):
            continue
        name, asked = found[1], found[2].strip()
        has = version(name)
        if not (has is None and of_extra) and not (has and allowed(has, asked)):
            wrong[name] = {"package": name, "version": has, "wanted": asked}
    return list(wrong.values())


def allowed(has: str, asked: str) -> bool:
    """Whether a version is within bounds such as `>=0.11.30,<1`; other conditions are taken as
    met."""
    for bound in asked.split(","):
        found = re.match(r"\s*(>=|<=|==|!=|<|>)\s*([\d.]+)\s*$", bound)
        if found:
            one, other = _numbers(has), _numbers(found[2])
            length = max(len(one), len(other))
            one, other = (n + (0,) * (length - len(n)) for n in (one, other))
            if not _COMPARED[found[1]](one, other):
                return False
    return True


def _numbers(text: str) -> tuple[int, ...]:
    """Of the release: 0.10.2 of 0.10.2.dev1."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(n) for n in found[0].split(".")) if found else (0,)
