"""Which data to train on, as options."""

import dataclasses

from jaxgan.errors import UserError
from jaxgan.options import option


@dataclasses.dataclass(frozen=True)
class DataOptions:
    name: str = option(
        "digits",
        "'digits' (embedded), 'shapes', 'ring', 'grid', 'mixture-1d' or 'dirac' (drawn), a data "
        "set of TensorFlow Datasets, such as mnist or cifar10, or 'stacked-' before one's name",
    )
    folder: str | None = option(
        None, "a folder of images (png, jpeg, webp, bmp) instead; sub-folders are labels"
    )
    file: str | None = option(
        None, "a file of arrays instead: .npz (each array a feature) or .npy (images or points)"
    )
    split: str = option(
        "train", "the split to train on, in TFDS's syntax, such as train or train[:50%]"
    )
    features: str = option(
        "",
        "features to read, with commas between; by default all of a file, image and label of "
        "data sets",
    )
    image_size: int | None = option(
        28,
        "side of the images in pixels; others are cropped about the middle and resized; "
        "none keeps their size",
        low=1,
        below=2**15,
    )
    height: int | None = option(
        None, "height of images that are no squares; goes with width", low=1, below=2**15
    )
    width: int | None = option(
        None, "width of images that are no squares; goes with height", low=1, below=2**15
    )
    channels: int | None = option(
        None, "1 (grey), 3 (RGB) or 4 (RGBA): converts images; none keeps what the data have"
    )
    text_bytes: int | None = option(
        None,
        "bytes of UTF-8 of a text, which is cut to them or filled up with zeros; none means 128",
        low=1,
        below=2**20,
    )
    dir: str | None = option(
        None, "where data sets of TensorFlow Datasets live; by default ~/.cache/jaxgan/datasets"
    )
    cache: str | None = option(
        "auto",
        "where data are kept decoded and resized, for the next run to map: a folder, or auto for "
        "~/.cache/jaxgan/prepared; none reads the originals in each run",
    )
    manual_dir: str | None = option(None, "folder with the original files, downloaded beforehand")
    skip_damaged: bool = option(
        False, "leave out images of a folder that cannot be read; looks at each once"
    )
    resident_limit_mb: int = option(
        2048, "data sets up to this many MiB live on the device; larger ones stream", low=0
    )
    read_threads: int = option(
        2, "threads that read ahead when streaming; 0 reads when asked", low=0, below=1025
    )


def image_size(options: DataOptions) -> tuple[int, int] | None:
    """(height, width) that images are made to have; None leaves them as they are.

    Raises:
      UserError: where only one of height and width is given.
    """
    height, width = options.height, options.width
    if height is not None and width is not None:
        return height, width
    if height is not None or width is not None:
        given, other = ("height", "width") if width is None else ("width", "height")
        raise UserError(
            f"data.{given}={height or width} needs data.{other}; give both, or data.image_size for "
            "squares"
        )
    size = options.image_size
    return None if size is None else (size, size)


def check(options: DataOptions) -> None:
    """Raises `UserError` for options that do not go together. Nothing is read."""
    if options.channels not in (None, 1, 3, 4):
        raise UserError(
            f"data.channels={options.channels} is none of 1 (grey), 3 (RGB) and 4 (RGBA); use one "
            "of them"
        )
    if options.folder is not None and options.file is not None:
        raise UserError(
            f"data.folder={options.folder} and data.file={options.file} name two data sets; give "
            "one of them"
        )
    if (options.folder or options.file) and options.split != DataOptions.split:
        raise UserError(
            f"data.split={options.split!r} has no meaning for a folder or a file, which is taken "
            "whole; leave it out"
        )
    if options.skip_damaged and options.folder is None:
        raise UserError("data.skip_damaged=true is for data.folder; leave it out")
    image_size(options)
