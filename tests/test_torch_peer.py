"""The PyTorch peer of the benchmarks plays the same game: the same losses and updates from the
same weights, images and noise."""

import jax
import numpy as np
import pytest

from benchmarks.workload import features_of, game_of
from jaxgan import adversarial, critic, init, make_step
from jaxgan.config import configured
from jaxgan.recipes import common

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'bench')")

COUNT = 16
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


@pytest.fixture(autouse=True)
def as_users_run():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def no_latent(key):
    return ()


def from_noise_of_the_batch(apply, latents, batch):
    image, state = apply("generator", batch["z"])
    return {"image": image}, {"generator": state}


def played(name):
    """(a preset's game with noise of the batch, the shape of an image, the recipe's options)."""
    config = configured(name, {"batch_size": COUNT, **CASES[name]})
    features, options = features_of(config), config.options
    objective = common.objective_of(options.objective)
    penalties = common.penalties_of(options.objective)
    makes = no_latent, from_noise_of_the_batch
    moves = adversarial(objective, *makes, critic("image"), penalties=penalties)
    game = game_of(config, features)._replace(moves=moves, latent=makes[0], generate=makes[1])
    return game, features["image"].shape, options


@pytest.mark.parametrize("tuned", [False, True], ids=["eager", "tuned"])
@pytest.mark.parametrize("name", CASES)
def test_the_peer_trains_as_jaxgan_does(name, tuned, monkeypatch):
    from benchmarks.torch_dcgan import Trainer, to_torch

    # What networks are compiled to is PyTorch's matter; how the tuned step is arranged is ours.
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    game, shape, options = played(name)
    rng = np.random.default_rng(0)

    def batch():
        z = rng.normal(size=(COUNT, options.model.latent_size)).astype(np.float32)
        return {"image": rng.integers(0, 256, (COUNT, *shape), np.uint8), "z": z}

    state = init(game, jax.random.key(3), batch())
    trainer = Trainer(game, options, tuned=tuned)
    players = ("generator", "discriminator")
    start = to_torch(game, *(state.players[p].params for p in players))
    for module, weights in zip((trainer.generator, trainer.discriminator), start):
        missing, unknown = module.load_state_dict(weights, strict=False)
        assert not unknown and all("running" in key or "num_batches" in key for key in missing)
    trainer.average = {n: p.detach().clone() for n, p in trainer.generator.named_parameters()}
    step = jax.jit(make_step(game))
    for _ in range(2):
        given = batch()
        state, metrics = step(state, given)
        real = given["image"].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0
        losses = trainer.step(torch.from_numpy(real), torch.from_numpy(given["z"]))
        ours = [metrics["loss_discriminator"], metrics["loss_generator"]]
        # Means over 16 logits of sums of some thousand float32 products in another order; the
        # second step builds on the first.
        np.testing.assert_allclose(ours, [float(loss) for loss in losses], rtol=2e-4)
    found = {**trainer.generator.state_dict(), **trainer.discriminator.state_dict()}
    of_generator, of_discriminator = to_torch(game, *(state.players[p].params for p in players))
    for key, value in {**of_generator, **of_discriminator}.items():
        # Adam's first steps are of the size of the rate whatever the gradient, and rounding decides
        # where that is next to nothing.
        apart = float((found[key] - value).norm())
        size_of_step = options.optimizer.generator_rate * value.numel() ** 0.5
        assert apart <= 0.05 * 2 * size_of_step, (key, apart / size_of_step)
    if options.optimizer.ema_decay:
        generator, discriminator = (state.players[p] for p in players)
        average, _ = to_torch(game, generator.ema, discriminator.params)
        for key, value in average.items():
            moved = (value - start[0][key]).norm()  # the same updates, averaged
            assert (trainer.average[key] - value).norm() <= 0.05 * moved + 1e-7, key


def test_a_game_that_the_peer_cannot_play_is_refused():
    from benchmarks.torch_dcgan import Trainer

    game, _, options = played("digits")
    hinge = configured("digits", {"objective.name": "hinge"}).options
    with pytest.raises(ValueError, match="the PyTorch peer is nonsaturating, this game hinge"):
        Trainer(game, hinge)
    unlike = game._replace(players={**game.players, "generator": game.players["discriminator"]})
    with pytest.raises(ValueError, match="not DCGANDiscriminator and DCGANDiscriminator"):
        Trainer(unlike, options)
