"""What several tests need: small networks, games, runs on one device and on four, comparisons."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan.calling import applier
from jaxgan.game import Game, Play, Player, init
from jaxgan.rules import alternating
from jaxgan.step import make_step

# Sums in another order, in float32, over three steps of gradient descent.
ROUNDING: dict[str, float] = dict(rtol=1e-4, atol=2e-6)


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


def trained(game: Game, items: list[Any], devices: int = 1, rule: Any = alternating) -> Any:
    """(state, metrics of the last step) after a step for each batch, which the devices share."""
    state = init(game, jax.random.key(0), items[0])
    if devices == 1:
        step = jax.jit(make_step(game._replace(rule=rule)))
    else:
        step = jax.pmap(
            make_step(game._replace(rule=rule), "i"), "i", in_axes=(None, 0), out_axes=None
        )
        items = [
            jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch) for batch in items
        ]
    metrics: Any = {}
    for batch in items:
        state, metrics = step(state, batch)
    return state, metrics


def assert_one_device_equals_four(game: Game, items: list[Any], rule: Any = alternating) -> Any:
    """The same run up to rounding, and one that moves; gives the state that four devices reach."""
    one, on_one = trained(game, items, 1, rule)
    four, on_four = trained(game, items, 4, rule)
    assert_close_trees(one.players, four.players, **ROUNDING)
    assert_close_trees(on_one, on_four, **ROUNDING)
    before = init(game, jax.random.key(0), items[0]).players
    for name, player in one.players.items():
        for a, b in zip(jax.tree.leaves(player.params), jax.tree.leaves(before[name].params)):
            assert np.any(np.asarray(a) != np.asarray(b)), name
    return four


def a_play(batch: Any, step: int = 0, seed: int = 0, **players: Any) -> Play:
    """What a loss may look at, with players given as (module, variables)."""
    keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(batch)[0]))
    modules = {name: module for name, (module, _) in players.items()}
    variables = {name: held for name, (_, held) in players.items()}
    states = {n: {k: v for k, v in held.items() if k != "params"} for n, held in variables.items()}
    apply = applier(modules, variables, jnp.float32, train=True)
    return Play(apply, batch, keys, jnp.int32(step), states)


def assert_close_trees(first: Any, second: Any, **tolerance: float) -> None:
    """The same structure, and numbers within the tolerance."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), first, second)


def assert_equal_trees(first: Any, second: Any) -> None:
    """The same structure and the same bits."""

    def data(leaf: Any) -> Any:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    jax.tree.map(lambda a, b: np.testing.assert_array_equal(data(a), data(b)), first, second)
