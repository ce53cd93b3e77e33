"""Whole runs with faults: nothing is lost, nothing goes on silently, each ends in one line."""

import contextlib
import errno
import os
import pathlib
import shutil
import sys
from typing import Any

import faults
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_equal_trees
from runs import RUN, centre_game, holding, metrics_of, train_points

import jaxgan
from jaxgan import Player, files
from jaxgan.errors import RunError, UserError
from jaxgan.run import checkpoint
from jaxgan.run import workdir as workdirs
from jaxgan.run.hooks import Hook
from jaxgan.run.records import read_metrics


def steps_in(workdir):
    return checkpoint.steps_in(workdir / "checkpoints")


def is_one_line(error) -> bool:
    return "\n" not in str(error) and str(error).isprintable()


# Readers.
def test_data_that_cannot_be_read_before_the_start_leave_nothing_behind(tmp_path):
    def read(indices):
        raise OSError(5, "Input/output error")

    with pytest.raises(RunError, match=r"numbers: examples 0, 1, 2, \.\. cannot be read: OSError"):
        train_points(tmp_path / "runs" / "run", data=faults.numbers(read=read))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RunError, ValueError, OSError, UserError, SystemExit])
def test_data_that_cannot_be_read_any_more_cost_no_step(tmp_path, error):
    """Whatever the reader raises, the last whole step is saved; resumed, the run is the same."""
    streamed: Any = {"data.resident_limit_mb": 0}
    whole = train_points(tmp_path / "whole", data=faults.numbers(), **streamed)
    data, broken = faults.breaking(13, RUN["batch_size"], error)
    with pytest.raises(RunError, match=r"the disk is gone.*; step 13 is saved"):
        train_points(tmp_path / "run", data=data, **streamed)
    assert steps_in(tmp_path / "run") == [10, 13]
    with pytest.raises(RunError, match=r"the disk is gone.*; the checkpoint of step 13 is kept"):
        train_points(tmp_path / "run", data=data, must_resume=True, **streamed)
    broken.clear()
    again = train_points(tmp_path / "run", data=data, must_resume=True, **streamed)
    assert_equal_trees(whole, again)
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "run")


def test_memory_that_a_reader_lacks_costs_no_step(tmp_path):
    data, _ = faults.breaking(13, RUN["batch_size"], MemoryError)
    text = "this machine's memory does not suffice; the checkpoint of step 13 is kept"
    with pytest.raises(RunError, match=text):
        train_points(tmp_path, data=data, **{"data.resident_limit_mb": 0})
    assert steps_in(tmp_path) == [10, 13]


def test_a_reader_may_write_over_what_it_gave_before(tmp_path):
    """Batches that are read ahead wait for their steps."""
    numbers, room = faults.numbers(), np.empty((RUN["batch_size"], 2), np.float32)

    def read(indices):
        room[: len(indices)] = numbers.read(indices)["point"]
        return {"point": room[: len(indices)]}

    streamed: Any = {"data.resident_limit_mb": 0, "data.read_threads": 1}
    ours = train_points(tmp_path / "ours", data=faults.numbers(read=read), **streamed)
    assert_equal_trees(ours, train_points(tmp_path / "whole", data=numbers, **streamed))


# File systems.
def test_checkpoints_that_cannot_be_read_do_not_count_as_none(tmp_path):
    train_points(tmp_path, steps=10)
    before = holding(tmp_path)
    with (
        faults.unreadable(tmp_path / "checkpoints"),
        pytest.raises(RunError, match="checkpoints cannot be read: Permission denied"),
    ):
        train_points(tmp_path)
    assert holding(tmp_path) == before


def test_a_file_system_without_locks_is_trained_on_and_told(tmp_path, capsys):
    with faults.without_locks():
        train_points(tmp_path / "run")
    assert "has no locks (Function not implemented); take care that no" in capsys.readouterr().out
    assert steps_in(tmp_path / "run") == [10, 20]


def test_a_workdir_that_may_not_be_written_is_left_as_it_is(tmp_path):
    train_points(tmp_path / "run", steps=10)
    before = holding(tmp_path)
    with faults.read_only(tmp_path):
        for place in ("run", "new"):
            with pytest.raises(UserError, match=r"cannot be written: .*Read-only file system"):
                train_points(tmp_path / place)
    assert holding(tmp_path) == before


@pytest.mark.parametrize("name", ["config.json", "checkpoints", "metrics.jsonl", "samples"])
def test_a_disk_that_is_full_at_the_start_is_named_and_nothing_is_lost(tmp_path, name):
    train_points(tmp_path / "run", steps=10)
    whole = train_points(tmp_path / "whole")
    with faults.full(tmp_path / "run"), pytest.raises((UserError, RunError)) as error:
        train_points(tmp_path / "run")
    assert "No space left" in str(error.value) and is_one_line(error.value)
    assert steps_in(tmp_path / "run") == [10]
    assert_equal_trees(whole, train_points(tmp_path / "run"))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_checkpoint_that_the_disk_does_not_keep_takes_the_place_of_none(tmp_path, number):
    """Network file systems and quotas tell at the end that there was no room."""
    keeping: Any = {"log.keep": 1}
    train_points(tmp_path, steps=10, **keeping)
    text = r"could not be written to .*the checkpoint of step 10 is complete; "
    with contextlib.ExitStack() as from_step_15, pytest.raises(RunError, match=text):
        train_points(
            tmp_path,
            callback=lambda *_: from_step_15.enter_context(faults.not_kept(number)),
            **keeping,
        )
    assert steps_in(tmp_path) == [10]
    with faults.not_kept(errno.EINVAL):  # file systems that have nothing to wait for
        train_points(tmp_path, **keeping)
    assert steps_in(tmp_path) == [20]


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_wherever_a_file_system_fails_the_same_command_goes_on_to_the_same_bits(tmp_path, first):
    """Of the first forty changes to the workdir half are, each in turn, the last that works."""
    whole = train_points(tmp_path / "whole")
    ends = []
    for count in range(first, 40, 8):
        workdir = tmp_path / f"run{count}"
        with faults.failing_after(count, workdir):
            try:
                train_points(workdir)
                ends.append("done")
            except (UserError, RunError) as error:
                assert "Input/output error" in str(error) and is_one_line(error)
                ends.append("told")
        found = steps_in(workdir)
        assert_equal_trees(whole, train_points(workdir))
        assert set(found) <= {10, 20}
        assert metrics_of(workdir) == metrics_of(tmp_path / "whole")
    assert "told" in ends


def test_checkpoints_that_take_long_hold_up_no_step(tmp_path):
    """The second waits for the first, so the first is let go when the loop is at its last line."""
    with faults.slow(tmp_path / "run" / "checkpoints" / ".writing_10") as go_on:
        reached = []

        def look(step, metrics):
            reached.append(step)
            if step == 15:
                assert steps_in(tmp_path / "run") == []
                go_on.set()

        train_points(tmp_path / "run", callback=look)
    assert reached == [5, 10, 15, 20] and steps_in(tmp_path / "run") == [10, 20]


def test_a_disk_without_room_for_samples_and_records_costs_no_step(tmp_path, capsys):
    with faults.full(f"{tmp_path}/run/samples/."):  # the names of files half written
        train_points(tmp_path / "run", **{"log.sample_every": 5})
    said = capsys.readouterr().out
    assert said.count("No space left on device; make room") == 1
    assert "step 20 of 20: samples could not be written" in said
    assert steps_in(tmp_path / "run") == [10, 20]


OURS = ["config.json", "metrics.jsonl", "metrics.jsonl.old", ".lock", "recipe.py", "conditions.npz"]
FOLDERS = ["checkpoints", "samples", "tensorboard"]


def trained_with_others_files(workdir: pathlib.Path, put) -> list[str]:
    """Puts something in the place of each of a run's own names, and trains; what was said."""
    said = []
    for name in OURS + FOLDERS:
        # Most names are looked at alike in a workdir that is new.
        for steps in (None, 10) if name in (".lock", "metrics.jsonl", "checkpoints") else (10,):
            place = workdir / f"{name}-{steps}"
            place.mkdir(parents=True)
            if steps:
                train_points(place, steps=steps, recipe="a recipe")
                with contextlib.suppress(FileNotFoundError):
                    (place / name).rename(workdir / f"moved-{name}")
            put(place / name)
            try:
                train_points(place, recipe="a recipe", **{"log.tensorboard": True})
            except (UserError, RunError) as error:
                assert is_one_line(error)
                said.append(str(error))
    return said


def test_a_link_in_the_place_of_a_file_of_ours_is_never_followed(tmp_path, capsys):
    """Others may write in a shared workdir, too."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "20").mkdir()
    (tmp_path / "theirs" / ".writing_10").mkdir()
    (tmp_path / "file").write_text('{"step": 5}\n')
    before = holding(tmp_path / "theirs"), (tmp_path / "file").read_bytes()

    def put(path):
        path.symlink_to(tmp_path / ("theirs" if path.name in FOLDERS else "file"))

    said = trained_with_others_files(tmp_path / "runs", put)
    assert (holding(tmp_path / "theirs"), (tmp_path / "file").read_bytes()) == before
    told = "\n".join(said) + capsys.readouterr().out
    for name in ("metrics.jsonl", ".lock", "checkpoints", "samples", "tensorboard"):
        assert name in told and "it is a link" in told


def a_file_for_a_folder(path: pathlib.Path) -> None:
    path.write_text("theirs") if path.name in FOLDERS else path.mkdir()


@pytest.mark.parametrize("put", [os.mkfifo, a_file_for_a_folder])
def test_what_is_no_file_or_folder_of_ours_is_named_and_never_waited_for(tmp_path, put):
    said = trained_with_others_files(tmp_path / "runs", put)
    assert len(said) >= 6
    for name in ("metrics.jsonl", ".lock"):
        assert any(name in line and "it is no plain file" in line for line in said)
    assert any("checkpoints cannot be read: Not a directory" in line for line in said)
    assert any("samples cannot be written: it is no folder" in line for line in said)


def test_a_workdir_that_is_moved_or_let_to_another_run_ends_the_run_with_a_line(tmp_path):
    """What it trained after that would lie where nothing finds it."""

    def move(step, metrics):
        if step == 15:
            (tmp_path / "run").rename(tmp_path / "moved")

    with pytest.raises(RunError, match=r"run or the \.lock in it was moved or removed while the"):
        train_points(tmp_path / "run", callback=move, **{"log.checkpoint_every": 5})
    assert {5, 10} <= set(steps_in(tmp_path / "moved"))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)  # of a checkpoint that was under way
    (tmp_path / "moved").rename(tmp_path / "run")
    again = train_points(tmp_path / "run")
    assert_equal_trees(again, train_points(tmp_path / "whole"))


def test_a_lock_that_its_holder_removed_holds_nobody(tmp_path):
    """A refused run takes back what it made, the lock of a new workdir too."""
    with files.locked(tmp_path / ".lock") as first:
        (tmp_path / ".lock").unlink()
        assert not first.is_ours()
        with files.locked(tmp_path / ".lock") as second:
            assert second.is_ours()
            with pytest.raises(BlockingIOError), files.locked(tmp_path / ".lock"):
                pass


def test_what_a_killed_run_left_half_written_is_cleared_away_and_nothing_else(tmp_path):
    train_points(tmp_path, steps=10)
    for name in (".writing_x1.json", "samples/.writing_x2.png", ".mine", "samples/.mine"):
        (tmp_path / name).write_text("half")
    train_points(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob(".*") if p.name != ".lock") == [".mine", ".mine"]


# Clocks.
def test_a_clock_that_goes_back_disturbs_no_run(tmp_path, monkeypatch):
    clock = faults.JumpingClock()

    def jump(step, metrics):
        clock.now -= 1000.0

    monkeypatch.setattr("time.time", clock.seconds)
    monkeypatch.setattr("time.time_ns", lambda: int(clock.now * 1e9))
    train_points(tmp_path, callback=jump, **{"log.tensorboard": True})
    train_points(tmp_path, callback=jump, steps=30, **{"log.tensorboard": True})
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert all(record["examples_per_second"] >= 0 for record in records)


# Terminals.
def test_a_terminal_of_ascii_gets_what_it_can_show(tmp_path, monkeypatch):
    shown = faults.AsciiTerminal()
    monkeypatch.setattr(sys, "stdout", shown)
    train_points(tmp_path / "r\u00fcn \u65e5\u672c")
    assert r"r\xfcn \u65e5\u672c at step 0 of 20" in shown.shown


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("fault", ["gone", "closed", "none"])
def test_a_terminal_that_goes_away_costs_no_step(tmp_path, monkeypatch, stream, fault):
    lost = faults.LostTerminal()
    if fault == "closed":
        lost.close()
    monkeypatch.setattr(sys, stream, None if fault == "none" else lost)
    train_points(tmp_path)
    assert steps_in(tmp_path) == [10, 20]


# Numbers.
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
    train_points(tmp_path, steps=10)
    with pytest.raises(RunError) as error:
        train_points(tmp_path, centre_game(rate=1e30), may_differ=("game",))
    text = str(error.value)
    assert text.startswith("loss became ")
    assert "within steps 11 to 15; the checkpoint of step 10 is kept; look for such numbers" in text
    assert steps_in(tmp_path) == [10]


@pytest.mark.parametrize(("step", "kept"), [(1, "no checkpoint was made yet"), (2, "of step 1 is")])
def test_a_state_that_is_not_finite_is_not_saved_though_the_losses_were(tmp_path, step, kept):
    """A step's loss is that of the weights before it."""
    each: Any = {"steps": step, "log.checkpoint_every": 1, "log.every": 1}
    game = centre_game()
    player = Player(game.players["generator"].module, faults.turning_nan(step), 0.9)
    text = rf"not finite in step {step}: players\.generator\..*{kept}"
    with pytest.raises(RunError, match=text):
        train_points(tmp_path, game._replace(players={"generator": player}), **each)
    assert steps_in(tmp_path) == list(range(1, step))


def test_a_checkpoint_that_is_not_finite_is_neither_restored_nor_continued(tmp_path):
    """Older versions saved such states."""
    state = train_points(tmp_path, steps=10)
    generator = state.players["generator"]
    bad = generator.replace(ema=jax.tree.map(lambda x: x * np.nan, generator.ema))
    saver = checkpoint.open_checkpoints(tmp_path / "checkpoints", 3)
    saver.save(state.replace(step=jnp.int32(15), players={"generator": bad}), None)
    saver.wait()
    saver.close()
    text = r"the checkpoint of step 15 in .* is not finite: players\.generator\.ema\.centre"
    for act in (lambda: jaxgan.restore(tmp_path, centre_game()), lambda: train_points(tmp_path)):
        with pytest.raises(RunError, match=text):
            act()
    assert steps_in(tmp_path) == [10, 15]


# Memory.
def test_memory_that_does_not_suffice_is_one_line_with_what_helps(tmp_path):
    """A batch that no machine holds: NumPy's, in the reader, and XLA's, in the step."""

    def read(indices):
        raise MemoryError("Unable to allocate 12.4 GiB for an array with shape (1,)")

    text = r"this machine's memory does not suffice \(12.4 GiB were asked for\); use a smaller"
    with pytest.raises(RunError, match=text):
        train_points(tmp_path / "run", data=faults.numbers(read=read))
    assert not list(tmp_path.iterdir())


def test_memory_of_a_device_that_does_not_suffice_keeps_the_checkpoint(tmp_path):
    train_points(tmp_path, steps=10)

    def ask_for_too_much(step, metrics):
        jnp.zeros((2**46,), jnp.uint8).block_until_ready()

    text = r"memory does not suffice.*; the checkpoint of step 1[05] is kept; use a smaller"
    with pytest.raises(RunError, match=text):
        train_points(tmp_path, callback=ask_for_too_much)
    assert steps_in(tmp_path) in ([10], [10, 15])


# Callbacks.
def test_an_error_of_a_callback_comes_out_as_it_is_and_the_run_can_go_on(tmp_path):
    whole = train_points(tmp_path / "whole")

    def fail(step, metrics):
        if step == 15:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        train_points(tmp_path / "run", callback=fail)
    assert steps_in(tmp_path / "run") == [10, 15]  # no step is lost for it
    with workdirs.held(tmp_path / "run"):  # it was let go
        pass
    assert_equal_trees(whole, train_points(tmp_path / "run"))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_callback_that_ends_the_program_costs_no_step(tmp_path, error):
    def leave(step, metrics):
        raise error(step)

    with pytest.raises(error):
        train_points(tmp_path, callback=leave)
    assert steps_in(tmp_path) == [5]


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_hook_that_raises_costs_no_step(tmp_path, place):
    calls = []

    def fail(what):
        calls.append(what)
        if len(calls) == 8:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError):
        train_points(tmp_path, more_hooks=(Hook(10**6, **{place: fail}),))
    assert steps_in(tmp_path) == [7 if place == "before" else 8]


def test_a_damaged_checkpoint_is_told_and_the_run_goes_on_from_the_one_before(tmp_path, capsys):
    whole = train_points(tmp_path / "whole")
    train_points(tmp_path / "damaged")
    written = (tmp_path / "damaged" / "checkpoints" / "20").rglob("*")
    largest = max(written, key=lambda p: p.stat().st_size * p.is_file())
    largest.write_bytes(largest.read_bytes()[:-1])
    capsys.readouterr()
    again = train_points(tmp_path / "damaged")
    said = capsys.readouterr().out
    assert "checkpoint 20 is damaged" in said and "resuming" in said and "at step 10 of 20" in said
    assert_equal_trees(whole, again)
