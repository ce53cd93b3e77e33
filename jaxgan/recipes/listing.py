"""The listing that this library began from: its algorithm and networks."""

import dataclasses
from typing import Any

from jaxgan import latents
from jaxgan.game import Game, Player
from jaxgan.models import ListingDiscriminator, ListingGenerator
from jaxgan.options import option
from jaxgan.recipes import common
from jaxgan.recipes.common import ObjectiveOptions, OptimizerOptions
from jaxgan.recipes.recipe import recipe
from jaxgan.two_players import gan


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The networks' sizes."""

    latent_size: int = option(100, "length of the latent vector z", low=1, below=2**16)
    generator_width: int = option(64, "channels of the generator's first image", low=2, below=2**14)
    discriminator_width: int = option(
        16, "channels of the discriminator's first layer", low=1, below=2**14
    )


@recipe(steps=4680, batch_size=128, data={"name": "mnist", "image_size": 28})
def listing(
    example: dict[str, Any],
    model: ModelOptions = ModelOptions(),
    objective: ObjectiveOptions = ObjectiveOptions(),
    optimizer: OptimizerOptions = OptimizerOptions(beta1=0.9, ema_decay=0.0),
    flips: bool = False,
) -> Game:
    """The PyTorch listing that this library began from, step for step.

    Adam(2e-4), one update of each player, no average. The networks are those of
    `jaxgan.models.listing`, whose docstring tells what of the listing was mended.

    Args:
      flips: mirror each real image left to right with probability 1/2
    """
    # Its discriminator halves three times, down to a map of patches.
    shape = common.image_shape("listing", example, 4, least=8)
    generator = ListingGenerator(shape, model.generator_width)
    return gan(
        Player(generator, common.adam(optimizer, optimizer.generator_rate), optimizer.ema_decay),
        Player(
            ListingDiscriminator(model.discriminator_width),
            common.adam(optimizer, optimizer.discriminator_rate),
        ),
        common.objective_of(objective),
        latents.normal(model.latent_size),
        penalties=common.penalties_of(objective),
        augment=common.augment_of(objective),
        examples=common.flips_of(flips, example),
    )
