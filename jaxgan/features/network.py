"""The network that names the class of a small image, and how it is trained."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan import terminal
from jaxgan.run.runtime import compiler_options

ARCHITECTURE = "3 convolutions of 3 x 3, each with a maximum of 2 x 2; one layer; relu; 1"


class Settings(NamedTuple):
    """How a classifier is made; its cached weights are known by it.

    Attributes:
      widths: channels of the convolutions.
      features: F, of the layer before the logits.
      batch_size: images of a step.
      epochs: over the training images.
      fewest, most: steps, whatever so many epochs are.
      rate: of Adam at the first step; it falls to 0 as a cosine.
      decay: of the weights' average, which is what is kept.
      shift: pixels by which images are moved at most, each way, anew in each step.
      seed: of the first weights, the order and the shifts.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    features: int = 128
    batch_size: int = 128
    epochs: int = 3
    fewest: int = 400
    most: int = 2000
    rate: float = 2e-3
    decay: float = 0.99
    shift: int = 2
    seed: int = 0


class Classifier(nn.Module):
    """images uint8 [B,H,W,C] -> (logits float32 [B,K], features float32 [B,F], which are not below
    0)."""

    widths: tuple[int, ...]
    features: int
    classes: int

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = images.astype(jnp.float32) / 127.5 - 1.0
        for width in self.widths:
            x = _halved(nn.relu(nn.Conv(width, (3, 3))(x)))
        features = nn.relu(nn.Dense(self.features)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.classes)(features), features


def _halved(x: jax.Array) -> jax.Array:
    """The maxima of 2 x 2 numbers that are not below 0. Gradients of `nn.max_pool` scatter, which
    took more than half of a step on a CPU."""
    batch, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    return x.reshape(batch, (height + 1) // 2, 2, (width + 1) // 2, 2, channels).max((2, 4))


def network(settings: Settings, classes: int) -> Classifier:
    return Classifier(tuple(settings.widths), settings.features, classes)


def trained(
    images: np.ndarray, labels: np.ndarray, classes: int, settings: Settings, progress: bool = False
) -> Any:
    """Parameters that name the classes of images: the average over the last steps.

    The same on one machine and versions, bit for bit, for the same images and settings.

    Args:
      images: uint8 [N,H,W,C].
      labels: int [N], from 0 to below `classes`.
      classes: K.
      settings: as above.
      progress: show a bar.
    """
    net, batch = network(settings, classes), min(settings.batch_size, len(images))
    steps = settings.epochs * (len(images) // batch)
    steps = min(max(steps, settings.fewest), settings.most)
    first, shifts = jax.random.split(jax.random.key(settings.seed))
    params = _init(net, first, images[:1])
    state = params, _ADAM.init(params), jax.tree.map(jnp.copy, params)
    step, rows = _step(settings, classes), _batches(len(images), batch, settings.seed)
    bar = terminal.bar(total=steps, desc="Training a classifier", leave=False, disable=not progress)
    with bar:
        for count in range(steps):
            these, done = next(rows), np.float32(count)
            key = jax.random.fold_in(shifts, count)
            state = step(state, done, done / np.float32(steps), key, images[these], labels[these])
            bar.update()
    return jax.tree.map(np.asarray, state[2])


_ADAM = optax.scale_by_adam()
_init = jax.jit(Classifier.init, static_argnums=0)


@functools.cache
def _step(settings: Settings, classes: int) -> Callable[..., Any]:
    """(state, steps done, their share of all, key, images, labels) -> state."""
    net = network(settings, classes)

    def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits: Any = net.apply(params, images)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(
        state: Any,
        done: jax.Array,
        share: jax.Array,
        key: jax.Array,
        images: jax.Array,
        labels: jax.Array,
    ) -> Any:
        params, adam, average = state
        moved = _moved(images, key, settings.shift)
        updates, adam = _ADAM.update(jax.grad(loss)(params, moved, labels), adam)
        rate = settings.rate * 0.5 * (1.0 + jnp.cos(jnp.pi * share))
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        # From the first step on as far as there are steps to average over.
        keep = jnp.minimum(settings.decay, (done + 1.0) / (done + 10.0))
        average = jax.tree.map(lambda a, p: keep * a + (1.0 - keep) * p, average, params)
        return params, adam, average

    options = compiler_options(jax.default_backend())
    return jax.jit(step, donate_argnums=0, compiler_options=options)


def _batches(count: int, batch: int, seed: int) -> Iterator[np.ndarray]:
    """Which examples make the next batch, int64 [batch]; each epoch in an order of its own."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(count)
        yield from np.split(order[: count // batch * batch], count // batch)


def _moved(images: jax.Array, key: jax.Array, most: int) -> jax.Array:
    """Each image moved by up to `most` pixels each way; its edge is repeated."""
    by = jax.random.randint(key, (len(images), 2), 0, 2 * most + 1)
    wide = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), "edge")

    def cut(image: jax.Array, by: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (by[0], by[1], 0), images.shape[1:])

    return jax.vmap(cut)(wide, by)


@functools.partial(jax.jit, static_argnums=0)
def described(net: Classifier, params: Any, images: Any) -> tuple[jax.Array, jax.Array]:
    """Images uint8 [B,H,W,C] -> (features float32 [B,F], probabilities float32 [B,K]); `params` as
    `trained` gives them."""
    found: Any = net.apply(params, images)
    return found[1], jax.nn.softmax(found[0])
