"""R1 against its closed form, and inside the step."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import penalties
from jaxgan.config import replace
from jaxgan.game import init, make_game
from jaxgan.step import make_step

IMAGES = jax.random.normal(jax.random.key(0), (6, 4, 4, 1))


def test_r1_of_a_linear_critique_is_its_squared_weight():
    w = jax.random.normal(jax.random.key(1), (4, 4, 1))
    value = penalties.r1(3.0)(
        lambda x: jnp.sum(x * w, (1, 2, 3)), IMAGES, IMAGES, jax.random.key(0)
    )
    np.testing.assert_allclose(value, 1.5 * jnp.sum(w**2), rtol=1e-6)  # float32 sums


def test_r1_of_a_quadratic_critique_is_the_mean_over_the_chosen_images():
    value = penalties.r1(1.0, every=2)(
        lambda x: jnp.sum(x**2, (1, 2, 3))[:, None] / 2, IMAGES, IMAGES, jax.random.key(0)
    )
    np.testing.assert_allclose(
        value, 0.5 * jnp.mean(jnp.sum(IMAGES[::2] ** 2, (1, 2, 3))), rtol=1e-6
    )  # float32 sums


def test_the_step_adds_the_penaltys_gradient_and_nothing_else(small):
    import optax

    batch = {"image": np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), np.uint8)}
    sgd = dict(generator_tx=optax.sgd(1.0), discriminator_tx=optax.sgd(1.0))
    without = make_game(small)._replace(**sgd)
    with_r1 = make_game(
        replace(small, {"objective.r1_weight": 1e4, "objective.r1_every": 2})
    )._replace(**sgd)
    state = init(without, jax.random.key(0))
    plain, on_plain = jax.jit(make_step(without))(state, batch)
    after, on_after = jax.jit(make_step(with_r1))(state, batch)
    assert on_plain["loss_discriminator"] == on_after["loss_discriminator"]
    real = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1.0

    def penalty(params):
        slopes = jax.grad(
            lambda x: jnp.sum(without.discriminator.apply({"params": params}, x, train=True))
        )(real[::2])
        return 5e3 * jnp.mean(jnp.sum(slopes**2, (1, 2, 3)))

    expected = jax.grad(penalty)(state.discriminator.params)
    assert (
        max(float(jnp.abs(g).max()) for g in jax.tree.leaves(expected)) > 1e-4
    )  # there is a gradient to see
    found = jax.tree.map(lambda a, b: a - b, plain.discriminator.params, after.discriminator.params)
    # Differences of weights of size 0.1 in float32.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7), found, expected
    )
