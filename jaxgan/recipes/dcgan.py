"""DCGAN: batch norm in the generator, one logit an image."""

import dataclasses
from typing import Any

from jaxgan import latents
from jaxgan.game import Game, Player
from jaxgan.models import Concatenated, DCGANDiscriminator, DCGANGenerator
from jaxgan.options import option
from jaxgan.recipes import common
from jaxgan.recipes.common import ObjectiveOptions, OptimizerOptions
from jaxgan.recipes.recipe import recipe
from jaxgan.two_players import gan


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The networks."""

    conditional: bool = option(
        False, "give the data's labels to both networks, joined to z and to the images as channels"
    )
    doublings: int = option(
        2,
        "doublings of the generator's first image, and halvings in the discriminator",
        low=1,
        below=11,
    )
    latent_size: int = option(100, "length of the latent vector z", low=1, below=2**16)
    generator_width: int = option(64, "channels of the generator's first image", low=2, below=2**14)
    discriminator_width: int = option(
        32, "channels of the discriminator's first layer", low=1, below=2**14
    )


@recipe(steps=2000, batch_size=64, data={"name": "digits", "image_size": 28})
def dcgan(
    example: dict[str, Any],
    model: ModelOptions = ModelOptions(),
    objective: ObjectiveOptions = ObjectiveOptions(),
    optimizer: OptimizerOptions = OptimizerOptions(),
    flips: bool = False,
) -> Game:
    """DCGAN at any size of image, with R1 and falling rates as options.

    Args:
      flips: mirror each real image left to right with probability 1/2

    References:
      Radford, Metz and Chintala, Unsupervised Representation Learning with Deep Convolutional GANs,
      2016; Mirza and Osindero, Conditional Generative Adversarial Nets, 2014.
    """
    shape = common.image_shape("dcgan", example, 2**model.doublings)
    common.last_width(model.generator_width, model.doublings)
    generator: Any = DCGANGenerator(shape, model.generator_width, model.doublings)
    discriminator: Any = DCGANDiscriminator(model.discriminator_width, model.doublings)
    given: tuple[str, ...] = ()
    if model.conditional:
        classes, given = common.classes("dcgan", example), ("label",)
        generator = Concatenated(generator, classes)
        discriminator = Concatenated(discriminator, classes)
    return gan(
        Player(generator, common.adam(optimizer, optimizer.generator_rate), optimizer.ema_decay),
        Player(discriminator, common.adam(optimizer, optimizer.discriminator_rate)),
        common.objective_of(objective),
        latents.normal(model.latent_size),
        given=given,
        penalties=common.penalties_of(objective),
        augment=common.augment_of(objective),
        examples=common.flips_of(flips, example),
    )
