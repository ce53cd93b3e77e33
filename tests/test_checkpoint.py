"""Checkpoints: all of the state comes back, damage is noticed, and the newest whole one is used."""

import jax
import numpy as np
import pytest
from conftest import assert_equal_trees

from jaxgan import checkpoint, parallel
from jaxgan.errors import RunError
from jaxgan.game import init, make_game
from jaxgan.step import make_step


@pytest.fixture
def state(small):
    game = make_game(small)
    state = init(game, jax.random.key(0))
    images = {"image": np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), np.uint8)}
    return jax.jit(make_step(game))(state, images)[0]


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


AWKWARD = ["runs [lr=1e-3]", "a*b?", "**", "back\\slash"]


@pytest.mark.parametrize("place", [*(f"{name}/run" for name in AWKWARD), *AWKWARD])
def test_a_path_that_looks_like_a_pattern_is_a_path(tmp_path, state, place):
    folder = tmp_path / place
    folder.mkdir(parents=True)
    save(folder, state)
    found = checkpoint.restore(folder, state)
    assert found is not None and not found.damaged
    assert_equal_trees(found.state, state)
    assert [p.name for p in folder.iterdir()] == ["1"]


def test_the_first_checkpoint_is_read_back_before_it_gets_its_name(tmp_path, state, monkeypatch):
    zeros = lambda path, abstract: jax.tree.map(np.zeros_like, abstract)
    monkeypatch.setattr(checkpoint, "_read_arrays", zeros)
    with pytest.raises(RunError, match=r"other numbers are read back .* no checkpoint is complete"):
        save(tmp_path, state)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path):
    (tmp_path / "checkpoints").symlink_to("checkpoints")
    with pytest.raises(RunError, match=r"checkpoints cannot be read: .*nothing in it was changed"):
        checkpoint.steps_in(tmp_path / "checkpoints")


def test_an_abstract_template_is_enough(tmp_path, state):
    save(tmp_path, state)
    found = checkpoint.restore(tmp_path, jax.eval_shape(lambda: state))
    assert found is not None
    assert_equal_trees(found.state, state)


def test_an_empty_folder_has_none(tmp_path, state):
    assert checkpoint.restore(tmp_path, state) is None
    assert checkpoint.restore(tmp_path / "missing", state) is None


def test_the_newest_are_kept(tmp_path, state):
    save(tmp_path, *[at(state, n) for n in (1, 2, 3, 4, 10)], keep=2)
    assert checkpoint.steps_in(tmp_path) == [4, 10]


def test_a_folder_that_is_not_complete_is_not_a_checkpoint(tmp_path, state):
    save(tmp_path, state)
    (tmp_path / ".writing_9").mkdir()
    assert checkpoint.steps_in(tmp_path) == [1]
    save(tmp_path, at(state, 2))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "1",
        "2",
    ]  # what a killed run left is gone


@pytest.mark.parametrize("damage", ["truncate", "empty", "remove", "flip"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, state, damage):
    save(tmp_path, at(state, 1), at(state, 2))
    largest = max(files(tmp_path / "2" / "state"), key=lambda p: p.stat().st_size)
    content = largest.read_bytes()
    if damage == "remove":
        largest.unlink()
    elif damage == "flip":
        middle = len(content) // 2
        largest.write_bytes(
            content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
        )
    else:
        largest.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"")
    found = checkpoint.restore(tmp_path, state)
    assert found is not None and int(found.state.step) == 1
    assert_equal_trees(found.state, at(state, 1))
    (line,) = found.damaged
    assert (
        line.startswith("checkpoint 2 is damaged (")
        and line.endswith("kept as damaged_2, going back to step 1")
        and "\n" not in line
    )
    assert (tmp_path / "damaged_2").is_dir()
    save(tmp_path, at(state, 2))  # that step can be written again
    assert checkpoint.steps_in(tmp_path) == [1, 2]


def test_any_damaged_file_is_noticed_or_harmless(tmp_path, state):
    """Cut each file of a checkpoint in turn: what comes back is the state that was saved, or the checkpoint before."""
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


def test_nothing_but_damaged_checkpoints_is_an_error_and_loses_nothing(tmp_path, state):
    save(tmp_path, at(state, 1), at(state, 2))
    for path in files(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(RunError, match=r"none of the 2 checkpoints in .* can be read"):
        checkpoint.restore(tmp_path, state)
    assert checkpoint.steps_in(tmp_path) == [1, 2]


def test_a_state_on_four_devices_saves_and_restores_as_one_on_one(tmp_path, state):
    save(tmp_path, parallel.replicate(state, jax.devices()[:4]))
    found = checkpoint.restore(tmp_path, state)
    assert found is not None
    assert_equal_trees(found.state, state)
