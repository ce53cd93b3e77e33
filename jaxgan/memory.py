"""How much memory there is."""

import os
import pathlib

_LIMIT = pathlib.Path("/sys/fs/cgroup/memory.max")  # of a container


def machine_bytes() -> int:
    """The memory of this machine, or the limit of the container in which this runs."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(whole, int(_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return whole
