"""DCGAN's networks on stacked digits, with the variants that are compared there as options."""

import dataclasses
from typing import Any

from jaxgan import latents
from jaxgan.game import Game
from jaxgan.models import DCGANDiscriminator, DCGANGenerator, Pack
from jaxgan.options import option
from jaxgan.recipes import common
from jaxgan.recipes.recipe import recipe
from jaxgan.recipes.variants import ObjectiveOptions, OptimizerOptions, variant


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The networks."""

    latent_size: int = option(100, "length of the latent vector z", low=1, below=2**16)
    generator_width: int = option(
        512, "channels of the generator's first image; each layer halves them", low=1, below=2**14
    )
    doublings: int = option(
        4,
        "doublings of the generator's first image, and halvings in the discriminator",
        low=1,
        below=11,
    )
    discriminator_share: float = option(
        1.0,
        "channels of the discriminator's layers, as a share of the generator's of the same size",
        above=0.0,
    )
    pack: int = option(
        1, "images that the discriminator judges at once (PacGAN); 1 for one", low=1, below=2**10
    )


@recipe(steps=100_000, batch_size=64, data={"name": "stacked-mnist", "image_size": 28})
def stacked(
    example: dict[str, Any],
    model: ModelOptions = ModelOptions(),
    objective: ObjectiveOptions = ObjectiveOptions(last_weight=0.1),
    optimizer: OptimizerOptions = OptimizerOptions(
        generator_rate=5e-4, discriminator_rate=5e-4, fall_steps=100_000
    ),
) -> Game:
    """DCGAN on images of any size: RpGAN + R1 + R2, or any variant compared on stacked MNIST.

    By default the channels are those of PacGAN's networks, whose kernels are of 5 x 5 pixels and
    ours of 4 x 4, and whose discriminator has batch norm. With the options model.generator_width=64
    and model.doublings=3 they are near those of Metz et al., with whose discriminators of a quarter
    and of half the size PacGAN's smaller table is made.

    References:
      Lin et al., PacGAN, 2018, for the networks, the steps and the measures; Metz et al., Unrolled
      Generative Adversarial Networks, 2016; Huang et al., The GAN is dead; long live the GAN! A
      Modern GAN Baseline, 2024, for the objective and its penalties.
    """
    shape = common.image_shape("stacked", example, 1)
    width = model.discriminator_share * common.last_width(model.generator_width, model.doublings)
    discriminator: Any = DCGANDiscriminator(max(1, round(width)), model.doublings)
    if model.pack > 1:
        discriminator = Pack(discriminator, model.pack)
    return variant(
        DCGANGenerator(shape, model.generator_width, model.doublings),
        discriminator,
        latents.normal(model.latent_size),
        "image",
        objective,
        optimizer,
    )
