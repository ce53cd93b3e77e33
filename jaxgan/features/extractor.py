"""An extractor describes images by numbers, which measures of samples then compare."""

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxgan.data.pixels import PixelError, fitted
from jaxgan.errors import UserError
from jaxgan.user_files import blamed_on, importing_from, load

BLOCK = 250  # images that are described at once
RESIZED = "cropped about the middle to the shape, resized bicubic by Pillow, and converted"


class Described(NamedTuple):
    """What an extractor says of N images.

    Attributes:
      features: float32 [N,F].
      probabilities: of each class, float32 [N,K]; None for an extractor without classes.
    """

    features: np.ndarray
    probabilities: np.ndarray | None


class Extractor(NamedTuple):
    """A function of images, and what a score that was made with it has to say.

    Attributes:
      name: such as "classifier of mnist".
      digest: sha256, hex, of weights and preprocessing; two scores compare where it is the same.
      accuracy: share of held-out examples that it names right; None where nothing is known.
      describe: of uint8 images [N,H,W,C], a block at a time. Raises `UserError` for what is not
        uint8: floating images have to be quantised first, as `Sampler` does.
      is_whole: whether the digest covers all that the features depend on, so that features may be
        kept by it.
      shape: (h, w, c) that images are made to have by the policy `RESIZED`; None for those that are
        described as they are, which have to be of one size.
    """

    name: str
    digest: str
    accuracy: float | None
    describe: Callable[[np.ndarray], Described]
    is_whole: bool = False
    shape: tuple[int, int, int] | None = None

    def about(self) -> dict[str, Any]:
        """What a score says of it, as JSON takes it."""
        return {"name": self.name, "digest": self.digest, "accuracy": self.accuracy}


def checked(images: Any) -> np.ndarray:
    """Images that can be described, uint8 [N,H,W,C].

    Raises:
      UserError: for anything else.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise UserError(
            f"images are {images.dtype}, and only uint8 is described, so that all are measured as "
            "they would be saved; quantise them first, as Sampler and jaxgan sample do"
        )
    if images.ndim != 4 or not images.size:
        raise UserError(f"images have shape {images.shape}; give [N,H,W,C] of one or more")
    return images


def resized(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 [N,H,W,C] -> uint8 [N,h,w,c], by the one policy `RESIZED`; as they are where they fit.

    Raises:
      UserError: for channels that cannot be converted.
    """
    if images.shape[1:] == shape:
        return images
    made = np.empty((len(images), *shape), np.uint8)
    try:
        for place, image in zip(made, images):
            place[:] = fitted(image, shape[:2], shape[2])
    except PixelError as error:
        raise UserError(f"images of {images.shape[1:]} for {shape}: one {error}") from None
    return made


def in_blocks(
    judge: Callable[[np.ndarray], tuple[Any, Any]], images: np.ndarray, size: int
) -> Described:
    """What a compiled program says of images, so many at once; the last block is filled up, so that
    one program is compiled.

    Args:
      judge: uint8 [size,H,W,C] -> (features [size,F], probabilities [size,K]).
      images: uint8 [N,H,W,C].
      size: of a block.
    """
    parts = []
    for first in range(0, len(images), size):
        part = images[first : first + size]
        full = np.zeros((size, *images.shape[1:]), np.uint8)
        full[: len(part)] = part
        parts.append([np.asarray(found)[: len(part)] for found in judge(full)])
    features, probabilities = map(np.concatenate, zip(*parts))
    return Described(features, probabilities)


def of_file(place: str) -> Extractor:
    """The extractor `FILE.py:FUNCTION`.

    The function takes uint8 images [n,H,W,C], 250 at most at once and as they are given, and
    returns features [n,F], or these and the probabilities of classes [n,K]. The digest is that of
    the file's text: what the file imports or reads is not in it.

    Raises:
      UserError: for a file that cannot be loaded, see `user_files.load`. So does `describe`, for
        what the function returns that is neither.
    """
    loaded = load("extractor", place)
    file, _, function = place.rpartition(":")
    name = f"{pathlib.Path(file).name}:{function}"
    digest = hashlib.sha256(f"{function}\n{loaded.source}".encode()).hexdigest()

    def described(block: np.ndarray) -> Described:
        with importing_from(loaded.folder), blamed_on(place, loaded.source):
            found = loaded.function(block)
        features, probabilities = found if isinstance(found, tuple) else (found, None)
        features = _numbers(name, "features", features, len(block))
        if probabilities is not None:
            probabilities = _numbers(name, "probabilities", probabilities, len(block))
            off = np.abs(probabilities.sum(1) - 1.0).max()
            if probabilities.min() < 0 or off > 1e-3:
                raise UserError(
                    f"extractor {name} gives probabilities from {probabilities.min():g} that sum "
                    f"to 1 but for {off:g}; return those of a softmax"
                )
        return Described(features, probabilities)

    def describe(images: np.ndarray) -> Described:
        images = checked(images)
        parts = [described(images[i : i + BLOCK]) for i in range(0, len(images), BLOCK)]
        probabilities = [p.probabilities for p in parts if p.probabilities is not None]
        try:
            return Described(
                np.concatenate([p.features for p in parts]),
                np.concatenate(probabilities) if probabilities else None,
            )
        except ValueError:
            raise UserError(
                f"extractor {name} gives features of several sizes; return one size"
            ) from None

    return Extractor(name, digest, None, describe)


def _numbers(name: str, what: str, found: Any, count: int) -> np.ndarray:
    try:
        array = np.asarray(found).astype(np.float32)
    except (TypeError, ValueError):
        raise UserError(
            f"extractor {name} gives {what} that are {type(found).__name__}; return an array"
        ) from None
    if array.ndim != 2 or len(array) != count or not array.shape[1]:
        raise UserError(
            f"extractor {name} gives {what} of shape {array.shape} for {count} images; return "
            f"[{count},F]"
        )
    if not np.isfinite(array).all():
        raise UserError(f"extractor {name} gives {what} that are not finite; mend the function")
    return array
