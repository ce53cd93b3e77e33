"""The founding algorithm: the same weights, noise and images give PyTorch's losses and weights.

`python tests/test_seed.py` records the reference anew, with PyTorch installed.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import assert_as_recorded, squares, stream, summary

from jaxgan.game import Game, Player, init
from jaxgan.gan_moves import adversarial
from jaxgan.judging import critic
from jaxgan.models import ListingDiscriminator, ListingGenerator
from jaxgan.objectives import nonsaturating
from jaxgan.step import make_step

REFERENCE = pathlib.Path(__file__).parent / "data" / "seed_reference.json"
ITERATIONS, COUNT = 10, 32
# Losses are means over 288 logits in float32. Adam's first steps are the rate times the sign of
# the gradient, so where gradients are nothing but rounding the two may part by a step, and what
# is nothing but rounding differs between convolution libraries: measured 4e-7 of the losses, and
# 8e-4 of what a tensor moved.
LOSS, MOVED = 1e-5, 5e-3


def batch(i):
    """Images [32,28,28,1] and noise [32,100]."""
    z = stream(8, i).normal(size=(COUNT, 100)).astype(np.float32)
    return {"image": squares(COUNT, 28, i), "z": z}


def first(like):
    """First weights, uniform as in PyTorch but of streams of NumPy's by name."""

    def leaf(path, x):
        name = key_of(path, x)
        bound = 1.0 / np.sqrt(100 if "Dense" in str(path) else np.prod(x.shape[:3]))
        return jnp.asarray(stream(name, 1).uniform(-bound, bound, x.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, like)


def key_of(path, leaf):
    """The name of a tensor, by player, kind and shape, such as 'generator kernel (100, 3136)'."""
    return f"{path[0].key} {path[-1].key} {leaf.shape}"


def noise_of_the_batch(apply, latents, batch):
    return {"image": apply("generator", batch["z"])[0]}, {}


def no_latent(key):
    return ()


def run_jaxgan():
    """First parameters, losses [10, 2], and parameters after 1 and 10 iterations."""
    players = {
        "generator": Player(ListingGenerator(), optax.adam(2e-4)),
        "discriminator": Player(ListingDiscriminator(), optax.adam(2e-4)),
    }
    judge = critic("image")
    moves = adversarial(nonsaturating(), no_latent, noise_of_the_batch, judge)
    game = Game(players, moves, no_latent, noise_of_the_batch)
    state = init(game, jax.random.key(0), batch(0))
    start = first(params_of(state))
    for name, params in start.items():
        state.players[name] = state.players[name].replace(params=params)
    step, losses, after = jax.jit(make_step(game)), [], {}
    for i in range(ITERATIONS):
        state, metrics = step(state, batch(i))
        losses.append([float(metrics["loss_discriminator"]), float(metrics["loss_generator"])])
        after[i + 1] = params_of(state)
    return start, losses, {i: after[i] for i in (1, ITERATIONS)}


def params_of(state):
    return {name: player.params for name, player in state.players.items()}


def run_torch(start):
    """Losses [10, 2], and the state dict of both networks after 1 and 10 iterations."""
    import torch

    from benchmarks.torch_peer import Trainer, to_torch

    trainer = Trainer()
    networks = trainer.generator, trainer.discriminator
    for network, weights in zip(networks, to_torch(start["generator"], start["discriminator"])):
        network.load_state_dict(weights)
    losses, after = [], {}
    for i in range(ITERATIONS):
        given = batch(i)
        images = given["image"].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0
        found = trainer.step(torch.from_numpy(images), torch.from_numpy(given["z"]))
        losses.append([float(loss) for loss in found])
        if i + 1 in (1, ITERATIONS):
            both = {**trainer.generator.state_dict(), **trainer.discriminator.state_dict()}
            after[i + 1] = {name: value.numpy().copy() for name, value in both.items()}
    return losses, after


def in_torch(params):
    """The weights in PyTorch's names and layouts, as NumPy."""
    from benchmarks.torch_peer import to_torch

    both = to_torch(params["generator"], params["discriminator"])
    return {name: value.numpy() for part in both for name, value in part.items()}


@pytest.fixture(scope="module")
def ours():
    with jax.numpy_rank_promotion("allow"):  # the operations of kernels take [C] beside [..., C]
        return run_jaxgan()


def test_losses_and_weights_equal_those_of_pytorch(ours):
    pytest.importorskip("torch", reason="PyTorch is not installed (extra 'bench')")
    first, losses, after = ours
    torch_losses, torch_after = run_torch(first)
    np.testing.assert_allclose(losses, torch_losses, rtol=LOSS)
    start = in_torch(first)
    for iteration, params in after.items():
        for name, value in in_torch(params).items():
            expected = torch_after[iteration][name]
            apart = np.linalg.norm(value - expected)
            moved = np.linalg.norm(expected - start[name])
            assert apart <= MOVED * moved, (iteration, name, apart / moved)
            if iteration == 1:  # all but those few have moved alike, to a twentieth of Adam's step
                assert np.mean(np.abs(value - expected) > 1e-5) < 1e-3, name


def test_losses_and_weights_equal_the_recorded_ones(ours):
    first, losses, after = ours
    recorded = json.loads(REFERENCE.read_text())
    np.testing.assert_allclose(losses, recorded["losses"], rtol=LOSS)
    for iteration, params in after.items():
        tensors = moved(params, first)
        assert set(tensors) == set(recorded["moved"][str(iteration)])
        for name, tensor in tensors.items():
            assert_as_recorded(name, tensor, recorded["moved"][str(iteration)][name], MOVED)


def moved(params, start):
    difference = jax.tree.map(lambda a, b: np.float64(a) - np.float64(b), params, start)
    leaves = jax.tree_util.tree_leaves_with_path(difference)
    return {key_of(path, leaf): leaf for path, leaf in leaves}


def from_torch(weights):
    """A state dict of both networks as our parameters."""

    def turned(name):
        return {"kernel": np.transpose(weights[name], (2, 3, 1, 0))}

    kernel = weights["linear.weight"].reshape(64, 7, 7, 100).transpose(3, 1, 2, 0)
    dense = {
        "kernel": kernel.reshape(100, 3136),
        "bias": weights["linear.bias"].reshape(64, 7, 7).transpose(1, 2, 0).reshape(3136),
    }
    generator = {"Dense_0": dense, "Double_0": turned("first.weight")}
    generator["Double_1"] = turned("second.weight")
    judging = {f"Halve_{i}": turned(f"layers.{2 * i}.weight") for i in range(3)}
    return {"generator": generator, "discriminator": judging}


def record():
    """Writes what PyTorch gives from the same start."""
    import torch

    start, _, _ = run_jaxgan()
    losses, after = run_torch(start)
    written = {
        iteration: {name: summary(name, x) for name, x in moved(from_torch(w), start).items()}
        for iteration, w in after.items()
    }
    content = {"torch": torch.__version__, "losses": losses, "moved": written}
    REFERENCE.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    record()
