"""The profile of a step: which operation belongs to which phase, that times add up, and that a run
does not feel it."""

import gzip
import json

import jax
import numpy as np
import pytest
from runs import metrics_of

from jaxgan import rules, train
from jaxgan.config import configured
from jaxgan.errors import UserError
from jaxgan.game import init
from jaxgan.run import hlo, profile
from jaxgan.run.hlo import Operation
from jaxgan.run.records import read_metrics
from jaxgan.step import make_step

PHASES = ("input", "discriminator", "generator", "ema")
TEXT = """HloModule jit_step, is_scheduled=true

%fused (param_0: f32[4]) -> f32[4] {
  %param_0 = f32[4]{0} parameter(0)
  %sine.1 = f32[4]{0} sine(%param_0), metadata={op_name="jit(step)/generator/sin"}
  ROOT %add.1 = f32[4]{0} add(%sine.1, %sine.1), metadata={op_name="reduce_sum"}
}

ENTRY %main (a: f32[4], b: s32[4]) -> (f32[4], f32[4]) {
  %a = f32[4]{0} parameter(0), metadata={op_name="state.step"}
  %b = s32[4]{0} parameter(1)
  %gather.1 = f32[4]{0} gather(%a, %b), metadata={op_name="jit(step)/while/body/input/gather"}
  %fusion.1 = f32[4]{0} fusion(%gather.1), kind=kLoop, calls=%fused
  %copy.1 = f32[4]{0} copy(%fusion.1)
  %negate.1 = f32[4]{0} negate(%copy.1), \
metadata={op_name="jit(step)/discriminator/transpose(jvp(generator))/neg"}
  %copy.2 = f32[4]{0} copy(%negate.1)
  %while.1 = f32[4]{0} while(%negate.1), condition=%c, body=%d, \
metadata={op_name="jit(step)/vmap(generator)/while"}
  %divide.1 = f32[4]{0} divide(%while.1, %a), metadata={op_name="jit(step)/emaline/div"}
  %multiply.1 = f32[4]{0} multiply(%divide.1, %a), metadata={op_name="jit(step)/ema/mul"}
  ROOT %tuple.1 = (f32[4]{0}, f32[4]{0}) tuple(%multiply.1, %copy.2)
}
"""
TINY = {
    "data.image_size": 8,
    "model.latent_size": 4,
    "model.generator_width": 4,
    "model.discriminator_width": 2,
}
RUN = {"batch_size": 8, "devices": 1, "steps": 20}
LOG = {"every": 5, "sample_every": 1000, "checkpoint_every": 10, "samples": 4, "tensorboard": False}


@pytest.fixture(autouse=True)
def as_users_run():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def trained(workdir, profiled=True, steps=20, **log):
    """Trains a small game on random images."""
    config = configured("dcgan", TINY)
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), np.uint8)
    run = {**RUN, "steps": steps, "log": {**LOG, **log}}

    def game(example):
        return config.recipe.make(example, config.options)

    return train(game, images, workdir, profiled=profiled, **run)


def test_an_operation_belongs_to_the_outermost_phase_or_to_that_which_it_serves():
    found = {name: phase for name, (phase, _) in hlo.phases_of(TEXT, PHASES).items()}
    assert found["gather.1"] == "input"
    assert found["fusion.1"] == "generator"  # of what it is made of
    assert found["copy.1"] == "discriminator"  # which it feeds
    assert found["copy.2"] == "discriminator"  # from which it comes
    assert found["while.1"] == "generator"
    assert found["divide.1"] == hlo.OTHER
    assert found["multiply.1"] == "ema"


def test_time_is_shared_by_what_runs_at_the_same_instant_and_adds_up():
    ops = [
        Operation("d", "a", "discriminator", 0, 10),
        Operation("d", "b", "ema", 5, 15),
        Operation("d", "w", "generator", 14, 40, container=True),
        Operation("d", "c", "generator", 20, 30),
        Operation("e", "a", "discriminator", 0, 50),
    ]
    found = hlo.milliseconds(ops, steps=2, wall=100e-6)
    of_devices = {"discriminator": (7.5 + 50) / 2, "ema": 7.5 / 2, "generator": 25 / 2}
    for phase, us in of_devices.items():
        np.testing.assert_allclose(found[phase], us / 2 / 1e3, err_msg=phase)
    np.testing.assert_allclose(sum(found.values()), 0.1 / 2)
    lines = profile.table(found, PHASES)
    names = [line.split()[0] for line in lines[1:]]
    assert names == ["discriminator", "generator", "ema", "idle"]
    # Each is rounded to a tenth.
    assert sum(float(line.split()[-1]) for line in lines[1:]) == pytest.approx(100, abs=0.5)


def events(rows):
    """Events of a trace from (process, thread, name, ts, dur, args)."""
    processes, threads = sorted({r[0] for r in rows}), sorted({r[1] for r in rows})
    made = []
    for pid, process in enumerate(processes):
        made.append({"ph": "M", "pid": pid, "name": "process_name", "args": {"name": process}})
        for tid, thread in enumerate(threads):
            at = {"ph": "M", "pid": pid, "tid": tid}
            made.append({**at, "name": "thread_name", "args": {"name": thread}})
    for process, thread, name, ts, dur, args in rows:
        at = {"ph": "X", "pid": processes.index(process), "tid": threads.index(thread)}
        made.append({**at, "name": name, "ts": ts, "dur": dur, "args": args})
    return made


def test_on_a_gpu_the_streams_count_and_on_a_cpu_the_operations_to_their_ends():
    step, other = {"hlo_module": "jit_step"}, {"hlo_module": "jit_sample"}
    stream = "/device:GPU:0", "Stream #13(Compute)"
    scoped = {**step, "hlo_op": "x.9", "tf_op": "jit(step)/ema/mul"}
    gpu = [
        (*stream, "loop_sine", 0, 4, {**step, "hlo_op": "fusion.1"}),
        (*stream, "new_kernel", 4, 4, scoped),
        (*stream, "fusion.1", 8, 4, {**other, "hlo_op": "fusion.1"}),
        ("/device:GPU:0", "XLA Ops", "fusion.1", 0, 4, {**step, "hlo_op": "fusion.1"}),
        ("/host:CPU", "python", "launch", 0, 9, {**step, "hlo_op": "fusion.1"}),
    ]
    found = [(o.phase, o.start, o.end) for o in hlo.operations(events(gpu), TEXT, PHASES)]
    assert found == [("generator", 0, 4), ("ema", 4, 8), (hlo.OUTSIDE, 8, 12)]
    on_first = {**step, "hlo_op": "multiply.1", "device_ordinal": "1"}
    cpu = [
        ("/host:CPU", "pool", "multiply.1", 0, 2, on_first),
        ("/host:CPU", "pool", "end: multiply.1", 7, 0, {}),
        ("/host:CPU", "python", "train", 0, 9, {"step_num": "3"}),
    ]
    expected = [Operation("cpu:1", "multiply.1", "ema", 0, 7, False)]
    assert hlo.operations(events(cpu), TEXT, PHASES) == expected


@pytest.mark.parametrize("rule", [None, rules.simultaneous])
def test_the_phases_of_a_game_are_the_scopes_of_its_compiled_step(rule):
    config = configured("dcgan", TINY)
    batch = {"image": np.zeros((8, 8, 8, 1), np.uint8)}
    game = config.recipe.make({"image": batch["image"][0]}, config.options)._replace(rule=rule)
    state = jax.eval_shape(lambda: init(game, jax.random.key(0), batch))
    text = jax.jit(make_step(game)).lower(state, batch).compile().as_text()
    found = {phase for phase, _ in hlo.phases_of(text, profile.phases_of(game)).values()}
    moves = {"discriminator", "generator"} if rule is None else {"gradients"}
    assert found - {hlo.OTHER} == moves | {"ema"}


@pytest.mark.parametrize(("every", "first", "last"), [(4, 5, 8), (8, 4, 8), (1, 4, 4)])
def test_a_trace_has_the_steps_of_one_interval_and_every_line_its_rate(
    tmp_path, capsys, every, first, last
):
    """What is done between steps is no part of one, and the profiler's time no part of a rate."""
    trained(tmp_path, steps=9, every=every)
    (summary,) = (tmp_path / "profile").rglob("phases.json")
    record = json.loads(summary.read_text())
    assert (record["first_step"], record["steps"]) == (first, last - first + 1)
    assert hlo.OUTSIDE not in record["ms_per_step"]
    assert f"profile of steps {first} to {last}: " in capsys.readouterr().out
    rates = [r["examples_per_second"] for r in read_metrics(tmp_path / "metrics.jsonl")]
    # The first step compiles and has none.
    assert all(rate > 0 for rate in rates[1 if every == 1 else 0 :])


def test_a_trace_ends_where_another_hook_is_due(tmp_path):
    trained(tmp_path, steps=12, every=100, checkpoint_every=6)
    (summary,) = (tmp_path / "profile").rglob("phases.json")
    record = json.loads(summary.read_text())
    assert (record["first_step"], record["steps"]) == (7, 5)


def test_a_profiled_run_trains_the_same_bits_and_shows_every_phase(tmp_path, capsys):
    plain = trained(tmp_path / "plain", profiled=False, every=20, checkpoint_every=20)
    capsys.readouterr()
    profiled = trained(tmp_path / "profiled", every=20, checkpoint_every=20)
    for name in plain.players:
        jax.tree.map(np.testing.assert_array_equal, plain.players[name], profiled.players[name])

    def lines(name):
        return metrics_of(tmp_path / name)

    assert lines("plain") == lines("profiled")
    said = capsys.readouterr().out.splitlines()
    (summary,) = (tmp_path / "profiled" / "profile").rglob("phases.json")
    record = json.loads(summary.read_text())
    assert (record["first_step"], record["steps"], record["steps_per_call"]) == (4, 5, 1)
    times, wall = record["ms_per_step"], record["wall_ms_per_step"]
    for phase in PHASES[1:]:  # XLA may fuse the gather into the first operation on the images
        assert times[phase] > 0 and any(line.startswith(f"{phase} ") for line in said), phase
    # The phases cannot have more than the time that passed; two clocks differ by little.
    assert 0 < sum(times.values()) <= 1.01 * wall
    assert times.get(hlo.OTHER, 0.0) < 0.2 * wall  # most of a step has a phase
    with gzip.open(summary.parent / "perfetto_trace.json.gz") as file:
        trace = json.load(file)
    assert set(trace) == {"traceEvents"}  # Perfetto reads no other fields
    slices = {e["name"] for e in trace["traceEvents"] if e["pid"] >= 10_000_000 and e["ph"] == "X"}
    assert slices >= set(PHASES[1:])
    steps = [e["args"]["step_num"] for e in trace["traceEvents"] if e.get("name") == "train"]
    assert steps == ["3", "4", "5", "6", "7"]


def test_a_profile_that_cannot_be_is_one_line_and_costs_no_run(tmp_path, capsys):
    assert int(trained(tmp_path / "short", steps=3).step) == 3
    said = capsys.readouterr().out
    assert said.count("no profile: ") == 1
    assert "this run had 3 dispatches of equally many steps, 8 are enough" in said
    (tmp_path / "file" / "profile").mkdir(parents=True)
    (tmp_path / "file" / "profile" / "plugins").write_text("")
    assert int(trained(tmp_path / "file", steps=8).step) == 8
    said = capsys.readouterr().out
    assert said.count("no profile: ") == 1 and "is not a directory" in said


def test_a_profile_that_has_no_place_is_refused_before_anything_is_compiled(tmp_path):
    (tmp_path / "profile").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="profile is no folder, where --profile writes; move it"):
        trained(tmp_path)
