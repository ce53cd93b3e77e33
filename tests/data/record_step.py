"""Writes step_reference.json: five steps of two presets as commit 851e236 trains them.

That commit's step was one function for one generator and one discriminator. Run this with a
checkout of it on PYTHONPATH. What is random is NumPy's: images, latents, and first weights by
player, kind and shape, since names of modules have changed.
"""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from reference import squares, stream, summary

from jaxgan import init, make_game, make_step
from jaxgan import step as old_step
from jaxgan.config import preset, replace

STEPS, COUNT = 5, 16


def named(player, tree):
    """Leaves by player, kind and shape, such as 'generator kernel (100, 3136)'."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {f"{player} {path[-1].key} {leaf.shape}": leaf for path, leaf in leaves}


def first(player, tree):
    """Kernels and biases N(0, 0.05^2), scales N(1, 0.05^2)."""

    def leaf(path, like):
        name = f"{player} {path[-1].key} {like.shape}"
        drawn = 0.05 * stream(name, 0).normal(size=like.shape).astype(np.float32)
        return jnp.asarray(drawn + np.float32(path[-1].key == "scale"))

    return jax.tree_util.tree_map_with_path(leaf, tree)


def record(name):
    config = replace(preset(name), {"batch_size": COUNT})
    game = make_game(config)
    latents = jnp.asarray(
        np.stack([stream(7, t).normal(size=(COUNT, 100)) for t in range(STEPS)]), jnp.float32
    )
    old_step.draw_latent = lambda game, state, first, count: latents[state.step]
    state = init(game, jax.random.key(0))
    players = {}
    for player, tx in (
        ("generator", game.generator_tx),
        ("discriminator", game.discriminator_tx),
    ):
        before = getattr(state, player)
        params = first(player, before.params)
        players[player] = before.replace(params=params, opt_state=tx.init(params))
    state = start = state.replace(ema=players["generator"].params, **players)
    step, metrics = jax.jit(make_step(game)), []
    for t in range(STEPS):
        state, values = step(state, {"image": squares(COUNT, 28, t)})
        metrics.append({key: float(value) for key, value in values.items()})
    tensors = {}
    for player in ("generator", "discriminator"):
        old, new = getattr(start, player), getattr(state, player)
        moved = jax.tree.map(jnp.subtract, new.params, old.params)
        tensors |= named(player, moved) | named(player, new.model_state)
    ema = jax.tree.map(jnp.subtract, state.ema, start.ema)
    tensors |= named("average", ema)
    return {"metrics": metrics, "tensors": {key: summary(key, x) for key, x in tensors.items()}}


if __name__ == "__main__":
    target = pathlib.Path(__file__).parent / "step_reference.json"
    recorded = {name: record(name) for name in ("seed-mnist", "digits")}
    target.write_text(json.dumps(recorded, indent=1) + "\n")
