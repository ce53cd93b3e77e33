"""Stacked images: what they are made of, and the recipe that learns them."""

import hashlib

import jax
import numpy as np
import pytest

from jaxgan import config, data, init, make_step
from jaxgan.data import DataOptions, Feature, make_feed, stacked
from jaxgan.errors import UserError

OPTIONS = DataOptions(name="stacked-digits", image_size=8, cache=None)
IMAGE = {"image": Feature((8, 8, 3), np.dtype(np.uint8))}


@pytest.fixture(scope="module")
def digits():
    return data.open_source(DataOptions(image_size=8, channels=1, cache=None))


@pytest.fixture(scope="module")
def source(digits):
    return stacked.opened("stacked-digits", digits)


def test_an_example_is_three_images_as_channels_and_its_label_their_labels_digits(digits, source):
    assert source.features == {**IMAGE, "label": Feature((), np.dtype(np.int32), 1000)}
    some = np.array([127_999, 5, 5, 0])
    found, chosen = source.read(some), stacked.triples(digits.count)[some]
    for image, label, triple in zip(found["image"], found["label"], chosen, strict=True):
        one = digits.read(triple.astype(np.int64))
        np.testing.assert_array_equal(image, np.moveaxis(one["image"][..., 0], 0, -1))
        assert label == int("".join(map(str, one["label"])))


def test_the_triples_are_the_recorded_ones_and_equally_likely():
    drawn = stacked.triples(60_000)
    assert drawn.shape == (128_000, 3) and drawn.min() >= 0 and drawn.max() < 60_000
    digest = hashlib.sha256(drawn.astype("<i4").tobytes()).hexdigest()
    assert digest[:16] == "274ac1e6deeb4784"
    share = np.stack([np.bincount(column // 6000, minlength=10) for column in drawn.T]) / 128_000
    # Five standard deviations of a binomial share.
    assert np.abs(share - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / 128_000)
    pairs = np.bincount(drawn[:, 0] // 6000 * 10 + drawn[:, 2] // 6000, minlength=100) / 128_000
    assert np.abs(pairs - 0.01).max() < 5 * np.sqrt(0.01 / 128_000)


def test_the_name_opens_it_and_features_can_be_chosen(source):
    opened = data.open_source(OPTIONS)
    assert opened.version == source.version and opened.count == source.count
    alone = data.open_source(DataOptions(**{**vars(OPTIONS), "features": "image"}))
    assert alone.features == IMAGE
    assert not data.needs_preparing(OPTIONS)
    assert stacked.is_stacked(opened.version) and not stacked.is_stacked(None)


def test_resident_and_streamed_feeds_give_the_same_batches(source):
    feeds = [make_feed(source, 6, 3, resident_limit_mb=limit) for limit in (2048, 0)]
    assert feeds[0].resident and not feeds[1].resident
    for step in (0, 7):
        first, second = (feed.fetch(feed.resident, feed.item(step)) for feed in feeds)
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])
    for feed in feeds:
        feed.close()


def test_what_cannot_be_stacked_is_refused(digits):
    with pytest.raises(UserError, match=r"data\.channels=1 of stacked-digits: three grey images"):
        data.open_source(DataOptions(name="stacked-digits", channels=1))
    unlabelled = digits._replace(features={"image": digits.features["image"]})
    with pytest.raises(UserError, match="digits has no labels of a known number"):
        stacked.opened("stacked-digits", unlabelled)
    with pytest.raises(UserError, match=r"data\.name: unknown data set 'mnits'; did you mean"):
        data.open_source(DataOptions(name="stacked-mnits"))


def game_of(**changes):
    small = {"model.generator_width": 8, "model.doublings": 2, "model.latent_size": 2}
    made = config.configured("stacked", {**small, **changes})
    return made.recipe.make(IMAGE, made.options)


def test_the_recipe_is_each_variant_with_a_discriminator_of_its_share():
    game = game_of(
        **{"model.discriminator_share": 0.5, "model.pack": 2, "objective.looks": 1},
        **{"objective.dragan": 1.0, "objective.r1_weight": 0, "objective.r2_weight": 0},
    )
    batch = {"image": jax.ShapeDtypeStruct((4, 8, 8, 3), np.uint8)}
    state = jax.eval_shape(lambda: init(game, jax.random.key(0), batch))
    _, metrics = jax.eval_shape(make_step(game), state, batch)
    assert {name for name in metrics if name.startswith("penalty")} == {"penalty_dragan"}
    kernel = state.players["discriminator"].params["module"]["Halve_0"]["kernel"]
    assert kernel.shape == (4, 4, 6, 2)  # half of the generator's 4 channels, of packs of two
    assert len(game.moves[1].lookahead) == 1
    with pytest.raises(UserError, match=r"model\.generator_width=9 cannot be halved 1 times"):
        game_of(**{"model.generator_width": 9})
