"""What several tests share: small networks of points, games of them, and how runs are made and
compared."""

import zlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan.calling import applier
from jaxgan.config import configured
from jaxgan.data import Feature
from jaxgan.game import Game, Play, Player, init
from jaxgan.objectives import nonsaturating
from jaxgan.step import make_step
from jaxgan.two_players import gan

AXIS = "devices"
# Sums in another order, in float32, over three steps of gradient descent.
ROUNDING = dict(rtol=1e-4, atol=2e-6)


class Layers(nn.Module):
    """Dense layers of these widths, LeakyReLU between them: [B, ...] -> [B, last width]."""

    widths: tuple[int, ...] = (8, 2)

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        for width in self.widths[:-1]:
            x = nn.leaky_relu(nn.Dense(width, dtype=x.dtype)(x))
        return nn.Dense(self.widths[-1], dtype=x.dtype)(x)


class Maker(nn.Module):
    """Latents (an array [B, n], or a tree of such) -> [B, *shape]."""

    shape: tuple[int, ...] = (4, 4, 1)

    @nn.compact
    def __call__(self, latents: Any, *given: Any) -> Any:
        z = jnp.concatenate([x.reshape(len(x), -1) for x in jax.tree.leaves((latents, given))], 1)
        x = nn.tanh(nn.Dense(8)(z))
        return nn.tanh(nn.Dense(int(np.prod(self.shape)))(x)).reshape(-1, *self.shape)


class Judge(nn.Module):
    """Examples -> [B / pack] logits; smooth, so that its gradients have finite differences."""

    pack: int = 1
    across_batch: bool = False

    @nn.compact
    def __call__(self, x: Any, *given: Any) -> Any:
        x = jnp.concatenate([x.reshape(len(x), -1), *(g.reshape(len(g), -1) for g in given)], 1)
        x = x.reshape(len(x) // self.pack, -1)
        return nn.Dense(1)(nn.tanh(nn.Dense(8)(x)))[:, 0]


def sgd_game(moves: Any, latent: Any, generate: Any, rate: float = 0.1, **players: Any) -> Game:
    """A game of these players, each a module or a `Player`; modules descend by gradient descent.

    Adam would divide by the root of second moments, which turns rounding of zero gradients into
    full steps.
    """
    as_players = {
        name: player if isinstance(player, Player) else Player(player, optax.sgd(rate))
        for name, player in players.items()
    }
    return Game(as_players, moves, latent, generate)


def batches(shape: tuple[int, ...] = (4, 4, 1), count: int = 8, steps: int = 3) -> list[Any]:
    """Batches of uniform numbers in [-1, 1], [count, *shape], named `image`."""
    rng = np.random.default_rng(0)
    return [{"image": rng.uniform(-1, 1, (count, *shape)).astype(np.float32)} for _ in range(steps)]


def normal(key):
    return jax.random.normal(key, (3,))


def points(seed: int = 0, count: int = 8, **more) -> dict[str, np.ndarray]:
    """A batch of points [count, 2] in [-1, 1], and further leaves of this many."""
    rng = np.random.default_rng(seed)
    return {"point": rng.uniform(-1, 1, (count, 2)).astype(np.float32), **more}


def toy(
    generator: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    objective: Any = None,
    latent: Callable = normal,
    tx: Any = None,
    made: str = "point",
    **options,
) -> Game:
    """A small game of points, by gradient descent: Adam divides by the root of second moments,
    which turns rounding of gradients that are zero into full steps."""
    tx = optax.sgd(0.1) if tx is None else tx
    generator = Player(generator or Layers((8, 2)), tx, 0.9)
    discriminator = Player(discriminator or Layers((8, 1)), tx)
    return gan(generator, discriminator, objective or nonsaturating(), latent, made=made, **options)


def keys_of(state: Any, count: int, part: int = 0) -> Any:
    """The keys of the examples in the next step."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), part)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))


def latents_of(state: Any, count: int = 8, part: int = 0) -> Any:
    """The latents that the next step draws."""
    use = np.uint32(zlib.crc32(b"latent"))
    keys = keys_of(state, count, part)
    return jax.vmap(lambda key: normal(jax.random.fold_in(key, use)))(keys)


def train(step: Callable, state: Any, batches: Any) -> tuple[Any, Any]:
    """The state after a step on each batch, and the metrics, leaves [steps]."""
    history = []
    for batch in batches:
        state, metrics = step(state, batch)
        history.append(metrics)
    return state, jax.tree.map(lambda *leaves: np.stack(leaves), *history)


def shared(batch: Any, devices: int = 4) -> Any:
    """A batch with an axis of devices in front."""
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)


def on_four_devices(game: Game) -> Callable:
    """The step under `pmap`, of whole batches."""
    step = make_step(game, AXIS)
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=jax.devices()[:4])
    return lambda state, batch: mapped(state, shared(batch))


def assert_one_device_equals_four(game: Game, batches: list[Any], rule: Any = None) -> Any:
    """Trains on one device and on four from the same state; gives the state that four reach."""
    game = game if rule is None else game._replace(rule=rule)
    first = jax.jit(lambda key: init(game, key, batches[0]))(jax.random.key(0))
    one, on_one = train(jax.jit(make_step(game)), first, batches)
    four, on_four = train(on_four_devices(game), first, batches)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), first.players, one.players)
    assert all(any(jax.tree.leaves(m)) or not jax.tree.leaves(m) for m in moved.values())
    assert_close(one, four)
    assert_close(on_one, on_four)
    return four


def as_arrays(tree: Any) -> Any:
    """Keys as their data, so that NumPy can compare them."""

    def array(leaf):
        keys = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if keys else leaf)

    return jax.tree.map(array, tree)


def assert_close(first: Any, second: Any, **tolerance) -> None:
    """The same structure, and numbers that differ by rounding at most."""
    tolerance = tolerance or ROUNDING
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **tolerance),
        as_arrays(first),
        as_arrays(second),
    )


def assert_equal_trees(first: Any, second: Any) -> None:
    """The same structure and the same bits."""
    jax.tree.map(np.testing.assert_array_equal, as_arrays(first), as_arrays(second))


def a_play(batch: Any, step: int = 0, seed: int = 0, **players: Any) -> Play:
    """What a loss may look at, with players given as (module, variables)."""
    keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(batch)[0]))
    modules = {name: module for name, (module, _) in players.items()}
    variables = {name: held for name, (_, held) in players.items()}
    states = {n: {k: v for k, v in held.items() if k != "params"} for n, held in variables.items()}
    apply = applier(modules, variables, jnp.float32, train=True)
    return Play(apply, batch, keys, jnp.int32(step), states)


def trained(game: Game, items: list[Any]) -> tuple[Any, Any]:
    """(state, metrics of the last step) after a step on each batch."""
    state, history = train(jax.jit(make_step(game)), init(game, jax.random.key(0), items[0]), items)
    return state, jax.tree.map(lambda leaf: leaf[-1], history)


def game_of(name: str, shape: tuple[int, int, int], **changes: Any) -> Game:
    """The game of a preset or recipe for images of this shape; options by dotted names."""
    config = configured(name, {k.replace("__", "."): v for k, v in changes.items()})
    return config.recipe.make({"image": Feature(shape, np.dtype(np.uint8))}, config.options)
