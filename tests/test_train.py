"""Whole runs: resuming bit for bit, kills at any moment, signals, full disks, losses that are not finite."""

import concurrent.futures
import json
import pathlib
import random
import resource
import signal
import subprocess

import jax
import numpy as np
import pytest
from conftest import assert_equal_trees, command, run, small_flags

from jaxgan import checkpoint, train, workdir
from jaxgan.config import replace
from jaxgan.data import feeds
from jaxgan.errors import RunError, UserError
from jaxgan.records import read_metrics


def without_speed(workdir):
    return [
        {k: v for k, v in record.items() if k != "images_per_second"}
        for record in read_metrics(workdir / "metrics.jsonl")
    ]


@pytest.mark.parametrize("limit", [2048, 0], ids=["resident", "streamed"])
def test_ten_steps_and_ten_more_equal_twenty(tmp_path, small, limit):
    config = replace(small, {"data.resident_limit_mb": limit})
    whole = train.train(config, tmp_path / "whole")
    train.train(replace(config, {"steps": 10}), tmp_path / "halves")
    halves = train.train(config, tmp_path / "halves")
    assert_equal_trees(whole, halves)
    assert int(whole.step) == 20
    assert without_speed(tmp_path / "whole") == without_speed(tmp_path / "halves")
    if limit == 0:
        manifest = json.loads(
            (tmp_path / "halves" / "checkpoints" / "20" / "manifest.json").read_text()
        )
        assert manifest["position"]["next_index"] == 20


def test_a_run_on_one_device_goes_on_on_four_and_back(tmp_path, small):
    one = replace(small, {"steps": 10, "optimizer.generator_rate": 1e-3, "log.checkpoint_every": 5})
    alone = train.train(replace(one, {"steps": 20}), tmp_path / "alone")
    train.train(one, tmp_path / "moved")
    train.train(replace(one, {"steps": 15, "devices": 4}), tmp_path / "moved")
    moved = train.train(replace(one, {"steps": 20}), tmp_path / "moved")
    assert int(moved.step) == 20
    distance = lambda a, b: np.sqrt(
        sum(float(((x - y) ** 2).sum()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
    )
    start = train._first_state(train.make_game(one), one, tmp_path / "nothing")[0]
    for player in ("generator", "discriminator"):
        ours, theirs, first = (getattr(state, player).params for state in (moved, alone, start))
        # Summation order differs in five steps; Adam magnifies the rounding of small gradients. A wrong state would be off by all of it.
        assert distance(ours, theirs) < 0.01 * distance(theirs, first)


def test_several_steps_a_call_train_the_same(tmp_path, small):
    single = train.train(small, tmp_path / "single")
    several = train.train(
        replace(small, {"log.steps_per_call": 5, "log.every": 10}), tmp_path / "several"
    )
    # The loop's program sums in another order; weights are of size 0.02 and have moved by 20 steps of 2e-4.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=4e-4), single.ema, several.ema
    )
    assert int(several.step) == 20


def test_a_workdir_holds_what_it_should(tmp_path, small):
    train.train(
        replace(small, {"log.tensorboard": True, "log.sample_every": 10, "log.keep": 1}), tmp_path
    )
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 8
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [
        5,
        10,
        15,
        20,
    ]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [
        "step_00000010.png",
        "step_00000020.png",
    ]
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [20]
    content = b"".join(p.read_bytes() for p in (tmp_path / "tensorboard").iterdir())
    assert b"loss_discriminator" in content and b"samples" in content


def test_the_lines_of_a_killed_run_are_made_again_once(tmp_path, small):
    train.train(replace(small, {"steps": 10}), tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "loss_discriminator": 0}\n{"step": 2')  # as a kill leaves them
    train.train(small, tmp_path)
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [
        5,
        10,
        15,
        20,
    ]
    assert read_metrics(tmp_path / "metrics.jsonl")[2]["loss_discriminator"] != 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"seed": 1},
            r"holds another run: seed was 0, now 1; choose another --workdir or that config",
        ),
        ({"steps": 5}, r"steps=5 but .* is already at step 10; use --steps 10 or more"),
    ],
)
def test_another_config_is_refused_and_nothing_changes(tmp_path, small, changes, text):
    train.train(replace(small, {"steps": 10}), tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=text):
        train.train(replace(small, {"steps": 10, **changes}), tmp_path)
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_a_finished_run_says_so(tmp_path, small, capsys):
    config = replace(small, {"steps": 10})
    first = train.train(config, tmp_path)
    second = train.train(config, tmp_path)
    assert_equal_trees(first, second)
    assert "already at step 10 of 10; use more --steps" in capsys.readouterr().out


def test_a_refused_command_leaves_nothing_behind(tmp_path, small):
    for changes, must_resume in [
        ({}, True),
        ({"data.name": "minst"}, False),
        ({"batch_size": 5000}, False),
    ]:
        with pytest.raises(UserError):
            train.train(replace(small, changes), tmp_path / "run", must_resume)
    assert not list(tmp_path.iterdir())


def holding(folder):
    """What lies in a folder, with the content of the files."""
    return {
        p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")
    }


@pytest.mark.parametrize("name", ["notes.txt", "checkpoints/20/manifest.json"])
def test_a_refused_command_leaves_a_folder_that_held_something_as_it_was(tmp_path, small, name):
    workdir = tmp_path / "run"
    (workdir / name).parent.mkdir(parents=True)
    (workdir / name).write_text("mine")
    before = holding(workdir)
    with pytest.raises(UserError):
        train.train(replace(small, {"batch_size": 5000}), workdir)
    assert holding(workdir) == before


@pytest.mark.parametrize("error", [UserError, RunError, RuntimeError])
@pytest.mark.parametrize("result", ["config.json", "metrics.jsonl", "checkpoints/1/manifest.json"])
def test_no_error_takes_a_workdir_with_a_result_in_it(tmp_path, error, result):
    with pytest.raises(error), workdir.owned(tmp_path / "run"):
        (tmp_path / "run" / result).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / result).write_text("a result")
        raise error("in mid-run")
    assert (tmp_path / "run" / result).read_text() == "a result"


def test_data_that_cannot_be_read_before_the_start_leave_nothing_behind(
    tmp_path, small, monkeypatch
):
    monkeypatch.setattr(feeds, "_read", fail_to_read)
    with pytest.raises(RunError, match="the disk is gone"):
        train.train(small, tmp_path / "runs" / "run")
    assert not list(tmp_path.iterdir())


def fail_to_read(*_):
    raise RunError("the disk is gone")


@pytest.mark.parametrize("error", [RunError, ValueError])
def test_data_that_cannot_be_read_any_more_cost_no_step(tmp_path, small, monkeypatch, error):
    """Whatever the reader raises, the last whole step is saved; resumed, the run ends in the same bits."""
    config = replace(small, {"data.resident_limit_mb": 0})
    whole, read, broken = train.train(config, tmp_path / "whole"), feeds._read, [True]
    bad = feeds.batch_indices(config.seed, 13, config.batch_size, 1797)

    def read_or_fail(*arguments):
        if broken and np.array_equal(arguments[-1], bad):
            raise error("the disk is gone")
        return read(*arguments)

    monkeypatch.setattr(feeds, "_read", read_or_fail)
    saved, kept = "", ""
    if error is RunError:
        saved, kept = "; step 13 is saved", "; the checkpoint of step 13 is kept"
    with pytest.raises(error, match=f"the disk is gone{saved}"):
        train.train(config, tmp_path / "run")
    assert checkpoint.steps_in(tmp_path / "run" / "checkpoints") == [10, 13]
    with pytest.raises(error, match=f"the disk is gone{kept}"):
        train.train(config, tmp_path / "run", must_resume=True)
    broken.clear()
    assert_equal_trees(whole, train.train(config, tmp_path / "run", must_resume=True))
    assert without_speed(tmp_path / "whole") == without_speed(tmp_path / "run")


def test_checkpoints_that_cannot_be_read_do_not_count_as_none(tmp_path, small, monkeypatch):
    train.train(replace(small, {"steps": 10}), tmp_path)
    before = holding(tmp_path)
    listing = pathlib.Path.iterdir

    def denied(path):
        if path.name == "checkpoints":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(pathlib.Path, "iterdir", denied)
    with pytest.raises(RunError, match="checkpoints cannot be read: Permission denied"):
        train.train(small, tmp_path)
    monkeypatch.undo()
    assert holding(tmp_path) == before


def test_resuming_can_be_demanded(tmp_path, small):
    with pytest.raises(UserError, match="holds no checkpoint to resume from; leave out --resume"):
        train.train(small, tmp_path, must_resume=True)


def test_a_workdir_in_use_is_refused(tmp_path, small):
    with workdir.owned(tmp_path), pytest.raises(UserError, match="in use by another run"):
        train.train(small, tmp_path)


def test_a_workdir_that_cannot_be_made_is_named(tmp_path, small):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"workdir=.*file/run. cannot be written: Not a directory; choose another"
    ):
        train.train(small, tmp_path / "file" / "run")


@pytest.mark.parametrize("line", ["{}", "not json", '{"step": "x"}', "\udcff"])
def test_a_damaged_line_of_metrics_is_named(tmp_path, small, line):
    train.train(replace(small, {"steps": 10}), tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + line.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl line 3 is not a record; mend that line"):
        train.train(small, tmp_path)


def test_checkpoints_of_an_unknown_config_are_not_continued(tmp_path, small):
    train.train(replace(small, {"steps": 10}), tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"holds results but no config\.json"):
        train.train(small, tmp_path)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [10]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"model.generator_width": 6},
            r"of shape .*, this config needs .*; restore that run's config\.json",
        ),
        ({"model.generator_width": 4.5}, r"model\.generator_width='4\.5' is not a whole number"),
        ({"objective.name": "foo"}, "unknown objective 'foo'"),
    ],
)
def test_a_config_that_does_not_fit_its_checkpoints_is_named(tmp_path, small, changes, text):
    train.train(replace(small, {"steps": 10}), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=text):
        train.restore(tmp_path)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [10]  # not set aside as damaged


def test_grids_that_cannot_be_written_cost_no_step(tmp_path, small, monkeypatch, capsys):
    def fail(*_):
        raise RunError("no room for a grid")

    monkeypatch.setattr(train.sampling, "save", fail)
    train.train(replace(small, {"log.sample_every": 5}), tmp_path)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [10, 20]
    said = capsys.readouterr().out
    assert said.count("no room for a grid; training goes on") == 1
    assert "step 20 of 20: samples could not be written" in said


@pytest.mark.parametrize("content", ["", "[1]", '{"no_such_field": 1}'])
def test_a_damaged_config_is_named(tmp_path, small, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json cannot be read|holds another run"):
        train.train(small, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_with_its_step_and_keeps_the_last_checkpoint(
    tmp_path, small
):
    train.train(replace(small, {"steps": 10, "optimizer.generator_rate": 1e-4}), tmp_path)
    bad = json.loads((tmp_path / "config.json").read_text()) | {"optimizer.generator_rate": 1e30}
    (tmp_path / "config.json").write_text(json.dumps(bad))
    with pytest.raises(RunError) as error:
        train.train(replace(small, {"optimizer.generator_rate": 1e30}), tmp_path)
    text = str(error.value)
    assert (
        "became" in text
        and "within steps 11 to 15; the checkpoint of step 10 is kept; lower --optimizer.generator-rate"
        in text
    )
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [10]


@pytest.mark.filterwarnings("ignore:overflow")  # NumPy's, of a rate beyond float32
def test_a_state_that_is_not_finite_is_not_saved_though_the_losses_were(tmp_path, small):
    """The first step's losses are those of the weights before it."""
    config = replace(
        small,
        {"steps": 1, "optimizer.generator_rate": 1e39, "log.checkpoint_every": 1, "log.every": 1},
    )
    text = r"not finite in step 1: generator\.params\..*; no checkpoint was made yet; lower"
    with pytest.raises(RunError, match=text):
        train.train(config, tmp_path)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == []


def test_a_checkpoint_that_is_not_finite_is_neither_sampled_nor_continued(tmp_path, small):
    """Older versions saved such states."""
    state = train.train(replace(small, {"steps": 10}), tmp_path)
    bad = jax.tree.map(lambda x: x * np.nan, state.ema)
    saver = checkpoint.open_checkpoints(tmp_path / "checkpoints", 3)
    saver.save(state.replace(step=jax.numpy.int32(15), ema=bad), None)
    saver.wait()
    saver.close()
    text = r"the checkpoint of step 15 in .* is not finite: ema\."
    with pytest.raises(RunError, match=text):
        train.restore(tmp_path)
    with pytest.raises(RunError, match=text):
        train.train(small, tmp_path)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [10, 15]


def test_a_damaged_checkpoint_is_told_and_the_run_goes_on_from_the_one_before(
    tmp_path, small, capsys
):
    whole = train.train(small, tmp_path / "whole")
    train.train(small, tmp_path / "damaged")
    largest = max(
        (tmp_path / "damaged" / "checkpoints" / "20").rglob("*"), key=lambda p: p.stat().st_size
    )
    largest.write_bytes(largest.read_bytes()[:-1])
    again = train.train(small, tmp_path / "damaged")
    said = capsys.readouterr().out
    assert "checkpoint 20 is damaged" in said and "resuming" in said and "at step 10 of 20" in said
    assert_equal_trees(whole, again)


# --------------------------------------------------------------------------------------------------------- in a process of its own
def start(*words: str) -> subprocess.Popen[str]:
    words_, environment = command(*words)
    return subprocess.Popen(
        words_, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines_until(process: subprocess.Popen[str], count: int) -> None:
    """Reads until `count` lines of losses were printed, or the process ends."""
    assert process.stdout is not None
    for line in process.stdout:
        count -= line.startswith("[")
        if count <= 0:
            return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_cleanly(tmp_path, number):
    process = start(
        "train",
        "--workdir",
        str(tmp_path),
        *small_flags(steps=10**6, **{"log.every": 1, "log.checkpoint_every": 10**6}),
    )
    lines_until(process, 3)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    (step,) = checkpoint.steps_in(tmp_path / "checkpoints")
    assert step >= 3
    assert (
        f"stopped by {number.name} at step {step} of 1000000, saved; the same command resumes"
        in out
    )
    assert err == ""


def test_training_goes_on_when_nobody_reads_its_lines(tmp_path):
    process = start("train", "--workdir", str(tmp_path), *small_flags())
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert process.stderr is not None and process.stderr.read() == ""
    process.stderr.close()
    assert checkpoint.steps_in(tmp_path / "checkpoints") == [10, 20]


KILLS = 20
KILLED = {
    "data.name": "shapes",
    "steps": 60,
    "log.every": 1,
    "log.checkpoint_every": 2,
    "log.keep": 2,
}


def killed_until_done(workdir: pathlib.Path, seed: int, kills: int) -> int:
    """Runs and kills, at seeded moments: after some lines, or as soon as a checkpoint is being written; then lets it end."""
    chance = random.Random(seed)
    words = ["train", "--workdir", str(workdir), *small_flags(**KILLED)]
    during_save = 0
    for _ in range(kills):
        process = start(*words)
        lines_until(process, chance.randint(1, 3))
        if chance.random() < 0.6:
            while process.poll() is None and not list((workdir / "checkpoints").glob(".writing_*")):
                pass
        during_save += bool(list((workdir / "checkpoints").glob(".writing_*")))
        process.kill()
        process.communicate()
        for step in checkpoint.steps_in(workdir / "checkpoints"):
            assert (workdir / "checkpoints" / str(step) / "manifest.json").exists()
    process = start(*words)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return during_save


def test_a_run_killed_twenty_times_ends_in_the_bits_of_the_undisturbed_run(tmp_path):
    done = run("train", "--workdir", str(tmp_path / "whole"), *small_flags(**KILLED))
    assert done.returncode == 0, done.stderr
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        during_save = sum(
            pool.map(lambda i: killed_until_done(tmp_path / f"killed{i}", i, KILLS // 2), range(2))
        )
    assert during_save > 0  # some of the kills hit a checkpoint that was being written
    _, whole = train.restore(tmp_path / "whole")
    for i in range(2):
        _, killed = train.restore(tmp_path / f"killed{i}")
        assert int(killed.step) == 60
        assert_equal_trees(whole, killed)
        assert without_speed(tmp_path / f"killed{i}") == without_speed(tmp_path / "whole")


def test_a_full_disk_is_reported_and_the_last_checkpoint_survives(tmp_path):
    """A limit on the size of files stands in for the disk: writes fail as they do when it is full, with another number."""
    flags = small_flags(steps=10, **{"model.latent_size": 1024})
    assert run("train", "--workdir", str(tmp_path), *flags).returncode == 0
    process = start("train", "--workdir", str(tmp_path), *flags, "--steps", "20")
    resource.prlimit(
        process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000)
    )  # a checkpoint has 300 kB, each log less than 20
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.count("\n") == 1, err
    assert (
        "a checkpoint could not be written" in err
        and "the checkpoint of step 10 is complete; make room" in err
    )
    _, state = train.restore(tmp_path)
    assert int(state.step) == 10


RECORDS_LIMIT = 24_000  # bytes; the largest file of a checkpoint has 20 kB, 300 lines have 50


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGINT])
def test_a_run_whose_records_find_no_room_goes_on_heeds_signals_and_saves(tmp_path, number):
    steps = 10**6 if number else 300
    changes = {"log.every": 1, "log.tensorboard": True, "log.checkpoint_every": 10**6}
    process = start(
        "train", "--workdir", str(tmp_path), *small_flags(**{**changes, "steps": steps})
    )
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (RECORDS_LIMIT, RECORDS_LIMIT))
    assert process.stdout is not None
    said = ""
    if number:
        lost = 0
        while lost < 2 and (line := process.stdout.readline()):
            lost += "cannot be written: File too large" in line
            said += line
        lines_until(process, 30)  # more than tensorboardX's queue takes
        process.send_signal(number)
    rest, err = process.communicate(timeout=120)
    said += rest
    assert process.returncode == 0 and "Traceback" not in err, err
    for name in ("metrics.jsonl", "tensorboard"):
        assert said.count(f"{name} cannot be written: File too large") == 1
    (step,) = checkpoint.steps_in(tmp_path / "checkpoints")
    assert f"stopped by {number.name} at step {step}" in said if number else step == 300
    written = read_metrics(tmp_path / "metrics.jsonl")  # whole lines
    assert 0 < len(written) < 300 and f"{step - len(written)} lines of" in said


def test_a_finished_run_keeps_its_config_when_asked_again_with_other_operations(small, tmp_path):
    train.train(replace(small, {"steps": 5, "kernels": "plain"}), tmp_path)
    before = (tmp_path / "config.json").read_text()
    train.train(replace(small, {"steps": 5, "kernels": "xla"}), tmp_path)
    assert (tmp_path / "config.json").read_text() == before and '"plain"' in before
