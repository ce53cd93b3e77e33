"""The benchmark commands run, in their smallest form, and write what they say."""

import importlib.util
import json
import os
import statistics
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from benchmarks import (
    kernels,
    loop,
    network,
    output,
    providers,
    quality,
    scaling,
    timing,
    train_step,
)
from benchmarks.kernel_ops import MODES, OPS


def test_spread_is_the_median_and_both_ends():
    assert output.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert output.shown([3.0, 1.0, 2.0]) == "2.0 (1.0 to 3.0)"


def test_a_machine_that_does_other_work_is_told(capsys):
    record = {"device": "CPU", "cores": 2, "python": "3.11", "commit": None, "versions": {}}
    output.print_machine(record | {"busy_cores": 0.4})
    assert "OTHER WORK" not in capsys.readouterr().out
    output.print_machine(record | {"busy_cores": 1.04})
    assert (
        "OTHER WORK RUNS HERE: it kept 1.0 of the 2 cores busy just now" in capsys.readouterr().out
    )


def test_train_step_times_a_preset_beside_its_peers_and_writes_a_line_each(tmp_path):
    peers = ["torch-eager"] if importlib.util.find_spec("torch") is not None else []
    out, picture = tmp_path / "out.jsonl", tmp_path / "out.png"
    words = [
        "seed-mnist",
        "--quick",
        "--steps-per-call",
        "2",
        "--json",
        str(out),
        "--plot",
        str(picture),
    ]
    environment = {**os.environ, "XLA_FLAGS": ""}  # as a user runs it
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.train_step", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["preset"], r["provider"]) for r in records] == [
        ("seed-mnist", name) for name in ("jaxgan", *peers)
    ]
    for r in records:
        assert len(r["samples"]) == 2 and r["steps_per_s"] == statistics.median(r["samples"]) > 0
        assert (
            r["versions"]["jax"]
            and r["device"]
            and r["config"]["batch_size"] == r["batch_size"] == 8
        )
        np.testing.assert_allclose(
            [r["images_per_s"], r["s_per_kimg"] * r["images_per_s"]],
            [8 * r["steps_per_s"], 1000],
            rtol=1e-9,
        )
        np.testing.assert_allclose(
            r["utilisation"], r["model_flops"] * r["steps_per_s"] / r["peak_flops_per_s"], rtol=1e-9
        )
        assert (
            r["peak_bytes"] > 50 << 20 and r["compile_s"] is not None
        )  # Python with JAX or PyTorch in it
        assert r["steps_per_call"] == (2 if r["provider"] == "jaxgan" else 1)
        if r["provider"] == "jaxgan":
            assert (
                0 <= r["host_gap"] < 1 and r["compile_s"] > 0.1
            )  # XLA does not compile a step in less
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "jaxgan is" in done.stdout or not peers


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["mnits"], "unknown preset 'mnits'; did you mean mnist"),
        (["--peers", "tensorflow"], "unknown peer 'tensorflow'; use torch-eager"),
        (["--batch-size", "0"], "batch_size=0 is too small; use 1 or more"),
        (["--dtype", "float8"], "dtype: unknown dtype 'float8'"),
        (["--rounds", "0"], "--rounds 0 is too small; use 1 or more"),
        (["--json", "/nowhere/out.jsonl"], "its folder does not exist; make it first"),
        (["--plot", "out.jpg"], "--plot out.jpg does not end in .png"),
    ],
)
def test_train_step_refuses_what_it_cannot_time_in_one_line(words, text, capsys, monkeypatch):
    monkeypatch.setattr(train_step, "Worker", lambda *_: pytest.fail("a process was started"))
    with pytest.raises(SystemExit) as stop:
        train_step.main(words)
    assert stop.value.code == 2 and text in capsys.readouterr().err


def test_a_provider_that_fails_is_named_and_the_others_are_measured(capsys, monkeypatch, tmp_path):
    """A worker answers an error when it is built, or when it is asked."""

    class Answers:
        def __init__(self, name, config):
            self.error = "ValueError: no such thing" if name == "torch-eager" else None

        def ask(self, what):
            facts = {
                "compile_s": 1.0,
                "steps_per_call": 1,
                "peak_bytes": 1 << 20,
                "peak_bytes_of": "process",
                "host_gap": None,
            }
            return (
                {**facts, "model_flops": 10**9, "matrix_flops_per_s": 1e11}
                if what == "facts"
                else 20.0
            )

        def close(self):
            pass

    monkeypatch.setattr(train_step, "Worker", Answers)
    monkeypatch.setattr(train_step, "reason_against", lambda peer, on_gpu: None)
    with pytest.raises(SystemExit) as stop:
        train_step.main(["digits", "--peers", "torch-eager", "--json", str(tmp_path / "out.jsonl")])
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert (
        "torch-eager could not be measured: ValueError: no such thing" in out
        and "20.00 (20.00 to 20.00)" in out
    )
    (record,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert record["provider"] == "jaxgan" and record["utilisation"] == pytest.approx(0.2)


def test_the_union_of_intervals_counts_overlaps_once():
    assert providers.covered([(0, 2), (1, 3), (5, 6), (5.5, 5.75)]) == 4
    assert providers.covered([]) == 0


def test_the_classifier_of_the_quality_benchmark_learns():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 1024)
    images = np.zeros((1024, 28, 28, 1), np.uint8)
    for image, label in zip(images, labels):
        image[2 * label + 2 : 2 * label + 6] = 200  # a bar whose height is the class
    params = quality.train_classifier({"image": images, "label": labels}, epochs=5)
    classes, features = quality.judged(params, images[:512])
    assert (classes == labels[:512]).mean() > 0.9  # chance is 0.1
    assert features.shape == (512, 128)


@pytest.mark.parametrize("name", OPS)
def test_the_kernels_benchmark_compares_like_with_like(name):
    """What one provider computes, all compute."""
    import jax

    op, shape = OPS[name], (2, 8, 8, 4)
    operands = timing.jax_operands(op, name, shape, "float32", seed=3)
    results = [
        jax.jit(lambda *v, f=f: (f(*v), jax.grad(lambda *v: f(*v).sum())(*v)))(*operands)
        for f in (op.natural, op.fused("xla"))
    ]
    if importlib.util.find_spec("torch") is not None:
        import torch

        from benchmarks import torch_ops

        given = [torch.tensor(np.asarray(v)) for v in operands]
        given = [(v.permute(0, 3, 1, 2) if v.ndim == 4 else v).requires_grad_() for v in given]
        y = getattr(torch_ops, op.torch)(*given)
        y.sum().backward()
        last = lambda t: (
            t.detach().permute(0, 2, 3, 1).numpy() if t.ndim == 4 else t.detach().numpy()
        )
        results.append((last(y), last(given[0].grad)))
    for other in results[1:]:
        # E[x^2] - E[x]^2 and sums in another order, in float32.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), results[0], other
        )


def test_the_kernels_benchmark_writes_a_line_a_cell_and_draws_them(tmp_path, capsys):
    file, picture = tmp_path / "kernels.jsonl", tmp_path / "kernels.png"
    words = [
        "--quick",
        "--ops",
        "gan_loss,step",
        "--dtypes",
        "float32",
        "--providers",
        "natural,xla",
        "--json",
        str(file),
        "--plot",
        str(picture),
    ]
    kernels.main([*words, "--table"])
    records = [json.loads(line) for line in file.read_text().splitlines()]
    cells = [(r["op"], r["mode"], r["provider"]) for r in records]
    assert cells == [("gan_loss", m, p) for m in MODES for p in ("natural", "xla")] + [
        ("step", "both", "natural"),
        ("step", "both", "xla"),
    ]
    for r in records[:-2]:
        assert (
            r["us"] > 0
            and r["us_20"] <= r["us"] <= r["us_80"]
            and len(r["samples_us"]) == 2
            and r["launches"] >= 1
        )
        assert (
            r["minimal_bytes"]
            == {"forward": 2, "backward": 4, "both": 4}[r["mode"]] * 2 * 8 * 8 * 4 * 4
        )
        np.testing.assert_allclose(r["share_of_copy"], r["floor_us"] / r["us"], rtol=1e-6)
    out = capsys.readouterr().out
    assert "FASTER_FROM = {}" in out and picture.read_bytes().startswith(b"\x89PNG")
    # The floor of a cell is printed before its figures.
    assert out.index("gan_loss 2x8x8x4 float32 forward") < out.index("natural  ")


def test_the_loop_benchmark_compares_loop_and_bare_step_and_names_what_it_skips(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "grain", None)
    file, picture = tmp_path / "loop.jsonl", tmp_path / "loop.png"
    loop.main(["digits", "--quick", "--rounds", "1", "--json", str(file), "--plot", str(picture)])
    whole, resident, streamed = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(
        r["benchmark"] == "loop" and r["preset"] == "digits" and r["seed"] == 0 and r["device"]
        for r in (whole, resident, streamed)
    )
    (bare,), (in_loop,) = whole["ms_per_step"]["bare"], whole["ms_per_step"]["loop"]
    np.testing.assert_allclose(whole["samples"], [100 * (in_loop / bare - 1)])
    assert 0 < whole["samples_between_steps"][0] < 100
    assert (
        bare > 0
        and whole["steps"] == 8
        and len(resident["samples"]) == 1
        and resident["images_per_s"] > 0
    )
    assert streamed["data"] == "digits" and "grain cannot be imported" in streamed["skipped"]
    said = capsys.readouterr().out
    assert (
        "input, streamed (digits)       not measured, grain cannot be imported" in said
        and "Loss_D" not in said
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_loop_benchmark_refuses_a_part_of_an_interval(capsys):
    with pytest.raises(SystemExit):
        loop.main(["mnist", "--steps", "1250"])
    assert (
        "--steps 1250 is not a whole number of the intervals of 500 steps; use 1000"
        in capsys.readouterr().err
    )


def test_a_provider_that_cannot_run_is_refused_with_its_reason(capsys):
    with pytest.raises(SystemExit):
        kernels.main(["--providers", "triton"])
    assert "triton cannot run here: Triton kernels need a CUDA GPU" in capsys.readouterr().err


def test_the_table_lists_sizes_from_which_triton_won_everywhere():
    def cell(op, size, provider, us, mode="both"):
        return {
            "op": op,
            "shape": [size, 1, 1, 1],
            "dtype": "float32",
            "mode": mode,
            "provider": provider,
            "us": us,
        }

    def of(op, size, triton, xla):
        return [
            cell(op, size, "triton", triton),
            cell(op, size, "xla", xla),
            cell(op, size, "natural", 2 * xla),
        ]

    step = [
        cell("step", 1, "natural", 10.0),
        cell("step", 1, "xla", 9.0),
        cell("step", 1, "triton", 8.5),
    ]
    cells = [
        *of("gan_loss", 10, 3.0, 2.0),
        *of("gan_loss", 100, 3.0, 4.0),
        *of("gan_loss", 1000, 5.0, 9.0),
    ]
    cells += [
        *of("blur_halve", 100, 1.0, 2.0),
        *of("blur_double", 100, 1.0, 2.0),
        *of("blur_same", 100, 3.0, 2.0),
    ]
    cells += of("sigmoid_bce", 10, 1.0, 2.0) + [
        cell("sigmoid_bce", 10, m, 3.0 - (m == "xla"), "forward") for m in ("triton", "xla")
    ]
    assert kernels.faster_from(cells + step) == {"gan_loss": 100}
    slower = [*step[:2], cell("step", 1, "triton", 9.5)]
    assert kernels.faster_from(cells + slower) == {}
    assert kernels.faster_from(cells) == {}


# ---------------------------------------------------------------------------------------------------------------------- scaling
def test_the_scaling_benchmark_counts_the_bytes_of_the_gradients_and_writes_each_part(
    tmp_path, capsys
):
    file, picture = tmp_path / "scaling.jsonl", tmp_path / "scaling.png"
    scaling.main(["seed-mnist", "--quick", "--json", str(file), "--plot", str(picture)])
    one, two, collectives, prediction = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(
        r["benchmark"] == "scaling" and r["preset"] == "seed-mnist" and r["device"]
        for r in (one, two, collectives, prediction)
    )
    assert (
        [one["devices"], two["devices"]] == [1, 2]
        and one["fake_devices"]
        and len(one["samples"]) == len(two["samples"]) == 2
    )
    width, half = (
        16,
        64,
    )  # channels of the discriminator's first layer and of the generator's first image
    generator = 100 * 49 * half + 49 * half + 16 * half * (half // 2) + 16 * (half // 2)
    discriminator = 16 * (width + width * 2 * width + 2 * width)
    assert collectives["parameter_bytes"] == 4 * (generator + discriminator)
    assert collectives["bytes"] == collectives["parameter_bytes"] + 4 * 4  # and the four metrics
    assert collectives["count"] == len(collectives["collectives"]) >= 1
    assert prediction["step_s"] is None and all(
        row["efficiency_no_overlap"] is None for row in prediction["rows"]
    )
    out = capsys.readouterr().out
    assert "FAKE DEVICES" in out and "not measured (no GPU here; give --step-ms)" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_collectives_are_read_from_the_text_of_a_program():
    text = """
      %all-reduce.1 = (f32[4,4]{1,0}, /*index=1*/bf16[3]{0}, f32[]) all-reduce(%a, %b, %c), replica_groups={{0,1}}
      %start = f32[10]{0} all-reduce-start(%d), channel_id=1
      %done = f32[10]{0} all-reduce-done(%start)
      ROOT %fusion = f32[4] fusion(%all-reduce.1), metadata={op_name="all-reduce"}
    """
    assert network.collectives(text) == [
        {"kind": "all-reduce", "bytes": 4 * 16 + 2 * 3 + 4, "shapes": [[4, 4], [3], []]},
        {"kind": "all-reduce", "bytes": 40, "shapes": [[10]]},
    ]


def test_the_prediction_is_that_of_a_case_worked_by_hand():
    links = network.Links(
        4,
        node_bytes_per_s=100.0,
        network_bytes_per_s=10.0,
        node_latency_s=0.25,
        network_latency_s=0.5,
    )
    # 8 GPUs in 2 nodes of 4, 400 bytes in 3 collectives: 2 * 3/4 * 400/100 + 2 * 1/2 * 100/10 + 3 * (2 * 3 * 0.25 + 2 * 1 * 0.5)
    assert network.communication_seconds(8, 400.0, 3, links) == pytest.approx(6.0 + 10.0 + 7.5)
    assert network.communication_seconds(1, 400.0, 3, links) == 0.0
    first = network.predicted(23.5, 2, 400.0, 3, links)[0]
    assert first["gpus"] == 8 and first["communication_ms"] == pytest.approx(23_500)
    assert first["efficiency_no_overlap"] == pytest.approx(0.5) and first[
        "efficiency_full_overlap"
    ] == pytest.approx(1.0)
    assert first["images_per_s_no_overlap"] == pytest.approx(8 * 2 / 47)


def test_the_scaling_benchmark_refuses_what_cannot_be_measured(capsys):
    for words, text in [
        (["--devices", "2,4"], "--devices '2,4' is not 1 and further, different numbers up to 64"),
        (
            ["digits", "--batch-per-device", "4"],
            "objective.r1_every=8 does not divide the 4 images of each of 2 devices",
        ),
        (["--step-ms", "0"], "--step-ms 0.0 is out of bounds; use a number above 0"),
        (["mnits"], "unknown preset 'mnits'; did you mean mnist"),
    ]:
        with pytest.raises(SystemExit):
            scaling.main(words)
        assert text in capsys.readouterr().err
