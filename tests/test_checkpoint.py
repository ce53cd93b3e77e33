"""Checkpoints: all of the state comes back, damage is noticed, and the newest whole one is used."""

import json

import jax
import numpy as np
import pytest
from helpers import assert_equal_trees
from runs import centre_game, points

from jaxgan.errors import RunError, UserError
from jaxgan.game import init
from jaxgan.run import checkpoint, parallel
from jaxgan.step import make_step


@pytest.fixture(scope="module")
def state():
    """Parameters, a model state, moments and an average, after a step."""
    game, batch = centre_game(), {"point": points(8)}
    return jax.jit(make_step(game))(init(game, jax.random.key(0), batch), batch)[0]


def at(state, step):
    return state.replace(step=jax.numpy.int32(step))


def save(folder, *states, keep=10, position=None):
    folder.mkdir(exist_ok=True)
    saver = checkpoint.open_checkpoints(folder, keep)
    for state in states:
        saver.save(state, position)
    saver.wait()
    saver.close()


def files(folder):
    return [p for p in folder.rglob("*") if p.is_file()]


def test_everything_comes_back_bit_for_bit(tmp_path, state):
    save(tmp_path, state, position={"next_index": 37})
    found = checkpoint.restore(tmp_path, state)
    assert found is not None and found.position == {"next_index": 37} and found.damaged == []
    assert_equal_trees(found.state, state)
    assert jax.random.bits(found.state.key) == jax.random.bits(state.key)


def test_an_abstract_template_is_enough(tmp_path, state):
    save(tmp_path, state)
    found = checkpoint.restore(tmp_path, jax.eval_shape(lambda: state))
    assert found is not None
    assert_equal_trees(found.state, state)


AWKWARD = ["runs [lr=1e-3]", "a*b?", "**", "back\\slash"]


@pytest.mark.parametrize("place", [f"{AWKWARD[0]}/run", *AWKWARD])
def test_a_path_that_looks_like_a_pattern_is_a_path(tmp_path, state, place):
    folder = tmp_path / place
    folder.mkdir(parents=True)
    save(folder, state)
    found = checkpoint.restore(folder, state)
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
    assert checkpoint.restore(tmp_path, state) is None
    assert checkpoint.restore(tmp_path / "missing", state) is None


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
    found = checkpoint.restore(tmp_path, state)
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
        found = checkpoint.restore(tmp_path, state)
        assert found is not None
        assert_equal_trees(found.state, at(state, int(found.state.step)))
        if (tmp_path / "damaged_2").exists():
            (tmp_path / "damaged_2").rename(tmp_path / "2")
        path.write_bytes(content)


def test_a_checkpoint_that_gives_way_to_a_newer_one_while_it_is_read_is_no_damage(
    tmp_path, state, monkeypatch
):
    """A run beside keeps one checkpoint."""
    save(tmp_path, at(state, 10))
    read = checkpoint._read

    def read_late(path, template):
        if path.name == "10" and path.exists():
            path.rename(tmp_path / "20")
        return read(path, template)

    monkeypatch.setattr(checkpoint, "_read", read_late)
    found = checkpoint.restore(tmp_path, state, set_aside=False)
    assert found is not None and found.damaged == []
    assert_equal_trees(found.state, at(state, 10))


def test_nothing_but_damaged_checkpoints_is_an_error_and_loses_nothing(tmp_path, state):
    save(tmp_path, at(state, 1), at(state, 2))
    for path in files(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(RunError, match=r"none of the 2 checkpoints in .* can be read"):
        checkpoint.restore(tmp_path, state)
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
    path = tmp_path / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    if not named:
        del manifest["arrays"]
        path.write_text(json.dumps(manifest))
    if named or change == "larger":
        with pytest.raises(UserError, match=text):
            checkpoint.restore(tmp_path, other(state, change))
    else:  # Orbax refuses another structure by an error of its own
        with pytest.raises(RunError, match="none of the 1 checkpoints"):
            checkpoint.restore(tmp_path, other(state, change))
    assert checkpoint.steps_in(tmp_path) == [1]


def test_a_key_of_another_kind_is_named(tmp_path, state):
    save(tmp_path, state)
    path = tmp_path / "1" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "key": "rbg"}))
    with pytest.raises(UserError, match="JAX_DEFAULT_PRNG_IMPL=rbg"):
        checkpoint.restore(tmp_path, state)


def test_a_state_on_four_devices_saves_and_restores_as_one_on_one(tmp_path, state):
    save(tmp_path, parallel.replicate(state, jax.devices()[:4]))
    found = checkpoint.restore(tmp_path, state)
    assert found is not None
    assert_equal_trees(found.state, state)


@pytest.mark.parametrize("name", ["007", "\u00b2", "1e3", "10.5"])
def test_a_folder_of_another_name_is_no_checkpoint(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / "20").mkdir()
    assert checkpoint.steps_in(tmp_path) == [20]
