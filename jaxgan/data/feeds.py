"""From an opened data set to the items that training steps take."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgan.config import Config
from jaxgan.data import shapes
from jaxgan.data.tfds import open_builder
from jaxgan.errors import RunError, UserError

_READ_AT_ONCE = (
    4096  # examples per read: one call for many is several times faster than one for each
)


class Feed(NamedTuple):
    """The input of a run.

    Attributes:
      resident: arrays that live on the device for the whole run; {} when streaming.
      items: (step, K) -> what makes the batches of steps step .. step+K-1, leaves [K,B,...]. Where it raises, the position stays.
      fetch: pure (resident, item) -> batch, compiled into the step. A batch holds `image` uint8 [B,H,W,C] and `label` int32 [B].
      position: () -> the reader's position as JSON, for the checkpoint; None when resident.
      seek: sets that position.
      num_examples: examples in the split.
      steps_per_epoch: full batches in it; the rest, another one each epoch, is left out.
    """

    resident: Any
    items: Callable[[int, int], Any]
    fetch: Callable[[Any, Any], Any]
    position: Callable[[], Any]
    seek: Callable[[Any], None]
    num_examples: int
    steps_per_epoch: int


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` examples in an epoch, int64 [count]: a pure function of its arguments.

    From Philox's raw numbers, whose stream NumPy guarantees; that of `permutation` may change between versions.
    """
    numbers = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(count)
    return np.argsort(numbers, kind="stable")


def batch_indices(seed: int, step: int, batch_size: int, count: int) -> np.ndarray:
    """Which examples make the batch of a step, int32 [batch_size]."""
    epoch, place = divmod(step, count // batch_size)
    return epoch_order(seed, epoch, count)[place * batch_size : (place + 1) * batch_size].astype(
        np.int32
    )


def load(config: Config, progress: bool = False, share: slice = slice(None)) -> Feed:
    """Opens, and where need be prepares, the config's data set.

    Args:
      config: validated.
      progress: show bars while preparing and loading.
      share: which examples of each batch the items are of; those of the others are not read.

    Raises:
      UserError: a data set that cannot be had or does not fit the config.
      RunError: one that cannot be read; so do the items of the feed.
    """
    data = config.data
    count, read = _shapes(config) if data.name == shapes.NAME else _tfds(config, progress)
    if config.batch_size > count:
        raise UserError(
            f"batch_size={config.batch_size} exceeds the {count} examples of {data.name}; use {count} or less"
        )
    indices = lambda step: batch_indices(config.seed, step, config.batch_size, count)[share]
    megabytes = count * data.image_size**2 * config.model.channels / 2**20
    make = _resident if megabytes <= data.resident_limit_mb else _streamed
    return make(read, indices, count, config, progress)


def _shapes(config: Config) -> tuple[int, Callable]:
    """(examples, read) of the shapes, which need none of the packages that read data sets."""
    data = config.data
    return shapes.count(data), functools.partial(
        shapes.read, data.split, data.image_size, config.model.channels
    )


def _tfds(config: Config, progress: bool) -> tuple[int, Callable]:
    """(examples, read) of a data set of TensorFlow Datasets."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"data.name={config.data.name} needs tensorflow-datasets ({error}); install it, or train on --data.name {shapes.NAME}"
        ) from None
    data = config.data
    (tfds.enable_progress_bar if progress else tfds.disable_progress_bar)()
    builder = open_builder(data)
    shape = _image_shape(builder, config)
    try:
        source = builder.as_data_source(split=data.split)
    except (ValueError, KeyError) as error:
        splits = ", ".join(builder.info.splits)
        raise UserError(
            f"data.split={data.split!r} of {data.name}: {' '.join(str(error).split())[:300]}; use one of {splits}"
        ) from None
    return len(source), functools.partial(_read, source, builder, data.image_size, shape[2])


def _image_shape(builder: Any, config: Config) -> tuple[int, int, int]:
    features = builder.info.features
    name = config.data.name
    if "image" not in features:
        raise UserError(
            f"data.name={name} has no feature 'image', only {', '.join(features)}; use an image data set"
        )
    shape = features["image"].shape
    if shape[2] != config.model.channels:
        raise UserError(
            f"model.channels={config.model.channels} but the images of {name} have {shape[2]}; use --model.channels {shape[2]}"
        )
    return shape


def _read(
    source: Any, builder: Any, size: int, channels: int, indices: np.ndarray
) -> dict[str, np.ndarray]:
    """Examples as `image` uint8 [n,size,size,channels] and `label` int32 [n] (0 where the data set has none)."""
    try:
        rows = source.__getitems__(indices.tolist())
    except Exception as error:  # the reader's errors share no type
        raise _unreadable(source, builder, indices, error) from None
    images = (
        np.stack([_resized(row["image"], size) for row in rows])
        if rows
        else np.zeros((0, size, size, channels), np.uint8)
    )
    labels = np.array([row.get("label", 0) for row in rows], np.int32)
    return {"image": images, "label": labels}


def _unreadable(source: Any, builder: Any, indices: np.ndarray, error: Exception) -> RunError:
    """Names the first example that cannot be read. Whether a file is damaged or a disk is gone the reader does not tell."""
    which = f"one of {len(indices)} examples"
    for index in indices.tolist():
        try:
            source.__getitems__([index])
        except Exception as alone:
            which, error = f"example {index}", alone
            break
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return RunError(
        f"data set {builder.name} cannot be read: {which}: {reason}; see that the disk or mount of {builder.data_path} is there "
        f"and whole; a damaged file must come from a copy, or the set be prepared anew in another --data.dir"
    )


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H,W,C] to [size,size,C], bicubic; the longer side is cropped about its middle first."""
    from PIL import Image

    height, width, channels = image.shape
    if (height, width) == (size, size):
        return image
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    picture = Image.fromarray(square[..., 0] if channels == 1 else square)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)).reshape(
        size, size, channels
    )


def _resident(
    read: Callable, indices: Callable, count: int, config: Config, progress: bool
) -> Feed:
    """All examples on the device as uint8; an item is the indices of a batch."""
    from tqdm import tqdm

    parts = []
    with tqdm(
        total=count,
        desc=f"Loading {config.data.name}",
        unit=" images",
        leave=False,
        disable=not progress,
    ) as bar:
        for first in range(0, count, _READ_AT_ONCE):
            parts.append(read(np.arange(first, min(first + _READ_AT_ONCE, count))))
            bar.update(len(parts[-1]["label"]))
    resident = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
    return Feed(
        resident,
        items=lambda step, k: np.stack([indices(t) for t in range(step, step + k)]),
        fetch=lambda arrays, item: jax.tree.map(lambda x: x[item], arrays),
        position=lambda: None,
        seek=lambda position: None,
        num_examples=count,
        steps_per_epoch=count // config.batch_size,
    )


def _streamed(
    read: Callable, indices: Callable, count: int, config: Config, progress: bool
) -> Feed:
    """Whole batches read ahead by Grain: batch first, because a read of one example costs a hop between threads."""
    try:
        import grain
    except ImportError as error:
        raise UserError(
            f"data.resident_limit_mb={config.data.resident_limit_mb} is too small for {config.data.name} to live on the device, and "
            f"streaming needs grain ({error}); install it, or raise --data.resident-limit-mb"
        ) from None
    del progress
    batches = grain.MapDataset.range(2**62).map(lambda step: read(indices(int(step))))
    options = grain.ReadOptions(
        num_threads=config.data.read_threads, prefetch_buffer_size=4 * config.data.read_threads
    )
    iterator = iter(batches.to_iter_dataset(options))

    def items(step: int, k: int) -> Any:
        before = iterator.get_state()
        if before["next_index"] != step:
            raise RuntimeError(
                f"the reader is at step {before['next_index']}, not at {step}; seek first"
            )
        try:
            return jax.tree.map(lambda *xs: np.stack(xs), *(next(iterator) for _ in range(k)))
        except Exception:
            iterator.set_state(before)
            raise

    return Feed(
        resident={},
        items=items,
        fetch=lambda resident, item: item,
        position=iterator.get_state,
        seek=iterator.set_state,
        num_examples=count,
        steps_per_epoch=count // config.batch_size,
    )
