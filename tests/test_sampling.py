"""Samples: the averaged generator, its statistics, walks, grids and files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgan import sampling
from jaxgan.config import replace
from jaxgan.errors import RunError
from jaxgan.game import init, make_game


@pytest.fixture
def game(small):
    return make_game(small)


@pytest.fixture
def state(game):
    return init(game, jax.random.key(0))


def test_samples_come_from_the_average_and_not_from_the_trained_generator(game, state):
    other = state.replace(
        generator=state.generator.replace(
            params=jax.tree.map(jnp.zeros_like, state.generator.params)
        )
    )
    key = jax.random.key(1)
    np.testing.assert_array_equal(
        sampling.sample(game, state, key, 3), sampling.sample(game, other, key, 3)
    )


def test_the_statistics_belong_to_the_average(game, state):
    """With its own statistics the averaged generator's first normalisation has mean 0 and variance 1 over many latents."""
    variables = sampling.averaged_generator(game, state)
    stale = jax.tree.map(lambda x: x + 7.0, state.generator.model_state)
    again = sampling.averaged_generator(
        game, state.replace(generator=state.generator.replace(model_state=stale))
    )
    jax.tree.map(
        np.testing.assert_array_equal, variables, again
    )  # running statistics of training have no part
    z = jax.random.normal(jax.random.key(5), (4000, 4))
    x = (z @ state.ema["Dense_0"]["kernel"]).reshape(-1, 2, 2, 4)
    found = variables["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(
        found["variance"], x.var((0, 1, 2)), rtol=0.15
    )  # 1,024 latents: 4.4 percent standard error, 3 of them


def test_image_i_does_not_depend_on_how_many_are_made(game, state):
    few, many = (sampling.sample(game, state, jax.random.key(3), n) for n in (5, 300))
    assert few.dtype == np.uint8 and many.shape == (300, 8, 8, 1)
    # XLA sums in another order for another batch: one grey level where the value is near a half.
    assert np.abs(few.astype(int) - many[:5]).max() <= 1


def test_a_walk_keeps_the_latents_norm_and_ends_at_its_ends(small):
    seen = []
    game = make_game(replace(small, {"model.latent_size": 64}))
    state = init(game, jax.random.key(0))
    original, sampling.generate = (
        sampling.generate,
        lambda game, state, z: seen.append(np.asarray(z)),
    )
    try:
        sampling.interpolate(game, state, jax.random.key(0), rows=3, columns=8)
    finally:
        sampling.generate = original
    walks = seen[0].reshape(3, 8, 64)
    norms = np.linalg.norm(walks, axis=-1)
    low, high = np.minimum(norms[:, :1], norms[:, -1:]), np.maximum(norms[:, :1], norms[:, -1:])
    assert (norms > 0.9 * low).all() and (
        norms < 1.1 * high
    ).all()  # a straight line between normals would dip to 0.7
    steps = np.linalg.norm(np.diff(walks, axis=1), axis=-1)
    np.testing.assert_allclose(
        steps, np.broadcast_to(steps[:, :1], steps.shape), rtol=0.2
    )  # equal angles; the norms of the ends differ


def test_a_grid_holds_every_image_with_a_line_between():
    images = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones((5, 2, 3, 1), np.uint8)
    page = sampling.grid(images)
    assert page.shape == (2 * 3 - 1, 3 * 4 - 1, 1)
    expected = np.zeros((5, 11), np.uint8)
    for i in range(5):
        r, c = divmod(i, 3)
        expected[3 * r : 3 * r + 2, 4 * c : 4 * c + 3] = i + 1
    np.testing.assert_array_equal(page[..., 0], expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_files_hold_the_images(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, channels), np.uint8)
    assert not sampling.save(tmp_path / "a.png", images)
    assert sampling.save(tmp_path / "a.png", images)  # says that it replaced
    sampling.save(tmp_path / "a.npz", images)
    with np.load(tmp_path / "a.npz") as file, Image.open(tmp_path / "a.png") as page:
        np.testing.assert_array_equal(file["images"], images)
        np.testing.assert_array_equal(
            np.asarray(page).reshape(17, 17, channels), sampling.grid(images)
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.npz",
        "a.png",
    ]  # and nothing half written beside them


def test_counts_of_nothing_are_named(game, state):
    with pytest.raises(ValueError, match="count=0 is too small"):
        sampling.sample(game, state, jax.random.key(0), 0)
    with pytest.raises(ValueError, match="at least 1 image"):
        sampling.grid(np.zeros((0, 2, 2, 1), np.uint8))


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"a\.png cannot be written"):
        sampling.save(tmp_path / "file" / "a.png", np.zeros((1, 2, 2, 1), np.uint8))
