"""Networks: Linen modules, and nothing else. A training step calls any module alike, see `jaxgan.calling`."""

from jaxgan.models.conditional import (
    ClassHead,
    Concatenated,
    ConditionalBatchNorm,
    ConditionMap,
    ProjectionHead,
)
from jaxgan.models.dcgan import DCGANDiscriminator, DCGANGenerator
from jaxgan.models.listing import ListingDiscriminator, ListingGenerator
from jaxgan.models.mlp import MLPDiscriminator, MLPGenerator
from jaxgan.models.wrappers import MinibatchStdDev, Pack, SpectralNorm

__all__ = [
    "ClassHead",
    "Concatenated",
    "ConditionMap",
    "ConditionalBatchNorm",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "ListingDiscriminator",
    "ListingGenerator",
    "MLPDiscriminator",
    "MLPGenerator",
    "MinibatchStdDev",
    "Pack",
    "ProjectionHead",
    "SpectralNorm",
]
