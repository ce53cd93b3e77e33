"""Real examples that a step changes before its moves: flips, and any function of a game's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    Judge,
    Maker,
    assert_equal_trees,
    assert_one_device_equals_four,
    batches,
    game_of,
    toy,
)
from runs import centre_game, train_points

from jaxgan import drawn, init, make_step
from jaxgan.calling import fold_in_name
from jaxgan.data import Feature
from jaxgan.errors import UserError
from jaxgan.examples import scaled
from jaxgan.flips import flips
from jaxgan.recipes import common


def image_game(examples=None, **options):
    return toy(Maker(), Judge(), made="image", examples=examples, **options)


def keys_of_examples(state, count=8):
    """Those of the next step, one for each example of the whole batch."""
    key = fold_in_name(jax.random.fold_in(state.key, state.step), "examples")
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))


def test_pictures_of_an_example_are_flipped_together_and_nothing_else():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 5, 4, 3), np.uint8)
    batch = scaled({"image": image, "photo": 255 - image, "label": np.arange(64, dtype=np.int32)})
    keys = jax.random.split(jax.random.key(0), 64)
    found = flips("image", "photo")(batch, keys)
    flipped = [bool(jax.random.bernoulli(fold_in_name(key, "flips"))) for key in keys]
    assert 16 < sum(flipped) < 48  # four deviations of 64 fair coins
    for name in ("image", "photo"):
        wanted = np.array(batch[name])
        wanted[flipped] = wanted[flipped][:, :, ::-1]
        np.testing.assert_array_equal(found[name], wanted)
    assert found["label"] is batch["label"]


def test_a_step_sees_examples_flipped_by_seed_step_and_place_and_is_else_the_same():
    """Bit for bit the step on a batch that was flipped before; its other draws are the same."""
    (batch,) = batches(steps=1)
    plain, flipping = (jax.jit(make_step(image_game(e))) for e in (None, flips("image")))
    first, other = (init(image_game(e), jax.random.key(0), batch) for e in (None, flips("image")))
    assert_equal_trees(first, other)
    state = first.replace(step=jnp.int32(3))
    by_hand = flips("image")(batch, keys_of_examples(state))
    assert not np.array_equal(by_hand["image"], batch["image"])
    assert_equal_trees(flipping(state, batch), plain(state, by_hand))


def test_four_devices_and_two_critic_steps_see_the_flips_of_one():
    assert_one_device_equals_four(image_game(flips("image"), critic_steps=2), batches(count=16))


def shifted(batch, keys):
    moved = batch["point"] + drawn(lambda key: jax.random.normal(key, (2,)), keys, "shift")
    return batch | {"point": moved}


def test_a_resumed_run_changes_its_examples_as_one_that_was_never_stopped(tmp_path):
    game = centre_game()._replace(examples=shifted)
    whole = train_points(tmp_path / "whole", game)
    train_points(tmp_path / "halves", game, steps=10)
    assert_equal_trees(whole, train_points(tmp_path / "halves", game))


def test_examples_may_become_of_another_shape():
    """Such as crops: the networks begin with what the moves see."""

    def cropped(batch, keys):
        return batch | {"image": batch["image"][:, 1:, 1:]}

    (batch,) = batches((5, 5, 1), steps=1)
    game = image_game(cropped)
    state, _ = jax.eval_shape(make_step(game), init(game, jax.random.key(0), batch), batch)
    assert state.players["discriminator"].params["Dense_1"]["kernel"].shape == (16, 8)


@pytest.mark.parametrize("name", ["digits", "listing"])
def test_recipes_flip_all_pictures_of_an_example_where_it_is_asked_for(name):
    game = game_of(name, (28, 28, 1), flips="true")
    assert game.examples == flips("image")
    assert game._replace(examples=None) == game_of(name, (28, 28, 1))
    bytes_, numbers = np.dtype(np.uint8), np.dtype(np.int32)
    example = {
        "image": Feature((8, 8, 3), bytes_),
        "label": Feature((), numbers),
        "photo": Feature((8, 8, 1), bytes_),
        "volume": Feature((8, 8, 8), bytes_),
        "map": Feature((8, 8, 1), numbers),
    }
    assert common.flips_of(True, example) == flips("image", "photo")


@pytest.mark.parametrize(
    ("examples", "text"),
    [
        (
            lambda batch, keys: batch["image"],
            r"gives \(8, 4, 4, 1\) for a batch of 8; return",
        ),
        (lambda batch, keys: {"image": batch["image"][1:]}, "for a batch of 8; return a dict"),
        (flips("photo"), "the game is given the feature 'photo', the batch holds 'image'"),
        (flips("label"), r"'label' has shape \(8,\); leave it out"),
        ("flip", "the game's examples are 'flip'; give a function"),
    ],
)
def test_what_gives_no_examples_is_refused(examples, text):
    batch = {**batches(steps=1)[0], "label": np.arange(8, dtype=np.int32)}
    game = image_game(examples)
    with pytest.raises(UserError, match=text) as error:
        state = init(image_game(), jax.random.key(0), batch)
        make_step(game)(state, batch)
    assert "\n" not in str(error.value)
