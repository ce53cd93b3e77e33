"""Dense networks on mixtures of Gaussians, with the variants that are compared there as options."""

import dataclasses
from typing import Any

from jaxgan import latents
from jaxgan.errors import UserError
from jaxgan.game import Game
from jaxgan.models import FourierFeatures, MLPDiscriminator, MLPGenerator, Pack
from jaxgan.options import option
from jaxgan.recipes.recipe import recipe
from jaxgan.recipes.variants import ObjectiveOptions, OptimizerOptions, variant


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The networks."""

    latent_size: int = option(16, "length of the latent vector z", low=1, below=2**16)
    width: int = option(64, "units of each hidden layer", low=1, below=2**14)
    layers: int = option(4, "hidden layers of each network", low=1, below=65)
    fourier: int = option(
        16,
        "random Fourier features of a point that the discriminator is also given; 0: none",
        low=0,
        below=2**14,
    )
    pack: int = option(
        1, "examples that the discriminator judges at once (PacGAN); 1 for one", low=1, below=2**10
    )


@recipe(steps=18_000, batch_size=512, data={"name": "grid"})
def mixtures(
    example: dict[str, Any],
    model: ModelOptions = ModelOptions(),
    objective: ObjectiveOptions = ObjectiveOptions(last_weight=0.1),
    optimizer: OptimizerOptions = OptimizerOptions(last_rate=0.01, fall_steps=10_000),
) -> Game:
    """Dense networks on points: RpGAN + R1 + R2, or any variant that is compared on mixtures.

    High rates find the modes, and leave them too tight: a mode moves about, and what is compared is
    where it has been. So rates fall, by 10,000 steps, and the rest of the steps lets the modes
    widen.

    References:
      Huang et al., The GAN is dead; long live the GAN! A Modern GAN Baseline, 2024, for the
      objective and its penalties; Lin et al., PacGAN, 2018, for the packs and the measures; Metz et
      al., Unrolled Generative Adversarial Networks, 2016.
    """
    shape = _shape(example)
    widths = (model.width,) * model.layers
    discriminator: Any = MLPDiscriminator(widths)
    if model.fourier:
        discriminator = FourierFeatures(discriminator, model.fourier)
    if model.pack > 1:
        discriminator = Pack(discriminator, model.pack)
    return variant(
        MLPGenerator(shape, widths),
        discriminator,
        latents.normal(model.latent_size),
        "point",
        objective,
        optimizer,
    )


def _shape(example: dict[str, Any]) -> tuple[int, ...]:
    if "point" not in example:
        raise UserError(
            f"recipe mixtures needs a feature 'point', an example has {', '.join(example)}; use "
            "data.name=ring, grid or mixture-1d, or points of a file"
        )
    return example["point"].shape
