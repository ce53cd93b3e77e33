"""Games are values: equal where they were made alike, with one hash, and pickled."""

import functools
import pickle
from typing import Any

import jax
import numpy as np
import optax
import pytest
from helpers import assert_equal_trees, game_of, points, trained

from jaxgan import (
    Player,
    Sampler,
    adversarial,
    augment,
    critic,
    gan,
    latents,
    maker,
    objectives,
    penalties,
    rules,
    schedules,
)
from jaxgan import generator_penalties as of_generator
from jaxgan.bound import Bound
from jaxgan.conditions import auxiliary_classifier
from jaxgan.flips import flips
from jaxgan.models import MLPDiscriminator, MLPGenerator

adam = functools.partial(Bound, optax.adam)
Z = latents.normal(4)


def point_game(**options: Any) -> Any:
    players = Player(MLPGenerator(), adam(1e-3), 0.9), Player(MLPDiscriminator(), adam(1e-3))
    options = {"objective": objectives.nonsaturating(0.1), "latent": Z, **options}
    return gan(*players, made="point", **options)


MAKERS = {
    "normal": lambda: latents.normal((4, 2)),
    "uniform": lambda: latents.uniform(4),
    "truncated": lambda: latents.truncated_normal(4, 2.0),
    "one_hot": lambda: latents.one_hot(3),
    "joined": lambda: latents.joined(z=latents.normal(4), c=latents.one_hot(3)),
    "maker": lambda: maker("point", "label"),
    "critic": lambda: critic("point", "label"),
    **{o.__name__: o for o in objectives.OBJECTIVES},
    "smoothed": lambda: objectives.least_squares(0.1),
    "cosine": lambda: schedules.cosine(1.0, 0.0, 10),
    "half_life": lambda: schedules.half_life(1000.0, 8, 0.05),
    "consensus": lambda: rules.consensus(2.0),
    "symplectic": lambda: rules.symplectic(align=True),
    "competitive": lambda: rules.competitive(0.1),
    "r1": lambda: penalties.r1(0.1, method="finite_difference"),
    "r2": lambda: penalties.r2(schedules.cosine(1.0, 0.0, 10), every=4),
    "wgan_gp": lambda: penalties.gradient_penalty(10.0),
    "dragan": lambda: penalties.gradient_penalty(10.0, "dragan", deviation=0.5),
    "lecam": lambda: penalties.lecam(0.1),
    "path_length": lambda: of_generator.path_length(2.0, of_generator.in_latent(maker("image"))),
    "mode_seeking": lambda: of_generator.mode_seeking(1.0, Z, maker("image")),
    "reconstruction": lambda: of_generator.reconstruction(1.0, "photo", made="image"),
    "noise": lambda: augment.instance_noise(0.1),
    "diff_augment": lambda: augment.diff_augment("colour", "cutout", also=("photo",)),
    "probability": lambda: augment.with_probability(augment.diff_augment("cutout"), 0.5),
    "adaptive": lambda: augment.adaptive(augment.instance_noise(0.1), target=0.5),
    "chain": lambda: augment.chain(augment.instance_noise(0.1), augment.diff_augment("cutout")),
    "adversarial": lambda: adversarial(objectives.hinge(), Z, maker("image"), critic("image")),
    "heads": lambda: adversarial(
        {"a": objectives.hinge(), "b": objectives.wasserstein()}, Z, maker("x"), critic("x")
    ),
    "auxiliary": lambda: auxiliary_classifier(
        objectives.hinge(), Z, maker("image", "label"), critic("image"), weight=0.5
    ),
    "flips": lambda: flips("image", "photo"),
    "gan": lambda: point_game(penalties=(penalties.r1(0.1),), critic_steps=2),
    "gan of all": lambda: point_game(
        penalties=(penalties.r1(0.1), penalties.lecam(0.1)),
        generator_penalties=(of_generator.mode_seeking(1.0, Z, maker("point")),),
        augment=augment.adaptive(augment.instance_noise(0.1)),
    ),
    "dcgan": lambda: game_of("digits", (28, 28, 1), optimizer__clip_norm=1.0),
    "listing": lambda: game_of("listing", (28, 28, 1), objective__instance_noise=0.1),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_made_twice_alike_is_equal_and_comes_back_equal_from_a_pickle(name):
    first, second = MAKERS[name](), MAKERS[name]()
    again = pickle.loads(pickle.dumps(first))
    assert first == second and hash(first) == hash(second)
    assert first == again and hash(first) == hash(again)


def test_no_two_of_them_are_equal():
    made = [make() for make in MAKERS.values()]
    assert len(set(map(hash, made))) == len(made)
    assert all(a != b for i, a in enumerate(made) for b in made[:i])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (latents.normal(4), latents.normal(5)),
        (latents.normal(4), latents.uniform(4)),
        (penalties.r1(0.1), penalties.r1(0.2)),
        (penalties.r1(0.1), penalties.r1(0.1, subset=2)),
        (objectives.nonsaturating(0.1), objectives.nonsaturating(0.2)),
        (rules.consensus(), rules.consensus(2.0)),
        (adam(1e-3), adam(1e-4)),
        (point_game(), point_game(latent=latents.uniform(4))),
        (point_game(), point_game(objective=objectives.hinge())),
        (point_game(), point_game(examples=flips("point"))),
    ],
)
def test_another_argument_makes_another_value(one, other):
    assert one != other and hash(one) != hash(other)


def test_what_jax_leaves_on_a_function_makes_it_no_other_one():
    first, second = objectives.nonsaturating(), objectives.nonsaturating(0.0)
    loss: Any = first.discriminator
    loss.left = 1
    assert first == second


def test_arguments_by_name_by_place_and_by_default_are_the_same():
    assert latents.normal(size=4) == latents.normal(4)
    assert rules.consensus() == rules.consensus(weight=1.0)


def test_a_value_shows_itself_as_the_call_that_makes_it():
    assert repr(latents.truncated_normal(4, bound=2.0)) == "truncated_normal(4, 2.0)"
    assert repr(adam(1e-3, b1=0.5)) == "adam(0.001, 0.5)"


def test_a_game_from_a_pickle_trains_the_same_bits():
    game = MAKERS["gan of all"]()
    items = [points(seed) for seed in range(2)]
    assert_equal_trees(trained(game, items), trained(pickle.loads(pickle.dumps(game)), items))


def test_an_optimizer_given_late_trains_the_same_bits():
    late, items = point_game(), [points(seed) for seed in range(2)]
    players = {n: p._replace(tx=optax.adam(1e-3)) for n, p in late.players.items()}
    assert_equal_trees(trained(late, items), trained(late._replace(players=players), items))


def test_samplers_of_equal_games_share_what_is_compiled():
    game, state = point_game(), trained(point_game(), [points()])[0]
    first = Sampler(game, ())
    first.sample(state, jax.random.key(0), 7)
    # Another rate, loss, penalty or average makes no other examples.
    changed = point_game(objective=objectives.hinge(), penalties=(penalties.r2(3.0),))
    players = {n: p._replace(tx=optax.sgd(0.1)) for n, p in changed.players.items()}
    for same in (point_game(), pickle.loads(pickle.dumps(game)), changed._replace(players=players)):
        before = first._made._cache_size()
        other = Sampler(same, ())
        assert other._made is first._made
        other.sample(state, jax.random.key(1), 7)
        assert first._made._cache_size() == before
    for another in (point_game(latent=latents.uniform(4)), game._replace(dtype=np.float16)):
        assert Sampler(another, ())._made is not first._made
    assert Sampler(game, ("point",))._made is not first._made


def test_penalties_in_a_list_are_those_in_a_tuple():
    listed = point_game(penalties=[penalties.r1(0.1)])
    assert listed == point_game(penalties=(penalties.r1(0.1),))
    state = trained(listed, [points()])[0]
    assert Sampler(listed, ()).sample(state, jax.random.key(0), 2)["point"].shape == (2, 2)


def test_a_function_of_the_users_own_may_be_anything():
    """It is not pickled, with Python's own words, and what cannot be hashed is not shared."""

    class Unhashable:
        __hash__: Any = None

        def __call__(self, key):
            return jax.random.normal(key, (4,))

    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(point_game(latent=lambda key: jax.random.normal(key, (4,))))
    game = point_game(latent=Unhashable())
    state = trained(game, [points()])[0]
    assert Sampler(game, ()).sample(state, jax.random.key(0), 2)["point"].shape == (2, 2)


def test_a_bound_is_equal_to_no_other_thing():
    assert latents.normal(4) != 4 and isinstance(latents.normal(4), Bound)
    with pytest.raises(AttributeError):
        _ = latents.normal(4).nothing
