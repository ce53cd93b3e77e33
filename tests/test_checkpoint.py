"""Checkpoints: all of the state comes back, damage is noticed, and the newest whole one is used."""

import errno
import json
import os
import zlib

import faults
import jax
import numpy as np
import pytest
from helpers import assert_equal_trees
from runs import centre_game, points

from jaxgan.errors import RunError, UserError
from jaxgan.game import init
from jaxgan.run import checkpoint, manifest, parallel, saved
from jaxgan.step import make_step


@pytest.fixture(scope="module")
def state():
    """Parameters, a model state, moments and an average, after a step."""
    game, batch = centre_game(), {"point": points(8)}
    return jax.jit(make_step(game))(init(game, jax.random.key(0), batch), batch)[0]


def at(state, step):
    return state.replace(step=jax.numpy.int32(step))


def save(folder, *states, keep=10, position=None, run_id=None):
    folder.mkdir(exist_ok=True)
    saver = checkpoint.open_checkpoints(folder, keep, run_id)
    for state in states:
        saver.save(state, position)
    saver.wait()
    saver.close()


def files(folder):
    return [p for p in folder.rglob("*") if p.is_file()]


def test_everything_comes_back_bit_for_bit(tmp_path, state):
    save(tmp_path, state, position={"next_index": 37})
    found = saved.restore(tmp_path, state)
    assert found is not None and found.position == {"next_index": 37} and found.damaged == []
    assert_equal_trees(found.state, state)
    assert jax.random.bits(found.state.key) == jax.random.bits(state.key)


def test_an_abstract_template_is_enough(tmp_path, state):
    save(tmp_path, state)
    found = saved.restore(tmp_path, jax.eval_shape(lambda: state))
    assert found is not None
    assert_equal_trees(found.state, state)


AWKWARD = ["runs [lr=1e-3]", "a*b?", "**", "back\\slash"]


@pytest.mark.parametrize("place", [f"{AWKWARD[0]}/run", *AWKWARD])
def test_a_path_that_looks_like_a_pattern_is_a_path(tmp_path, state, place):
    folder = tmp_path / place
    folder.mkdir(parents=True)
    save(folder, state)
    found = saved.restore(folder, state)
    assert found is not None and not found.damaged
    assert_equal_trees(found.state, state)
    assert [p.name for p in folder.iterdir()] == ["1"]


def test_the_first_checkpoint_is_read_back_before_it_gets_its_name(tmp_path, state, monkeypatch):
    def zeros(path, abstract):
        return jax.tree.map(np.zeros_like, abstract)

    monkeypatch.setattr(checkpoint, "read_arrays", zeros)
    with pytest.raises(RunError, match=r"other numbers are read back .* no checkpoint is complete"):
        save(tmp_path, state)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path):
    (tmp_path / "checkpoints").symlink_to("checkpoints")
    with pytest.raises(RunError, match=r"checkpoints cannot be read: .*nothing in it was changed"):
        checkpoint.steps_in(tmp_path / "checkpoints")


def test_an_empty_folder_has_none(tmp_path, state):
    assert saved.restore(tmp_path, state) is None
    assert saved.restore(tmp_path / "missing", state) is None


def test_the_newest_are_kept(tmp_path, state):
    save(tmp_path, *[at(state, n) for n in (1, 2, 3, 10)], keep=2)
    assert checkpoint.steps_in(tmp_path) == [3, 10]


def test_a_folder_that_is_not_complete_is_not_a_checkpoint(tmp_path, state):
    save(tmp_path, state)
    (tmp_path / ".writing_9").mkdir()
    assert checkpoint.steps_in(tmp_path) == [1]
    save(tmp_path, at(state, 2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2"]  # what a kill left is gone


@pytest.mark.parametrize("damage", ["truncate", "remove", "flip"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, state, damage):
    save(tmp_path, at(state, 1), at(state, 2))
    largest = max(files(tmp_path / "2" / "state"), key=lambda p: p.stat().st_size)
    content = largest.read_bytes()
    middle = len(content) // 2
    if damage == "remove":
        largest.unlink()
    elif damage == "flip":
        flipped = bytes([content[middle] ^ 0xFF])
        largest.write_bytes(content[:middle] + flipped + content[middle + 1 :])
    else:
        largest.write_bytes(content[:middle])
    found = saved.restore(tmp_path, state)
    assert found is not None and int(found.state.step) == 1
    assert_equal_trees(found.state, at(state, 1))
    (line,) = found.damaged
    assert line.startswith("checkpoint 2 is damaged (") and "\n" not in line
    assert line.endswith("kept as damaged_2, going back to step 1")
    assert (tmp_path / "damaged_2").is_dir()
    save(tmp_path, at(state, 2))  # that step can be written again
    assert checkpoint.steps_in(tmp_path) == [1, 2]


def test_any_damaged_file_is_noticed_or_harmless(tmp_path, state):
    """Each file cut in turn: what comes back is the state that was saved, or the one before."""
    save(tmp_path, at(state, 1), at(state, 2))
    for path in files(tmp_path / "2"):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        found = saved.restore(tmp_path, state)
        assert found is not None
        assert_equal_trees(found.state, at(state, int(found.state.step)))
        if (tmp_path / "damaged_2").exists():
            (tmp_path / "damaged_2").rename(tmp_path / "2")
        path.write_bytes(content)


@pytest.mark.parametrize("place", [(manifest, "read"), (saved, "read_arrays")])
def test_a_checkpoint_that_gives_way_to_a_newer_one_while_it_is_read_is_no_damage(
    tmp_path, state, monkeypatch, place
):
    """A run beside keeps one checkpoint."""
    save(tmp_path / "now", at(state, 10))
    save(tmp_path / "later", at(state, 20))
    read = getattr(*place)

    def read_late(path, *more):
        if path.name == "10":
            (tmp_path / "later" / "20").rename(tmp_path / "now" / "20")
            path.rename(tmp_path / "gone")
        return read(path, *more)

    monkeypatch.setattr(*place, read_late)
    found = saved.restore(tmp_path / "now", state, set_aside=False)
    assert found is not None and found.damaged == []
    assert_equal_trees(found.state, at(state, 20))


GONE = "gone"


def edit(path, **changes):
    """Changes what a manifest says, and its checksum."""
    content = json.loads((path / "manifest.json").read_text())
    del content["checksum"]
    content = {name: value for name, value in {**content, **changes}.items() if value != GONE}
    content["checksum"] = zlib.crc32(json.dumps(content).encode())
    (path / "manifest.json").write_text(json.dumps(content))


def test_a_manifest_that_was_changed_is_damage(tmp_path, state):
    save(tmp_path, at(state, 1), at(state, 2))
    path = tmp_path / "2" / "manifest.json"
    path.write_text(path.read_text().replace('"position": null', '"position": {}'))
    found = saved.restore(tmp_path, state)
    assert found is not None and "2 is damaged (manifest.json is changed)" in found.damaged[0]


def test_a_checkpoint_under_the_name_of_another_step_is_damage(tmp_path, state):
    save(tmp_path, at(state, 1), at(state, 2))
    (tmp_path / "2").rename(tmp_path / "30")
    found = saved.restore(tmp_path, state)
    assert found is not None and int(found.state.step) == 1
    assert "30 is damaged (it is the state of step 2)" in found.damaged[0]


def test_a_checkpoint_of_another_run_is_named(tmp_path, state):
    save(tmp_path, at(state, 1), run_id="mine")
    assert saved.restore(tmp_path, state, run_id="mine") is not None
    with pytest.raises(UserError, match="1 is a checkpoint of another run than this workdir's"):
        saved.restore(tmp_path, state, run_id="theirs")
    edit(tmp_path / "1", run_id=GONE)  # older ones do not tell
    assert saved.restore(tmp_path, state, run_id="theirs") is not None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES, errno.ENOMEM])
def test_what_cannot_be_read_here_and_now_is_no_damage(tmp_path, state, number):
    save(tmp_path, at(state, 1), at(state, 2))
    text = rf"step 2 in .* cannot be read here and now: {os.strerror(number)}; nothing was changed"
    with faults.unreadable(tmp_path / "2", number), pytest.raises(RunError, match=text):
        saved.restore(tmp_path, state)
    assert checkpoint.steps_in(tmp_path) == [1, 2]


def test_a_library_that_cannot_be_loaded_is_no_damage(tmp_path, state, monkeypatch):
    def fail(*_):
        raise ImportError("failed to map segment from shared object")

    save(tmp_path, at(state, 1))
    monkeypatch.setattr(saved, "read_arrays", fail)
    with pytest.raises(RunError, match="cannot be read here and now: failed to map segment"):
        saved.restore(tmp_path, state)
    assert checkpoint.steps_in(tmp_path) == [1]


@pytest.mark.parametrize("name", ["30", ".writing_30"])
def test_what_would_be_in_the_way_of_a_checkpoint_is_named_before_the_run(tmp_path, name):
    (tmp_path / name).write_text("theirs")
    with pytest.raises(UserError, match=f"{name} is no folder, and has the name of a checkpoint"):
        checkpoint.check_names(tmp_path)


def test_only_what_a_killed_run_left_is_cleared_away(tmp_path, state):
    for name in (".writing_10", ".writing_notes", "notes"):
        (tmp_path / name).mkdir()
    save(tmp_path, at(state, 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".writing_notes", "1", "notes"]


def test_older_checkpoints_that_cannot_be_removed_are_told_once_and_cost_no_step(tmp_path, state):
    saver = checkpoint.open_checkpoints(tmp_path, 1)
    saver.save(at(state, 1), None)
    saver.wait()
    with faults.read_only(tmp_path / "1"):
        lines = [saver.save(at(state, step), None) for step in (2, 3)] + [saver.wait()]
    saver.close()
    told = [line for some in lines for line in some]
    assert len(told) == 1 and "cannot be removed: Read-only file system; training" in told[0]
    assert 3 in checkpoint.steps_in(tmp_path)


def test_nothing_but_damaged_checkpoints_is_an_error_and_loses_nothing(tmp_path, state):
    save(tmp_path, at(state, 1), at(state, 2))
    for path in files(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(RunError, match=r"none of the 2 checkpoints in .* can be read"):
        saved.restore(tmp_path, state)
    assert checkpoint.steps_in(tmp_path) == [1, 2]


def other(state, change):
    """A state of the same game, but for one array."""
    player = state.players["generator"]
    params = {
        "gone": {},
        "more": {**player.params, "width": np.zeros(3, np.float32)},
        "larger": {"centre": np.zeros((1, 3), np.float32)},
    }[change]
    return state.replace(players={"generator": player.replace(params=params)})


@pytest.mark.parametrize("named", [True, False], ids=["of now", "of an older version"])
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("gone", "holds players.generator.params.centre, which this game has not"),
        ("more", "holds no players.generator.params.width, which this game has"),
        ("larger", r"params.centre of shape \(1, 2\), this game needs \(1, 3\)"),
    ],
)
def test_a_state_of_another_game_is_no_damage(tmp_path, state, change, text, named):
    save(tmp_path, state)
    if not named:
        edit(tmp_path / "1", arrays=GONE)
    if named or change == "larger":
        with pytest.raises(UserError, match=text):
            saved.restore(tmp_path, other(state, change))
    else:  # Orbax refuses another structure by an error of its own
        with pytest.raises(RunError, match="cannot be read here and now"):
            saved.restore(tmp_path, other(state, change))
    assert checkpoint.steps_in(tmp_path) == [1]


def test_a_key_of_another_kind_is_named(tmp_path, state):
    save(tmp_path, state)
    edit(tmp_path / "1", key="rbg")
    with pytest.raises(UserError, match="JAX_DEFAULT_PRNG_IMPL=rbg"):
        saved.restore(tmp_path, state)


def test_a_state_on_four_devices_saves_and_restores_as_one_on_one(tmp_path, state):
    save(tmp_path, parallel.replicate(state, jax.devices()[:4]))
    found = saved.restore(tmp_path, state)
    assert found is not None
    assert_equal_trees(found.state, state)


@pytest.mark.parametrize("name", ["007", "\u00b2", "1e3", "10.5"])
def test_a_folder_of_another_name_is_no_checkpoint(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / "20").mkdir()
    assert checkpoint.steps_in(tmp_path) == [20]
