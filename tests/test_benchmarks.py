"""The benchmark commands run, in their smallest form, and write what they say."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from runs import RECIPE, RUN, flags

from benchmarks import __main__ as listing
from benchmarks import (
    compiled,
    dirac,
    interrupted,
    kernels,
    loop,
    opening,
    record,
    scaling,
    train_step,
)
from benchmarks.kernel_ops import MODES, OPS
from benchmarks.workload import Workload, features_of
from jaxgan import cli
from jaxgan.config import configured

HAS_TORCH = importlib.util.find_spec("torch") is not None
TINY = {"batch_size": 8, "model.generator_width": 4, "model.discriminator_width": 2}


@pytest.fixture(autouse=True)
def as_users_run():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_commands_are_listed_and_an_unknown_one_is_one_line(capsys):
    listing.main([])
    listed = [line.split()[2:4] for line in capsys.readouterr().out.splitlines() if "-m" in line]
    commands = [
        "alarms",
        "compiled",
        "dirac",
        "interrupted",
        "kernels",
        "loop",
        "losses",
        "metrics",
        "opening",
        "quality",
        "report",
        "scaling",
        "stacked",
        "train_step",
        "variants",
    ]
    assert [name for name, _ in listed] == [f"benchmarks.{name}" for name in commands]
    with pytest.raises(SystemExit, match="'trian_step' is not taken here; use alarms"):
        listing.main(["trian_step"])


def test_a_machine_that_does_other_work_is_told(capsys):
    about = {"device": "CPU", "cores": 2, "python": "3.11", "commit": None, "versions": {}}
    record.show_machine({**about, "busy_cores": 0.4})
    assert "OTHER WORK" not in capsys.readouterr().out
    record.show_machine({**about, "busy_cores": 1.04})
    assert "it kept 1.0 of the 2 cores busy just now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "words", "text"),
    [
        (train_step, ["mnits"], "unknown recipe 'mnits'; did you mean"),
        (train_step, ["--peers", "tensorflow"], "unknown peer 'tensorflow'; use torch-eager"),
        (train_step, ["--batch-size", "0"], "batch_size=0 is too small; use 1 or more"),
        (train_step, ["--rounds", "0"], "--rounds 0 is too small; use 1 or more"),
        (train_step, ["--json", "/nowhere/out.jsonl"], "/nowhere/out.jsonl cannot be written"),
        (train_step, ["--batch-sise=8"], "unknown option 'batch_sise'; did you mean batch_size"),
        (loop, ["mnist", "--steps", "1250"], "not a whole number of 500 steps; use 1000"),
        (kernels, ["--providers", "triton"], "triton cannot run here: Triton kernels need a CUDA"),
        (kernels, ["--ops", "relu"], "unknown operation 'relu'; use bias_leaky_relu"),
        (compiled, ["mnist", "--kernels", "fast"], "unknown kind 'fast'; use auto"),
        (compiled, ["mnist", "--check", "--batch-size", "8"], "are of the presets as they are"),
        (interrupted, ["--kills", "-1"], "--kills -1 is too small; use 0 or more"),
        (interrupted, ["--processes", "0"], "--processes 0 is too small; use 1 or more"),
        (scaling, ["--devices", "2,4"], "--devices 2,4 are not 1 and further numbers"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_anything_is_measured(command, words, text, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(words)
    assert stop.value.code == 2 and text in capsys.readouterr().err


def test_a_workload_trains_whole_dispatches_of_the_steps_that_a_run_trains():
    changes = {**TINY, "seed": 3, "steps_per_call": 2, "data.image_size": 8}
    workload = Workload(configured("digits", changes))
    assert (workload.run(3), workload.step) == (4, 4)
    assert set(workload.feed.resident) == set(features_of(workload.config))
    assert int(workload._state.step) == 4
    assert "HloModule" in workload.text()


def test_the_opening_benchmark_opens_a_folder_in_all_three_ways(tmp_path, capfd):
    out = tmp_path / "out.jsonl"
    opening.main(["--quick", "--json", str(out)])
    (record_,) = lines(out)
    assert set(record_["seconds"]) == {"originals", "cold", "warm"} and record_["images"] == 50
    assert capfd.readouterr().out.count(": opened and loaded in ") == 3


def test_train_step_times_a_preset_beside_its_peers_and_writes_a_line_each(tmp_path):
    out = tmp_path / "out.jsonl"
    words = ["digits", "--quick", "--steps-per-call", "2", "--model.generator-width", "8"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.train_step", *words, "--json", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "XLA_FLAGS": ""},  # as a user runs it
    )
    assert done.returncode == 0, done.stderr
    found = lines(out)
    peers = ["torch-eager"] if HAS_TORCH else []
    assert [r["provider"] for r in found] == ["jaxgan", *peers]
    for r in found:
        assert r["config"]["batch_size"] == r["batch_size"] == 8 and r["versions"]["jax"]
        assert len(r["samples"]) == 2 and r["peak_bytes"] > 50 << 20  # Python with JAX in it
        assert r["images_per_s"] == pytest.approx(8 * r["steps_per_s"])
        used = r["model_flops"] * r["steps_per_s"] / r["peak_flops_per_s"]
        assert r["utilisation"] == pytest.approx(used)
    assert found[0]["steps_per_call"] == 2
    assert found[0]["compile_s"] > 0.1  # XLA does not compile a step in less


class Answers:
    """A worker that answers at once, or whose step fails."""

    def __init__(self, error=None):
        self.error, self._fails = None, error

    def ask(self, what):
        self.error = self._fails
        if self.error is not None:
            return None
        memory = {"peak_bytes": 1 << 20, "peak_bytes_of": "process"}
        facts = {"compile_s": 1.0, "steps_per_call": 1, **memory}
        facts |= {"model_flops": 10**9, "matrix_flops_per_s": 1e11}
        return facts if what == "facts" else 20.0

    def close(self): ...


def test_a_provider_that_fails_is_named_and_the_others_are_measured():
    workers = {"jaxgan": Answers(), "torch-eager": Answers("ValueError: no such thing")}
    found = train_step.measured(workers, rounds=3, steps=None, seconds=1.0)
    assert list(found) == ["jaxgan"] and workers["torch-eager"].error
    assert (found["jaxgan"]["samples"], found["jaxgan"]["steps_per_round"]) == ([20.0] * 3, 20)
    subject = {"batch_size": 4, "dtype": "float32"}
    (made,) = train_step.records(subject, found, {"device": "a CPU"})
    assert made["utilisation"] == pytest.approx(0.2) and made["s_per_kimg"] == 12.5


@pytest.mark.parametrize("name", OPS)
def test_the_kernels_benchmark_compares_like_with_like(name):
    """What one provider computes, all compute."""
    op = OPS[name]
    operands = kernels.jax_operands(op, (2, 8, 8, 4), "float32", seed=3)

    def computed(provider):
        def function(*values):
            return op.call(provider, *values)

        def total(*values):
            return function(*values).sum()

        return function(*operands), jax.grad(total)(*operands)

    results = [computed("plain"), computed("xla")]
    if HAS_TORCH:
        import torch

        from benchmarks import torch_ops

        given = [torch.tensor(np.asarray(v)) for v in operands]
        given = [(v.permute(0, 3, 1, 2) if v.ndim == 4 else v).requires_grad_() for v in given]
        y = getattr(torch_ops, name)(*given)
        y.sum().backward()
        found = [t.detach() for t in (y, given[0].grad)]
        results.append([t.permute(0, 2, 3, 1) if t.ndim == 4 else t for t in found])
    for other in results[1:]:
        for first, second in zip(results[0], other):
            # E[x^2] - E[x]^2 and sums in another order, in float32.
            np.testing.assert_allclose(first, np.asarray(second), rtol=1e-4, atol=1e-5)


def test_the_kernels_benchmark_writes_a_line_a_cell(tmp_path):
    file = tmp_path / "kernels.jsonl"
    words = ["--quick", "--ops", "gan_loss", "--dtypes", "float32", "--providers", "plain,xla"]
    kernels.main([*words, "--json", str(file)])
    found = lines(file)
    cells = [(r["op"], r["mode"], r["provider"]) for r in found]
    assert cells == [("gan_loss", m, p) for m in MODES for p in ("plain", "xla")]
    for r in found:
        assert 0 < r["us_20"] <= r["us"] <= r["us_80"] and r["launches"] >= 1
        assert r["minimal_bytes"] == {"forward": 2, "both": 4}[r["mode"]] * 2 * 8 * 8 * 4 * 4
        assert r["share_of_copy"] == pytest.approx(r["floor_us"] / r["us"])


def test_the_loop_benchmark_compares_loop_and_bare_step(tmp_path):
    file = tmp_path / "loop.jsonl"
    words = ["digits", "--quick", "--only", "overhead,resident,streamed,cost"]
    loop.main([*words, "--log.tensorboard", "false", "--json", str(file)])
    whole, resident, streamed, cost = lines(file)
    (bare,), (in_loop,) = whole["ms_per_step"]["bare"], whole["ms_per_step"]["loop"]
    assert whole["samples"] == pytest.approx([100 * (in_loop / bare - 1)])
    assert bare > 0 and whole["steps"] == 8 and 0 < whole["samples_between_steps"][0] < 100
    limits = [r["config"]["data.resident_limit_mb"] for r in (resident, streamed)]
    assert limits == [2048, 0] and whole["data"] == "shapes" and streamed["data"] == "random"
    for r in (resident, streamed):
        (one,), (of_numpy,) = r["samples"]["1"], r["samples"]["numpy"]
        assert r["images_per_s"]["1"] == one > 0 and r["images_per_s"]["25"] > 0
        assert r["share_of_numpy"]["1"] == [pytest.approx(one / of_numpy)]
    assert all(ms > 0 for (ms,) in cost["ms_per_step"].values())
    assert len(cost["samples"]) == len(cost["samples_cpu"]) == 1


def test_the_collectives_of_a_step_carry_gradients_and_metrics(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])
    file = tmp_path / "scaling.jsonl"
    scaling.main(["seed-mnist", "--quick", "--json", str(file)])
    one, two, joined = lines(file)
    assert [one["devices"], two["devices"]] == [1, 2] and one["fake_devices"]
    assert len(two["samples"]) == 2
    # Channels of the discriminator's first layer and of the generator's first image.
    width, first = 16, 64
    generator = 101 * 49 * first + 16 * first * (first // 2) + 16 * (first // 2)
    discriminator = 16 * (width + width * 2 * width + 2 * width)
    assert joined["parameter_bytes"] == 4 * (generator + discriminator)
    assert joined["bytes"] == joined["parameter_bytes"] + 4 * 4  # and the four metrics


def test_the_trajectories_of_the_dirac_gan_are_drawn_and_written(tmp_path, monkeypatch, capsys):
    some = ("minimax, simultaneous", "R1, weight 1 (critical)")
    monkeypatch.setattr(dirac, "VARIANTS", {name: dirac.VARIANTS[name] for name in some})
    file, out = tmp_path / "dirac.jsonl", tmp_path / "dirac.png"
    dirac.main(["--quick", "--out", str(out), "--json", str(file)])
    away, still = lines(file)
    # From the start at distance sqrt(2), 50 steps.
    assert away["distance"] > 1.4 and still["distance"] < 0.2
    assert away["spectral_radius"] == pytest.approx((1 + 0.1**2) ** 0.5, rel=1e-6)
    assert still["spectral_radius"] == pytest.approx(0.9, abs=1e-3)  # where two meet
    with Image.open(out) as picture:
        assert picture.size == (4 * 260, 258)
    with pytest.raises(SystemExit):
        dirac.main(["--objective.name", "hinge"])
    assert "--objective.name is set by the variants" in capsys.readouterr().err


def test_runs_that_end_in_other_bits_or_records_are_told_apart(tmp_path):
    (tmp_path / "mine.py").write_text(RECIPE)
    recipe = f"{tmp_path}/mine.py:centre"
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        place = ["--workdir", str(tmp_path / name), "--seed", str(seed)]
        assert cli.main(["train", recipe, *place, *flags(RUN)]) == 0
    assert interrupted.difference(tmp_path / "a", tmp_path / "b") == ""
    assert "differs" in interrupted.difference(tmp_path / "a", tmp_path / "c")
    records = tmp_path / "b" / "metrics.jsonl"
    records.write_text(records.read_text().replace('"epoch": ', '"epoch": 1'))
    said = interrupted.difference(tmp_path / "a", tmp_path / "b")
    assert said.startswith("metrics of step 5 differ")
