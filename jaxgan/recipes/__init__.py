"""The recipes and presets of the library: the one room that knows all of them."""

from typing import Any, NamedTuple

from jaxgan.errors import UserError
from jaxgan.names import unknown
from jaxgan.recipes import recipe as recipe_
from jaxgan.recipes.dcgan import dcgan
from jaxgan.recipes.dirac import dirac
from jaxgan.recipes.listing import listing
from jaxgan.recipes.mixtures import mixtures
from jaxgan.recipes.recipe import Recipe
from jaxgan.recipes.stacked import stacked
from jaxgan.user_files import is_place

RECIPES = {function.__name__: function for function in (dcgan, dirac, listing, mixtures, stacked)}


class Preset(NamedTuple):
    """A recipe with some of its options, and with some of the run's, by dotted names.

    Attributes:
      recipe: its name.
      about: one line, with the paper or what to expect.
      options: what differs from the recipe's own defaults.
    """

    recipe: str
    about: str
    options: dict[str, Any]


# Found by trying on MNIST: fast rates that fall, and a discriminator that is flat where the data
# are.
_FALLING = {
    "optimizer.generator_rate": 2e-3,
    "optimizer.discriminator_rate": 1e-3,
    "objective.r1_weight": 0.5,
}


def _falling(steps: int) -> dict[str, Any]:
    """The rates fall in the second half of the steps."""
    return {**_FALLING, "optimizer.decay_from": steps // 2, "optimizer.decay_steps": steps // 2}


_LARGE = {
    "model.doublings": 4,
    "model.generator_width": 512,
    "model.discriminator_width": 64,
}


# d2l-neu, a textbook: two wide layers, 64 numbers of latent, slow rates that stay.
_PUBLISHED = {
    "steps": 20_000,
    "batch_size": 256,
    "model.latent_size": 64,
    "model.width": 256,
    "model.layers": 2,
    "model.fourier": 0,
    "objective.last_weight": 1.0,
    "optimizer.generator_rate": 2e-4,
    "optimizer.discriminator_rate": 2e-4,
    "optimizer.last_rate": 1.0,
}

PRESETS = {
    "digits": Preset(
        "dcgan",
        "digits of 8 x 8 pixels, embedded: about two minutes on two cores",
        _falling(2000),
    ),
    "mnist": Preset(
        "dcgan",
        "MNIST: 10 epochs; Frechet distance 11 to 14 (a classifier's features)",
        {"data.name": "mnist", "steps": 4680, "batch_size": 128, **_falling(4680)},
    ),
    "seed-mnist": Preset(
        "listing", "the PyTorch listing that this library began from: 10 epochs of MNIST", {}
    ),
    "ring": Preset("mixtures", "eight Gaussians on a circle", {"data.name": "ring"}),
    "grid": Preset("mixtures", "25 Gaussians, all of which it finds", {}),
    "mixture-1d": Preset(
        "mixtures",
        "four Gaussians on a line",
        {"data.name": "mixture-1d", "steps": 4000, "batch_size": 256, "optimizer.fall_steps": 3000},
    ),
    "grid-spacing-2": Preset(
        "mixtures",
        "the same 25 by a published protocol, which ends with a tenth of the samples at the modes",
        _PUBLISHED,
    ),
    "stacked-mnist": Preset(
        "stacked",
        "three digits of MNIST as the channels of an image, 1,000 modes: for a GPU",
        {},
    ),
    "stacked-mnist-small": Preset(
        "stacked",
        "the same with networks of a twentieth of the size, for a processor",
        {
            "steps": 5000,
            "model.generator_width": 64,
            "model.doublings": 3,
            "optimizer.generator_rate": 2e-3,
            "optimizer.discriminator_rate": 2e-3,
            "optimizer.fall_steps": 5000,
        },
    ),
    "dcgan-64": Preset(
        "dcgan",
        "DCGAN at 64 x 64 in colour, on drawn shapes or any data: for a GPU",
        {
            "data.name": "shapes",
            "data.image_size": 64,
            "steps": 25_000,
            "batch_size": 128,
            **_LARGE,
        },
    ),
}


def find(name: str) -> Recipe:
    """The recipe of a preset's name, of a recipe's, or at `FILE.py:FUNCTION`; of a preset with its
    options.

    Raises:
      UserError: where there is none, with the nearest names.
    """
    if name in PRESETS:
        preset = PRESETS[name]
        found = recipe_.from_function(RECIPES[preset.recipe], preset.recipe)
        return recipe_.with_defaults(found, name, preset.options)
    if name in RECIPES:
        return recipe_.from_function(RECIPES[name], name)
    if is_place(name):
        return recipe_.from_file(name)
    if name.endswith(".py"):
        raise UserError(f"recipe {name!r} names no function; use {name}:FUNCTION")
    raise UserError(unknown("recipe", name, [*PRESETS, *RECIPES]))


def about(function: Any) -> str:
    """A recipe in one line."""
    return recipe_.from_function(function, function.__name__).about
