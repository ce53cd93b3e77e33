"""What becomes of a feature's values: images uint8, whole numbers int32, others float32, texts
bytes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxgan.data import pixels, texts


class Feature(NamedTuple):
    """What one example holds under a name.

    Attributes:
      shape: of one example.
      dtype: uint8 for pixels, which have two axes or more, and for the bytes of a text, which have
        one; int32 for whole numbers, float32 for others.
      classes: of a whole-numbered label, how many there are, where that is known.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    classes: int | None = None

    @property
    def is_pixels(self) -> bool:
        """Whether its numbers mean what those of pixels mean, as `jaxgan.examples.scaled` takes
        them."""
        return self.dtype == np.uint8 and len(self.shape) >= 2

    @property
    def is_image(self) -> bool:
        """Whether it is an image [H,W,C]."""
        return self.is_pixels and len(self.shape) == 3

    @property
    def is_label(self) -> bool:
        """Whether it is one whole number."""
        return self.dtype == np.int32 and self.shape == ()


def pixels_of(features: Mapping[str, Feature]) -> tuple[str, ...]:
    """The names of those whose numbers are pixels."""
    return tuple(name for name, feature in features.items() if feature.is_pixels)


def image_of(features: Mapping[str, Feature]) -> str | None:
    """The name of the image that is meant: of several the one called so; None where none is."""
    names = [name for name, feature in features.items() if feature.is_image]
    if "image" in names:
        return "image"
    return names[0] if len(names) == 1 else None


class Unusable(ValueError):
    """A value that cannot be a feature; whoever asked for it says where it is from."""


class Column(NamedTuple):
    """How the values of a feature are read.

    Attributes:
      feature: what they become.
      seen: of images in numbers, what is black and what is white; None for what is no image.
      size: (h, w) that images are given, or None.
      text: of texts, the feature's name; empty for what is no text.
    """

    feature: Feature
    seen: pixels.Range | None = None
    size: tuple[int, int] | None = None
    text: str = ""

    def leaf(self, value: Any) -> np.ndarray:
        """The value of one example as `feature` says.

        Raises:
          Unusable, PixelError: for a value of another kind or shape than those looked at first.
        """
        if self.text:
            if not texts.is_text(value):
                raise Unusable(f"is {type(value).__name__}, the first one a text")
            return texts.encoded(value, self.feature.shape[0], self.text)
        if self.seen is None:
            array = cast(as_array(value), self.feature.dtype)
        else:
            picture = _picture(value, self.seen)
            array = pixels.fitted(picture, self.size, self.feature.shape[2])
        if array.shape != self.feature.shape:
            one_size = "" if self.seen is None else "; give images one size by data.image_size"
            raise Unusable(f"has shape {array.shape}, the first one {self.feature.shape}{one_size}")
        return array

    def leaves(self, values: np.ndarray) -> np.ndarray:
        """The values [n, ...] of several examples at once, as `feature` says."""
        if self.text:
            return np.stack([self.leaf(value) for value in values])
        if self.seen is None:
            return cast(values, self.feature.dtype)
        height, width, channels = self.feature.shape
        if values.shape[1:] == (height, width, channels) or (
            values.shape[1:] == (height, width) and channels == 1
        ):
            return pixels.eight_bits(values, self.seen).reshape(-1, height, width, channels)
        return np.stack([self.leaf(value) for value in values])


def is_image(key: str, value: Any) -> bool:
    """Whether the value of one example is an image: by its name or by its kind."""
    if key == "image" or isinstance(value, Image.Image):
        return True
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", ())
    return dtype == np.uint8 and len(shape) == 3 and shape[2] in (1, 3, 4)


def image_column(
    values: Sequence[Any] | np.ndarray, size: tuple[int, int] | None, channels: int | None
) -> Column:
    """The column of images.

    Args:
      values: some of them: pictures of Pillow, encoded bytes or arrays [H,W] or [H,W,C].
      size: (h, w) to give them; None keeps the first one's.
      channels: to give them; None keeps the first one's.

    Raises:
      Unusable, PixelError: for values that are no images.
    """
    first = values[0]
    if isinstance(values, np.ndarray):
        seen = pixels.range_of(list(values))
    elif isinstance(first, bytes | Image.Image):
        seen = pixels.BYTES
    else:
        seen = pixels.range_of([as_array(value) for value in values])
    picture = _picture(first, seen)
    if isinstance(picture, np.ndarray):
        height, width, found = picture.shape
        if found not in (1, 2, 3, 4) and height in (1, 3, 4):
            raise Unusable(
                f"has shape {picture.shape}, which looks like channels first; give [height, width, "
                "channels], as numpy.moveaxis(x, -3, -1) makes them"
            )
        if not picture.size:
            raise Unusable(f"has shape {picture.shape}, which is empty")
    else:
        height, width, found = picture.height, picture.width, pixels.channels_of(picture)
    shape = (*(size or (height, width)), channels or found)
    return Column(Feature(shape, np.dtype(np.uint8)), seen, size)


def name_of(dtype: np.dtype, shape: tuple[int, ...]) -> str | None:
    """What an example of this type and shape is called where nobody named it; None if unclear."""
    if (dtype == np.uint8 and len(shape) in (2, 3)) or (dtype.kind == "f" and len(shape) == 3):
        return "image"
    return "point" if dtype.kind == "f" and len(shape) == 1 else None


def text_column(name: str, length: int) -> Column:
    """The column of texts, as uint8 [length], see `texts.encoded`."""
    return Column(Feature((length,), np.dtype(np.uint8)), text=name)


def number_column(values: Sequence[Any], classes: int | None = None) -> Column:
    """The column of numbers, from some of its values; floating where any of them is.

    Raises:
      Unusable: for what holds no numbers.
    """
    arrays = [as_array(value) for value in values]
    shape = arrays[0].shape
    if 0 in shape:
        raise Unusable(f"has shape {shape}, which is empty")
    dtypes = {dtype_of(array.dtype, array.ndim) for array in arrays}
    dtype = max(dtypes, key=lambda dtype: dtype.kind == "f")
    return Column(Feature(shape, dtype, classes if dtype == np.int32 else None))


def dtype_of(dtype: np.dtype, axes: int) -> np.dtype:
    """What numbers of a type are read as: float32, int32, or uint8 for bytes of two axes or more.

    Raises:
      Unusable: for what is no number.
    """
    if dtype == np.uint8 and axes >= 2:  # a volume or a film, whose values mean what pixels mean
        return np.dtype(np.uint8)
    if dtype.kind in "iub":
        return np.dtype(np.int32)
    if dtype.kind == "f":
        return np.dtype(np.float32)
    kinds = {"O": "objects of Python", "c": "complex numbers", "U": "text", "S": "text"}
    raise Unusable(f"holds {kinds.get(dtype.kind, str(dtype))}, not whole or floating numbers")


def cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers in one of the three types.

    Raises:
      Unusable: for whole numbers that do not fit, and for what is no number.
    """
    if values.dtype == dtype and dtype != np.float32:
        return values
    found = dtype_of(values.dtype, 2 if dtype == np.uint8 else 0)
    if found != dtype and not (found == np.int32 and dtype == np.float32):
        raise Unusable(f"holds {values.dtype} where the first one gives {dtype}")
    if dtype == np.int32:
        check_fits(values)
    if dtype != np.float32:
        return values.astype(dtype)
    with np.errstate(over="ignore"):
        numbers = values.astype(dtype, copy=False)
    if not np.isfinite(numbers).all():
        raise Unusable("holds numbers that are not finite in float32; leave that example out")
    return numbers


def check_fits(values: np.ndarray) -> None:
    """Raises `Unusable` for whole numbers that int32 does not hold."""
    if values.dtype.itemsize < 4 or not values.size:
        return
    low, high = values.min(), values.max()
    if low < -(2**31) or high >= 2**31:
        raise Unusable(f"holds {low} to {high}, more than 32 bits hold")


def as_array(value: Any) -> np.ndarray:
    """A value as an array; a tensor of PyTorch as its numbers.

    Raises:
      Unusable: for ragged sequences.
    """
    if hasattr(value, "mask") and np.ma.is_masked(value):
        raise Unusable("is a masked array with missing values; fill them")
    try:
        if callable(getattr(value, "detach", None)):  # one that records gradients is refused
            value = value.detach().cpu()
            value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged, or a tensor of another kind
        lengths = [len(part) for part in value if hasattr(part, "__len__")]
        other = next((n for n in lengths if n != lengths[0]), None)
        reason = f"its parts have {lengths[0]} and {other} values" if other else str(error)[:120]
        raise Unusable(f"is no array: {reason}") from None
    if array.dtype.name == "bfloat16":  # which NumPy itself does not know as floating
        array = array.astype(np.float32)
    return array


def _picture(value: Any, seen: pixels.Range) -> Image.Image | np.ndarray:
    """A value as a picture, or as uint8 [H,W,C]."""
    if isinstance(value, bytes):
        return pixels.decoded(value)
    if isinstance(value, Image.Image):
        return value
    array = as_array(value)
    if array.ndim not in (2, 3):
        raise Unusable(f"has shape {array.shape}; an image is [height, width] or with channels")
    array = pixels.eight_bits(array, seen)
    return array if array.ndim == 3 else array[..., None]
