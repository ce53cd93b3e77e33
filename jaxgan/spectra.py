"""Eigenvalues of the Jacobian of a function of many numbers, by products with vectors.

A matrix of n numbers squared is formed for small n alone; networks take Arnoldi's process, whose
time and memory are bounded by the products that are asked for.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

DENSE = 256  # numbers up to which the whole Jacobian is formed
PRODUCTS = 64  # of the Jacobian with a vector, where it is not
_BALANCING = 3  # products from which scales are taken
CONVERGED = 1e-4  # the residual of an eigenvalue as a share of the largest modulus


class Flow(NamedTuple):
    """A function of numbers, float32 [n], to as many, and where it is looked at, float32 [n].

    kinds: whether the numbers are of several kinds, whose scales have to be balanced.
    """

    function: Callable[[Array], Array]
    point: Array
    kinds: bool = False


class Spectrum(NamedTuple):
    """Eigenvalues of a flow's Jacobian.

    Attributes:
      values: complex [k], by falling real part: all n, or those that k products make known.
      errors: [k], the norms of their residuals, as near as the Jacobian is to a matrix with that
        eigenvalue; 0 where all were taken. Where the Jacobian is far from normal, as that of a step
        of Adam is, eigenvalues may be off by more.
      size: n.
      held: of the n, how many have no derivative, as where Adam's second moment is 0; they are
        taken not to change.
    """

    values: Any
    errors: np.ndarray
    size: int
    held: int

    @property
    def converged(self) -> np.ndarray:
        """Which have a residual of at most a 10,000th of the largest modulus, bool [k]."""
        return self.errors <= CONVERGED * np.abs(self.values).max()


def jacobian(flow: Flow) -> Array:
    """The whole Jacobian, float32 [n, n]. Pure: works under `jit` and `vmap`."""
    _, product = jax.linearize(flow.function, flow.point)
    return jax.vmap(product, out_axes=1)(jnp.eye(flow.point.size))


def eigenvalues(
    flow: Flow, products: int = PRODUCTS, seed: int = 0, jit: Callable = jax.jit
) -> Spectrum:
    """All eigenvalues of the Jacobian where there are few numbers, else the outermost ones.

    Those are the Ritz values of `arnoldi`: the ends of the spectrum, in every direction, come
    first, and the `errors` say which can be believed.

    Args:
      flow: n numbers; more than 256 are taken by products.
      products: of the Jacobian with a vector, each about as dear as three gradients. As many
        vectors of n numbers are held.
      seed: of the first vector.
      jit: compiles what calls networks.
    """
    size = flow.point.size
    if size <= DENSE:
        matrix = np.asarray(
            jit(lambda point: jacobian(flow._replace(point=point)))(flow.point), np.float64
        )
        moving = np.isfinite(matrix).all(1)
        values = np.linalg.eigvals(np.where(np.outer(moving, moving), matrix, 0.0))
        order = np.argsort(-np.real(values), kind="stable")
        return Spectrum(values[order], np.zeros(size), size, int((~moving).sum()))

    @jit
    def product(point: Array, vector: Array) -> Array:
        return jax.jvp(flow.function, (point,), (vector,))[1]

    draws = jax.random.normal(jax.random.key(seed), (1 + _BALANCING, size))
    moving = jnp.isfinite(product(flow.point, draws[0]))
    scale = jnp.ones(size)

    def scaled(vector: Array) -> Array:
        image = product(flow.point, jnp.where(moving, vector * scale, 0.0))
        return jnp.where(moving, image / scale, 0.0)

    # Numbers of several kinds, such as parameters and Adam's moments, are apart by many orders of
    # magnitude, in which float32 would lose the small ones. Scales that tend to the first
    # eigenvector of the matrix of absolute values make all its rows alike.
    for draw in draws[1:] if flow.kinds else ():
        sizes = jnp.abs(scaled(jnp.sign(draw)))
        scale = scale * jnp.where(sizes > 0.0, sizes, 1.0)
        scale = scale / jnp.max(scale)
    found = arnoldi(scaled, jnp.where(moving, draws[0], 0.0), min(products, size))
    values, errors = ritz_values(np.asarray(found, np.float64))
    return Spectrum(values, errors, size, int(size - jnp.sum(moving)))


def arnoldi(product: Callable[[Array], Array], start: Array, count: int) -> np.ndarray:
    """Arnoldi's process on a matrix, by products with vectors alone.

    Args:
      product: [n] -> [n].
      start: [n], the first vector, of any length but 0.
      count: of products, m.

    Returns:
      The Hessenberg matrix, float32 [m + 1, m].

    References:
      Arnoldi, The Principle of Minimized Iterations in the Solution of the Matrix Eigenvalue
      Problem, 1951.
    """
    basis = jnp.zeros((count + 1, start.size)).at[0].set(start / jnp.linalg.norm(start))
    columns = []
    # XLA runs networks within a loop of its own on one core of a CPU, and slowly.
    for index in range(count):
        basis, column = _grown(basis, product(basis[index]), index)
        columns.append(column)
    return np.stack(columns, axis=1)


@partial(jax.jit, donate_argnums=0)
def _grown(basis: Array, image: Array, index: Array) -> tuple[Array, Array]:
    """The basis with the direction that an image adds, and the image's shares of it, [m + 1]."""
    column = jnp.zeros(len(basis))
    for _ in range(2):  # once leaves too much of the others in float32
        shares = basis @ image
        image, column = image - shares @ basis, column + shares
    length = jnp.linalg.norm(image)
    basis = basis.at[index + 1].set(image / jnp.where(length > 0.0, length, 1.0))
    return basis, column.at[index + 1].set(length)


def ritz_values(hessenberg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues that a Hessenberg matrix of Arnoldi's process, [m + 1, m], makes known, by
    falling real part, and the norms of their residuals."""
    below = np.diag(hessenberg, -1)
    # Where nothing new came, the vectors so far hold eigenvectors, and what follows is rounding.
    ended = np.flatnonzero(below <= 1e-6 * np.abs(hessenberg).max())
    count = int(ended[0]) + 1 if len(ended) else len(below)
    values, vectors = np.linalg.eig(hessenberg[:count, :count])
    errors = below[count - 1] * np.abs(vectors[-1])
    order = np.argsort(-np.real(values), kind="stable")
    return values[order], errors[order]


def rotation(values: np.ndarray) -> np.ndarray:
    """|Im| / |Re| of eigenvalues: 0 for a straight path, infinite for a circle."""
    imaginary = np.abs(np.imag(values))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(imaginary == 0.0, 0.0, imaginary / np.abs(np.real(values)))
