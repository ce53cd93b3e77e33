"""Preset `seed-mnist` is the founding algorithm: the same weights, noise and images give PyTorch's losses and weights.

`python tests/test_seed.py` records the reference anew, with PyTorch installed.
"""

import json
import pathlib

import jax
import numpy as np
import pytest

from jaxgan.config import preset
from jaxgan.game import init, make_game
from jaxgan.step import draw_latent, make_step

REFERENCE = pathlib.Path(__file__).parent / "data" / "seed_reference.json"
ITERATIONS, PLACES = 10, 16
# Losses are means over 1,152 logits in float32. Adam's first steps are the rate times the sign of the gradient, so where gradients
# are nothing but rounding the two may part by a step. What is nothing but rounding differs between convolution libraries: measured up
# to 3.3e-3 of what a tensor moved after one iteration, from 50 of 313,600 weights, and 3.9e-3 after ten.
LOSS, MOVED = 1e-5, {1: 1e-2, ITERATIONS: 1e-2}


def batch(i):
    """Images with structure: a bright square on noise, uint8 [128,28,28,1]."""
    rng = np.random.Generator(np.random.Philox(key=np.array([5, i], np.uint64)))
    images = (rng.random((128, 28, 28, 1)) * 40).astype(np.uint8)
    for image, (top, left) in zip(images, rng.integers(2, 16, (128, 2))):
        image[top : top + 10, left : left + 10] = 230
    return images


def run_jaxgan():
    """Initial state, losses [10,2], states after 1 and 10 iterations, and the noise that was drawn."""
    game = make_game(preset("seed-mnist"))
    state = first = init(game, jax.random.key(11))
    step, losses, noise, after = jax.jit(make_step(game)), [], [], {}
    for i in range(ITERATIONS):
        noise.append(np.asarray(draw_latent(game, state, 0, 128)))
        state, metrics = step(state, {"image": batch(i)})
        losses.append([float(metrics["loss_discriminator"]), float(metrics["loss_generator"])])
        after[i + 1] = state
    return first, losses, {1: after[1], ITERATIONS: after[ITERATIONS]}, noise


def named(state):
    """The weights in PyTorch's names and layouts, as NumPy."""
    from benchmarks.torch_peer import to_torch

    return {
        name: value.numpy()
        for part in to_torch(state.generator.params, state.discriminator.params)
        for name, value in part.items()
    }


def run_torch(first, noise):
    import torch

    from benchmarks.torch_peer import Trainer, to_torch

    trainer = Trainer()
    for module, weights in zip(
        (trainer.generator, trainer.discriminator),
        to_torch(first.generator.params, first.discriminator.params),
    ):
        module.load_state_dict(weights)
    losses, after = [], {}
    for i in range(ITERATIONS):
        real = torch.from_numpy(batch(i).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0)
        losses.append(
            [float(loss) for loss in trainer.step(real, torch.from_numpy(noise[i].copy()))]
        )
        if i + 1 in (1, ITERATIONS):
            both = {**trainer.generator.state_dict(), **trainer.discriminator.state_dict()}
            after[i + 1] = {name: value.numpy().copy() for name, value in both.items()}
    return losses, after


@pytest.fixture(scope="module")
def ours():
    return run_jaxgan()


def test_losses_and_weights_equal_those_of_pytorch(ours):
    pytest.importorskip("torch", reason="PyTorch is not installed (extra 'bench')")
    first, losses, states, noise = ours
    torch_losses, torch_after = run_torch(first, noise)
    np.testing.assert_allclose(losses, torch_losses, rtol=LOSS)
    start = named(first)
    for iteration, state in states.items():
        for name, value in named(state).items():
            apart = np.linalg.norm(value - torch_after[iteration][name])
            moved = np.linalg.norm(torch_after[iteration][name] - start[name])
            assert apart <= MOVED[iteration] * moved, (iteration, name, apart / moved)
            if iteration == 1:  # all but those few have moved alike, to a twentieth of Adam's step
                assert np.mean(np.abs(value - torch_after[iteration][name]) > 1e-5) < 1e-3, name


def flat(state):
    """The weights in jaxgan's own layout."""
    leaves = jax.tree_util.tree_leaves_with_path(
        {"generator": state.generator.params, "discriminator": state.discriminator.params}
    )
    return {jax.tree_util.keystr(path): np.float64(leaf).ravel() for path, leaf in leaves}


def probes(name, size):
    """Fixed directions of +-1 onto which a recorded tensor is projected."""
    rng = np.random.Generator(np.random.Philox(key=np.array([len(name), size], np.uint64)))
    return rng.integers(0, 2, (PLACES, size)) * 2.0 - 1.0


def test_losses_and_weights_equal_the_recorded_ones(ours):
    first, losses, states, _ = ours
    recorded = json.loads(REFERENCE.read_text())
    np.testing.assert_allclose(losses, recorded["losses"], rtol=LOSS)
    start = flat(first)
    for iteration, state in states.items():
        for name, value in flat(state).items():
            expected = recorded["moved"][str(iteration)][name]
            moved = value - start[name]
            # A projection of a difference d onto +-1 is of size |d|; four of it.
            found = probes(name, moved.size) @ moved
            np.testing.assert_allclose(
                np.linalg.norm(moved), expected["norm"], rtol=MOVED[iteration]
            )
            np.testing.assert_allclose(
                found, expected["projections"], atol=4 * MOVED[iteration] * expected["norm"], rtol=0
            )


def record():
    """Writes what PyTorch gives from the same start, in jaxgan's layout."""
    first, _, states, noise = run_jaxgan()
    losses, after = run_torch(first, noise)
    start, moved = flat(first), {}
    for iteration in states:
        weights = after[iteration]
        back = lambda name, weights=weights: np.transpose(weights[name], (2, 3, 1, 0))
        dense = {
            "kernel": weights["linear.weight"].reshape(64, 7, 7, 100).transpose(3, 1, 2, 0),
            "bias": weights["linear.bias"].reshape(64, 7, 7).transpose(1, 2, 0),
        }
        tree = {
            "generator": {
                "Dense_0": dense,
                "ConvTranspose_0": {"kernel": back("first.weight")},
                "ConvTranspose_1": {"kernel": back("second.weight")},
            },
            "discriminator": {
                f"Conv_{i}": {"kernel": back(f"layers.{2 * i}.weight")} for i in range(3)
            },
        }
        moved[iteration] = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = jax.tree_util.keystr(path)
            difference = np.float64(leaf).ravel() - start[name]
            projections = (probes(name, difference.size) @ difference).tolist()
            moved[iteration][name] = {
                "norm": float(np.linalg.norm(difference)),
                "projections": projections,
            }
    import torch

    REFERENCE.parent.mkdir(exist_ok=True)
    REFERENCE.write_text(
        json.dumps({"torch": torch.__version__, "losses": losses, "moved": moved}, indent=1) + "\n"
    )


if __name__ == "__main__":
    record()
