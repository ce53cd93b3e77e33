"""All that the doctor looks at, as one tree of dicts, lists, texts and numbers. Nothing is judged.

A probe that fails gives {"error": why} and never more; names and addresses are left out at the end.
"""

import functools
import importlib.metadata
import locale
import os
import pathlib
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from jaxgan import __version__
from jaxgan.doctor import devices, places, private, versions

Found = dict[str, Any]
_SECONDS = 30.0  # JAX is given 20

_PREFIXES = ("JAX_", "XLA_", "JAXGAN_", "CUDA_VISIBLE_", "TRITON_", "OMP_", "OPENBLAS_", "TF_GPU")
# Told also where they are not set.
VARIABLES = (
    *("JAX_PLATFORMS", "XLA_FLAGS", "JAXGAN_KERNELS", "CUDA_VISIBLE_DEVICES", "TFDS_DATA_DIR"),
    *("XDG_CACHE_HOME", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NO_COLOR", "TERM", "LANG"),
    *("LC_ALL", "PYTHONUTF8", "TMPDIR"),
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def gather(probes: dict[str, Callable[[], Any]] | None = None) -> Found:
    """section -> what its probe found; by default of `PROBES`."""
    found = {name: answered(probe) for name, probe in (probes or PROBES).items()}
    return private.scrubbed(found, private.known_names())


def answered(probe: Callable[[], Any], seconds: float = _SECONDS) -> Any:
    """What a probe finds within a time; a file system whose server is gone never answers."""
    answer: list[Any] = []
    thread = threading.Thread(target=lambda: answer.append(guarded(probe)), daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else {"error": f"no answer within {seconds:g} seconds"}


def guarded(probe: Callable[[], Any]) -> Any:
    """What a probe finds, or {"error": one line}."""
    try:
        return probe()
    except Exception as error:  # of whatever is broken on a machine that nobody knows
        text = private.told(error, private.known_names())
        return {"error": f"{type(error).__name__}: {text}" if text else type(error).__name__}


def machine() -> Found:
    """Python, the system, cores and the clock."""
    return {
        "jaxgan": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "environment": sys.prefix != sys.base_prefix,
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "quota": quota(),
        "year": time.gmtime().tm_year,
        "behind": _written() - time.time(),
    }


def _cpu() -> str:
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return models[0] if models else platform.processor() or platform.machine()


def quota(root: str | pathlib.Path = "/") -> float | None:
    """Cores that control groups leave, as in containers; None where they leave all."""
    from jaxgan.memory import groups

    most: list[float] = []
    for folder in groups(pathlib.Path(root), "cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                words = " ".join((folder / name).read_text() for name in names).split()
            except OSError:
                continue
            if len(words) == 2 and all(word.isdigit() for word in words):
                most.append(int(words[0]) / int(words[1]))
    return min(most, default=None)


def _written() -> float:
    """When this program was written to the disk, in seconds since 1970."""
    return pathlib.Path(__file__).stat().st_mtime


def memory() -> Found:
    """Bytes of the machine, free, and the limit of a container."""
    from jaxgan.memory import of_machine

    return of_machine()._asdict()


def software() -> Found:
    """Versions, and which of them are not what is asked for."""
    found: Found = {"versions": versions.installed()}
    try:
        found["mismatches"] = versions.mismatches()
    except importlib.metadata.PackageNotFoundError:
        found["mismatches"], found["not_installed"] = [], True
    return found


def jax() -> Found:
    """See `devices.asked`."""
    found, names = devices.asked(), private.known_names()
    for name in ("error", "complaint", "library"):
        if found.get(name):
            found[name] = private.told(found[name], names)
    return found


def environment() -> Found:
    """Variables that matter: their values, shortened; of proxies whether they are set."""
    names = private.known_names()
    shown = [n for n in sorted(os.environ) if n.startswith(_PREFIXES) or n in VARIABLES]
    given = {n: private.variable(n, os.environ[n], names) for n in shown}
    proxies = [n for n in PROXIES if os.environ.get(n) or os.environ.get(n.upper())]
    return {"set": given, "proxies": proxies}


def _folders() -> dict[str, Callable[[], pathlib.Path]]:
    def own(name: str) -> pathlib.Path:
        from jaxgan import caches

        if not (folder := getattr(caches, name)()):
            raise RuntimeError("there is no home folder")
        return pathlib.Path(folder)

    def prepared() -> pathlib.Path:
        from jaxgan.data.options import DataOptions
        from jaxgan.data.tfds_preparing import data_dir

        return data_dir(DataOptions())

    def compiled() -> pathlib.Path:
        from jaxgan.caches import compiled_programs
        from jaxgan.paths import is_address

        folder = compiled_programs()
        if not folder or is_address(folder):
            raise RuntimeError(f"no folder of this machine: {folder or 'there is no home'}")
        return pathlib.Path(folder)

    return {
        "compiled programs": compiled,
        "data sets": prepared,
        "prepared data": functools.partial(own, "prepared_data"),
        "classifiers": functools.partial(own, "classifiers"),
        "kept features": functools.partial(own, "features"),
    }


def _with_short_path(found: Found) -> Found:
    return {**found, "path": private.short_path(found["path"], private.known_names())}


def caches() -> Found:
    """name -> what lies in it."""
    return {
        name: guarded(lambda folder=folder: _with_short_path(places.cache(folder())))
        for name, folder in _folders().items()
    }


def data_sets() -> list[Found]:
    """Those that are prepared."""
    return places.data_sets(_folders()["data sets"]())


def file_systems() -> Found:
    """name -> room and abilities of where caches, runs and temporary files live."""
    folders = {**_folders(), "runs": lambda: pathlib.Path("runs").absolute()}
    folders["temporary files"] = lambda: pathlib.Path(tempfile.gettempdir())

    def look(folder: Callable[[], pathlib.Path]) -> Found:
        return _with_short_path({**places.room(folder()), **places.abilities(folder())})

    return {name: guarded(lambda folder=folder: look(folder)) for name, folder in folders.items()}


def terminal() -> Found:
    """Which streams are terminals, in which encoding, how wide; the locale."""
    streams = {name: getattr(sys, name, None) for name in ("stdin", "stdout", "stderr")}
    return {
        "terminals": [name for name, stream in streams.items() if _is_terminal(stream)],
        "encoding": getattr(sys.stdout, "encoding", None),
        "width": shutil.get_terminal_size().columns,
        "locale": locale.setlocale(locale.LC_CTYPE, None),
        "files": sys.getfilesystemencoding(),
    }


def _is_terminal(stream: Any) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def limits() -> Found:
    """Of this process: numbers, None for none."""
    import resource

    found = {}
    for name in ("NOFILE", "FSIZE", "AS", "CORE", "NPROC"):
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is not None:
            soft, _ = resource.getrlimit(number)
            found[name] = None if soft == resource.RLIM_INFINITY else soft
    return found


PROBES: dict[str, Callable[[], Any]] = {
    "machine": machine,
    "memory": memory,
    "software": software,
    "jax": jax,
    "environment": environment,
    "caches": caches,
    "data_sets": data_sets,
    "file_systems": file_systems,
    "terminal": terminal,
    "limits": limits,
}
