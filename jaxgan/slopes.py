"""Squared slopes of a discriminator by example, exact or estimated, and where penalties take them.

D is the sum of an example's logits over all heads and places. Where m neighbouring examples are
packed in a logit, leaves [B / m, ...], an example is the pack.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.bound import bound
from jaxgan.errors import UserError
from jaxgan.examples import drawn
from jaxgan.game import Batch

EPSILON = 0.01  # of finite differences: their bias is of its square, their rounding 1e-5


def exact(logits: Callable, made: Batch, keys: Array, use: str) -> Array:
    """|grad D|^2, [B / m], in the features `made`."""

    def total(made: Batch) -> tuple[Array, Array]:
        each = by_example(logits(made))
        return jnp.sum(each), each

    slopes, each = jax.grad(total, has_aux=True)(made)
    # The slopes of a pack are neighbours.
    squares = [jnp.sum(x.reshape(len(each), -1) ** 2, axis=1) for x in jax.tree.leaves(slopes)]
    return sum(squares[1:], squares[0])


def by_difference(logits: Callable, made: Batch, keys: Array, use: str) -> Array:
    """((D(x + eps n) - D(x)) / eps)^2, [B / m], n normal: in the mean |grad D|^2, up to eps^2."""
    moved = {
        name: feature + EPSILON * noise_like(feature, keys, f"{use} {name}")
        for name, feature in made.items()
    }
    return ((by_example(logits(moved)) - by_example(logits(made))) / EPSILON) ** 2


METHODS = {"exact": exact, "finite_difference": by_difference}


def by_example(logits: Any) -> Array:
    """D by example, [B / m]: the sum over heads and places."""
    heads = [jnp.sum(x, axis=tuple(range(1, x.ndim))) for x in jax.tree.leaves(logits)]
    return sum(heads[1:], heads[0])


def noise_like(feature: Array, keys: Array, use: str) -> Array:
    """Standard normal numbers of a feature's shape, from each example's own key."""
    shape, dtype = feature.shape[1:], feature.dtype
    return drawn(lambda key: jax.random.normal(key, shape, dtype), keys, use)


def floating(examples: Batch, names: Any, what: str) -> Batch:
    """The features of these names that are floating numbers; refuses if there are none."""
    found = {n: examples[n] for n in names if jnp.issubdtype(examples[n].dtype, jnp.floating)}
    if not found:
        raise UserError(
            f"{what} needs made features that are floating numbers, this game makes "
            f"{', '.join(f'{n!r} of {examples[n].dtype}' for n in names)}; leave it out"
        )
    return found


def every_nth(what: str, tree: Any, subset: int, pack: int = 1) -> Any:
    """Every n-th pack of leaves [B, ...], the same ones on any number of devices."""
    count = len(jax.tree.leaves(tree)[0])
    if type(subset) is not int or subset < 1 or count % (subset * pack):
        packs = f" in packs of {pack}" if pack > 1 else ""
        raise UserError(
            f"{what} has subset={subset!r}, which does not divide the {count} examples{packs} of a "
            f"device; use 1, or a whole number that divides {count // pack}"
        )

    def some(leaf: Array) -> Array:
        packs = leaf.reshape(count // pack, pack, *leaf.shape[1:])[::subset]
        return packs.reshape(-1, *leaf.shape[1:])

    return tree if subset == 1 else jax.tree.map(some, tree)


def length(squared: Array) -> Array:
    """The root, with slope 0 at 0."""
    return jnp.sqrt(jnp.maximum(squared, 1e-24))


def at_real(real: Batch, fake: Batch, keys: Array, pack: int, use: str) -> Batch:
    return real


def at_fake(real: Batch, fake: Batch, keys: Array, pack: int, use: str) -> Batch:
    return fake


def between(real: Batch, fake: Batch, keys: Array, pack: int, use: str) -> Batch:
    """t real + (1 - t) fake, t uniform in [0, 1), one for a pack, since that is what is judged."""
    of_packs = drawn(jax.random.uniform, keys[::pack], use)
    t = jnp.repeat(of_packs, pack)

    def mixed(real: Array, fake: Array) -> Array:
        share = t.reshape(-1, *[1] * (real.ndim - 1)).astype(real.dtype)
        return share * real + (1.0 - share) * fake

    return {name: mixed(real[name], fake[name]) for name in real}


@bound
def around_real(deviation: float) -> Callable[..., Batch]:
    """real + n, n normal of this standard deviation."""

    def around(real: Batch, fake: Batch, keys: Array, pack: int, use: str) -> Batch:
        return {
            name: feature + deviation * noise_like(feature, keys, f"{use} around {name}")
            for name, feature in real.items()
        }

    return around
