"""The profile of a step: which operation belongs to which phase, that times add up, and that a run does not feel it."""

import gzip
import json

import numpy as np
import pytest
from conftest import assert_equal_trees

from jaxgan import profile, train
from jaxgan.config import replace
from jaxgan.errors import UserError
from jaxgan.profile import Operation
from jaxgan.records import read_metrics

HLO = """HloModule jit_step, is_scheduled=true

%fused (param_0: f32[4]) -> f32[4] {
  %param_0 = f32[4]{0} parameter(0)
  %sine.1 = f32[4]{0} sine(%param_0), metadata={op_name="jit(step)/generate/sin"}
  ROOT %add.1 = f32[4]{0} add(%sine.1, %sine.1), metadata={op_name="reduce_sum"}
}

ENTRY %main (a: f32[4], b: s32[4]) -> (f32[4], f32[4]) {
  %a = f32[4]{0} parameter(0), metadata={op_name="state.step"}
  %b = s32[4]{0} parameter(1)
  %gather.1 = f32[4]{0} gather(%a, %b), metadata={op_name="jit(step)/while/body/closed_call/input/gather"}
  %fusion.1 = f32[4]{0} fusion(%gather.1), kind=kLoop, calls=%fused
  %copy.1 = f32[4]{0} copy(%fusion.1)
  %negate.1 = f32[4]{0} negate(%copy.1), metadata={op_name="jit(step)/discriminator_update/transpose(jvp(generate))/neg"}
  %copy.2 = f32[4]{0} copy(%negate.1)
  %while.1 = f32[4]{0} while(%negate.1), condition=%c, body=%d, metadata={op_name="jit(step)/vmap(generator_update)/while"}
  %divide.1 = f32[4]{0} divide(%while.1, %a), metadata={op_name="jit(step)/emaline/div"}
  %multiply.1 = f32[4]{0} multiply(%divide.1, %a), metadata={op_name="jit(step)/ema/mul"}
  ROOT %tuple.1 = (f32[4]{0}, f32[4]{0}) tuple(%multiply.1, %copy.2)
}
"""


def test_an_operation_belongs_to_the_outermost_phase_in_its_path_or_to_that_which_it_serves():
    found = {name: phase for name, (phase, _) in profile.phases_of(HLO).items()}
    assert found["gather.1"] == "input"
    assert found["fusion.1"] == "generate"  # of what it is made of
    assert found["copy.1"] == "discriminator_update"  # which it feeds
    assert found["copy.2"] == "discriminator_update"  # from which it comes
    assert found["while.1"] == "generator_update"
    assert found["divide.1"] == "other"
    assert found["multiply.1"] == "ema"


def test_time_is_shared_by_what_runs_at_the_same_instant_and_adds_up():
    ops = [
        Operation("d", "a", "generate", 0, 10),
        Operation("d", "b", "ema", 5, 15),
        Operation("d", "w", "generator_update", 14, 40, container=True),
        Operation("d", "c", "generator_update", 20, 30),
        Operation("e", "a", "generate", 0, 50),
    ]
    found = profile.milliseconds(ops, steps=2, wall=100e-6)
    mean_of_devices = {"generate": (7.5 + 50) / 2, "ema": 7.5 / 2, "generator_update": 25 / 2}
    for phase, us in mean_of_devices.items():
        np.testing.assert_allclose(found[phase], us / 2 / 1e3, err_msg=phase)
    np.testing.assert_allclose(sum(found.values()), 0.1 / 2)
    lines = profile.table(found)
    assert lines[1].startswith("input ") and not any(line.startswith("other") for line in lines)
    assert sum(float(line.split()[-1]) for line in lines[1:]) == pytest.approx(
        100, abs=0.5
    )  # each is rounded to a tenth


def events(rows):
    """Events of a trace from (process, thread, name, ts, dur, args)."""
    processes, threads = sorted({r[0] for r in rows}), sorted({r[1] for r in rows})
    for p in processes:
        yield {"ph": "M", "pid": processes.index(p), "name": "process_name", "args": {"name": p}}
        for t in threads:
            at = {"pid": processes.index(p), "tid": threads.index(t)}
            yield {"ph": "M", **at, "name": "thread_name", "args": {"name": t}}
    for p, t, name, ts, dur, args in rows:
        yield {
            "ph": "X",
            "pid": processes.index(p),
            "tid": threads.index(t),
            "name": name,
            "ts": ts,
            "dur": dur,
            "args": args,
        }


def test_on_a_gpu_the_streams_count_and_on_a_cpu_the_operations_to_their_ends():
    step, other = {"hlo_module": "jit_step"}, {"hlo_module": "jit_sample"}
    gpu = [
        ("/device:GPU:0", "Stream #13(Compute)", "loop_sine", 0, 4, {**step, "hlo_op": "fusion.1"}),
        (
            "/device:GPU:0",
            "Stream #13(Compute)",
            "new_kernel",
            4,
            4,
            {**step, "hlo_op": "x.9", "tf_op": "jit(step)/ema/mul"},
        ),
        ("/device:GPU:0", "Stream #13(Compute)", "fusion.1", 8, 4, {**other, "hlo_op": "fusion.1"}),
        ("/device:GPU:0", "XLA Ops", "fusion.1", 0, 4, {**step, "hlo_op": "fusion.1"}),
        ("/host:CPU", "python", "launch", 0, 9, {**step, "hlo_op": "fusion.1"}),
    ]
    found = [(o.phase, o.start, o.end) for o in profile.operations(list(events(gpu)), HLO)]
    assert found == [("generate", 0, 4), ("ema", 4, 8), ("outside the step", 8, 12)]
    cpu = [
        (
            "/host:CPU",
            "pool",
            "multiply.1",
            0,
            2,
            {**step, "hlo_op": "multiply.1", "device_ordinal": "1"},
        ),
        ("/host:CPU", "pool", "end: multiply.1", 7, 0, {}),
        ("/host:CPU", "python", "train", 0, 9, {"step_num": "3"}),
    ]
    assert profile.operations(list(events(cpu)), HLO) == [
        Operation("cpu:1", "multiply.1", "ema", 0, 7, False)
    ]


@pytest.mark.parametrize(("every", "first", "last"), [(4, 5, 8), (8, 4, 8), (1, 4, 4)])
def test_a_trace_has_the_steps_of_one_interval_and_every_line_its_rate(
    tmp_path, small, capsys, every, first, last
):
    """What records, samples and checkpoints take is no part of a step, and what the profiler takes no part of a rate."""
    train.train(replace(small, {"steps": 9, "log.every": every}), tmp_path, profiled=True)
    (summary,) = (tmp_path / "profile").rglob("phases.json")
    record = json.loads(summary.read_text())
    assert (record["first_step"], record["steps"]) == (first, last - first + 1)
    assert not [
        phase for phase, ms in record["ms_per_step"].items() if ms and phase == "outside the step"
    ]
    assert any(
        line.startswith(f"profile of steps {first} to {last}: ")
        for line in capsys.readouterr().out.splitlines()
    )
    rates = [r["images_per_second"] for r in read_metrics(tmp_path / "metrics.jsonl")]
    assert all(
        rate > 0 for rate in rates[1 if every == 1 else 0 :]
    )  # the first step compiles and has none


def test_a_profiled_run_trains_the_same_bits_and_shows_every_phase(tmp_path, small, capsys):
    config = replace(small, {"log.every": 20, "log.checkpoint_every": 20})
    plain = train.train(config, tmp_path / "plain")
    capsys.readouterr()
    profiled = train.train(config, tmp_path / "profiled", profiled=True)
    assert_equal_trees(plain, profiled)
    without_speed = lambda name: [
        {**r, "images_per_second": 0} for r in read_metrics(tmp_path / name / "metrics.jsonl")
    ]
    assert without_speed("plain") == without_speed("profiled")

    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith("profile of steps 4 to 8: ") for line in said)
    (summary,) = (tmp_path / "profiled" / "profile").rglob("phases.json")
    record = json.loads(summary.read_text())
    assert (record["first_step"], record["steps"], record["steps_per_call"]) == (4, 5, 1)
    times, wall = record["ms_per_step"], record["wall_ms_per_step"]
    for phase in profile.PHASES:
        assert times[phase] > 0 or phase == "input", (
            phase
        )  # XLA may fuse the gather into the first operation on the images
        assert any(line.startswith(f"{phase} ") for line in said), phase
    # Instants are shared out, so the phases cannot have more than the time that passed; two clocks differ by little.
    assert 0 < sum(times.values()) <= 1.01 * wall
    assert times["other"] < 0.2 * wall  # most of a step has a phase
    with gzip.open(summary.parent / "perfetto_trace.json.gz") as file:
        trace = json.load(file)
    assert set(trace) == {"traceEvents"}  # Perfetto reads no other fields
    slices = {e["name"] for e in trace["traceEvents"] if e["pid"] >= 10_000_000 and e["ph"] == "X"}
    assert slices >= set(profile.PHASES) - {"input"}
    assert [e["args"]["step_num"] for e in trace["traceEvents"] if e.get("name") == "train"] == [
        "3",
        "4",
        "5",
        "6",
        "7",
    ]


def test_a_profile_that_cannot_be_is_one_line_and_costs_no_run(tmp_path, small, capsys):
    state = train.train(replace(small, {"steps": 3}), tmp_path / "short", profiled=True)
    said = capsys.readouterr().out.splitlines()
    assert int(state.step) == 3 and sum("no profile: " in line for line in said) == 1
    assert "no profile: this run had 3 dispatches of equally many steps, 8 are enough" in said
    (tmp_path / "file" / "profile").mkdir(parents=True)
    (tmp_path / "file" / "profile" / "plugins").write_text("")
    state = train.train(replace(small, {"steps": 8}), tmp_path / "file", profiled=True)
    said = capsys.readouterr().out.splitlines()
    assert (
        int(state.step) == 8
        and sum("no profile: " in line and "is not a directory" in line for line in said) == 1
    )


def test_a_profile_that_has_no_place_is_refused_before_anything_is_compiled(tmp_path, small):
    (tmp_path / "profile").symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        UserError,
        match="profile is no folder, where --profile writes; move it away or leave out --profile",
    ):
        train.train(small, tmp_path, profiled=True)
