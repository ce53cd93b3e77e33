"""Networks: Linen modules, and nothing else.

A training step calls any Linen module alike, see `jaxgan.calling`; those here have no privileges.
A module of flax.nnx becomes one by `nnx.bridge.to_linen(Network, *arguments)`, where
`Network(*arguments, rngs=...)` makes it. Its batch norm does not see other devices, so with it one
device trains.
"""

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
from jaxgan.models.wrappers import FourierFeatures, MinibatchStdDev, Pack, SpectralNorm

__all__ = [
    "ClassHead",
    "Concatenated",
    "ConditionMap",
    "ConditionalBatchNorm",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "FourierFeatures",
    "ListingDiscriminator",
    "ListingGenerator",
    "MLPDiscriminator",
    "MLPGenerator",
    "MinibatchStdDev",
    "Pack",
    "ProjectionHead",
    "SpectralNorm",
]
