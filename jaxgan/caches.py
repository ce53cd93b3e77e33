"""Where what can be made again is kept. Imports no JAX."""

import os
import pathlib


def compiled_programs() -> pathlib.Path:
    """Where compiled programs are kept: JAX_COMPILATION_CACHE_DIR, or ~/.cache/jaxgan/compiled.

    Raises:
      RuntimeError: where there is no home folder.
    """
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return pathlib.Path(
        given or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/jaxgan/compiled"
    ).expanduser()


def triton_programs() -> pathlib.Path:
    """Where Triton keeps compiled kernels: TRITON_CACHE_DIR, or ~/.triton/cache; raises as
    `compiled_programs`."""
    given = os.environ.get("TRITON_CACHE_DIR")
    home = os.environ.get("TRITON_HOME") or "~"
    return pathlib.Path(given or f"{home}/.triton/cache").expanduser()
