"""Records: whole lines and events, and nothing that cannot be written ends or blocks a run."""

import errno
import json
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from jaxgan import images
from jaxgan.errors import RunError, UserError
from jaxgan.run import records
from jaxgan.run.tensorboard import EventFile

FORMAT: Any = event_pb2  # generated: its names are unknown to type checkers
RECORD = {"loss_generator": 2.0, "score_real": 0.5, "examples_per_second": 10.0}
GRID = {"image": np.zeros((4, 8, 8, 1), np.uint8)}


def events(folder):
    """The events of a folder's files, whose checksums are looked at."""
    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            data, checksums = content[12 : 12 + length], (content[8:12], content[12 + length :][:4])
            for part, checksum in zip((content[:8], data), checksums):
                assert masked_crc32c(part) == int.from_bytes(checksum, "little")
            event = FORMAT.Event()
            event.ParseFromString(data)
            found.append(event)
            content = content[16 + length :]
    return found


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def opened(folder, step=0, events=False):
    return records.Records(folder, step, 100, 10, events)


def test_an_event_file_holds_what_was_written(tmp_path):
    first = EventFile(tmp_path)
    first.scalars(3, {"loss": 0.5, "score": 2.0})
    first.image(3, "samples", np.zeros((4, 5, 3), np.uint8))
    first.close()
    version, loss, score, image = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    tags = [(event.step, event.summary.value[0].tag) for event in (loss, score, image)]
    assert tags == [(3, "loss"), (3, "score"), (3, "samples")]
    assert (loss.summary.value[0].simple_value, score.summary.value[0].simple_value) == (0.5, 2.0)
    assert image.summary.value[0].image.height == 4 and image.summary.value[0].image.width == 5


def test_a_resumed_run_gets_a_file_of_its_own_that_takes_back_later_steps(tmp_path):
    EventFile(tmp_path).close()
    EventFile(tmp_path, purge_step=7).close()
    assert len(list(tmp_path.iterdir())) == 2
    assert events(tmp_path)[-1].step == 7 and events(tmp_path)[-1].session_log.status == 1


def test_a_tensorboard_that_cannot_be_written_is_told_once_and_left(tmp_path, capsys, monkeypatch):
    log = opened(tmp_path, events=True)
    monkeypatch.setattr(EventFile, "_write", full)
    for step in range(1, 31):  # more than tensorboardX's queue takes
        log.metrics({"step": step, **RECORD})
    log.samples(30, GRID)
    log.wait()
    log.close()
    said = capsys.readouterr().out
    text = "tensorboard cannot be written: No space left on device; training goes on without it"
    assert said.count(text) == 1
    assert len(records.read_metrics(tmp_path / "metrics.jsonl")) == 30
    assert (tmp_path / "samples" / "step_00000030.png").exists()


def test_a_tensorboard_that_cannot_be_made_is_told_and_left(tmp_path, capsys):
    (tmp_path / "tensorboard").write_text("")
    log = opened(tmp_path, events=True)
    log.metrics({"step": 1, **RECORD})
    log.close()
    assert "tensorboard cannot be written: it is no folder; training" in capsys.readouterr().out


def test_lines_that_cannot_be_written_come_whole_and_in_order_when_there_is_room(tmp_path):
    """A limit on the size of files is the full disk, and is raised again."""
    code = """
        import pathlib, resource, sys
        from jaxgan.run.records import LineFile
        file = LineFile(pathlib.Path(sys.argv[1]))
        file.write("a" * 10)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (15, limit[1]))
        for letter in "bc":
            try:
                file.write(letter * 10)
            except OSError as error:
                print(error.strerror, file.behind, pathlib.Path(sys.argv[1]).stat().st_size)
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        file.write("d" * 10)
        print(file.behind)
    """
    words = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "f")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout == "File too large 1 11\nFile too large 2 11\n0\n", done.stderr
    assert (tmp_path / "f").read_text() == "".join(letter * 10 + "\n" for letter in "abcd")


def test_metrics_that_cannot_be_written_are_told_once_and_counted_at_the_end(
    tmp_path, capsys, monkeypatch
):
    log = opened(tmp_path)
    log.metrics({"step": 1, **RECORD})
    log._lines._file.close()
    monkeypatch.setattr(log._lines, "_file", (tmp_path / "metrics.jsonl").open("rb", buffering=0))
    log.metrics({"step": 2, **RECORD})
    log.metrics({"step": 3, **RECORD})
    log.close()
    said = capsys.readouterr().out
    assert said.count("metrics.jsonl cannot be written") == 1
    assert "2 lines of" in said and "could not be written" in said


def test_a_grid_that_cannot_be_written_is_told_once(tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise RunError("a grid cannot be written: No space left on device")

    monkeypatch.setattr(images, "save", fail)
    log = opened(tmp_path)
    for step in (1, 2):
        log.samples(step, GRID)
    log.wait()
    log.close()
    assert capsys.readouterr().out.count("a grid cannot be written") == 1
    assert log.lost == {"samples"}


def test_the_metrics_of_a_run_whose_checkpoints_are_gone_are_kept_beside(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = "".join(json.dumps({"step": step, **RECORD}) + "\n" for step in (5, 10))
    path.write_text(lines)
    assert records.drop_lines_after(path, 0) == 2
    assert path.read_text() == "" and (tmp_path / "metrics.jsonl.old").read_text() == lines


def test_a_resumed_run_drops_what_it_makes_again_and_says_so(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, **RECORD}) + "\n" for step in (5, 10, 15)]
    path.write_text("".join(lines) + '{"step": 2')
    opened(tmp_path, step=10).close()
    assert path.read_text() == "".join(lines[:2])
    said = "1 lines of metrics.jsonl after step 10 were dropped; those steps are trained again"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("line", ["{}", "not json", '{"step": "x"}', "\udcff", "3"])
def test_a_damaged_line_of_metrics_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    content = f'{{"step": 5}}\n{{"step": 10}}\n{line}\n'.encode(errors="surrogateescape")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.jsonl line 3 is not a record; mend that line"):
        records.read_metrics(path)
    with pytest.raises(UserError, match=r"metrics\.jsonl line 3"):
        opened(tmp_path, step=10)
    assert path.read_bytes() == content


@pytest.mark.parametrize("rest", ["", '{"step": 1', "\0" * 100])
def test_what_a_kill_left_of_a_last_line_is_no_record(tmp_path, rest):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5}\n' + rest)
    assert records.read_metrics(path) == [{"step": 5}]


def test_a_last_record_without_its_newline_is_one(tmp_path):
    """As editors leave it."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 5, **RECORD}) + "\n" + json.dumps({"step": 10, **RECORD}))
    opened(tmp_path, step=10).close()
    assert [record["step"] for record in records.read_metrics(path)] == [5, 10]
    assert path.read_text().endswith("}\n")


def test_what_somebody_wrote_below_the_records_is_named_and_not_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5}\nmy note')
    with pytest.raises(UserError, match=r"metrics\.jsonl line 2 is not a record"):
        opened(tmp_path, step=10)
    assert path.read_text() == '{"step": 5}\nmy note'


def test_a_line_tells_the_epoch_the_step_in_it_and_all_that_the_game_logs():
    assert records.format_line({"step": 25, **RECORD}, 100, 10) == (
        "[3/10][5/10] loss_generator: 2 score_real: 0.5 10 examples/s"
    )
    assert records.format_line({"step": 10, "examples_per_second": 0.0}, 101, 10) == (
        "[1/11][10/10] 0 examples/s"
    )


def test_a_profile_that_is_no_folder_is_named_before_the_run(tmp_path):
    (tmp_path / "profile").write_text("")
    with pytest.raises(UserError, match="profile is no folder, where --profile writes"):
        records.check(tmp_path, records.LogOptions(tensorboard=False), True)
    records.check(tmp_path, records.LogOptions(tensorboard=False), False)
