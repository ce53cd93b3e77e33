"""Pictures of examples, and files: grids, `.npz`, folders."""

import contextlib
import itertools
import math
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxgan.errors import RunError, UserError
from jaxgan.files import fix_of, written_whole

INCOMPLETE = "INCOMPLETE"  # a file that lies in a folder of pictures until all are there
_SEEN_WELL, _LONGEST = 456, 4096  # sides of a page in pixels


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """uint8 [N,H,W,C] -> one image uint8 [h,w,C], row by row, with a line of one pixel between;
    near a square by default."""
    count, height, width, channels = images.shape
    if count < 1 or (columns is not None and columns < 1):
        raise ValueError(f"a grid needs at least 1 image and 1 column, got {count} and {columns}")
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    page = np.zeros((rows * columns, height + 1, width + 1, channels), np.uint8)
    page[:count, :height, :width] = images
    page = page.reshape(rows, columns, height + 1, width + 1, channels).swapaxes(1, 2)
    return page.reshape(rows * (height + 1), columns * (width + 1), channels)[:-1, :-1]


def enlarged(page: np.ndarray) -> np.ndarray:
    """uint8 [h,w,C] by a whole factor, each pixel a square, so that its shorter side has about 480
    pixels or more and its longer one no more than 4,096; a larger page as it is."""
    short, long = sorted(page.shape[:2])
    factor = max(1, min(math.ceil(_SEEN_WELL / short), _LONGEST // long))
    return page.repeat(factor, 0).repeat(factor, 1)


def scatter(points: np.ndarray, side: int = 480) -> np.ndarray:
    """float [N,2] -> a picture uint8 [side,side,1] of the plane about 0, with its axes.

    It reaches to the next of 1, 2, 5, 10, 20, ... beyond all but the outermost hundredth of the
    points, so that pictures of a run can be compared.
    """
    points = points.astype(np.float64)  # in which no float32 overflows
    far = max(float(np.quantile(np.abs(points).max(1), 0.99)), 1e-9)
    scale = 10.0 ** np.floor(np.log10(far))
    reach = next(scale * factor for factor in (1.0, 2.0, 5.0, 10.0, 20.0) if scale * factor > far)
    page = np.full((side, side), 255.0)
    page[side // 2] = page[:, side // 2] = 225.0
    at = np.clip((points / reach * [1, -1] + 1) / 2 * (side - 1), -9, side + 9).astype(int)
    for dx, dy in np.ndindex(3, 3):
        columns, rows = (at + np.array([dx - 1, dy - 1])).T
        inside = (columns >= 0) & (columns < side) & (rows >= 0) & (rows < side)
        np.multiply.at(page, (rows[inside], columns[inside]), 0.45 if dx == dy == 1 else 0.7)
    return page.astype(np.uint8)[..., None]


def picture(examples: dict[str, np.ndarray], columns: int | None = None) -> np.ndarray | None:
    """One image uint8 [h,w,C] of made examples: a grid of each feature of images, enlarged where
    it is small, one below the other, or points in the plane; None where they are neither."""
    pages = []
    for feature in examples.values():
        if _are_images(feature):
            pages.append(enlarged(grid(feature, columns)))
        elif feature.ndim == 2 and feature.shape[1] == 2 and np.isfinite(feature).all():
            pages.append(scatter(feature))
    if not pages:
        return None
    channels = max(page.shape[-1] for page in pages)
    pages = [np.repeat(p, channels, 2) if p.shape[-1] == 1 else p for p in pages]
    width = max(page.shape[1] for page in pages)
    pages = [
        np.pad(p, ((0, 1), (0, width - p.shape[1]), (0, 0)))
        for p in pages
        if p.shape[-1] == channels
    ]
    return np.concatenate(pages)[:-1]


def _are_images(feature: np.ndarray) -> bool:
    return feature.dtype == np.uint8 and feature.ndim == 4 and feature.shape[-1] in (1, 3, 4)


def save(path: pathlib.Path, examples: dict[str, np.ndarray], columns: int | None = None) -> bool:
    """Writes a picture (`.png`) or the examples themselves (`.npz`, an array each feature), whole
    or not at all.

    Returns:
      Whether a file was replaced.

    Raises:
      RunError: examples that have no picture, or a file that cannot be written.
    """
    page = None
    if path.suffix.lower() == ".png":
        page = picture(examples, columns)
        if page is None:
            shapes = {name: feature.shape for name, feature in examples.items()}
            raise RunError(f"there is no picture of examples of shapes {shapes}; write an .npz")
    replaced = path.exists()
    with written_whole(path) as file:
        if page is None:
            arrays: Any = examples
            np.savez_compressed(file, **arrays)
        else:
            write_png(file, page)
    return replaced


def check_folder(folder: pathlib.Path) -> None:
    """Raises `UserError` where pictures cannot be written into a folder without touching what is
    there."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"out={folder} is a file and no folder; choose another place")
    held = sorted(path.name for path in itertools.islice(folder.iterdir(), 1000))
    if INCOMPLETE in held:
        raise UserError(
            f"out={folder} holds pictures of a command that goes on or was stopped "
            f"({INCOMPLETE}); choose another place"
        )
    if held:
        raise UserError(
            f"out={folder} is not empty, it holds {held[0]}; choose another place, nothing is "
            "written over"
        )


def save_each(folder: pathlib.Path, parts: Iterable[dict[str, np.ndarray]], count: int) -> None:
    """Writes each image as a PNG of its own pixels, 000000.png and so on; of several features each
    into a folder of its name. Holds one part at a time.

    Until all are there the folder holds a file `INCOMPLETE`.

    Args:
      folder: new or empty.
      parts: `count` examples, some at a time; features that are no images are left out.
      count: how many there are in all.

    Raises:
      UserError: a folder that is not empty.
      RunError: examples without images, or a file that cannot be written.
    """
    check_folder(folder)
    parts = iter(parts)
    first = next(parts)
    names = [name for name, feature in first.items() if _are_images(feature)]
    if not names:
        shapes = {name: feature.shape for name, feature in first.items()}
        raise RunError(f"there are no images in examples of shapes {shapes}; write an .npz")
    places = {name: folder / name if len(names) > 1 else folder for name in names}
    digits, done = max(6, len(str(count - 1))), 0
    with _marked(folder, count):
        for part in itertools.chain([first], parts):
            for images in zip(*(part[name] for name in names)):
                for place, image in zip(places.values(), images):
                    path = place / f"{done:0{digits}d}.png"
                    if os.path.lexists(path):
                        raise RunError(f"{path} came there meanwhile, and nothing is written over")
                    with written_whole(path) as file:
                        write_png(file, image)
                done += 1


@contextlib.contextmanager
def _marked(folder: pathlib.Path, count: int) -> Iterator[None]:
    """Marks a folder as incomplete until the block has ended well."""
    mark = folder / INCOMPLETE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with mark.open("x") as file:
            file.write(f"Not all of {count} examples are here: they are being written, or the\n")
            file.write("command that wrote them was stopped.\n")
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written: {error.strerror}; {fix_of(error)} or choose another place"
        ) from None
    try:
        yield
    except RunError as error:
        raise RunError(
            f"{error}; {folder} is not complete, as its file {INCOMPLETE} says"
        ) from None
    mark.unlink()


def write_png(file: Any, page: np.ndarray) -> None:
    """Writes uint8 [h,w,C] to an open file."""
    from PIL import Image

    Image.fromarray(page[..., 0] if page.shape[-1] == 1 else page).save(file, "png")
