"""Networks: Linen modules called as `module(inputs, train)`, and nothing else.

A module with batch statistics has the fields `axis_name` and `momentum`, which the step and the sampler set.
"""

from jaxgan.models.dcgan import DCGANDiscriminator, DCGANGenerator
from jaxgan.models.seed import SeedDiscriminator, SeedGenerator

__all__ = ["DCGANDiscriminator", "DCGANGenerator", "SeedDiscriminator", "SeedGenerator"]
