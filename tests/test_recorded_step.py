"""Five steps of two presets equal those of the code before a GAN was a game of players and moves.

They were recorded at commit 851e236 by tests/data/record_step.py.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import assert_as_recorded, squares, stream

from jaxgan import penalties
from jaxgan.game import Game, Player, init
from jaxgan.gan_moves import adversarial
from jaxgan.judging import critic
from jaxgan.models import (
    DCGANDiscriminator,
    DCGANGenerator,
    ListingDiscriminator,
    ListingGenerator,
)
from jaxgan.objectives import nonsaturating
from jaxgan.step import make_step

RECORDED = json.loads((pathlib.Path(__file__).parent / "data" / "step_reference.json").read_text())
COUNT = 16
# Float32 sums in another order; Adam makes full steps of gradients that are nothing but rounding.
# Measured with other compiler options: 4e-7 of the metrics, 1e-3 of what a tensor moved.
METRICS, MOVED = 1e-5, 5e-3


def seed_mnist():
    adam = optax.adam(2e-4, b1=0.9)
    return (
        Player(ListingGenerator((28, 28, 1), 64), adam, 0.0),
        Player(ListingDiscriminator(16), adam),
        (),
    )


def digits():
    def adam(rate):
        return optax.adam(optax.linear_schedule(rate, 0.01 * rate, 1000, 1000), b1=0.5)

    return (
        Player(DCGANGenerator((28, 28, 1), 64), adam(2e-3), 0.999),
        Player(DCGANDiscriminator(32), adam(1e-3)),
        (penalties.r1(0.5, subset=8),),
    )


def latents_of_the_batch(apply, latents, batch):
    images, state = apply("generator", batch["z"])
    return {"image": images}, {"generator": state}


def key_of(player, path, leaf):
    return f"{player} {path[-1].key} {leaf.shape}"


def first(player, tree):
    """Kernels and biases N(0, 0.05^2), scales N(1, 0.05^2), as recorded."""

    def leaf(path, like):
        drawn = 0.05 * stream(key_of(player, path, like), 0).normal(size=like.shape)
        return jnp.asarray(drawn.astype(np.float32) + np.float32(path[-1].key == "scale"))

    return jax.tree_util.tree_map_with_path(leaf, tree)


def batch(t):
    z = stream(7, t).normal(size=(COUNT, 100)).astype(np.float32)
    return {"image": squares(COUNT, 28, t), "z": z}


@pytest.mark.parametrize(("name", "preset"), [("seed-mnist", seed_mnist), ("digits", digits)])
def test_five_steps_equal_the_recorded_ones(name, preset):
    generator, discriminator, terms = preset()
    players = {"generator": generator, "discriminator": discriminator}

    def latent(key):
        return ()

    moves = adversarial(
        nonsaturating(), latent, latents_of_the_batch, critic("image"), penalties=terms
    )
    game = Game(players, moves, latent, latents_of_the_batch)
    state = init(game, jax.random.key(0), batch(0))
    for player, spec in players.items():
        before = state.players[player]
        params = first(player, before.params)
        ema = None if before.ema is None else params
        opt_state = spec.tx.init(params)
        state.players[player] = before.replace(params=params, opt_state=opt_state, ema=ema)
    start, step = state.players, jax.jit(make_step(game))
    for t, recorded in enumerate(RECORDED[name]["metrics"]):
        state, metrics = step(state, batch(t))
        found = {key: float(metrics[key]) for key in recorded}
        np.testing.assert_allclose(list(found.values()), list(recorded.values()), rtol=METRICS)
    end = state.players
    trees = {name: difference(end[name].params, start[name].params) for name in players}
    trees["average"] = difference(end["generator"].ema, start["generator"].ema)
    tensors = {
        key_of(name, path, leaf): leaf
        for name, tree in trees.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    for path, leaf in jax.tree_util.tree_leaves_with_path(end["generator"].model_state):
        tensors[key_of("generator", path, leaf)] = leaf
    recorded = RECORDED[name]["tensors"]
    assert set(tensors) == set(recorded)
    for key, tensor in tensors.items():
        assert_as_recorded(key, tensor, recorded[key], MOVED)


def difference(new, old):
    return jax.tree.map(jnp.subtract, new, old)
