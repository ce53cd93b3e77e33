"""Augmentations: what they draw, that gradients pass, that they adapt, and one device as four."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Judge, Maker, a_play, assert_one_device_equals_four, batches, trained

from jaxgan import latents, objectives
from jaxgan.adaptive import Probability
from jaxgan.augment import (
    NO_AUGMENT,
    Augment,
    adaptive,
    chain,
    diff_augment,
    instance_noise,
    with_probability,
)
from jaxgan.errors import UserError
from jaxgan.game import Player
from jaxgan.penalties import r1
from jaxgan.two_players import gan

POLICIES = ("colour", "translation", "cutout")


def pictures(count=4, shape=(8, 12, 3), seed=0):
    return {"image": jax.random.uniform(jax.random.key(seed), (count, *shape)) + 0.5}


def shown(augment, examples, use="real", names=("image",), **options):
    return augment.shown(a_play(examples, **options), examples, names, use)


ones = Augment(
    lambda play, examples, names, use: examples | {n: 0 * examples[n] + 1 for n in names}
)


def test_noise_has_the_deviation_of_its_schedule_and_leaves_whole_numbers():
    examples = {"image": jnp.zeros((50, 40, 50)), "tokens": jnp.arange(50, dtype=jnp.int32)}
    augment = instance_noise(optax.linear_schedule(0.5, 0.0, 10))
    names = ("image", "tokens")
    for step, deviation in [(0, 0.5), (5, 0.25), (10, 0.0)]:
        after = shown(augment, examples, names=names, step=step)
        # Of 100,000 numbers the relative standard error of the deviation is 0.0022.
        np.testing.assert_allclose(after["image"].std(), deviation, rtol=0.011)
        np.testing.assert_array_equal(after["tokens"], examples["tokens"])
    assert np.std(shown(instance_noise(2.0), examples)["image"]) == pytest.approx(2.0, rel=0.011)


def test_features_have_noise_of_their_own_and_uses_draw_independently():
    examples = {"a": jnp.zeros((10, 10_000)), "b": jnp.zeros((10, 10_000))}
    after = shown(instance_noise(1.0), examples, names=("a", "b"))
    other = shown(instance_noise(1.0), examples, "fake", names=("a", "b"))
    for x, y in [(after["a"], after["b"]), (after["a"], other["a"])]:
        assert abs(np.mean(x * y)) < 5 / 100_000**0.5


@pytest.mark.parametrize("policy", POLICIES)
def test_each_picture_has_draws_of_its_own(policy):
    x = pictures()["image"]
    alike = {"image": jnp.broadcast_to(x[:1], x.shape)}
    after = np.asarray(shown(diff_augment(policy), alike)["image"])
    assert after.shape == x.shape and after.dtype == np.float32
    assert len(np.unique(after.reshape(4, -1), axis=0)) > 1
    again = shown(diff_augment(policy), alike, "fake")["image"]
    assert np.any(after != again)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_colour_changes_brightness_saturation_and_contrast(channels):
    x = pictures(64, (4, 6, channels))["image"]
    after = np.float64(shown(diff_augment("colour"), {"image": x})["image"])
    x = np.float64(x)
    colours = {2: 1, 4: 3}.get(channels, channels)
    np.testing.assert_array_equal(after[..., colours:], x[..., colours:])  # alpha stays
    x, after = x[..., :colours], after[..., :colours]
    brightness = (after - x).mean(axis=(1, 2, 3))  # the others keep the mean of a picture
    grey, grey_after = x.mean(axis=3, keepdims=True), after.mean(axis=3, keepdims=True)
    if colours == 1 or colours > 3:
        grey, grey_after = x, after

    def spread(y):
        return (y - y.mean(axis=(1, 2, 3), keepdims=True)).std(axis=(1, 2, 3))

    contrast = spread(grey_after) / spread(grey)
    assert np.all(np.abs(brightness) < 0.5) and np.ptp(brightness) > 0.4
    assert np.all((contrast > 0.499) & (contrast < 1.501)) and np.ptp(contrast) > 0.8
    if colours == 3:
        saturation = (after - grey_after).std((1, 2, 3)) / (x - grey).std((1, 2, 3)) / contrast
        assert np.all(saturation < 2.001) and np.ptp(saturation) > 1.6


@pytest.mark.parametrize("shape", [(8, 24, 1), (28, 28, 1), (3, 4, 2)])
def test_translation_moves_by_up_to_an_eighth_of_each_side_each_as_often(shape):
    x = pictures(1, shape)["image"][0]
    many = {"image": jnp.broadcast_to(x[None], (400, *shape))}
    after = np.asarray(shown(diff_augment("translation"), many)["image"])
    reach = [int(side / 8 + 0.5) for side in shape[:2]]
    padded = np.pad(x, [(reach[0],) * 2, (reach[1],) * 2, (0, 0)])
    places = [(i, j) for i in range(2 * reach[0] + 1) for j in range(2 * reach[1] + 1)]
    moved = np.stack([padded[i : i + shape[0], j : j + shape[1]] for i, j in places])
    matches = (after[:, None] == moved[None]).all(axis=(2, 3, 4))
    np.testing.assert_array_equal(matches.sum(axis=1), 1)  # each is one of the moves
    share = 1 / len(places)
    error = (share * (1 - share) / 400) ** 0.5
    np.testing.assert_allclose(matches.mean(axis=0), share, atol=5 * error)


def test_cutout_blanks_a_rectangle_of_half_of_each_side():
    x = jnp.ones((400, 9, 16, 2))
    after = np.asarray(shown(diff_augment("cutout"), {"image": x})["image"])
    assert set(np.unique(after)) == {0.0, 1.0}
    np.testing.assert_array_equal(after[..., 0], after[..., 1])
    blank = after[..., 0] == 0
    rows, columns = blank.any(axis=2), blank.any(axis=1)
    np.testing.assert_array_equal(blank, rows[:, :, None] & columns[:, None, :])
    assert rows.sum(axis=1).max() == 5 and columns.sum(axis=1).max() == 8
    assert rows.sum(axis=1).min() == 3 and columns.sum(axis=1).min() == 4  # cut by the border
    assert rows.any(axis=0).all() and columns.any(axis=0).all()  # everywhere


def test_given_pictures_move_along_and_keep_their_colours():
    x = pictures(16)["image"]
    examples = {"image": x, "source": x, "label": jnp.arange(16, dtype=jnp.int32)}
    after = shown(diff_augment("translation", "cutout", also=("source",)), examples)
    np.testing.assert_array_equal(after["image"], after["source"])
    assert np.any(after["image"] != x)
    after = shown(diff_augment("colour", also=("source",)), examples)
    np.testing.assert_array_equal(after["source"], x)
    np.testing.assert_array_equal(after["label"], examples["label"])


def test_two_sizes_of_a_picture_are_moved_alike():
    small = jnp.arange(1.0, 65.0).reshape(1, 8, 8, 1)
    large = jnp.kron(small, jnp.ones((1, 2, 2, 1)))
    pair = {"small": jnp.repeat(small, 16, axis=0), "large": jnp.repeat(large, 16, axis=0)}
    after = shown(diff_augment("cutout"), pair, names=("small", "large"))
    blank = [np.asarray(after[n] == 0) for n in ("small", "large")]
    apart = blank[0].mean(axis=(1, 2, 3)) - blank[1].mean(axis=(1, 2, 3))
    assert np.abs(apart).max() <= 0.15  # a row and a column of the small one


def test_what_is_no_picture_and_no_policy_are_refused():
    with pytest.raises(UserError, match=r"this game makes 'image' of shape \(4, 2\); leave it out"):
        shown(diff_augment("cutout"), {"image": jnp.zeros((4, 2))})
    with pytest.raises(UserError, match="no policy 'color'; use some of colour, translation"):
        diff_augment("color")
    with pytest.raises(UserError, match="been given no policy"):
        diff_augment()


CHAINED = chain(instance_noise(0.1), with_probability(diff_augment(*POLICIES), 0.8))


@pytest.mark.parametrize("augment", [*map(diff_augment, POLICIES), CHAINED])
def test_gradients_pass_as_numeric_differences_say(augment):
    examples = pictures(3, (8, 8, 3))
    weights = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))

    @jax.jit
    def loss(x):
        return jnp.sum(jnp.sin(shown(augment, examples | {"image": x})["image"]) * weights)

    x = examples["image"]
    slope = jax.jit(jax.grad(loss))(x)
    width = 2.0**-6
    direction = slope / jnp.linalg.norm(slope)
    numeric = (loss(x + width * direction) - loss(x - width * direction)) / (2 * width)
    # The square of the width; float32 rounding of the sum, 1e-6, over the width.
    np.testing.assert_allclose(numeric, jnp.linalg.norm(slope), rtol=1e-3)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_each_example_is_changed_with_the_probability(probability):
    augment = with_probability(ones, optax.constant_schedule(probability))
    after = shown(augment, {"image": jnp.zeros((4000, 2))})["image"]
    np.testing.assert_array_equal(after[:, 0], after[:, 1])
    error = (probability * (1 - probability) / 4000) ** 0.5
    assert abs(float(after.mean()) - probability) <= 4 * error


def test_a_chain_is_one_after_the_other_with_draws_of_their_own():
    def added(amount):
        def change(play, examples, names, use):
            return examples | {n: 10 * examples[n] + amount for n in names}

        return with_probability(Augment(change), 0.5)

    after = shown(chain(added(1), added(2)), {"image": jnp.zeros((4000, 1))})["image"]
    values, counts = np.unique(after, return_counts=True)
    np.testing.assert_array_equal(values, [0, 1, 2, 12])
    # A quarter each, within four standard errors.
    np.testing.assert_allclose(counts / 4000, 0.25, atol=4 * (3 / 16 / 4000) ** 0.5)
    examples = pictures()
    assert shown(chain(NO_AUGMENT), examples)["image"] is examples["image"]
    with pytest.raises(UserError, match="keep state as player 'adaptive'"):
        chain(adaptive(ones), adaptive(ones))


def variables(probability, signs=0.0, calls=0):
    held = dict(probability=jnp.float32(probability), signs=jnp.float32(signs))
    return {"adaptive": held | {"calls": jnp.int32(calls)}}


def test_the_probability_follows_its_rule():
    augment = adaptive(ones, target=0.5, kimg=0.1, interval=2)
    module = augment.players["adaptive"].module
    assert module == Probability(0.5, 100.0, 2)
    held, probability = variables(0.0), 0.0
    signs, expected, found = [], [], []
    rng = np.random.default_rng(0)
    for step in range(24):
        # At first surer than the target, then less, in a map of logits and another head.
        shift = 1.0 if step < 14 else -2.0
        logits = {"map": rng.normal(size=(8, 3)) + shift, "one": rng.normal(size=8) + shift}
        logits = {name: jnp.asarray(head, jnp.float32) for name, head in logits.items()}
        play = a_play({"image": jnp.zeros((8, 1))}, step, adaptive=(module, held))
        told = augment.adapted(play, logits)
        held = told.states["adaptive"]
        assert told.metrics["augment_probability"] == held["adaptive"]["probability"]
        if step and step % 2 == 0:  # of the 16 examples of 100 before
            probability += 0.16 * np.sign(np.mean(signs[-2:]) - 0.5)
            probability = np.clip(probability, 0.0, 1.0)
        signs.append(np.mean([np.sign(head).mean() for head in logits.values()]))
        expected.append(probability)
        found.append(held["adaptive"]["probability"])
    np.testing.assert_allclose(found, expected, atol=1e-6)  # ten float32 sums
    assert max(expected) > 0.9 and expected[-1] < max(expected)


def test_the_sign_is_of_the_mean_over_all_devices():
    module = Probability(target=0.6, images=100.0, interval=1, axis_name="devices")

    def adapted(on_real):
        options = dict(examples=5, mutable=["adaptive"])
        _, held = module.apply(variables(0.5), on_real, method="adapt", **options)
        return module.apply(held, method="probability", **options)[0]

    # Three of four are surer than the target, the mean of 0.5 is not.
    signs = jnp.array([1.0, 1.0, 1.0, -1.0])[:, None]
    found = jax.vmap(adapted, axis_name="devices")(signs)
    np.testing.assert_allclose(found, 0.5 - 20 / 100, rtol=1e-6)


def test_what_adapts_changes_examples_with_its_probability_each_augment_by_itself():
    hundreds = Augment(
        lambda play, examples, names, use: examples | {n: examples[n] + 100 for n in names}
    )
    augment = adaptive(ones, hundreds)
    examples = {"image": jnp.zeros((4000, 1))}
    module = augment.players["adaptive"].module
    play = a_play(examples, adaptive=(module, variables(0.3)))
    after = augment.shown(play, examples, ("image",), "real")["image"]
    values, counts = np.unique(after, return_counts=True)
    np.testing.assert_array_equal(values, [0, 1, 100, 101])
    expected = np.array([0.49, 0.21, 0.21, 0.09])
    errors = (expected * (1 - expected) / 4000) ** 0.5
    assert np.all(np.abs(counts / 4000 - expected) < 4 * errors)


def a_game(augment, **options):
    return gan(
        Player(Maker((8, 8, 1)), optax.sgd(0.1)),
        Player(Judge(), optax.sgd(0.1)),
        objectives.nonsaturating(),
        latents.normal(3),
        augment=augment,
        **options,
    )


def test_one_device_equals_four_with_every_augmentation():
    inner = chain(instance_noise(0.1), diff_augment(*POLICIES))
    game = a_game(adaptive(inner, target=-2.0, kimg=0.05, interval=1), penalties=(r1(0.1),))
    state = assert_one_device_equals_four(game, batches((8, 8, 1)))
    probability = state.players["adaptive"].model_state["adaptive"]["probability"]
    np.testing.assert_allclose(probability, 2 * 8 / 50, rtol=1e-6)  # all examples count


def test_nothing_changes_while_the_probability_is_0():
    items = batches((8, 8, 1))
    plain, _ = trained(a_game(NO_AUGMENT), items)
    augmented, _ = trained(a_game(adaptive(diff_augment(*POLICIES), target=2.0)), items)
    for name in ("generator", "discriminator"):
        leaves = (jax.tree.leaves(s.players[name].params) for s in (plain, augmented))
        for a, b in zip(*leaves):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # fused otherwise
