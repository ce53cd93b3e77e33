"""Devices as JAX sees them: asked in a process of its own, which may fail, abort or hang."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

from jaxgan.driver import driver

SECONDS = 20  # that JAX may take
_TELLING = re.compile(r"Unknown flag|\w*(Error|Exception|Exit)\b|Check failed|cannot|failed|alloc")
_LOGGED = re.compile(r"^[IWEF]\d{4} [\d:.]+ +\d+ \S+\] |^[A-Z]+:[\w.]+:")  # before C++'s, Python's
_CODE = "from jaxgan.doctor import devices; devices.tell()"


def asked(seconds: float = SECONDS, code: str = _CODE) -> dict[str, Any]:
    """What JAX and the kernels say here, or `error`: why nothing does.

    Args:
      seconds: after which no answer is expected any more.
      code: what the process runs.
    """
    root = str(pathlib.Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    # Three quarters of a GPU's memory would be taken from a run that is under way.
    own = {"PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    words = [sys.executable, "-P", "-c", code]
    try:
        done = subprocess.run(
            words,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {seconds:g} seconds"}
    said = [_LOGGED.sub("", line.strip()) for line in done.stderr.splitlines()]
    complaints = [line for line in said if line]
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        # An abort ends with a page of addresses.
        told = [line for line in complaints if _TELLING.search(line)]
        last = told[-1] if told else "it said nothing" + " that helps" * bool(complaints)
        return {"error": f"{last} (exit status {done.returncode})"}
    errors = [line for line in complaints if re.match(r"\w*Error: ", line)]
    complaint = errors[-1] if errors else None
    if complaint and re.fullmatch(r"\w+", found.get("error") or ""):  # a bare AssertionError
        found["error"] = complaint
    return {**found, "complaint": complaint}


def tell() -> None:
    """Prints what JAX says here as a line of JSON. For a process of its own."""
    found: dict[str, Any] = {"driver": driver()}
    try:
        import jax

        found["imported"] = True
        found["devices"] = [_device(device) for device in jax.local_devices()]
        found["backend"] = jax.default_backend()
    except Exception as error:  # a broken installation raises whatever it likes
        found["error"] = f"{type(error).__name__}: {error}".rstrip(": ")
    else:
        try:
            found["kernels"] = kernels(found["backend"])
        except Exception as error:  # as above
            found["library"] = f"{type(error).__name__}: {error}"
    print(json.dumps(found))


def _device(device: Any) -> dict[str, Any]:
    try:
        stats = device.memory_stats() or {}
    except Exception:  # as above
        stats = {}
    memory = {"memory": stats.get("bytes_limit"), "used": stats.get("bytes_in_use")}
    return {"kind": device.device_kind, "platform": device.platform, **memory}


def kernels(backend: str) -> dict[str, Any]:
    """Which implementations of the fused operations can run, True or why not, and what `auto`
    takes."""
    import jaxgan.api  # noqa: F401 # all of it, as a run does
    from jaxgan.errors import UserError
    from jaxgan.run import runtime

    triton: Any = True
    try:
        refused = runtime.check_kernels("triton", backend)[1]
        triton = refused[0] if refused else True
    except UserError as error:
        triton = str(error).partition(", but ")[0]
    interpret: Any = True if importlib.util.find_spec("triton") else "triton is not installed"
    found: dict[str, Any] = {"xla": True, "plain": True, "triton": triton, "interpret": interpret}
    found["auto"] = "xla"
    try:
        runtime.check_kernels("auto", backend)
        asked_for = os.environ.get("JAXGAN_KERNELS") or "auto"
        found["asked"] = asked_for
    except UserError as error:
        found["error"] = str(error)
    return found
