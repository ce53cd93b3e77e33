"""Generative adversarial networks in JAX and Flax. See `jaxgan.game` for the types and `jaxgan.step` for the training step."""

from jaxgan.config import Config, preset, validate
from jaxgan.errors import RunError, UserError
from jaxgan.game import Game, GANState, Player, init, make_game
from jaxgan.objectives import Objective
from jaxgan.parallel import data_parallel, make_program
from jaxgan.step import make_step

__all__ = [
    "Config",
    "UserError",
    "GANState",
    "Game",
    "Objective",
    "Player",
    "RunError",
    "data_parallel",
    "init",
    "make_game",
    "make_program",
    "make_step",
    "preset",
    "validate",
]
__version__ = "0.1.0"
