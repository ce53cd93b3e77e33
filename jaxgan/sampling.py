"""Images from the averaged generator: samples, walks through the latent space, and grids of them."""

import functools
import math
import os
import pathlib
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgan.errors import RunError
from jaxgan.game import Game, GANState, Key
from jaxgan.step import per_example

_STATISTICS_BATCH = 1024
_CHUNK = 250  # images generated at once


def averaged_generator(game: Game, state: GANState) -> dict[str, Any]:
    """The variables of the generator to sample from: the averaged parameters, with batch statistics of their own.

    The running statistics of training belong to the parameters of training, not to their average. So they are taken anew, over
    1,024 latents that are always the same (Brock et al., Large Scale GAN Training, 2019, call them standing statistics).
    """
    variables = {"params": state.ema, **state.generator.model_state}
    return _with_statistics(game, variables) if "batch_stats" in variables else variables


@functools.partial(jax.jit, static_argnums=0)
def _with_statistics(game: Game, variables: Any) -> Any:
    z = _latents(game, jax.random.key(0), _STATISTICS_BATCH)
    generator = game.generator.clone(momentum=0.0)  # keeps the batch's own statistics
    _, updated = generator.apply(variables, z, train=True, mutable=["batch_stats"])
    return {**variables, **updated}


def _latents(game: Game, key: Key, count: int) -> Array:
    return per_example(lambda k: game.latent(k, 1)[0], key, 0, count)


@functools.partial(jax.jit, static_argnums=0)
def _generate(game: Game, variables: Any, z: Array) -> Array:
    images: Any = game.generator.apply(variables, z, train=False)
    return jnp.clip(jnp.round((images + 1.0) * 127.5), 0.0, 255.0).astype(jnp.uint8)


def generate(game: Game, state: GANState, z: Array) -> np.ndarray:
    """Images of the averaged generator: z [N,Z] -> uint8 [N,H,W,C]."""
    if not len(z):
        raise ValueError("there are 0 latents to make images from; give 1 or more")
    variables = averaged_generator(game, state)
    padded = jnp.concatenate([z, jnp.zeros((-len(z) % min(_CHUNK, len(z)), z.shape[1]), z.dtype)])
    chunks = np.split(padded, range(min(_CHUNK, len(z)), len(padded), min(_CHUNK, len(z))))
    return np.concatenate([np.asarray(_generate(game, variables, chunk)) for chunk in chunks])[
        : len(z)
    ]


def sample(game: Game, state: GANState, key: Key, count: int) -> np.ndarray:
    """`count` images, uint8 [count,H,W,C]. Image i depends on the key and i alone; the key is consumed."""
    if count < 1:
        raise ValueError(f"count={count} is too small; use 1 or more")
    return generate(game, state, _latents(game, key, count))


def interpolate(game: Game, state: GANState, key: Key, rows: int, columns: int) -> np.ndarray:
    """Walks between pairs of latents on great circles, uint8 [rows * columns,H,W,C], row by row.

    Great circles keep the norm that normal latents have; straight lines pass through short ones (White, Sampling Generative
    Networks, 2016).
    """
    ends = _latents(game, key, 2 * rows).reshape(rows, 2, -1)
    first, last = ends[:, 0, None], ends[:, 1, None]
    norm = functools.partial(jnp.linalg.norm, axis=-1, keepdims=True)
    cosine = jnp.sum(first * last, -1, keepdims=True) / (norm(first) * norm(last))
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    t = jnp.linspace(0.0, 1.0, columns)[None, :, None]
    # Nearly parallel ends have no arc to follow; a straight line is the limit.
    straight = jnp.sin(angle) < 1e-4
    safe = jnp.where(straight, 1.0, jnp.sin(angle))
    arc = (jnp.sin((1.0 - t) * angle) * first + jnp.sin(t * angle) * last) / safe
    walk = jnp.where(straight, (1.0 - t) * first + t * last, arc)
    return generate(game, state, walk.reshape(rows * columns, -1))


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """uint8 [N,H,W,C] -> one image uint8 [h,w,C], row by row, with a line of one pixel between; near a square by default."""
    count, height, width, channels = images.shape
    if count < 1 or (columns is not None and columns < 1):
        raise ValueError(f"a grid needs at least 1 image and 1 column, got {count} and {columns}")
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    page = np.zeros((rows * columns, height + 1, width + 1, channels), np.uint8)
    page[:count, :height, :width] = images
    page = page.reshape(rows, columns, height + 1, width + 1, channels).swapaxes(1, 2)
    return page.reshape(rows * (height + 1), columns * (width + 1), channels)[:-1, :-1]


def save(path: pathlib.Path, images: np.ndarray, columns: int | None = None) -> bool:
    """Writes a grid (`.png`) or the images themselves (`.npz`, array `images`), whole or not at all.

    Returns:
      Whether a file was replaced.

    Raises:
      RunError: where the file cannot be written.
    """
    replaced = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=".", suffix=path.suffix, delete=False
        ) as file:
            try:
                if path.suffix == ".npz":
                    np.savez_compressed(file, images=images)
                else:
                    from PIL import Image

                    page = grid(images, columns)
                    Image.fromarray(page[..., 0] if page.shape[-1] == 1 else page).save(file, "png")
                file.close()
                os.chmod(file.name, 0o666 & ~_umask())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}; choose another place or make room"
        ) from None
    return replaced


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
