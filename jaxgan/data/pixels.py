"""Pictures of any kind to uint8 pixels of one size and number of channels.

The same picture gives the same pixels on all machines: Pillow decodes, whatever other decoder is
installed. A palette becomes its colours, CMYK becomes RGB, 16 bits become 8, and transparency,
where it is not asked for, is laid on white.
"""

import contextlib
import io
import pathlib
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_KINDS = {"b": "truth values", "i": "whole numbers", "u": "whole numbers", "f": "floating numbers"}
_FLOATING = _KINDS["f"]
_OVERSHOOT = 0.125  # of the range
_BYTES_FROM = 16.0  # of floating numbers: an image in [0, 255] that is no darker
_USUAL = {  # the ranges in which images come, narrowest first
    "truth values": ((0, 1),),
    "whole numbers": ((0, 1), (0, 255), (0, 65535)),
    "floating numbers": ((0, 1), (-1, 1), (0, 255)),
}


class PixelError(ValueError):
    """What is wrong with a picture; whoever asked for it says which picture it is."""


class Range(NamedTuple):
    """The numbers that are black and white, and their kind."""

    low: float
    high: float
    kind: str = "whole numbers"


BYTES = Range(0, 255)


def opened(file: bytes | pathlib.Path) -> Image.Image:
    """A picture whose header is read and whose pixels are not yet. The caller closes it.

    Raises:
      PixelError: for what is no picture.
      OSError: for a file that cannot be read.
    """
    try:
        return _opened(file)
    except Exception as error:
        raise _pixel_error(error) from None


def decoded(file: bytes | pathlib.Path, upright: bool = False) -> Image.Image:
    """A picture with its pixels.

    Args:
      file: its bytes, or where they are.
      upright: turn it as its EXIF entry says.

    Raises:
      PixelError: for what is no whole picture.
      OSError: for a file that cannot be read.
    """
    try:
        with _opened(file) as picture:
            picture.load()
    except Exception as error:
        raise _pixel_error(error) from None
    if upright:
        with contextlib.suppress(Exception):  # a damaged entry says nothing about the pixels
            ImageOps.exif_transpose(picture, in_place=True)
    return picture


def is_turned(picture: Image.Image) -> bool:
    """Whether the EXIF entry of an opened picture changes height and width for each other."""
    with contextlib.suppress(Exception):
        return picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return False


def channels_of(picture: Image.Image) -> int:
    """How many channels keep all of a picture: 1, 3 or 4."""
    if _has_alpha(picture):
        return 4
    return 1 if picture.mode in ("1", "L", "F", *_SIXTEEN_BITS) else 3


def fitted(
    picture: Image.Image | np.ndarray, size: tuple[int, int] | None, channels: int
) -> np.ndarray:
    """Pixels of one size.

    Args:
      picture: of any mode, or uint8 [H,W,C].
      size: (h, w); the picture is cropped about its middle to that shape and resized, bicubic.
        None leaves it as it is.
      channels: 1, 3 or 4; an array of another C has no colours, and keeps it.

    Returns:
      uint8 [h,w,channels].

    Raises:
      PixelError: for pixels that cannot be converted.
    """
    if isinstance(picture, np.ndarray):
        if picture.shape[2] == channels and size in (None, picture.shape[:2]):
            return picture
        if picture.shape[2] not in _MODES:
            return _fitted_planes(picture, size, channels)
        return fitted(_from_array(picture), size, channels)
    if size is None or size == (picture.height, picture.width):
        picture = _converted(picture, channels)
    else:
        h, w = size
        picture = _converted(_cropped(picture, h, w), channels)
        picture = picture.resize((w, h), Image.Resampling.BICUBIC)
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def eight_bits(values: np.ndarray, seen: Range) -> np.ndarray:
    """Numbers of a range to uint8, to the nearest.

    Raises:
      PixelError: for numbers outside the range, or of another kind.
    """
    if _KINDS.get(values.dtype.kind) != seen.kind:
        raise PixelError(f"holds {values.dtype}, where those looked at first hold {seen.kind}")
    if values.dtype == np.uint8 and seen == BYTES:
        return values
    if values.size:
        low, high = values.min(), values.max()
        if not _within(low, high, seen.low, seen.high, seen.kind):  # so that NaN fails, too
            raise PixelError(
                f"holds numbers from {low:g} to {high:g}, where those looked at first lie in "
                f"{seen.low:g} to {seen.high:g}"
            )
    scaled = (values.astype(np.float64) - seen.low) * (255.0 / (seen.high - seen.low))
    return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)


def _within(low: float, high: float, black: float, white: float, kind: str) -> bool:
    over = _OVERSHOOT * (white - black) if kind == _FLOATING else 0.0
    return low >= black - over and high <= white + over


def range_of(arrays: Sequence[np.ndarray]) -> Range:
    """The range that images in numbers have, told from the type and the numbers of some. Floating
    ones may overshoot it a little, as resized ones do.

    Raises:
      PixelError: where it cannot be told.
    """
    dtype = arrays[0].dtype
    kind = _KINDS.get(dtype.kind)
    if kind is None:
        raise PixelError(f"holds {dtype}, which is no kind of pixel")
    if dtype == np.uint8:
        return BYTES
    if not all(array.size for array in arrays):
        raise PixelError("is empty")
    lows, highs = (np.array([f(array) for array in arrays]) for f in (np.min, np.max))
    low, high = lows.min(), highs.max()
    for black, white in _USUAL[kind]:
        if not _within(low, high, black, white, kind):
            continue
        if kind == _FLOATING and white == 255:
            dark = (highs < _BYTES_FROM) & (highs > lows)
            if high < _BYTES_FROM:
                break  # they would all be black
            if dark.any():
                raise PixelError(
                    f"holds {dtype}, some up to {highs[dark].max():g} and others up to {high:g}; "
                    "scale them alike"
                )
        return Range(black, white, kind)
    ranges = " or ".join(f"[{black}, {white}]" for black, white in _USUAL[kind])
    raise PixelError(
        f"holds {dtype} from {low:g} to {high:g}; scale them to {ranges}, or give uint8"
    )


# A photograph of 100 million pixels is no attack; one of 200 million is refused.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def _opened(file: bytes | pathlib.Path) -> Image.Image:
    return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)


def _pixel_error(error: Exception) -> Exception:
    """A `PixelError` of what Pillow's decoders raise, which shares no type; others as they are."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
        return error  # the file system's errors have a number, Pillow's own OSErrors have none
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if "cannot identify image file" in text:
        text = f"is no image of the kinds {', '.join(FORMATS)}"
    return PixelError(text)


def _from_array(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info


def _converted(picture: Image.Image, channels: int) -> Image.Image:
    """A picture in 8 bits of 1, 3 or 4 channels."""
    if picture.mode in _SIXTEEN_BITS:
        picture = Image.fromarray(eight_bits(np.asarray(picture), Range(0, 65535)))
    elif picture.mode == "F":
        values = np.asarray(picture)
        raise PixelError(
            f"holds floating numbers from {values.min():g} to {values.max():g}; give 8 or 16 bits"
        )
    if _has_alpha(picture):
        picture = picture.convert("RGBA")
        if channels < 4:
            ground = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(ground, picture)
    mode = _MODES[channels]
    return picture if picture.mode == mode else picture.convert(mode)


def _box(height: int, width: int, h: int, w: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest part about the middle with the shape of h x w."""
    if width * h > height * w:
        wide = max(1, (height * w + h // 2) // h)
        left = (width - wide) // 2
        return left, 0, left + wide, height
    high = max(1, (width * h + w // 2) // w)
    top = (height - high) // 2
    return 0, top, width, top + high


def _cropped(picture: Image.Image, h: int, w: int) -> Image.Image:
    box = _box(picture.height, picture.width, h, w)
    return picture if box == (0, 0, picture.width, picture.height) else picture.crop(box)


def _fitted_planes(image: np.ndarray, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """uint8 [H,W,C] of channels that are no colours: each is resized by itself."""
    if image.shape[2] != channels:
        raise PixelError(f"has {image.shape[2]} channels and cannot be given {channels}")
    planes = [fitted(image[..., c : c + 1], size, 1) for c in range(channels)]
    return np.concatenate(planes, axis=2)
