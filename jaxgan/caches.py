"""Where what can be made again is kept. Imports no JAX."""

import os

from jaxgan.paths import is_address


def own() -> str:
    """The folder of our own caches, ~/.cache/jaxgan or below XDG_CACHE_HOME; empty where there is
    no home folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return "" if cache.startswith("~") else f"{cache}/jaxgan"


def prepared_data() -> str:
    """Where data are kept decoded; empty where there is no home folder."""
    return own() and f"{own()}/prepared"


def classifiers() -> str:
    """Where classifiers are kept that samples are measured by; empty where there is no home
    folder."""
    return own() and f"{own()}/classifiers"


def features() -> str:
    """Where features of real examples are kept; empty where there is no home folder."""
    return own() and f"{own()}/features"


def compiled_programs() -> str:
    """Where compiled programs are kept: JAX_COMPILATION_CACHE_DIR, which JAX takes as a folder or
    an address of a store, or ~/.cache/jaxgan/compiled; empty where there is no home folder."""
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        return given if is_address(given) else os.path.expanduser(given)
    return own() and f"{own()}/compiled"
