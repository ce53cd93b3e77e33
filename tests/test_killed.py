"""Runs in processes of their own: signals, kills at any moment, full disks, readers that go."""

import concurrent.futures
import pathlib
import random
import resource
import signal
import subprocess

import pytest
from helpers import assert_equal_trees
from runs import RECIPE, RUN, flags, metrics_of, run, start

import jaxgan
from jaxgan.run import checkpoint
from jaxgan.run.records import read_metrics

SECONDS = 120  # after which a hang is a failure; a run takes five


@pytest.fixture
def recipe(tmp_path):
    """A user's file, which compiles in a moment."""
    (tmp_path / "mine.py").write_text(RECIPE)
    return f"{tmp_path}/mine.py:centre"


def steps_in(workdir):
    return checkpoint.steps_in(workdir / "checkpoints")


def words(recipe, workdir, **changes):
    return ["train", recipe, "--workdir", str(workdir), *flags({**RUN, **changes})]


def lines_until(process: subprocess.Popen[str], count: int) -> None:
    """Reads until `count` lines of losses were printed, or the process ends."""
    assert process.stdout is not None
    for line in process.stdout:
        count -= line.startswith("[")
        if count <= 0:
            return


def test_each_signal_that_stops_saves_and_exits_cleanly(tmp_path, recipe):
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]
    endless = {"steps": 10**6, "log.every": 1, "log.checkpoint_every": 10**6}
    started = [start(*words(recipe, tmp_path / number.name, **endless)) for number in numbers]
    for process, number in zip(started, numbers):
        lines_until(process, 3)
        process.send_signal(number)
    for process, number in zip(started, numbers):
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, err) == (0, ""), number
        (step,) = steps_in(tmp_path / number.name)
        assert step >= 3
        said = f"stopped by {number.name} at step {step} of 1000000, saved; the same command"
        assert said in out


def test_training_goes_on_when_nobody_reads_its_lines(tmp_path, recipe):
    process = start(*words(recipe, tmp_path / "run"))
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=SECONDS) == 0
    with process.stderr:
        assert process.stderr.read() == ""
    assert steps_in(tmp_path / "run") == [10, 20]


KILLS = 20
# Records lie between checkpoints, and checkpoints between records.
KILLED = {"steps": 60, "log.every": 2, "log.checkpoint_every": 3, "log.keep": 2}


def killed_until_done(recipe: str, workdir: pathlib.Path, seed: int, kills: int) -> int:
    """Runs and kills, at seeded moments: after some lines, or as soon as a checkpoint is being
    written; then lets it end. Gives how often it was killed within a checkpoint."""
    chance = random.Random(seed)
    command = words(recipe, workdir, **KILLED)
    during_save = 0
    for _ in range(kills):
        process = start(*command)
        lines_until(process, chance.randint(1, 3))
        if chance.random() < 0.6:
            while process.poll() is None and not list((workdir / "checkpoints").glob(".writing_*")):
                pass
        during_save += bool(list((workdir / "checkpoints").glob(".writing_*")))
        process.kill()
        process.communicate()
        for step in steps_in(workdir):
            assert (workdir / "checkpoints" / str(step) / "manifest.json").exists()
    process = start(*command)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    return during_save


def test_a_run_killed_twenty_times_ends_in_the_bits_of_the_undisturbed_run(tmp_path, recipe):
    done = run(*words(recipe, tmp_path / "whole", **KILLED))
    assert done.returncode == 0, done.stderr

    def kill(i):
        return killed_until_done(recipe, tmp_path / f"killed{i}", i, KILLS // 2)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        during_save = sum(pool.map(kill, range(2)))
    assert during_save > 0  # some of the kills hit a checkpoint that was being written
    whole = jaxgan.restore(tmp_path / "whole").state
    for i in range(2):
        killed = jaxgan.restore(tmp_path / f"killed{i}").state
        assert int(killed.step) == 60
        assert_equal_trees(whole, killed)
        assert metrics_of(tmp_path / f"killed{i}") == metrics_of(tmp_path / "whole")


def limited(process: subprocess.Popen[str], size: int) -> subprocess.Popen[str]:
    """A limit on the size of files stands in for the disk: writes fail as they do when it is full,
    with another number."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
    return process


def test_a_full_disk_is_reported_and_the_last_checkpoint_survives(tmp_path):
    large = 'self.param("more", nn.initializers.normal(1.0), (25_000,))\n        return'
    (tmp_path / "large.py").write_text(RECIPE.replace("return", large, 1))
    recipe, workdir = f"{tmp_path}/large.py:centre", tmp_path / "run"
    assert run(*words(recipe, workdir, steps=10)).returncode == 0
    # A checkpoint has 400 kB, each log less than 20.
    process = limited(start(*words(recipe, workdir)), 20_000)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert err.count("\n") == 1, err
    assert "a checkpoint could not be written" in err
    assert "the checkpoint of step 10 is complete; make room" in err
    assert int(jaxgan.restore(workdir).state.step) == 10


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_a_run_whose_records_find_no_room_goes_on_heeds_signals_and_saves(tmp_path, recipe, number):
    steps, workdir = 10**6 if number else 300, tmp_path / "run"
    changes = {"log.every": 1, "log.tensorboard": True, "log.checkpoint_every": 10**6}
    # The largest file of a checkpoint has less, 300 lines and their events have more.
    process = limited(start(*words(recipe, workdir, steps=steps, **changes)), 12_000)
    assert process.stdout is not None
    said = ""
    if number:
        lost = 0
        while lost < 2 and (line := process.stdout.readline()):
            lost += "cannot be written: File too large" in line
            said += line
        lines_until(process, 30)  # more than tensorboardX's queue takes
        process.send_signal(number)
    rest, err = process.communicate(timeout=SECONDS)
    said += rest
    assert process.returncode == 0 and "Traceback" not in err, err
    for name in ("metrics.jsonl", "tensorboard"):
        assert said.count(f"{name} cannot be written: File too large") == 1
    (step,) = steps_in(workdir)
    assert f"stopped by {number.name} at step {step}" in said if number else step == 300
    written = read_metrics(workdir / "metrics.jsonl")  # whole lines
    assert 0 < len(written) < 300 and f"{step - len(written)} lines of" in said
