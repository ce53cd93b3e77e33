"""Extractors: functions that describe images by features, in which sets of images are compared.

One is a small classifier that is trained on the data themselves, another Inception-v3 with weights
of a file, a third any function of a user's file. The digest of each travels with every score.
"""

from jaxgan.features.classifiers import classifier
from jaxgan.features.extractor import Described, Extractor, of_file
from jaxgan.features.inception_v3 import inception
from jaxgan.features.places import at

__all__ = ["Described", "Extractor", "at", "classifier", "inception", "of_file"]
