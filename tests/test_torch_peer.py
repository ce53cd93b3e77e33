"""The PyTorch peer of the benchmarks plays the same game: the same losses and updates from the same weights, images and noise."""

import jax
import numpy as np
import pytest

from jaxgan import init, make_game, make_step
from jaxgan.config import preset, replace
from jaxgan.step import draw_latent

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'bench')")

CASES = {
    "digits": {},
    "seed-mnist": {},
    "dcgan-64": {
        "data.image_size": 32,
        "model.generator_width": 32,
        "model.discriminator_width": 4,
        "model.doublings": 3,
    },
}


@pytest.mark.parametrize("tuned", [False, True], ids=["eager", "tuned"])
@pytest.mark.parametrize("name", CASES)
def test_the_peer_trains_as_jaxgan_does(name, tuned, monkeypatch):
    from benchmarks.torch_dcgan import Trainer, to_torch

    # What the networks are compiled to is PyTorch's matter; the arrangement of the tuned step is ours.
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    config = replace(preset(name), {"batch_size": 16, **CASES[name]})
    game = make_game(config)
    state = init(game, jax.random.key(3))
    trainer = Trainer(config, tuned=tuned)
    start = to_torch(config, state.generator.params, state.discriminator.params)
    for module, weights in zip((trainer.generator, trainer.discriminator), start):
        missing, unknown = module.load_state_dict(weights, strict=False)
        assert not unknown and all("running" in key or "num_batches" in key for key in missing)
    trainer.average = {
        key: value.detach().clone() for key, value in trainer.generator.named_parameters()
    }
    step = jax.jit(make_step(game))
    size, rng = config.data.image_size, np.random.default_rng(0)
    for _ in range(2):
        images = rng.integers(0, 256, (16, size, size, config.model.channels), np.uint8)
        z = np.array(draw_latent(game, state, 0, 16))
        state, metrics = step(state, {"image": images})
        real = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0)
        losses = [float(loss) for loss in trainer.step(real, torch.from_numpy(z))]
        # Means over 16 logits of sums of some thousand float32 products in another order; the second step builds on the first.
        np.testing.assert_allclose(
            [metrics["loss_discriminator"], metrics["loss_generator"]], losses, rtol=2e-4
        )
    of_generator, of_discriminator = to_torch(
        config, state.generator.params, state.discriminator.params
    )
    average, _ = to_torch(config, state.ema, state.discriminator.params)
    found = {**trainer.generator.state_dict(), **trainer.discriminator.state_dict()}
    for key, value in {**of_generator, **of_discriminator}.items():
        # Adam's first steps are of the size of the rate whatever the gradient, and rounding decides where that is next to nothing.
        apart, size_of_step = (
            (found[key] - value).norm(),
            config.optimizer.generator_rate * value.numel() ** 0.5,
        )
        assert apart <= 0.05 * 2 * size_of_step, (key, float(apart / size_of_step))
    if config.optimizer.ema_decay:
        for key, value in average.items():
            moved = (value - start[0][key]).norm()
            assert (trainer.average[key] - value).norm() <= 0.05 * moved + 1e-7, (
                key
            )  # the same updates, averaged


def test_a_game_that_the_peer_cannot_play_is_refused():
    from benchmarks.torch_dcgan import Trainer

    with pytest.raises(ValueError, match="this config has dcgan, hinge"):
        Trainer(replace(preset("digits"), {"objective.name": "hinge"}))
