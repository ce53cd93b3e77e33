"""What the doctor advises: pure functions of what was found, each a few lines at most.

What was not found out is no reason for advice.
"""

from collections.abc import Callable, Iterator
from typing import Any

from jaxgan.memory import shown

Found = dict[str, Any]
MEMORY, DISK, FILE = 2**30, 2 * 2**30, 2**30  # bytes below which a line is due
OPEN_FILES = 256
SKEW = 60.0  # seconds
FORMAT = "array_record"

_TRUE, _FALSE = ("1", "true", "True"), ("0", "false", "False")
# Variable -> (values, or () for all; whether for GPUs alone; what it does and what to do).
_VARIABLES: dict[str, tuple[tuple[str, ...], bool, str]] = {
    "JAX_DISABLE_JIT": (
        _TRUE,
        False,
        "runs a step one operation at a time; unset it to train",
    ),
    "JAX_ENABLE_X64": (
        _TRUE,
        False,
        "lets networks compute in float64, which is slow and which no kernel does; unset it",
    ),
    "JAX_DEBUG_NANS": (
        _TRUE,
        False,
        "waits for each result, which is slow; runs look for NaN anyway, so unset it",
    ),
    "XLA_PYTHON_CLIENT_PREALLOCATE": (
        _FALSE,
        True,
        "lets the GPU's memory fragment in long runs; unset it unless the GPU is shared",
    ),
    "XLA_PYTHON_CLIENT_ALLOCATOR": (
        ("platform",),
        True,
        "asks CUDA for each array, which is slow; unset it to train",
    ),
    "XLA_PYTHON_CLIENT_MEM_FRACTION": (
        (),
        True,
        "bounds the GPU's memory that a run may take; unset it unless the GPU is shared",
    ),
}


def advise(found: Found) -> list[str]:
    """A line for each thing that deserves one; empty where nothing does."""
    rules = (_memory, _rooms, _jax, _gpus, _kernels, _versions, _folders, _data, _terminal)
    rules += (_network, _variables, _limits, _clock)
    return [line for rule in rules for line in _said(rule, found)]


def _said(rule: Callable[[Found], Iterator[str]], found: Found) -> list[str]:
    try:
        return list(rule(found))
    except (TypeError, KeyError, AttributeError, ValueError):  # of a probe that found other things
        return []


def _of(found: Any, *names: str) -> Any:
    """found[a][b].., None where it is not there."""
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _memory(found: Found) -> Iterator[str]:
    free = _of(found, "memory", "free")
    if free is not None and free < MEMORY:
        yield (
            f"memory: {shown(free)} are free, and a small run takes {shown(MEMORY)}; end other "
            "programs, or raise the container's limit"
        )
    quota, usable = _of(found, "machine", "quota"), _of(found, "machine", "usable")
    if quota and usable and quota < usable:
        yield (
            f"cores: the container leaves {quota:g} of {usable}, and JAX begins a thread for each; "
            f"give it whole cores, or begin runs with taskset -c 0-{max(int(quota), 1) - 1}"
        )


def _places(found: Found) -> Iterator[tuple[str, Found]]:
    for name, place in (found.get("file_systems") or {}).items():
        if isinstance(place, dict) and "error" not in place:
            yield name, place


def _rooms(found: Found) -> Iterator[str]:
    low = [f"{n} ({shown(p['free'])})" for n, p in _places(found) if p.get("free", DISK) < DISK]
    if low:
        yield (
            f"disk: less than {shown(DISK)} are free for {', '.join(low)}; make room, or choose "
            "other folders with --workdir, --data.dir, XDG_CACHE_HOME and TMPDIR"
        )


def _jax(found: Found) -> Iterator[str]:
    error, asked = _of(found, "jax", "error"), _of(found, "environment", "set", "JAX_PLATFORMS")
    if error and asked and _of(found, "jax", "imported"):
        yield f"JAX finds nothing for JAX_PLATFORMS={asked}: {error}; unset it, or mend that"
    elif error:
        yield (
            f"JAX cannot be used: {error}; mend that (the variables and limits above may be the "
            "cause), or install jaxgan in a new environment"
        )
    library = _of(found, "jax", "library")
    if library:
        yield f"jaxgan cannot be imported: {library}; install it anew, in a new environment"


def _gpus(found: Found) -> Iterator[str]:
    seen = [d["platform"] for d in _of(found, "jax", "devices") or ()]
    versions = _of(found, "software", "versions") or {}
    plugins = [name for name in versions if name.endswith("-plugin") and versions[name]]
    there = _of(found, "jax", "driver", "gpus")
    hidden = _of(found, "environment", "set", "CUDA_VISIBLE_DEVICES") in ("empty", "-1")
    only = _of(found, "environment", "set", "JAX_PLATFORMS") or ""
    if "gpu" in seen:
        if "triton" in versions and not versions["triton"]:
            extra = "cuda13" if versions.get("jax-cuda13-plugin") else "cuda12"
            yield (
                "GPU: triton is missing, so that no Triton kernel can run; "
                f"pip install 'jaxgan[{extra}]'"
            )
    elif seen and there and hidden:
        yield "GPU: CUDA_VISIBLE_DEVICES hides all GPUs of this machine; unset it to train on them"
    elif seen and there and not plugins:
        yield "GPU: there is one, but no CUDA plugin of JAX; pip install 'jaxgan[cuda12]'"
    elif seen and plugins and not (only and "cuda" not in only and "gpu" not in only):
        said = _of(found, "jax", "complaint") or "there seems to be none"
        yield (
            f"GPU: {plugins[0]} is installed but JAX sees no GPU ({said}); look at nvidia-smi and "
            "the driver, or set JAX_PLATFORMS=cpu to train without"
        )


def _kernels(found: Found) -> Iterator[str]:
    error = _of(found, "jax", "kernels", "error")
    if error:
        yield f"kernels: {error}; or unset JAXGAN_KERNELS"


def _versions(found: Found) -> Iterator[str]:
    for one in _of(found, "software", "mismatches") or ():
        has = f"is {one['version']}" if one["version"] else "is not installed"
        wanted = f"{one['package']}{one['wanted']}"
        yield f"versions: {one['package']} {has}, asked for is {wanted}; pip install '{wanted}'"
    if _of(found, "software", "not_installed"):
        yield "versions: jaxgan is run without being installed, so that none is compared"


def _folders(found: Found) -> Iterator[str]:
    for name, one in (found.get("caches") or {}).items():
        if _of(one, "writable") is False:
            yield (
                f"{name}: {one['path']} cannot be written, so that nothing is kept there; give "
                "yourself the right to, or set XDG_CACHE_HOME"
            )
    for name, place in _places(found):
        why = place.get("writable", True)
        if why is not True:
            yield f"{name}: {place['path']} cannot be written: {why}; choose another folder"
        if place.get("lock", True) is not True:
            yield (
                f"{name}: {place['path']} has no locks ({place['lock']}), so that two runs are not "
                "kept apart; use one folder a run, or another file system"
            )
        for ability in ("rename", "replace"):
            if place.get(ability, True) is not True:
                yield (
                    f"{name}: {place['path']} cannot {ability} ({place[ability]}), which "
                    "checkpoints and records need; use another file system"
                )


def _data(found: Found) -> Iterator[str]:
    sets = found.get("data_sets")
    for one in sets if isinstance(sets, list) else ():
        if "error" in one:
            yield f"data set {one['name']}: {one['error']}; have it prepared anew"
        elif one["format"] != FORMAT:
            yield (
                f"data set {one['name']}: it is prepared as {one['format']}, which cannot be read "
                f"at random; have it prepared anew as {FORMAT}, in another --data.dir"
            )


def _terminal(found: Found) -> Iterator[str]:
    encoding = _of(found, "terminal", "encoding")
    if encoding and encoding.lower().replace("-", "").replace("_", "") not in ("utf8", "utf8sig"):
        yield f"terminal: it is {encoding} alone, names may be escaped; set LANG=C.UTF-8"


def _network(found: Found) -> Iterator[str]:
    proxies = _of(found, "environment", "proxies") or ()
    if proxies and "no_proxy" not in proxies:
        yield (
            "network: a proxy is set and no_proxy is not, so that processes of one run may look "
            "for each other behind the proxy; for several, name their hosts in no_proxy"
        )


def _variables(found: Found) -> Iterator[str]:
    given = _of(found, "environment", "set") or {}
    gpu = any(d["platform"] == "gpu" for d in _of(found, "jax", "devices") or ())
    for name, (values, gpus_alone, text) in _VARIABLES.items():
        value = given.get(name)
        if value and (value in values or not values) and (gpu or not gpus_alone):
            yield f"{name}={value}: it {text}"
    if "xla_force_host_platform_device_count" in given.get("XLA_FLAGS", ""):
        yield (
            "XLA_FLAGS: devices are made of cores, which is for tests; leave out "
            "--xla_force_host_platform_device_count to train faster"
        )


def _limits(found: Found) -> Iterator[str]:
    files, largest = _of(found, "limits", "NOFILE"), _of(found, "limits", "FSIZE")
    addresses, total = _of(found, "limits", "AS"), _of(found, "memory", "total")
    if files is not None and files < OPEN_FILES:
        yield f"limits: {files} files may be open, which is few; ulimit -n 4096"
    if largest is not None and largest < FILE:
        yield f"limits: files end at {shown(largest)}, and checkpoints too; ulimit -f unlimited"
    if addresses is not None and (total is None or addresses < total):
        yield (
            f"limits: {shown(addresses)} of addresses, of which JAX takes more than it uses; "
            "ulimit -v unlimited"
        )


def _clock(found: Found) -> Iterator[str]:
    year, behind = _of(found, "machine", "year"), _of(found, "machine", "behind")
    if (behind is not None and behind > SKEW) or (year is not None and year < 2025):
        yield (
            f"clock: it says {year}, before this program was written, so that downloads and logs "
            "go wrong; set it"
        )
    off = [(n, p["clock"]) for n, p in _places(found) if abs(p.get("clock") or 0) > SKEW]
    for name, seconds in off:
        yield (
            f"clock: the file system of {name} is {seconds:g} seconds off this machine's clock; "
            "set both by NTP"
        )
