"""What is random in one example that is made: functions key -> leaf, for `Game.latent`.

Equal arguments give equal functions, so that games of them share compiled programs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.bound import arguments_of, bound
from jaxgan.calling import fold_in_name
from jaxgan.errors import UserError
from jaxgan.options import shown

Latent = Callable[[Array], Array]
Shape = int | tuple[int, ...]


@bound
def normal(size: Shape) -> Latent:
    """Standard normal numbers, float32 of this size or shape."""
    shape = _shape(size)

    def latent(key: Array) -> Array:
        return jax.random.normal(key, shape)

    return latent


@bound
def uniform(size: Shape) -> Latent:
    """Numbers uniform in [-1, 1), float32 of this size or shape."""
    shape = _shape(size)

    def latent(key: Array) -> Array:
        return jax.random.uniform(key, shape, minval=-1.0)

    return latent


@bound
def truncated_normal(size: Shape, bound: float) -> Latent:
    """Standard normal numbers, those outside [-bound, bound] drawn anew: variance below 1."""
    shape = _shape(size)

    def latent(key: Array) -> Array:
        return jax.random.truncated_normal(key, -bound, bound, shape)

    return latent


@bound
def one_hot(classes: int) -> Latent:
    """A class, each equally likely: float32 [classes], 1 at the class and 0 elsewhere."""

    def latent(key: Array) -> Array:
        return jax.nn.one_hot(jax.random.randint(key, (), 0, classes), classes, dtype=jnp.float32)

    return latent


def joined(**parts: Latent) -> Callable[[Array], dict[str, Array]]:
    """A dict of latents by name, drawn independently; a further part leaves the others alone."""
    return _joined(tuple(sorted(parts.items())))


@bound
def _joined(parts: tuple[tuple[str, Latent], ...]) -> Callable[[Array], dict[str, Array]]:
    def latent(key: Array) -> dict[str, Array]:
        return {name: draw(fold_in_name(key, name)) for name, draw in parts}

    return latent


def scaled(latent: Latent | Callable, scale: float) -> Latent | Callable:
    """Normal latents times a number, and the normal ones among joined latents: below 1 they come
    from nearer to the mean, as in the truncation trick of Brock et al., 2019, which draws those
    anew that are too far instead.

    Raises:
      UserError: for latents of which none is known to be normal.
    """
    if arguments_of(latent, normal):
        return _scaled(latent, scale)
    if parts := arguments_of(latent, _joined):
        (all_parts,) = parts.values()
        some = {n: scaled(part, scale) for n, part in all_parts if arguments_of(part, normal)}
        if some:
            return joined(**{**dict(all_parts), **some})
    raise UserError(
        f"truncation={scale:g} is for latents of latents.normal, and this game's are "
        f"{shown(latent)}; leave it out"
    )


@bound
def _scaled(latent: Latent, scale: float) -> Latent:
    def scaled_latent(key: Array) -> Array:
        return latent(key) * scale

    return scaled_latent


def _shape(size: Shape) -> tuple[int, ...]:
    """The sizes of a latent; refuses what is none."""
    sizes = size if isinstance(size, tuple) else (size,)
    if not sizes or not all(type(n) is int and n > 0 for n in sizes):
        raise UserError(f"a latent of size {size!r}; use a whole number from 1 on, or several")
    return sizes
