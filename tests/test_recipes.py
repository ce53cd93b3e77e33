"""Recipes: options from signatures, the library's own and its presets, and their geometry."""

import dataclasses
import inspect
import json
from typing import Any, Literal, Optional

import jax
import numpy as np
import pytest
from runs import centre_game

from jaxgan import config, recipe, recipes
from jaxgan.data import Feature
from jaxgan.errors import UserError
from jaxgan.game import init
from jaxgan.options import fields, to_dict
from jaxgan.recipes.recipe import from_function


def images(side: int = 8, width: int | None = None, channels: int = 1) -> dict[str, Feature]:
    return {"image": Feature((side, width or side, channels), np.dtype(np.uint8))}


def begun(function, **changes):
    """The config of a function with these options changed."""
    return config.changed(config.begun(from_function(function, "mine")), changes)


def values_of(made):
    return {**to_dict(made.run), **to_dict(made.options)}


@dataclasses.dataclass(frozen=True)
class Group:
    width: int = 3


def test_the_options_of_a_recipe_are_its_keyword_arguments():
    seen = {}

    def mine(
        example,
        whole: int = 1,
        number: float = 2.0,
        text: str = "a",
        switch: bool = False,
        maybe: int | None = None,
        older: Optional[float] = None,  # noqa: UP045
        choice: Literal["x", "y"] = "x",
        untyped=5,
        group: Group = Group(),
        typed_group: Group = Group(4),
    ):
        """Does it.

        Args:
          whole: how many, in all that
            there are.
          number: how much.

        Returns:
          text: which is no option's help.
        """
        seen.update(locals())
        return centre_game()

    changes = {"whole": "7", "number": "1", "switch": "true", "maybe": "3", "choice": "y"}
    made = begun(mine, **changes, **{"group.width": "9"})
    assert to_dict(made.options) == {
        "whole": 7,
        "number": 1.0,
        "text": "a",
        "switch": True,
        "maybe": 3,
        "older": None,
        "choice": "y",
        "untyped": 5,
        "group.width": 9,
        "typed_group.width": 4,
    }
    helps = {name: field.metadata.get("help", "") for name, field, _ in fields(made.options)}
    assert helps["whole"] == "how many, in all that there are." and helps["number"] == "how much."
    assert helps["text"] == ""
    assert made.recipe.about == "Does it."
    made.recipe.make(images(), made.options)
    assert seen["example"] == images() and seen["group"] == Group(9) and seen["untyped"] == 5
    with pytest.raises(UserError, match="choice: unknown value 'z'; use x, y"):
        begun(mine, choice="z")
    with pytest.raises(UserError, match="unknown option 'wohle'; did you mean whole"):
        begun(mine, wohle=3)


def test_the_decorator_sets_the_runs_defaults_and_a_function_without_it_has_every_runs():
    @recipe(steps=7, data={"name": "ring"}, log={"every": 3})
    def mine(width: int = 3):
        return centre_game()

    run = begun(mine).run
    assert (run.steps, run.data.name, run.log.every, run.batch_size) == (7, "ring", 3, 64)
    assert begun(mine, steps=9).run.steps == 9
    assert mine(4) is not None  # it stays a function

    def plain():
        return centre_game()

    assert begun(plain).run == config.RunOptions()


def test_an_option_without_default_is_required():
    def mine(rate: float, modes: int | None):
        return centre_game()

    with pytest.raises(UserError, match="recipe mine needs --rate; it has no default"):
        begun(mine)
    with pytest.raises(UserError, match="recipe mine needs --modes; it has no default"):
        begun(mine, rate=1)
    assert to_dict(begun(mine, rate="1", modes="none").options) == {"rate": 1.0, "modes": None}


@dataclasses.dataclass
class Changing:
    width: int = 3


@dataclasses.dataclass(frozen=True)
class Demanding:
    width: int


@dataclasses.dataclass(frozen=True)
class Strange:
    widths: tuple[int, ...] = (1, 2)


def _bad_list(widths: list[int] = [3]): ...  # noqa: B006
def _bad_union(width: int | str = 3): ...
def _bad_untyped(width): ...
def _bad_none(width=None): ...
def _bad_default(width: int = 0.5): ...  # type: ignore[assignment]
def _bad_choice(kind: Literal["a", "b"] = "c"): ...  # type: ignore[assignment]
def _bad_more(*widths: int): ...
def _bad_options(**options: int): ...
def _bad_name(width: "Widht" = 3): ...  # type: ignore[name-defined]  # noqa: F821
def _bad_group(model: Changing = Changing()): ...  # noqa: B008
def _bad_needy(model: Demanding): ...
def _bad_inside(model: Strange = Strange()): ...
def _bad_clash(steps: int = 3): ...


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (_bad_list, "option 'widths' of recipe mine is of type list[int]; use int, float, str"),
        (_bad_union, "option 'width' of recipe mine is of type int | str; use int"),
        (_bad_untyped, "option 'width' of recipe mine has neither type nor default; use int"),
        (_bad_none, "option 'width' of recipe mine has neither type nor default; use int"),
        (_bad_default, "recipe mine: the default width=0.5 is not a whole number"),
        (_bad_choice, "recipe mine: the default kind: unknown value 'c'; use a, b"),
        (_bad_more, "recipe mine: *widths is no option; name each of them"),
        (_bad_options, "recipe mine: **options is no option; name each of them"),
        (_bad_name, "recipe mine: its options cannot be read: name 'Widht' is not defined"),
        (_bad_group, "group 'model' of recipe mine can change; declare it by @dataclasses"),
        (_bad_needy, "group 'model' of recipe mine has options without defaults"),
        (_bad_inside, "option 'model.widths' of recipe mine is of type tuple[int, ...]"),
        (_bad_clash, "recipe mine has an option 'steps', as every run has; rename it"),
    ],
)
def test_a_signature_that_cannot_be_options_is_named(function, text):
    with pytest.raises(UserError) as error:
        begun(function)
    assert str(error.value).startswith(text) and "\n" not in str(error.value)


def test_a_recipe_that_gives_no_game_is_named():
    made = begun(lambda: {"players": {}})
    with pytest.raises(UserError, match=r"recipe mine returns dict, not a jaxgan\.Game"):
        made.recipe.make({}, made.options)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mnits", "unknown recipe 'mnits'; did you mean mnist"),
        ("dcgna", "unknown recipe 'dcgna'; did you mean dcgan"),
        ("zzz", "unknown recipe 'zzz'; use "),
        ("my_gan.py", "recipe 'my_gan.py' names no function; use my_gan.py:FUNCTION"),
        ("nowhere.py:ring", "nowhere.py cannot be read: No such file or directory"),
    ],
)
def test_a_recipe_that_is_not_there_is_named(name, text):
    with pytest.raises(UserError) as error:
        config.configured(name, {})
    assert text in str(error.value)


# The library's own.
ALL = {**dict.fromkeys(recipes.RECIPES), **dict.fromkeys(recipes.PRESETS)}


@pytest.mark.parametrize("name", ALL)
def test_recipes_and_presets_are_valid_have_help_and_survive_json(name):
    made = config.configured(name, {})
    config.check_run(made.run, 1)
    again = config.configured(name, json.loads(json.dumps(values_of(made))))
    assert values_of(again) == values_of(made)
    assert made.recipe.about
    for option, field, _ in fields(made.options):
        assert field.metadata["help"] and "\n" not in field.metadata["help"], option


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_each_option_of_a_recipe_is_a_parameter_or_of_a_group_of_one(name):
    parameters = set(inspect.signature(recipes.RECIPES[name]).parameters) - {"example"}
    options = {option for option, _, _ in fields(config.configured(name, {}).options)}
    assert {option.partition(".")[0] for option in options} == parameters


# What the first version's presets were, beside their common defaults; options that were renamed
# or belonged to one network only are left out: model.name, model.channels, log.steps_per_call.
OLD: dict[str, Any] = {
    "steps": 2000,
    "seed": 0,
    "batch_size": 64,
    "devices": None,
    "kernels": "auto",
    "data.name": "digits",
    "data.split": "train",
    "data.image_size": 28,
    "data.dir": None,
    "data.manual_dir": None,
    "data.resident_limit_mb": 2048,
    "data.read_threads": 2,
    "model.latent_size": 100,
    "model.generator_width": 64,
    "model.discriminator_width": 32,
    "objective.name": "nonsaturating",
    "objective.label_smoothing": 0.0,
    "objective.r1_weight": 0.0,
    "objective.r1_every": 8,
    "objective.instance_noise": 0.0,
    "objective.instance_noise_steps": 2000,
    "optimizer.generator_rate": 2e-4,
    "optimizer.discriminator_rate": 2e-4,
    "optimizer.beta1": 0.5,
    "optimizer.beta2": 0.999,
    "optimizer.decay_from": 0,
    "optimizer.decay_steps": None,
    "optimizer.clip_norm": None,
    "optimizer.ema_decay": 0.999,
    "log.every": 50,
    "log.sample_every": 500,
    "log.samples": 64,
    "log.checkpoint_every": 500,
    "log.keep": 3,
    "log.tensorboard": True,
}
FALLING = {
    "objective.r1_weight": 0.5,
    "optimizer.generator_rate": 2e-3,
    "optimizer.discriminator_rate": 1e-3,
}
MNIST = {"steps": 4680, "batch_size": 128, "data.name": "mnist"}
OLD_PRESETS = {
    "digits": {**FALLING, "optimizer.decay_from": 1000, "optimizer.decay_steps": 1000},
    "mnist": {
        **MNIST,
        **FALLING,
        "optimizer.decay_from": 2340,
        "optimizer.decay_steps": 2340,
    },
    "seed-mnist": {
        **MNIST,
        "model.discriminator_width": 16,
        "optimizer.beta1": 0.9,
        "optimizer.ema_decay": 0.0,
    },
    "dcgan-64": {
        "steps": 25_000,
        "batch_size": 128,
        "data.name": "shapes",
        "data.image_size": 64,
        "model.doublings": 4,
        "model.generator_width": 512,
        "model.discriminator_width": 64,
    },
}


@pytest.mark.parametrize("name", OLD_PRESETS)
def test_the_presets_of_the_first_version_have_their_options_and_values(name):
    made = config.configured(name, {})
    values = values_of(made)
    old = {**OLD, **OLD_PRESETS[name]}
    assert {option: values.get(option, "missing") for option in old} == old
    words = {option: str(value).lower() for option, value in old.items()}
    assert values_of(config.configured(name, words)) == values


GEOMETRY = [
    (
        "dcgan",
        images(30),
        {},
        "data.image_size=30 cannot be made by doublings, 4 in all; use 28 or 32",
    ),
    ("dcgan", images(28), {"model.doublings": 4}, "data.image_size=28 .*16 in all; use 16 or 32"),
    ("dcgan", images(2), {}, "data.image_size=2 cannot be made .*; use 4, multiples of 4"),
    ("dcgan", images(8, 10), {}, "data.width=10 cannot be made .*; use 8 or 12, multiples of 4"),
    (
        "listing",
        images(4),
        {},
        "data.image_size=4 cannot be made by doublings, .*; use 8, multiples",
    ),
    (
        "listing",
        images(30),
        {},
        "data.image_size=30 cannot be made .*; use 28 or 32, multiples of 4",
    ),
    (
        "dcgan",
        images(),
        {"model.generator_width": 33},
        "model.generator_width=33 cannot be halved 1 times by the generator's layers; use 32 or 34",
    ),
    (
        "dcgan",
        images(),
        {"objective.name": "hinge", "objective.label_smoothing": 0.1},
        "objective.label_smoothing=0.1 has no meaning for hinge; use 0, or one of",
    ),
    ("dcgan", {"point": Feature((2,), np.dtype(np.float32))}, {}, "needs a feature 'image'"),
]


@pytest.mark.parametrize(("name", "example", "changes", "text"), GEOMETRY)
def test_a_geometry_that_no_network_has_is_refused_with_the_numbers_and_the_fix(
    name, example, changes, text
):
    made = config.configured(name, changes)
    with pytest.raises(UserError, match=text):
        made.recipe.make(example, made.options)


@pytest.mark.parametrize(
    ("name", "example", "changes"),
    [
        ("dcgan", images(4), {}),
        ("dcgan", images(8, 12, 3), {}),
        ("dcgan", images(6), {"model.doublings": 1}),
        ("listing", images(8), {}),
    ],
)
def test_what_a_recipe_accepts_makes_images_of_that_shape(name, example, changes):
    small = {"model.generator_width": 4, "model.discriminator_width": 2}
    made = config.configured(name, {**small, **changes})
    game = made.recipe.make(example, made.options)
    shape = example["image"].shape

    def make(key):
        batch = {"image": np.zeros((2, *shape), np.uint8)}
        state = init(game, key, batch)
        held = {n: {"params": p.params, **p.model_state} for n, p in state.players.items()}
        from jaxgan.calling import applier

        modules = {n: p.module for n, p in game.players.items()}
        apply = applier(modules, held, game.dtype, train=False)
        z = jax.vmap(game.latent)(jax.random.split(key, 2))
        return game.generate(apply, z, batch)[0]["image"]

    assert jax.eval_shape(make, jax.random.key(0)).shape == (2, *shape)


def test_a_conditional_dcgan_is_given_the_labels():
    options = {
        "model.conditional": True,
        "model.latent_size": 4,
        "model.generator_width": 4,
        "model.discriminator_width": 2,
    }
    made = config.configured("dcgan", options)
    example = images() | {"label": Feature((), np.dtype(np.int32), 10)}
    game = made.recipe.make(example, made.options)
    batch = {"image": np.zeros((4, 8, 8, 1), np.uint8), "label": np.arange(4, dtype=np.int32)}
    state = jax.eval_shape(lambda key: init(game, key, batch), jax.random.key(0))
    for player in ("generator", "discriminator"):
        tables = jax.tree.leaves(state.players[player].params)
        assert any(table.shape[0] == 10 for table in tables if table.ndim), player
    with pytest.raises(UserError, match=r"needs a feature 'label' .* an example has image; use"):
        made.recipe.make(images(), made.options)


@pytest.mark.parametrize("name", ["examples", "recipe", "game", "data_version"])
def test_an_option_named_as_the_config_names_something_else_is_refused(name):
    def mine(**_): ...

    mine.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=1, annotation=int)]
    )
    with pytest.raises(UserError, match=f"option {name!r}, which config.json uses; rename it"):
        begun(mine)
