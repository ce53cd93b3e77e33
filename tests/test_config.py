"""The config: each mistake is one line with the field, the numbers and the fix."""

import dataclasses

import pytest

from jaxgan.config import PRESETS, Config, differences, fields, preset, replace, to_dict, validate
from jaxgan.errors import UserError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_json(name):
    config = preset(name)
    validate(config, 1)
    assert replace(Config(), to_dict(config)) == config


def test_every_option_has_one_line_of_help():
    for name, field, _ in fields(Config()):
        assert field.metadata["help"] and "\n" not in field.metadata["help"], name


MISTAKES = [
    ({"steps": 0}, 1, "steps=0 is too small; use 1 or more"),
    ({"steps": -5}, 1, "steps=-5 is too small; use 1 or more"),
    ({"batch_size": 0}, 1, "batch_size=0 is too small; use 1 or more"),
    ({"batch_size": 100}, 8, "batch_size=100 is not divisible by 8 devices; use 96 or 104"),
    ({"batch_size": 3}, 8, "batch_size=3 is not divisible by 8 devices; use 8"),
    (
        {"objective.r1_weight": 1.0, "batch_size": 8},
        4,
        "r1_every=8 does not divide the 2 images of each of 4 devices",
    ),
    ({"devices": 8}, 4, "devices=8 but this machine has 4; use at most 4"),
    (
        {"data.image_size": 30},
        1,
        "data.image_size=30 cannot be made by 2 doublings; use 28 or 32, multiples of 4",
    ),
    (
        {"model.doublings": 4},
        1,
        "data.image_size=28 cannot be made by 4 doublings; use 16 or 32, multiples of 16",
    ),
    ({"model.doublings": 0}, 1, "model.doublings=0 is too small; use 1 or more"),
    (
        {"model.name": "seed", "model.doublings": 3, "data.image_size": 32},
        1,
        "model.doublings=3 but the networks of 'seed' have 2; use 2",
    ),
    ({"dtype": "bfloat"}, 1, "dtype: unknown dtype 'bfloat'; did you mean bfloat16"),
    ({"data.image_size": 0}, 1, "data.image_size=0 is too small; use 8 or more"),
    (
        {"optimizer.generator_rate": 0.0},
        1,
        "optimizer.generator_rate=0.0 is too small; use more than 0.0",
    ),
    (
        {"optimizer.discriminator_rate": -1.0},
        1,
        "optimizer.discriminator_rate=-1.0 is too small; use more than 0.0",
    ),
    ({"optimizer.beta1": 1.0}, 1, "optimizer.beta1=1.0 is too large; use less than 1.0"),
    ({"optimizer.clip_norm": 0.0}, 1, "optimizer.clip_norm=0.0 is too small; use more than 0.0"),
    (
        {"optimizer.generator_rate": float("nan")},
        1,
        "optimizer.generator_rate=nan is not a finite number; use one",
    ),
    (
        {"objective.name": "nonsaturate"},
        1,
        "objective.name: unknown objective 'nonsaturate'; did you mean nonsaturating?",
    ),
    (
        {"objective.label_smoothing": 0.1, "objective.name": "hinge"},
        1,
        "label_smoothing=0.1 has no meaning for hinge; use 0",
    ),
    ({"model.name": "dcgam"}, 1, "model.name: unknown model 'dcgam'; did you mean dcgan?"),
    ({"model.channels": 2}, 1, "model.channels=2 is neither 1"),
    (
        {"model.generator_width": 33},
        1,
        "model.generator_width=33 cannot be halved 1 times by the generator's layers; use 32 or 34",
    ),
    ({"model.latent_size": 0}, 1, "model.latent_size=0 is too small; use 1 or more"),
    ({"log.every": 0}, 1, "log.every=0 is too small; use 1 or more"),
]


@pytest.mark.parametrize(
    ("changes", "devices", "text"), MISTAKES, ids=[m[2][:50] for m in MISTAKES]
)
def test_a_mistake_is_named_with_its_numbers_and_the_fix(changes, devices, text):
    with pytest.raises(UserError) as error:
        validate(replace(Config(), changes), devices)
    assert text in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: preset("mnits"), "unknown preset 'mnits'; did you mean mnist"),
        (lambda: preset("zzz"), "unknown preset 'zzz'; use dcgan-64, digits, mnist, seed-mnist"),
        (
            lambda: replace(Config(), {"data.nam": "x"}),
            "unknown field 'data.nam'; did you mean data.name",
        ),
        (
            lambda: replace(Config(), {"steps": "ten"}),
            "steps='ten' is not a whole number; use a whole number such as 2000",
        ),
        (
            lambda: replace(Config(), {"optimizer.beta1": "x"}),
            "optimizer.beta1='x' is not a number; use a number such as 0.5",
        ),
        (
            lambda: replace(Config(), {"log.tensorboard": "maybe"}),
            "log.tensorboard='maybe' is neither true nor false",
        ),
    ],
)
def test_names_and_values_that_cannot_be_read_are_named(call, text):
    with pytest.raises(UserError) as error:
        call()
    assert text in str(error.value)


def test_text_is_read_as_the_fields_type():
    config = replace(
        Config(),
        {
            "optimizer.clip_norm": "0.5",
            "log.tensorboard": "false",
            "data.dir": "None",
            "steps": "7",
        },
    )
    assert (config.optimizer.clip_norm, config.log.tensorboard, config.data.dir, config.steps) == (
        0.5,
        False,
        None,
        7,
    )


def test_a_run_may_go_on_with_more_steps_and_other_intervals_but_not_with_another_game():
    old = to_dict(Config())
    assert not differences(
        old,
        to_dict(
            replace(
                Config(), {"steps": 9999, "log.every": 7, "devices": 1, "data.dir": "/elsewhere"}
            )
        ),
    )
    changed = differences(old, to_dict(replace(Config(), {"optimizer.beta1": 0.0, "seed": 3})))
    assert changed == ["optimizer.beta1 was 0.5, now 0.0", "seed was 0, now 3"]


def test_a_run_of_an_older_version_is_the_same_run_where_new_fields_have_their_defaults():
    old = {
        name: value
        for name, value in to_dict(Config()).items()
        if name not in ("dtype", "model.doublings")
    }
    assert not differences(old, to_dict(Config()))
    assert differences(old, to_dict(replace(Config(), {"dtype": "bfloat16"}))) == [
        "dtype was 'float32', now 'bfloat16'"
    ]


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().steps = 3  # type: ignore[misc]
