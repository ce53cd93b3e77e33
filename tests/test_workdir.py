"""Workdirs: held by one run, given back as they were, and never another run's."""

import json

import numpy as np
import pytest
from runs import holding, train_points

from jaxgan.config import RunOptions
from jaxgan.data import Feature
from jaxgan.errors import RunError, UserError
from jaxgan.options import to_dict
from jaxgan.run import workdir as workdirs

ABOUT = {"recipe": "mine", **to_dict(RunOptions()), "rate": 0.5}


def check(folder, about, steps=10, must_resume=False, ignored=(), defaults=None):
    workdirs.check(folder, about, steps, must_resume, ignored, defaults or {})


@pytest.fixture
def begun(tmp_path):
    """A workdir with a config and a checkpoint of step 10."""
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    (tmp_path / "config.json").write_text(json.dumps(ABOUT))
    return tmp_path


def test_a_workdir_in_use_is_refused(tmp_path):
    with workdirs.held(tmp_path), pytest.raises(UserError, match="in use by another run"):
        train_points(tmp_path)


@pytest.mark.parametrize("error", [UserError, RunError, RuntimeError, KeyboardInterrupt])
def test_an_error_before_there_is_a_result_takes_back_the_folders_that_were_made(tmp_path, error):
    (tmp_path / "runs").mkdir()
    with pytest.raises(error), workdirs.held(tmp_path / "runs" / "a" / "b"):
        raise error("in mid-run")
    assert [p.name for p in tmp_path.rglob("*")] == ["runs"]


@pytest.mark.parametrize("error", [UserError, RunError, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("result", ["config.json", "metrics.jsonl", "checkpoints/1/manifest.json"])
def test_no_error_takes_a_workdir_with_a_result_in_it(tmp_path, error, result):
    with pytest.raises(error), workdirs.held(tmp_path / "run"):
        (tmp_path / "run" / result).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / result).write_text("a result")
        raise error("in mid-run")
    assert (tmp_path / "run" / result).read_text() == "a result"
    assert (tmp_path / "run" / ".lock").exists()  # the one that the next run takes


def test_a_workdir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    text = r"workdir=.*file/run cannot be written: Not a directory; mend that, or choose another"
    with pytest.raises(UserError, match=text), workdirs.held(tmp_path / "file" / "run"):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="cannot be written"), workdirs.held(tmp_path / "run"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_may_go_on_with_other_ways_of_computing_but_not_with_another_game(begun):
    may = {"steps": 9999, "devices": 4, "kernels": "plain", "steps_per_call": 3, "log.every": 7}
    check(begun, {**ABOUT, **may, "data.dir": "/elsewhere", "data.resident_limit_mb": 0})
    text = "holds another run: rate was 0.5, now 0.25; seed was 0, now 3; choose another"
    with pytest.raises(UserError, match=text):
        check(begun, {**ABOUT, "rate": 0.25, "seed": 3})
    check(begun, {**ABOUT, "seed": 3}, ignored=("seed",))


def test_of_many_differences_a_few_are_named(begun):
    changes = {name: "other" for name in list(ABOUT) if name.startswith("data.")}
    with pytest.raises(UserError, match=r"and \d+ more; choose another") as error:
        check(begun, {**ABOUT, **changes})
    assert len(str(error.value)) < 600


def test_an_option_that_an_older_run_did_not_know_had_its_defaults_meaning(begun):
    older = {name: value for name, value in ABOUT.items() if name not in ("dtype", "rate")}
    (begun / "config.json").write_text(json.dumps(older))
    check(begun, ABOUT, defaults={"rate": 0.5})
    with pytest.raises(UserError, match="dtype was None, now 'bfloat16'"):
        check(begun, {**ABOUT, "dtype": "bfloat16"}, defaults={"rate": 0.5})
    with pytest.raises(UserError, match=r"rate was 0\.5, now 0\.25"):
        check(begun, {**ABOUT, "rate": 0.25}, defaults={"rate": 0.5})


def test_another_text_of_the_same_recipe_is_named_by_itself(begun):
    (begun / "config.json").write_text(json.dumps({**ABOUT, "recipe_sha256": "a"}))
    text = "was trained with another text of mine, .*go on with --accept-changed-recipe"
    with pytest.raises(UserError, match=text):
        check(begun, {**ABOUT, "recipe_sha256": "b"})
    check(begun, {**ABOUT, "recipe_sha256": "b"}, ignored=("recipe_sha256",))
    with pytest.raises(UserError, match=r"rate was 0\.5, now 1"):  # and not only its text
        check(begun, {**ABOUT, "recipe_sha256": "b", "rate": 1})


@pytest.mark.parametrize(
    ("steps", "must_resume", "text"),
    [
        (5, False, "steps=5 but .* is already at step 10; use --steps 10 or more"),
        (10, True, None),
    ],
)
def test_steps_that_are_done_and_a_demand_to_resume(begun, steps, must_resume, text):
    if text is None:
        check(begun, ABOUT, steps, must_resume)
        return
    with pytest.raises(UserError, match=text):
        check(begun, ABOUT, steps, must_resume)


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples", "checkpoints/10"])
def test_results_of_an_unknown_config_are_not_continued(tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    before = holding(tmp_path)
    with pytest.raises(UserError, match=r"holds results but no config\.json"):
        check(tmp_path, ABOUT)
    assert holding(tmp_path) == before


@pytest.mark.parametrize("content", ["", "[1]", "3", "{", "[" * 100_000, "\udcff"])
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"config\.json cannot be read: .*; restore it") as error:
        workdirs.read_config(tmp_path)
    assert "\n" not in str(error.value)


def test_what_samples_are_made_from_is_read_back_or_named(tmp_path):
    assert workdirs.read_conditions(tmp_path, FEATURES) == {}
    conditions = {"label": np.arange(4, dtype=np.int32)}
    workdirs.write(tmp_path, ABOUT, conditions, "a recipe")
    found = workdirs.read_conditions(tmp_path, FEATURES)["label"]
    np.testing.assert_array_equal(found, conditions["label"])
    assert (tmp_path / "recipe.py").read_text() == "a recipe"
    (tmp_path / "conditions.npz").write_bytes(b"PK damaged")
    with pytest.raises(RunError, match=r"conditions\.npz cannot be read: .*; restore it"):
        workdirs.read_conditions(tmp_path, FEATURES)


FEATURES = {"label": Feature((), np.dtype(np.int32), 10)}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"label": np.array([3, 99], np.int32)}, "label has 99, there are 10 classes"),
        ({"label": np.zeros((2, 1), np.int32)}, r"label is int32 of shape \(2, 1\)"),
        ({"label": np.zeros(0, np.int32)}, r"label is int32 of shape \(0,\)"),
        ({"other": np.zeros(2, np.int32)}, "other"),
        (b"", "zip"),
        (b"no archive", "zip"),
    ],
)
def test_conditions_that_no_example_has_are_named(tmp_path, content, text):
    path = tmp_path / "conditions.npz"
    path.write_bytes(content) if isinstance(content, bytes) else np.savez(path, **content)
    with pytest.raises(RunError, match=f"conditions.npz cannot be read: .*{text}.*; restore it"):
        workdirs.read_conditions(tmp_path, FEATURES)


def test_conditions_are_read_as_they_were_written(tmp_path):
    labels = np.arange(4, dtype=np.int32)
    np.savez(tmp_path / "conditions.npz", label=labels)
    np.testing.assert_array_equal(workdirs.read_conditions(tmp_path, FEATURES)["label"], labels)


def test_a_refused_lock_leaves_nothing(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="cannot be written"), workdirs.held(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
