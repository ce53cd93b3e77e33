"""The command as a process of its own: its streams, signals, and what surrounds it."""

import concurrent.futures
import json
import os
import signal
import subprocess

import pytest
from runs import RECIPE, RUN, command, flags, run

from jaxgan.run import checkpoint, compiled

SECONDS = 120  # after which a hang is a failure; a run takes five


@pytest.fixture
def words(tmp_path):
    """A small run of a user's file, which compiles in a moment."""
    (tmp_path / "mine.py").write_text(RECIPE)
    place = ["train", f"{tmp_path}/mine.py:centre", "--workdir", str(tmp_path / "run")]
    return [*place, *flags(RUN)]


def steps_in(workdir):
    return checkpoint.steps_in(workdir / "checkpoints")


@pytest.mark.parametrize(
    ("name", "events"),
    [("SIGTERM", (400, 2500, 9000)), ("SIGUSR1", (13000, 15500)), ("SIGINT", (17000, 19500))],
)
def test_a_signal_at_any_moment_saves_or_says_that_there_was_nothing_to(tmp_path, name, events):
    """From the first import to the last write, of which a run has some twenty thousand."""
    (tmp_path / "mine.py").write_text(RECIPE)
    recipe, number = f"{tmp_path}/mine.py:centre", signal.Signals[name]

    def stopped_at(event):
        place = ["--workdir", str(tmp_path / str(event)), *flags(RUN)]
        return run("train", recipe, *place, JAXGAN_TESTS_FAULT=f"signal_at {name} {event}")

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = dict(zip(events, pool.map(stopped_at, events)))
    for event, process in done.items():
        workdir = tmp_path / str(event)
        if process.returncode == 0:
            assert process.stderr == "" and steps_in(workdir)
        elif process.returncode == 128 + number:
            said = f"jaxgan: stopped by {name} before there was anything to save\n"
            assert process.stderr == said and not steps_in(workdir)
        else:  # before our first line, while Python itself began
            assert (process.returncode, process.stdout) == (-number, "")
    if events[0] == 9000:
        assert done[9000].returncode == 143


def test_closed_streams_stop_no_run_and_lend_their_numbers_to_no_file(tmp_path, words):
    """The next file to be opened would be standard error, and get what C++ says there."""
    line, environment = command(*words)
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *line]
    assert subprocess.run(shell, env=environment, timeout=SECONDS).returncode == 0
    assert steps_in(tmp_path / "run") == [10, 20]
    assert (tmp_path / "run" / ".lock").read_bytes() == b""
    for record in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(record)


def test_a_mistake_has_its_status_where_nobody_hears_of_it(words):
    line, environment = command(*words, "--batch-size", "0")
    shell = ["sh", "-c", 'exec "$@" 2>&-', "sh", *line]
    assert subprocess.run(shell, env=environment, timeout=SECONDS).returncode == 2


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_devices_that_are_not_there_are_one_line(tmp_path, words, platform):
    done = run(*words, JAX_PLATFORMS=platform)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"jaxgan: JAX_PLATFORMS={platform}: JAX finds no device: ")
    assert "unset it to train on what there is" in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_installation_that_cannot_be_imported_is_one_line(words):
    done = run(*words, JAX_NUM_CPU_DEVICES="x")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "what is installed cannot be imported: ValueError: " in done.stderr


def test_without_a_home_or_an_entry_for_the_user_runs_are_made(tmp_path, words):
    done = run(*words, JAXGAN_TESTS_FAULT="without_home")
    assert (done.returncode, done.stderr) == (0, "")
    assert steps_in(tmp_path / "run") == [10, 20]
    done = run("train", "digits", "--workdir", "~/x", JAXGAN_TESTS_FAULT="without_home")
    assert done.returncode == 2 and "set HOME" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file:///tmp/x", "it is no kind of store that JAX knows"),
        ("/dev/null/x", "Not a directory"),
    ],
)
def test_a_place_where_no_compiled_program_can_be_kept_is_one_line(words, place, reason):
    done = run(*words, JAX_COMPILATION_CACHE_DIR=place)
    text = (
        f"jaxgan: compiled programs cannot be kept in {place}: {reason}; each start compiles anew\n"
    )
    assert (done.returncode, done.stderr) == (0, text)


def test_a_full_disk_of_compiled_programs_is_one_line(tmp_path, words):
    line, environment = command(*words, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "compiled"))
    # Checkpoints and records are smaller than programs.
    shell = ["bash", "-c", 'ulimit -f 12; exec "$@"', "bash", *line]
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0 and done.stderr.count("\n") == 1, done.stderr
    assert "compiled programs cannot be kept in" in done.stderr
    assert all(path.stat().st_size for path in (tmp_path / "compiled").glob("*-cache"))


def test_a_damaged_compiled_program_is_told_once_and_made_anew(tmp_path, words):
    cache = tmp_path / "compiled"
    environment = {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    assert run(*words, "--steps", "10", **environment).returncode == 0
    entries = list(cache.glob("*-cache"))
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:-20])
        os.utime(entry, (0, 0))
    done = run(*words, **environment)
    assert done.returncode == 0
    said = done.stderr.splitlines()
    assert said and all("of the compiled programs kept in" in line for line in said)
    assert run(*words, "--steps", "30", **environment).stderr == ""


def test_an_entry_that_another_process_may_be_writing_is_left(tmp_path):
    entry = tmp_path / "jit_step-0123-cache"
    entry.write_bytes(b"the first half")
    assert compiled._without_damaged(tmp_path, "jit_step") == 0 and entry.exists()
    os.utime(entry, (0, 0))
    assert compiled._without_damaged(tmp_path, "jit_step") == 1 and not entry.exists()
