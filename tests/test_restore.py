"""What is made again of a workdir: its game, its state, and what samples are conditioned on."""

import json

import jax
import numpy as np
import pytest
from helpers import assert_equal_trees
from runs import RECIPE, centre_game, flags, points, train_points

import jaxgan
from jaxgan.cli import main
from jaxgan.errors import UserError
from jaxgan.run import checkpoint, train

# A mode of the ring for each label.
LABELLED = (
    RECIPE.replace("(self, noise)", "(self, noise, label)")
    .replace("normal(1.0), (1, 2)) +", "normal(1.0), (8, 2))[label] +")
    .replace('"generator", latents)', '"generator", latents, batch["label"])')
)
RING = {"steps": 150, "batch_size": 64, "rate": 0.1, "log.samples": 12, "devices": 1}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A workdir of a game that is conditioned on the label, and the centres of the ring's modes."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "mine.py").write_text(LABELLED)
    words = [f"{folder}/mine.py:centre", "--workdir", str(folder / "run")]
    assert main(["train", *words, *flags(RING), "--log.tensorboard", "false"]) == 0
    angle = np.arange(8) * np.pi / 4
    return folder / "run", 2 * np.stack([np.cos(angle), np.sin(angle)], 1)


def modes(made, centres):
    """Which mode each point is nearest to, of points that are near one."""
    distance = np.linalg.norm(made[:, None] - centres, axis=-1)
    # Adam circles a centre that is met by 8 examples a batch; noise has a deviation of 0.1, modes
    # are 1.5 apart.
    assert (distance.min(1) < 0.7).all()
    return distance.argmin(1)


def test_samples_of_a_conditional_game_follow_the_conditions_that_the_run_keeps(labelled, tmp_path):
    workdir, centres = labelled
    with np.load(workdir / "conditions.npz") as content:
        labels = content["label"]
    assert labels.shape == (12,) and set(content) == {"label"}
    out = str(tmp_path / "a.npz")
    assert main(["sample", "--workdir", str(workdir), "--out", out, "--num", "30"]) == 0
    with np.load(out) as made:
        found = modes(made["point"], centres)
    assert len(set(labels)) > 2
    np.testing.assert_array_equal(found, labels[np.arange(30) % 12])


def test_a_label_can_be_asked_for(labelled, tmp_path, capsys):
    workdir, centres = labelled
    for label in (0, 7):
        out = str(tmp_path / f"{label}.npz")
        words = ["sample", "--workdir", str(workdir), "--out", out, "--num", "9"]
        assert main([*words, "--label", str(label)]) == 0
        with np.load(out) as made:
            assert set(modes(made["point"], centres)) == {label}
    capsys.readouterr()
    assert main([*words, "--label", "8"]) == 2
    assert "label=8 but the data have 8 classes; use 7 or less" in capsys.readouterr().err


def test_a_row_of_each_class_has_the_same_latents(labelled, tmp_path, capsys):
    workdir, centres = labelled
    out = str(tmp_path / "rows.npz")
    words = ["sample", "--workdir", str(workdir), "--out", out, "--by-class"]
    assert main([*words, "--num", "24"]) == 0
    with np.load(out) as made:
        rows = made["point"].reshape(8, 3, 2)
        assert made["label"].tolist() == np.arange(8).repeat(3).tolist()
        assert modes(made["point"], centres).tolist() == made["label"].tolist()
    # But for its centre each row is the noise of the three latents.
    np.testing.assert_allclose(rows - rows[:, :1], (rows - rows[:, :1])[:1].repeat(8, 0), atol=1e-5)
    capsys.readouterr()
    for more, told in (
        (["--num", "20"], "num=20 does not fill a row of each of 8 classes"),
        (["--label", "1"], "--by-class and --label fill rows in two ways"),
        (["--truncation", "0"], "truncation=0 is not above 0 and up to 1"),
        (["--truncation", "0.5"], "truncation=0.5 is for latents of latents.normal"),
    ):
        assert main([*words, *more]) == 2
        assert told in capsys.readouterr().err


def test_each_row_of_a_walk_has_one_condition(labelled, tmp_path):
    workdir, centres = labelled
    out = str(tmp_path / "walk.npz")
    words = ["--workdir", str(workdir), "--out", out, "--num", "24", "--interpolate"]
    assert main(["sample", *words]) == 0
    with np.load(out) as made, np.load(workdir / "conditions.npz") as conditions:
        found = modes(made["point"], centres).reshape(3, 8)
        assert found.tolist() == [[label] * 8 for label in conditions["label"][:3]]


def test_a_run_from_python_is_restored_with_its_game(tmp_path):
    state = train_points(tmp_path, steps=10)
    for workdir in (tmp_path, str(tmp_path)):
        found = jaxgan.restore(workdir, centre_game())
        assert_equal_trees(found.state, state)
    assert found.conditions == {} and found.pixels == () and found.passed_over == ()
    # Or with the function that makes it, as it was given to `train`.
    assert_equal_trees(jaxgan.restore(tmp_path, lambda example: centre_game()).state, state)
    sampler = jaxgan.Sampler(found.game)
    assert sampler.sample(found.state, jax.random.key(0), 3)["point"].shape == (3, 2)
    with pytest.raises(UserError, match=r"was trained from Python; give its game: restore\("):
        jaxgan.restore(tmp_path)


def test_the_state_of_an_older_step_can_be_restored(tmp_path):
    older = train_points(tmp_path, steps=10)
    train_points(tmp_path)
    for step in (10, np.int64(10)):
        assert_equal_trees(jaxgan.restore(tmp_path, centre_game(), step=step).state, older)
    for step in (7, "newest"):
        with pytest.raises(UserError, match=f"no checkpoint of step {step!r} in .*: 10, 20$"):
            jaxgan.restore(tmp_path, centre_game(), step=step)
    with pytest.raises(UserError, match="keeps no best checkpoint; train with --evaluate-every N"):
        jaxgan.restore(tmp_path, centre_game(), step="best")


def test_a_function_of_a_game_is_given_what_an_example_is(tmp_path):
    seen = []

    def make(example):
        seen.append(example)
        return centre_game()

    data = {"point": points(), "label": np.arange(100, dtype=np.int64) % 7}
    train.train(make, data, tmp_path, steps=5, batch_size=8, log={"tensorboard": False})
    jaxgan.restore(tmp_path, make)
    assert seen[0] == seen[1]
    assert seen[0]["point"].shape == (2,) and seen[0]["label"].classes == 7
    assert not (tmp_path / "conditions.npz").exists()  # the game looks at no label


def test_another_game_than_that_of_the_checkpoint_is_named(tmp_path):
    train_points(tmp_path, steps=5)
    game = centre_game()
    no_average = game.players["generator"]._replace(ema_decay=None)
    with pytest.raises(UserError, match=r"holds players\.generator\.ema\.centre, which this game"):
        other = game._replace(players={"generator": no_average})
        jaxgan.restore(tmp_path, other, may_differ=("game",))


def test_another_game_of_the_same_shapes_is_named(tmp_path):
    train_points(tmp_path, steps=5)
    with pytest.raises(UserError, match=r"was trained with another game.*may_differ=\('game',\)"):
        jaxgan.restore(tmp_path, centre_game(rate=0.5))
    assert (
        int(jaxgan.restore(tmp_path, centre_game(rate=0.5), may_differ=("game",)).state.step) == 5
    )


def test_a_workdir_without_a_checkpoint_is_named(tmp_path):
    for workdir in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="holds no checkpoint; train there first"):
            jaxgan.restore(workdir)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rate": "x"}, "rate='x' is not a number"),
        ({"steps": 1.5}, r"steps=1\.5 is not a whole number"),
        ({"example": None}, r"config\.json does not tell what an example is"),
        ({"example": {"point": {"shape": 3}}}, "does not tell what an example is"),
        ({"example": {}}, "does not tell what an example is"),
        ({"example": {"point": {"shape": [2.5], "dtype": "float32"}}}, "what an example is"),
        ({"example": {"point": {"shape": "ab", "dtype": "float32"}}}, "what an example is"),
        ({"recipe": 5}, r"config\.json does not tell the recipe but 5; restore it"),
        ({"recipe": "nothing", "recipe_sha256": None}, "unknown recipe 'nothing'"),
        ({"recipe": "mine.py:other"}, r"recipe\.py: unknown function 'other'"),
    ],
)
def test_a_config_that_does_not_fit_its_checkpoints_is_named(labelled, tmp_path, changes, text):
    workdir = tmp_path / "run"
    workdir.mkdir()
    for name in ("checkpoints", "recipe.py", "conditions.npz"):
        (workdir / name).symlink_to(labelled[0] / name)
    about = json.loads((labelled[0] / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps({**about, **changes}))
    with pytest.raises(UserError, match=text) as error:
        jaxgan.restore(workdir)
    assert "\n" not in str(error.value)
    assert checkpoint.steps_in(workdir / "checkpoints") == [150]  # not set aside as damaged
