"""Networks: Linen modules, and nothing else. A training step calls any module alike, see `jaxgan.calling`."""

from jaxgan.models.dcgan import DCGANDiscriminator, DCGANGenerator
from jaxgan.models.listing import ListingDiscriminator, ListingGenerator

__all__ = ["DCGANDiscriminator", "DCGANGenerator", "ListingDiscriminator", "ListingGenerator"]
