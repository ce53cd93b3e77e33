"""Measures of samples: pure functions of feature arrays."""

from jaxgan.metrics.arrays import Estimate
from jaxgan.metrics.classes import per_class
from jaxgan.metrics.copying import memorisation
from jaxgan.metrics.covariance import Moments, merged, moments, streamed
from jaxgan.metrics.frechet import frechet_distance
from jaxgan.metrics.kernel import kernel_distance
from jaxgan.metrics.labels import label_histogram
from jaxgan.metrics.manifold import density_coverage, expected_coverage, precision_recall
from jaxgan.metrics.neighbours import nearest_neighbours
from jaxgan.metrics.paths import path_length
from jaxgan.metrics.scores import classifier_score
from jaxgan.metrics.wasserstein import sliced_wasserstein

__all__ = [
    "Estimate",
    "Moments",
    "classifier_score",
    "density_coverage",
    "expected_coverage",
    "frechet_distance",
    "kernel_distance",
    "label_histogram",
    "memorisation",
    "merged",
    "moments",
    "nearest_neighbours",
    "path_length",
    "per_class",
    "precision_recall",
    "sliced_wasserstein",
    "streamed",
]
