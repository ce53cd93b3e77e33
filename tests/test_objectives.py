"""The objectives: values by hand, stability, which way players are pushed, identities."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Judge, Maker, assert_one_device_equals_four, batches, sgd_game, trained

from jaxgan import latents, objectives
from jaxgan.examples import drawn
from jaxgan.game import init
from jaxgan.gan_moves import adversarial
from jaxgan.heads import over_heads, scores
from jaxgan.judging import critic
from jaxgan.two_players import maker

REAL, FAKE = jnp.array([0.0, 2.0]), jnp.array([0.0, -1.0])
ALL = [pytest.param(make(), id=make.__name__) for make in objectives.OBJECTIVES]


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.float64(x)))


TOLD_APART = -np.log(sigmoid(REAL)).mean() - np.log(1 - sigmoid(FAKE)).mean()
EXPECTED = {
    "nonsaturating": (TOLD_APART, -np.log(sigmoid(FAKE)).mean()),
    "minimax": (TOLD_APART, np.log(1 - sigmoid(FAKE)).mean()),
    "hinge": ((1 + 0) / 2 + (1 + 0) / 2, 0.5),
    "least_squares": (((1 + 1) / 2 + (0 + 1) / 2) / 2, (1 + 4) / 2 / 2),
    "relativistic": (-np.log(sigmoid(REAL - FAKE)).mean(), -np.log(sigmoid(FAKE - REAL)).mean()),
    "wasserstein": (-0.5 - 1.0, 0.5),
}


@pytest.mark.parametrize("make", objectives.OBJECTIVES)
def test_values_equal_those_by_hand(make):
    objective = make()
    found = objective.discriminator(REAL, FAKE), objective.generator(REAL, FAKE)
    np.testing.assert_allclose(found, EXPECTED[make.__name__], rtol=1e-6)  # float32 and float64


@pytest.mark.parametrize("make", objectives.OBJECTIVES)
def test_equal_arguments_give_the_identical_objective(make):
    assert make() == make() and hash(make()) == hash(make())


@pytest.mark.parametrize("objective", ALL)
def test_losses_and_gradients_are_finite_at_extreme_logits(objective):
    for real, fake in [(1e4, -1e4), (-1e4, 1e4)]:
        logits = jnp.full((2,), real), jnp.full((2,), fake)
        for loss in (objective.discriminator, objective.generator):
            for leaf in jax.tree.leaves(jax.value_and_grad(loss, (0, 1))(*logits)):
                assert jnp.isfinite(leaf).all()


@pytest.mark.parametrize("objective", ALL)
def test_the_discriminator_pulls_real_up_and_fake_down_and_the_generator_pulls_fake_up(objective):
    on_real, on_fake = jax.grad(objective.discriminator, (0, 1))(jnp.zeros(2), jnp.zeros(2))
    assert (on_real < 0).all() and (on_fake >= 0).all()  # least squares has its fake target at 0
    assert (jax.grad(objective.generator, 1)(jnp.zeros(2), jnp.zeros(2)) < 0).all()


def test_minimax_saturates_where_nonsaturating_does_not():
    def slope(objective):
        return jax.grad(objective.generator, 1)(jnp.zeros(1), jnp.full(1, -20.0))

    assert abs(slope(objectives.minimax())[0]) < 1e-8
    np.testing.assert_allclose(slope(objectives.nonsaturating()), -1.0, rtol=1e-6)  # 1 - 2e-9


def test_minimax_and_nonsaturating_push_alike_at_equilibrium():
    pushes = [
        jax.grad(objective.generator, 1)(jnp.zeros(3), jnp.zeros(3))
        for objective in (objectives.minimax(), objectives.nonsaturating())
    ]
    np.testing.assert_array_equal(*pushes)


@pytest.mark.parametrize("make", [objectives.nonsaturating, objectives.least_squares])
def test_label_smoothing_moves_the_best_real_logit_and_not_the_fake_one(make):
    smooth, plain = make(label_smoothing=0.1), make()
    best = {objectives.nonsaturating: np.log(9.0), objectives.least_squares: 0.9}[make]

    def slopes(objective):
        return jax.grad(objective.discriminator, (0, 1))(jnp.array([best]), jnp.array([0.3]))

    np.testing.assert_allclose(slopes(smooth)[0], 0.0, atol=1e-7)  # float32 rounding of 0.9
    np.testing.assert_array_equal(slopes(smooth)[1], slopes(plain)[1])


def test_relativistic_ignores_a_shift_of_all_logits_and_the_log_loss_does_not():
    def change(objective):
        return objective.discriminator(REAL + 4.0, FAKE + 4.0) - objective.discriminator(REAL, FAKE)

    assert change(objectives.relativistic()) == 0.0  # sums of small whole numbers are exact
    assert abs(change(objectives.nonsaturating())) > 0.5


def distributions(sharpness=1.0):
    """Two random distributions over 7 outcomes, float64."""
    logits = np.random.default_rng(0).normal(size=(2, 7)) * sharpness
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def at_best(objective, p, q, logits):
    """The discriminator's loss of 400,000 examples, where outcome i has logits[i]."""
    counts = [np.round(x * 4e5).astype(int) for x in (p, q)]
    on_real, on_fake = (np.repeat(np.float32(logits), n) for n in counts)
    return float(objective.discriminator(on_real, on_fake))


def divergence(p, q):
    """Of Jensen and Shannon, in nats."""
    m = (p + q) / 2
    return (np.sum(p * np.log(p / m)) + np.sum(q * np.log(q / m))) / 2


COUNTED = 1e-4  # relative: counts are rounded to 1e-6 of the whole, sums are of float32


def test_the_best_log_loss_measures_the_jensen_shannon_divergence():
    p, q = distributions()
    found = -at_best(objectives.minimax(), p, q, np.log(p / q))
    np.testing.assert_allclose(found, 2 * divergence(p, q) - 2 * np.log(2), rtol=COUNTED)


def test_the_best_relativistic_loss_measures_the_divergence_of_the_pairs():
    p, q = distributions()
    counts = np.round(np.outer(p, q) * 4e5).astype(int).ravel()
    real, fake = np.divmod(np.repeat(np.arange(49), counts), 7)
    logits = np.float32(np.log(p / q))
    found = -float(objectives.relativistic().discriminator(logits[real], logits[fake]))
    of_pairs = divergence(np.outer(p, q), np.outer(q, p))
    np.testing.assert_allclose(found, of_pairs - np.log(2), rtol=COUNTED)
    assert divergence(p, q) < of_pairs < np.log(2)


def test_the_best_least_squares_measure_the_triangular_discrimination():
    p, q = distributions()
    found = at_best(objectives.least_squares(), p, q, p / (p + q))
    np.testing.assert_allclose(found, (2 - np.sum((p - q) ** 2 / (p + q))) / 8, rtol=COUNTED)


def test_the_best_hinge_loss_measures_the_total_variation():
    p, q = distributions()
    total_variation = np.abs(p - q).sum() / 2
    found = at_best(objectives.hinge(), p, q, np.sign(p - q))
    np.testing.assert_allclose(found, 2 - 2 * total_variation, rtol=COUNTED)


def test_a_map_of_logits_counts_each_place():
    logits = jax.random.normal(jax.random.key(0), (4, 3, 3, 1))
    flat = objectives.binary_cross_entropy(logits.reshape(-1), 1.0)
    # Sums in another order.
    np.testing.assert_allclose(objectives.binary_cross_entropy(logits, 1.0), flat, rtol=1e-6)


def test_losses_of_heads_add_up_whatever_the_objective():
    def squared_gap(real, fake):  # an objective of a user's own
        return jnp.mean((real - fake) ** 2)

    heads = {"coarse": REAL, "fine": jnp.stack([REAL, FAKE], axis=1)}
    others = {"coarse": FAKE, "fine": jnp.stack([FAKE, FAKE], axis=1)}
    own = objectives.Objective(squared_gap, squared_gap)
    for objective in (own, objectives.hinge()):
        by_hand = sum(objective.discriminator(heads[name], others[name]) for name in heads)
        found = over_heads(objective, "discriminator", heads, others)
        np.testing.assert_allclose(found, by_hand, rtol=1e-6)  # fused sums in another order


class TwoHeads(nn.Module):
    """Logits of the whole, [B], and of each row, [B, 4]."""

    @nn.compact
    def __call__(self, x):
        return {"whole": Judge()(x), "rows": nn.Dense(1)(x[..., 0])[..., 0]}


def test_a_game_of_two_heads_and_an_objective_of_ones_own():
    def squared_gap(real, fake):
        return -jnp.mean((real - fake) ** 2)

    def closeness(real, fake):
        return jnp.mean((real - fake) ** 2)

    own = objectives.Objective(squared_gap, closeness)
    generate = maker("image")
    moves = adversarial(own, latents.normal(3), generate, critic("image"))
    game = sgd_game(moves, latents.normal(3), generate, generator=Maker(), discriminator=TwoHeads())
    items = batches(steps=1)
    before = init(game, jax.random.key(0), items[0])
    keys = jax.vmap(lambda i: jax.random.fold_in(step_key(before), i))(jnp.arange(8))
    z = drawn(latents.normal(3), keys, "latent")
    fake = Maker().apply({"params": before.players["generator"].params}, z)
    params = {"params": before.players["discriminator"].params}
    on_real, on_fake = (TwoHeads().apply(params, x) for x in (items[0]["image"], fake))
    expected = sum(squared_gap(on_real[head], on_fake[head]) for head in ("whole", "rows"))
    assert_one_device_equals_four(game, items)
    _, metrics = trained(game, items)
    # Float32 sums in another order.
    np.testing.assert_allclose(metrics["loss_discriminator"], expected, rtol=1e-5)


def step_key(state):
    """The key of the first part of a state's step."""
    return jax.random.fold_in(jax.random.fold_in(state.key, state.step), 0)


def test_scores_are_probabilities_only_where_logits_are_log_odds():
    assert scores(objectives.nonsaturating(), REAL, FAKE).keys() == {"score_real", "score_fake"}
    logits = scores(objectives.wasserstein(), (REAL, 3.0 * REAL), (FAKE, FAKE))
    assert logits["logit_real"] == 2.0 and logits["logit_fake"] == -0.5  # heads count equally
