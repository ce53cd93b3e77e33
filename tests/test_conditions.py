"""Conditions: what networks do with labels and arrays, and that these reach all they should."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    Layers,
    assert_close,
    assert_one_device_equals_four,
    latents_of,
    normal,
    points,
    toy,
    train,
)

from jaxgan.conditions import auxiliary_classifier
from jaxgan.errors import UserError
from jaxgan.game import Game, Player, init
from jaxgan.judging import critic
from jaxgan.models import (
    ClassHead,
    Concatenated,
    ConditionalBatchNorm,
    ConditionMap,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
    ProjectionHead,
)
from jaxgan.objectives import hinge, nonsaturating
from jaxgan.penalties import Penalty
from jaxgan.step import make_step
from jaxgan.two_players import gan, maker

LABELS = np.arange(8, dtype=np.int32) % 3
KEY = jax.random.key(0)


def run(module, *inputs, **options):
    """Output and variables of a module at its first weights."""
    return module.init_with_output(KEY, *inputs, **options)


def test_a_map_of_labels_chooses_rows_and_adds_those_of_several():
    one, variables = run(ConditionMap(4, classes=3), LABELS)
    table = variables["params"]["Embed_0"]["embedding"]
    np.testing.assert_array_equal(one, table[LABELS])
    several = ConditionMap(4, classes=3).apply(variables, np.array([[0, 2], [1, 1]]))
    np.testing.assert_allclose(several, [table[0] + table[2], 2 * table[1]], rtol=1e-6)


def test_labels_that_are_no_classes_are_never_taken_for_others():
    """An index below 0 would count from the end, and train another class."""
    _, variables = run(ConditionMap(4, classes=3), LABELS)
    rows = ConditionMap(4, classes=3).apply(variables, np.array([-1, 0, 2, 3]))
    assert np.isnan(rows).all(1).tolist() == [True, False, False, True]


def test_a_map_of_numbers_is_linear():
    numbers = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    y, variables = run(ConditionMap(4), numbers)
    (kernel,) = jax.tree.leaves(variables)
    np.testing.assert_allclose(y, numbers @ kernel, rtol=1e-5, atol=1e-6)  # sums in another order


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (LABELS, r"int32 labels needs the number of them; give classes="),
        (np.zeros((8, 2, 2), np.float32), r"shape \(8, 2, 2\) and type float32 is neither"),
        (np.zeros(8, bool), r"shape \(8,\) and type bool is neither"),
    ],
)
def test_conditions_of_other_kinds_are_refused(condition, text):
    with pytest.raises(UserError, match=text):
        run(ConditionMap(4), condition)


class Told(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x


def test_conditions_are_joined_as_channels():
    images = np.random.default_rng(0).normal(size=(8, 3, 2, 1)).astype(np.float32)
    joined, variables = run(Concatenated(Told(), classes=3, features=4), images, LABELS)
    assert joined.shape == (8, 3, 2, 5)
    np.testing.assert_array_equal(joined[..., :1], images)
    (table,) = jax.tree.leaves(variables)
    for place in np.ndindex(3, 2):
        np.testing.assert_array_equal(joined[:, *place, 1:], table[LABELS])
    source = np.ones((8, 3, 2, 2), np.float32)
    joined, variables = run(Concatenated(Told()), images, source)
    assert joined.shape == (8, 3, 2, 3) and not variables
    joined, _ = run(Concatenated(Told(), features=4), images[:, 0, 0], source[:, 0, 0])
    assert joined.shape == (8, 1 + 4)


def test_a_network_for_latents_alone_becomes_one_of_labels():
    module = Concatenated(DCGANGenerator((8, 8, 1), width=4), classes=3)
    z = np.ones((8, 5), np.float32)
    images, variables = run(module, z, LABELS, train=True)
    assert images.shape == (8, 8, 8, 1) and set(variables) == {"params", "batch_stats"}
    same = LABELS[:, None] == LABELS
    equal = np.all(np.isclose(images[:, None], images[None], atol=1e-6), axis=(2, 3, 4))
    np.testing.assert_array_equal(equal, same)


def test_conditional_batch_norm_is_batch_norm_with_the_scale_and_shift_of_the_label():
    x = np.random.default_rng(0).normal(size=(8, 3, 4)).astype(np.float32) * 2 + 1
    module = ConditionalBatchNorm(classes=3, momentum=0.75)
    y, variables = run(module, x, LABELS, train=True)
    values = np.float64(x)
    mean, variance = values.mean((0, 1)), values.var((0, 1))
    normalised = (values - mean) / np.sqrt(variance + 1e-5)
    # E[x^2] - E[x]^2 cancels.
    np.testing.assert_allclose(y, normalised, rtol=1e-4, atol=1e-5)

    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda p: rng.normal(size=p.shape).astype(np.float32), variables["params"]
    )
    y, state = module.apply(
        {**variables, "params": params}, x, LABELS, True, mutable=["batch_stats"]
    )
    scale, shift = (params[name]["Embed_0"]["embedding"][LABELS] for name in ("scale", "shift"))
    expected = normalised * (1.0 + scale[:, None]) + shift[:, None]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(state["batch_stats"]["BatchNorm_0"]["mean"], 0.25 * mean, rtol=1e-5)
    still = {**variables, "params": params, **state}
    first = module.apply(still, x, LABELS, False)
    alone = module.apply(still, x[:1], LABELS[:1], False)
    np.testing.assert_allclose(first[:1], alone, rtol=1e-6)


def test_a_projection_adds_the_inner_product_with_the_vector_of_the_label():
    h = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    logits, variables = run(ProjectionHead(classes=3), h, LABELS)
    dense, table = variables["params"]["Dense_0"], variables["params"]["ConditionMap_0"]
    vectors = table["Embed_0"]["embedding"][LABELS]
    expected = h @ dense["kernel"] + dense["bias"][None] + np.sum(vectors * h, -1, keepdims=True)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)  # sums in another order


NETWORKS = {
    "labels by projection": (
        MLPGenerator((2,), (8,), classes=3),
        MLPDiscriminator((8,), classes=3),
        LABELS,
    ),
    "numbers by projection": (
        MLPGenerator((2,), (8,)),
        MLPDiscriminator((8,)),
        np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32),
    ),
    "labels joined": (
        Concatenated(Layers((8, 2)), classes=3),
        Concatenated(Layers((8, 1)), classes=3),
        LABELS,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_conditions_reach_both_networks(name):
    *networks, condition = NETWORKS[name]
    game = toy(*networks, given=("condition",))
    batch = points(0, condition=condition)
    state = init(game, KEY, batch)
    step = jax.jit(make_step(game))
    after, metrics = step(state, batch)
    params = {name: player.params for name, player in state.players.items()}
    fake = networks[0].apply({"params": params["generator"]}, latents_of(state), condition)
    for kind, examples in (("real", batch["point"]), ("fake", fake)):
        logits = networks[1].apply({"params": params["discriminator"]}, examples, condition)
        expected = jax.nn.sigmoid(logits).mean()
        np.testing.assert_allclose(metrics[f"score_{kind}"], expected, rtol=1e-5)  # sums
    # Every weight that the condition passes learns.
    for name, before in params.items():
        moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, after.players[name].params)
        assert all(jax.tree.leaves(moved)), name


def test_conditions_reach_penalties_and_what_is_played_for():
    """A penalty is given real and made examples with their labels, and may judge them."""
    seen = {}

    def value(play, critique, real, fake):
        seen.update(real=real["label"].shape, fake=fake["label"].shape)
        logits = critique.logits(fake | {"label": (fake["label"] + 1) % 3})
        return jnp.mean(logits**2)

    networks = MLPGenerator((2,), (8,), classes=3), MLPDiscriminator((8,), classes=3)
    penalty = Penalty("mismatched", 0.1, value)
    game = toy(*networks, given=("label",), penalties=(penalty,))
    batch = points(0, label=LABELS)
    state = init(game, KEY, batch)
    _, metrics = jax.jit(make_step(game))(state, batch)
    assert seen == {"real": (8,), "fake": (8,)} and float(metrics["penalty_mismatched"]) > 0.0

    def apply(name, *inputs, **options):
        variables = {"params": state.players[name].params}
        return networks[0].apply(variables, *inputs), {}

    made, _ = game.generate(apply, latents_of(state), {"label": LABELS})
    other, _ = game.generate(apply, latents_of(state), {"label": (LABELS + 1) % 3})
    assert np.all(made["point"] != other["point"])


def classifying(objective=None, **options):
    """A game of points of three classes, with an auxiliary classifier."""
    generate, judge = maker("point", "label"), critic("point")
    players = {
        "generator": Player(MLPGenerator((2,), (8,), classes=3), optax.sgd(0.1)),
        "discriminator": Player(MLPDiscriminator((8,), 3, classifies=True), optax.sgd(0.1)),
    }
    moves = auxiliary_classifier(objective or hinge(), normal, generate, judge, **options)
    return Game(players, moves, normal, generate)


def heads(game, state, examples):
    module = game.players["discriminator"].module
    return module.apply({"params": state.players["discriminator"].params}, examples)


def cross_entropy(logits):
    chosen = jax.nn.log_softmax(logits)[np.arange(8), LABELS]
    return -chosen.mean()


def test_an_auxiliary_classifier_adds_the_losses_of_the_classes_to_those_of_the_logits():
    game = classifying(weight=0.7, generator_weight=0.2)
    batch = points(0, label=LABELS)
    state = init(game, KEY, batch)
    after, metrics = jax.jit(make_step(game))(state, batch)
    generator, z = game.players["generator"].module, latents_of(state)
    fake = generator.apply({"params": state.players["generator"].params}, z, LABELS)
    on_real, on_fake = (heads(game, state, examples) for examples in (batch["point"], fake))
    assert on_real["logit"].shape == (8, 1) and on_real["class"].shape == (8, 3)
    of_real, of_fake = cross_entropy(on_real["class"]), cross_entropy(on_fake["class"])
    expected = {
        "loss_discriminator": hinge().discriminator(on_real["logit"], on_fake["logit"])
        + 0.7 * (of_real + of_fake),
        "class_real": of_real,
        "class_fake": of_fake,
        "logit_real": on_real["logit"].mean(),
        "logit_fake": on_fake["logit"].mean(),
    }
    again = heads(game, after, fake)  # the generator plays against the updated discriminator
    expected["loss_generator"] = -again["logit"].mean() + 0.2 * cross_entropy(again["class"])
    assert_close(metrics, {name: np.float32(x) for name, x in expected.items()})


def test_penalties_and_scores_see_the_logits_alone_beside_an_auxiliary_classifier():
    seen = {}

    def value(play, critique, real, fake):
        seen.update(logits=set(critique.logits(real)), on_real=set(critique.on_real))
        return jnp.zeros(())

    penalty = Penalty("none", 1.0, value)
    game = classifying(nonsaturating(), penalties=(penalty,))
    batch = points(0, label=LABELS)
    state = init(game, KEY, batch)
    _, metrics = jax.jit(make_step(game))(state, batch)
    assert seen == {"logits": {"logit"}, "on_real": {"logit"}}
    score = jax.nn.sigmoid(heads(game, state, batch["point"])["logit"]).mean()
    np.testing.assert_allclose(metrics["score_real"], score, rtol=1e-5)  # sums in another order


def test_an_auxiliary_classifier_learns_the_classes_and_on_any_number_of_devices():
    def batch(seed):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 3, 8).astype(np.int32)
        corners = np.array([[1, 0], [-1, 1], [-1, -1]], np.float32)
        noise = rng.normal(size=(8, 2)).astype(np.float32)
        return {"point": corners[label] + 0.1 * noise, "label": label}

    game = classifying()
    after = assert_one_device_equals_four(game, [batch(i) for i in range(3)])
    after, metrics = train(jax.jit(make_step(game)), after, [batch(i) for i in range(3, 150)])
    assert metrics["class_real"][-20:].mean() < 0.3  # nats; log 3 = 1.1 at the start


def test_a_head_of_classes_gives_a_logit_and_the_classes():
    outputs, _ = run(ClassHead(5), np.ones((4, 3), np.float32))
    assert {name: y.shape for name, y in outputs.items()} == {"logit": (4, 1), "class": (4, 5)}


def test_several_conditions_reach_both_networks_in_the_order_in_which_they_are_given():
    class Both(nn.Module):
        out: int

        @nn.compact
        def __call__(self, x, label, size):
            assert label.dtype == jnp.int32 and size.dtype == jnp.float32
            return Layers((8, self.out))(jnp.concatenate([x, size], -1)) + nn.Embed(3, 1)(label)

    players = [Player(Both(out), optax.sgd(0.1)) for out in (2, 1)]
    game = gan(*players, nonsaturating(), normal, made="point", given=("label", "size"))
    batches = [points(i, label=LABELS, size=np.ones((8, 1), np.float32)) for i in range(3)]
    assert_one_device_equals_four(game, batches)
