"""The objectives: hand-computed values, stability, and which way each player is pushed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import objectives
from jaxgan.config import OBJECTIVES

REAL, FAKE = jnp.array([0.0, 2.0]), jnp.array([0.0, -1.0])
ALL = [getattr(objectives, name)() for name in OBJECTIVES]


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.float64(x)))


EXPECTED = {
    "nonsaturating": (
        -np.log(sigmoid(REAL)).mean() - np.log(1 - sigmoid(FAKE)).mean(),
        -np.log(sigmoid(FAKE)).mean(),
    ),
    "minimax": (
        -np.log(sigmoid(REAL)).mean() - np.log(1 - sigmoid(FAKE)).mean(),
        np.log(1 - sigmoid(FAKE)).mean(),
    ),
    "hinge": ((1 + 0) / 2 + (1 + 0) / 2, 0.5),
    "least_squares": (((1 + 1) / 2 + (0 + 1) / 2) / 2, (1 + 4) / 2 / 2),
    "relativistic": (-np.log(sigmoid(REAL - FAKE)).mean(), -np.log(sigmoid(FAKE - REAL)).mean()),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_values_equal_those_by_hand(name):
    objective = getattr(objectives, name)()
    found = objective.discriminator(REAL, FAKE), objective.generator(REAL, FAKE)
    np.testing.assert_allclose(found, EXPECTED[name], rtol=1e-6)  # float32 against float64


@pytest.mark.parametrize("objective", ALL)
def test_losses_and_gradients_are_finite_at_extreme_logits(objective):
    for real, fake in [(1e4, -1e4), (-1e4, 1e4)]:
        logits = jnp.full((2,), real), jnp.full((2,), fake)
        for loss in (objective.discriminator, objective.generator):
            assert all(
                bool(jnp.isfinite(x).all())
                for x in jax.tree.leaves(jax.value_and_grad(loss, (0, 1))(*logits))
            )


@pytest.mark.parametrize("objective", ALL)
def test_the_discriminator_pulls_real_up_and_fake_down_and_the_generator_pulls_fake_up(objective):
    on_real, on_fake = jax.grad(objective.discriminator, (0, 1))(jnp.zeros(2), jnp.zeros(2))
    assert (on_real < 0).all() and (on_fake >= 0).all()
    assert (jax.grad(objective.generator, 1)(jnp.zeros(2), jnp.zeros(2)) < 0).all()


def test_minimax_saturates_where_nonsaturating_does_not():
    gradient = lambda objective: jax.grad(objective.generator, 1)(jnp.zeros(1), jnp.full(1, -20.0))
    assert abs(gradient(objectives.minimax())[0]) < 1e-8
    np.testing.assert_allclose(
        gradient(objectives.nonsaturating()), -1.0, rtol=1e-6
    )  # 1 - sigmoid(-20), to float32


def test_label_smoothing_moves_the_best_real_logit_to_the_smoothed_label():
    smooth = objectives.nonsaturating(label_smoothing=0.1)
    best = jnp.log(jnp.array([9.0]))  # sigmoid(log 9) = 0.9
    gradient = jax.grad(smooth.discriminator, (0, 1))(best, jnp.zeros(1))
    assert abs(gradient[0][0]) < 1e-7  # float32 rounding of 0.9
    np.testing.assert_allclose(gradient[1], 0.5)  # one-sided: the fake label is still 0


def test_a_map_of_logits_counts_each_place():
    logits = jax.random.normal(jax.random.key(0), (4, 3, 3, 1))
    flat = objectives.binary_cross_entropy(logits.reshape(-1), 1.0)
    np.testing.assert_allclose(
        objectives.binary_cross_entropy(logits, 1.0), flat, rtol=1e-6
    )  # sums in another order
