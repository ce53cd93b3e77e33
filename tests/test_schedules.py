"""Schedules and latents: values by formula, and moments with their standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Judge, Maker, batches
from scipy import stats

from jaxgan import latents, objectives
from jaxgan.game import Player, init
from jaxgan.schedules import at, cosine, half_life
from jaxgan.step import make_step
from jaxgan.two_players import gan

FLOAT32 = 1e-6


def test_a_number_is_a_schedule_that_stays():
    assert at(0.5, jnp.int32(7)) == 0.5
    assert at(optax.linear_schedule(0.0, 1.0, 10), jnp.int32(7)) == pytest.approx(0.7)


@pytest.mark.parametrize(("start", "end"), [(0.05, 0.005), (0.0, 0.55), (1.0, 0.0)])
def test_a_cosine_goes_from_start_to_end_and_stays(start, end):
    schedule = cosine(start, end, 100)
    found = [schedule(jnp.int32(t)) for t in (0, 25, 50, 100, 1000)]
    quarter = end + (start - end) * (1 + np.cos(np.pi / 4)) / 2
    np.testing.assert_allclose(found, [start, quarter, (start + end) / 2, end, end], atol=FLOAT32)


def test_what_a_weight_counts_halves_with_every_half_life():
    decay = half_life(10_000, 32)(jnp.int32(5))
    assert decay == pytest.approx(0.997784, abs=1e-6)  # StyleGAN2's at a batch of 32
    assert decay ** (10_000 / 32) == pytest.approx(0.5, rel=1e-4)  # 312 powers of a float32


def test_a_ramp_makes_the_half_life_a_share_of_what_was_seen():
    schedule = half_life(10_000, 50, ramp_up=0.05)
    steps = np.array([1, 10, 400, 3999, 4000, 4001, 100_000])
    expected = 0.5 ** (50 / np.minimum(10_000, 0.05 * 50 * steps))
    found = [schedule(jnp.int32(t)) for t in steps]
    np.testing.assert_allclose(found, expected, rtol=10 * FLOAT32)
    assert schedule(jnp.int32(0)) == 0.0  # at first the average is of the present alone


def test_the_step_takes_the_scheduled_decay_as_it_is():
    tx = optax.sgd(0.1)
    generator = Player(Maker(), tx, half_life(16, 8, ramp_up=0.5))
    judge = Player(Judge(), tx)
    game = gan(generator, judge, objectives.nonsaturating(), latents.normal(3))
    items = batches()
    state, step = init(game, jax.random.key(0), items[0]), jax.jit(make_step(game))
    expected = None
    for t, batch in enumerate(items):
        state, _ = step(state, batch)
        params = state.players["generator"].params
        decay = 0.0 if t == 0 else 0.5 ** (8 / min(16, 0.5 * 8 * t))
        old = params if expected is None else expected
        expected = jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * b, old, params)
    for a, b in zip(*map(jax.tree.leaves, (state.players["generator"].ema, expected))):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # three float32 roundings


COUNT = 100_000


def drawn(latent):
    return np.asarray(jax.vmap(latent)(jax.random.split(jax.random.key(0), COUNT)))


MOMENTS = {  # latent, variance, and mean of fourth powers of what it draws
    "normal": (latents.normal(2), 1.0, 3.0),
    "uniform": (latents.uniform((2,)), 1 / 3, 1 / 5),
    "truncated": (
        latents.truncated_normal(2, 1.5),
        stats.truncnorm.var(-1.5, 1.5),
        stats.truncnorm.moment(4, -1.5, 1.5),
    ),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_latents_have_the_moments_of_their_distribution(name):
    latent, variance, fourth = MOMENTS[name]
    z = drawn(latent)
    assert z.shape == (COUNT, 2) and z.dtype == np.float32
    for column in z.T:  # five standard errors of the mean and of the mean square
        assert abs(column.mean()) < 5 * (variance / COUNT) ** 0.5
        error = ((fourth - variance**2) / COUNT) ** 0.5
        assert abs((column**2).mean() - variance) < 5 * error
    assert abs(np.mean(z[:, 0] * z[:, 1])) < 5 * variance / COUNT**0.5  # independent


def test_bounded_latents_keep_their_bounds():
    z, u = drawn(latents.truncated_normal(1, 0.5)), drawn(latents.uniform(1))
    assert np.abs(z).max() <= 0.5 and np.abs(z).max() > 0.499
    assert u.min() >= -1 and u.max() < 1 and np.abs(u).max() > 0.999


def test_one_hot_draws_each_class_equally_often():
    z = drawn(latents.one_hot(5))
    assert z.shape == (COUNT, 5) and z.dtype == np.float32
    np.testing.assert_array_equal(np.sort(z, axis=1), np.eye(5)[[4] * COUNT])
    error = (0.2 * 0.8 / COUNT) ** 0.5
    np.testing.assert_allclose(z.mean(axis=0), 0.2, atol=5 * error)


def test_shapes_may_have_any_rank():
    for make in (latents.normal, latents.uniform):
        assert make((3, 4))(jax.random.key(0)).shape == (3, 4)


def test_parts_of_a_joined_latent_are_independent_of_each_other_and_of_further_parts():
    two = latents.joined(z=latents.normal(1), noise=latents.normal(1))
    three = latents.joined(z=latents.normal(1), noise=latents.normal(1), code=latents.one_hot(3))
    draws, more = (jax.vmap(x)(jax.random.split(jax.random.key(0), COUNT)) for x in (two, three))
    correlation = np.mean(np.asarray(draws["z"] * draws["noise"]))
    assert abs(correlation) < 5 / COUNT**0.5
    for name in draws:
        np.testing.assert_array_equal(draws[name], more[name])
    assert more["code"].shape == (COUNT, 3)


def test_equal_arguments_give_equal_latents():
    assert latents.normal(3) == latents.normal(3)
    assert latents.truncated_normal((3,), 2.0) == latents.truncated_normal((3,), 2.0)
    assert latents.normal(3) != latents.normal(4)
    z, c = latents.normal(3), latents.one_hot(2)
    assert latents.joined(z=z, c=c) == latents.joined(c=c, z=z)
