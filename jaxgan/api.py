"""The names of `jaxgan` itself."""

from jaxgan.errors import RunError, UserError
from jaxgan.examples import drawn
from jaxgan.game import Game, GANState, Move, Outcome, Play, Player, PlayerState, init
from jaxgan.gan_moves import adversarial
from jaxgan.judging import critic
from jaxgan.members import ensemble
from jaxgan.objectives import Objective
from jaxgan.recipes.recipe import recipe
from jaxgan.run.parallel import data_parallel
from jaxgan.run.restore import restore
from jaxgan.run.train import train
from jaxgan.sampling import Sampler
from jaxgan.step import make_step
from jaxgan.two_players import gan, maker

__all__ = [
    "GANState",
    "Game",
    "Move",
    "Objective",
    "Outcome",
    "Play",
    "Player",
    "PlayerState",
    "RunError",
    "Sampler",
    "UserError",
    "adversarial",
    "critic",
    "data_parallel",
    "drawn",
    "ensemble",
    "gan",
    "init",
    "make_step",
    "maker",
    "recipe",
    "restore",
    "train",
]
