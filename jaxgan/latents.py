"""What is random in an example that is made: functions key -> a leaf, or a pytree of leaves."""

import functools
from collections.abc import Callable

import jax
from jax import Array


@functools.cache
def normal(size: int) -> Callable[[Array], Array]:
    """z ~ N(0, I) of `size` numbers."""
    return functools.partial(_normal, size)


def _normal(size: int, key: Array) -> Array:
    return jax.random.normal(key, (size,))
