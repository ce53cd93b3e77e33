"""Samples: from the averages, with their own statistics, each from its own key and condition."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import SMALL, centre_game

from jaxgan import Game, Move, Outcome, Player, config, init, latents, sampling
from jaxgan.data import Feature
from jaxgan.errors import UserError
from jaxgan.sampling import Sampler, great_circles

LATENT = 4


@pytest.fixture(scope="module")
def game():
    """A small DCGAN."""
    own = {name: value for name, value in SMALL.items() if name.startswith("model.")}
    made = config.configured("dcgan", own)
    return made.recipe.make({"image": Feature((8, 8, 1), np.dtype(np.uint8))}, made.options)


@pytest.fixture(scope="module")
def state(game):
    batch = {"image": jax.ShapeDtypeStruct((8, 8, 8, 1), jnp.uint8)}
    return jax.jit(lambda key: init(game, key, batch))(jax.random.key(0))


@pytest.fixture(scope="module")
def sampler(game):
    return Sampler(game)


def test_normal_latents_can_be_scaled_and_no_others():
    key = jax.random.key(0)
    both = latents.joined(z=latents.normal(3), kind=latents.one_hot(4))
    half = latents.scaled(both, 0.5)
    np.testing.assert_array_equal(half(key)["z"], 0.5 * both(key)["z"])
    np.testing.assert_array_equal(half(key)["kind"], both(key)["kind"])
    assert latents.scaled(latents.normal(3), 0.5) == latents.scaled(latents.normal(3), 0.5)
    for other in (latents.uniform(3), lambda key: key, latents.joined(z=latents.uniform(2))):
        with pytest.raises(UserError, match=r"truncation=0\.5 is for latents of latents\.normal"):
            latents.scaled(other, 0.5)


def with_generator(state, **changes):
    generator = state.players["generator"].replace(**changes)
    return state.replace(players={**state.players, "generator": generator})


def test_samples_come_from_the_average_or_where_asked_from_the_trained_parameters(
    game, state, sampler
):
    zeros = jax.tree.map(jnp.zeros_like, state.players["generator"].params)
    key, other = jax.random.key(1), with_generator(state, params=zeros)
    first, second = (sampler.sample(s, key, 3)["image"] for s in (state, other))
    np.testing.assert_array_equal(first, second)
    assert (first != Sampler(game, averaged=False).sample(other, key, 3)["image"]).any()


def test_the_statistics_belong_to_the_average(state, sampler):
    """The first normalisation of the averaged generator has those of many latents, whatever the
    running ones of training are."""
    stale = jax.tree.map(lambda x: x + 7.0, state.players["generator"].model_state)
    variables = sampler.variables(state)
    again = sampler.variables(with_generator(state, model_state=stale))
    jax.tree.map(np.testing.assert_array_equal, variables, again)
    z = jax.random.normal(jax.random.key(5), (4000, LATENT))
    x = (z @ state.players["generator"].ema["Dense_0"]["kernel"]).reshape(-1, 2, 2, 4)
    (found,) = (
        held for name, held in variables["generator"]["batch_stats"].items() if name.endswith("_0")
    )
    # 1,024 latents: 4.4 percent standard error, 3 of them.
    np.testing.assert_allclose(found["variance"], x.var((0, 1, 2)), rtol=0.15)


@pytest.mark.parametrize("count", [5, 251])
def test_example_i_depends_on_the_key_and_on_i_alone(state, sampler, count):
    many = sampler.sample(state, jax.random.key(3), 600)["image"]
    few = sampler.sample(state, jax.random.key(3), count)["image"]
    assert few.dtype == np.uint8
    assert many.shape == (600, 8, 8, 1) and few.shape == (count, 8, 8, 1)
    # XLA sums in another order for another batch: one grey level where a value is near a half.
    assert np.abs(few.astype(int) - many[:count]).max() <= 1
    assert (many[:250] != many[250:500]).any() and (few[0] != few[1]).any()
    other = sampler.sample(state, jax.random.key(4), count)["image"]
    assert (few != other).any()


def test_a_sampler_compiles_once_for_all_states_keys_and_large_counts(game, state):
    sampler = Sampler(game._replace(latent=latents.uniform(LATENT)))  # as no other test has it
    for seed, count in ((0, 250), (1, 300), (2, 501)):
        changed = with_generator(
            state, ema=jax.tree.map(lambda x, n=seed: x + n, state.players["generator"].ema)
        )
        sampler.sample(changed, jax.random.key(seed), count)
    compiled = sampler._made, sampler._with_statistics, sampler._latents
    assert [function._cache_size() for function in compiled] == [1, 1, 1]


def test_parts_are_the_samples_in_order_and_no_more_than_are_made_at_once(state, sampler):
    parts = [part["image"] for part in sampler.parts(state, jax.random.key(3), 501)]
    assert [len(part) for part in parts] == [250, 250, 1]
    whole = sampler.sample(state, jax.random.key(3), 501)["image"]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_long_walk_is_made_in_rows_of_the_same_ends(state, sampler):
    parts = [p["image"] for p in sampler.walks(state, jax.random.key(3), 60, 8)]
    assert [len(part) for part in parts] == [31 * 8, 29 * 8]
    ends = sampler.sample(state, jax.random.key(3), 120)["image"].reshape(60, 2, 8, 8, 1)
    rows = np.concatenate(parts).reshape(60, 8, 8, 8, 1)
    # One grey level, where a value is near a half.
    assert np.abs(rows[:, [0, -1]].astype(int) - ends).max() <= 1


def test_counts_of_nothing_are_named(state, sampler):
    with pytest.raises(UserError, match="num=0 is too small; use 1 or more"):
        sampler.sample(state, jax.random.key(0), 0)
    with pytest.raises(UserError, match="rows=0 and columns=8 are no walk"):
        sampler.interpolate(state, jax.random.key(0), 0, 8)


# Features and conditions, with a game that makes what it is given.
class Told(nn.Module):
    """(z, label) -> what tells them apart."""

    @nn.compact
    def __call__(self, latents: Any, label: jax.Array) -> Any:
        scale = self.param("scale", nn.initializers.ones, ())
        return latents["z"] * scale, label


def told_game(how="brackets") -> Game:
    def latent(key):
        return {"z": jax.random.normal(key, (2,)), "n": jax.random.normal(key, (3, 3))}

    def generate(apply, latents, batch):
        if how == "brackets":
            label = batch["label"]
        else:
            label = batch.get("label") if how == "get" else dict(batch.items())["label"]
        (z, label), state = apply("generator", latents, label)
        label = label.astype(jnp.float32)
        image = jnp.broadcast_to(label[:, None, None, None] - 1.0, (len(label), 2, 2, 1))
        made = {"image": image, "point": z, "number": label[:, None] * 100.0}
        return made, {"generator": state}

    def loss(play):
        made, _ = generate(play.apply, jax.vmap(latent)(play.keys), play.batch)
        return jnp.mean(made["point"]), Outcome()

    player = Player(Told(), optax.sgd(0.1))
    return Game({"generator": player}, (Move("m", ("generator",), loss),), latent, generate)


LABELS = {"label": np.array([0, 1, 2], np.int32)}


def told_state(game):
    batch = {"label": jax.ShapeDtypeStruct((4,), jnp.int32)}
    return init(game, jax.random.key(0), batch)


def test_pixels_become_uint8_and_other_features_stay_as_they_are():
    game = told_game()
    made = Sampler(game, pixels=("image",)).sample(told_state(game), jax.random.key(0), 3, LABELS)
    # -1 is black, 0 between 127 and 128, 1 white.
    assert made["image"].dtype == np.uint8
    assert made["image"][:, 0, 0, 0].tolist() == [0, 128, 255]
    assert made["point"].dtype == np.float32 and made["number"].dtype == np.float32
    assert made["number"][:, 0].tolist() == [0.0, 100.0, 200.0]
    floats = Sampler(game, pixels=()).sample(told_state(game), jax.random.key(0), 3, LABELS)
    assert floats["image"].dtype == np.float32
    beyond = sampling.as_pixels(jnp.array([-9.0, -1.0, -0.996, 0.996, 1.0, 9.0]))
    assert beyond.tolist() == [0, 0, 1, 254, 255, 255]


@pytest.mark.parametrize("count", [2, 3, 7, 260])
def test_conditions_are_tiled_over_the_examples(count):
    game = told_game()
    made = Sampler(game).sample(told_state(game), jax.random.key(0), count, LABELS)
    np.testing.assert_array_equal(made["number"][:, 0], 100.0 * (np.arange(count) % 3))


def test_a_walk_has_one_condition_a_row_and_goes_from_the_first_latent_to_the_last():
    game = told_game()
    sampler, state, key = Sampler(game), told_state(game), jax.random.key(0)
    walk = sampler.interpolate(state, key, rows=3, columns=5, conditions=LABELS)
    assert walk["number"][:, 0].tolist() == [0.0] * 5 + [100.0] * 5 + [200.0] * 5
    ends = sampler.sample(state, key, 6, LABELS)["point"]
    rows = walk["point"].reshape(3, 5, 2)
    np.testing.assert_allclose(rows[:, 0], ends[::2], atol=1e-6)
    np.testing.assert_allclose(rows[:, -1], ends[1::2], atol=1e-6)


@pytest.mark.parametrize("how", ["brackets", "get", "items"])
def test_what_making_an_example_looks_at_is_found(how):
    features = {
        "label": Feature((), np.dtype(np.int32), 3),
        "image": Feature((2, 2, 1), np.dtype(np.uint8)),
    }
    game = told_game(how)
    found = sampling.conditions_of(game, told_state(game), features)
    assert found == (("image", "label") if how == "items" else ("label",))
    batch = {"point": jax.ShapeDtypeStruct((4, 2), jnp.float32)}
    unconditional = centre_game()
    state = jax.eval_shape(lambda: init(unconditional, jax.random.key(0), batch))
    point = {"point": Feature((2,), np.dtype(np.float32))}
    assert sampling.conditions_of(unconditional, state, point) == ()


# Great circles.
def test_a_walk_keeps_the_latents_norm_and_takes_equal_steps():
    first, last = jax.random.normal(jax.random.key(0), (2, 3, 64))
    walks = np.asarray(great_circles(first, last, 8)).reshape(3, 8, 64)
    norms = np.linalg.norm(walks, axis=-1)
    low, high = np.minimum(norms[:, :1], norms[:, -1:]), np.maximum(norms[:, :1], norms[:, -1:])
    # A straight line between normals would dip to 0.7.
    assert (norms > 0.9 * low).all() and (norms < 1.1 * high).all()
    steps = np.linalg.norm(np.diff(walks, axis=1), axis=-1)
    # Equal angles; the norms of the ends differ.
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:, :1], steps.shape), rtol=0.2)
    np.testing.assert_allclose(walks[:, 0], first, atol=1e-5)
    np.testing.assert_allclose(walks[:, -1], last, atol=1e-5)


def test_ends_without_an_arc_are_joined_by_a_line():
    ends = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    walk = great_circles(ends, ends * jnp.array([[1.0], [3.0]]), 3)
    np.testing.assert_allclose(walk[:, 0], [1, 1, 1, 1, 2, 3], rtol=1e-6)
    assert np.isfinite(great_circles(ends, -ends, 5)).all()  # opposite ends


def test_what_is_no_vector_stays_as_the_first_has_it():
    for first in (jnp.arange(2), jnp.arange(8.0).reshape(2, 2, 2)):
        walk = great_circles(first, first + 1, 3)
        np.testing.assert_array_equal(walk, np.repeat(first, 3, axis=0))
