"""Measures of samples: pure functions of feature arrays."""

from jaxgan.metrics.frechet import frechet_distance

__all__ = ["frechet_distance"]
