"""Generative adversarial networks in JAX and Flax.

Read `jaxgan.game` for the types, `jaxgan.step` for the training step and `jaxgan.gan_moves` for the
moves of the usual GAN; `train` runs a game with checkpoints, resume and records.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxgan.api import *  # noqa: F403

__version__ = "0.2.0.dev0"


def __getattr__(name: str) -> Any:
    """Imports a module, or what `jaxgan.api` names, when it is first asked for.

    The import of JAX takes a second, before which the command line handles signals.
    """
    if not name.startswith("_") and importlib.util.find_spec(f"jaxgan.{name}"):
        return importlib.import_module(f"jaxgan.{name}")
    if not name.startswith("_") or name == "__all__":
        api = importlib.import_module("jaxgan.api")
        if hasattr(api, name):
            return getattr(api, name)
    raise AttributeError(f"module 'jaxgan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *importlib.import_module("jaxgan.api").__all__})
