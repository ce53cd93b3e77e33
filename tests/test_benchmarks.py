"""The benchmark commands run, in their smallest form, and write what they say."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from benchmarks import kernels, quality, report, timing
from benchmarks.kernel_ops import MODES, OPS


def test_spread_is_the_median_and_both_ends():
    assert report.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert report.shown([3.0, 1.0, 2.0]) == "2.0 (1.0 to 3.0)"


def test_train_step_times_jaxgan_and_writes_a_line(tmp_path):
    has_torch = importlib.util.find_spec("torch") is not None
    providers = ["jaxgan", "torch-eager", "torch-eager+malloc"] if has_torch else ["jaxgan"]
    words = ["--quick", "--providers", ",".join(providers), "--json", str(tmp_path / "out.jsonl")]
    done = subprocess.run([sys.executable, "-m", "benchmarks.train_step", *words], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["provider"] for record in records] == providers
    for record in records:
        assert record["preset"] == "seed-mnist" and len(record["samples"]) == 2 and record["steps_per_s"] > 0
        assert record["versions"]["jax"] and record["device"]


def test_an_unknown_provider_is_refused():
    with pytest.raises(SystemExit):
        from benchmarks import train_step

        train_step.main(["--providers", "tensorflow"])


def test_the_classifier_of_the_quality_benchmark_learns():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 2048)
    images = np.zeros((2048, 28, 28, 1), np.uint8)
    for image, label in zip(images, labels):
        image[2 * label + 2 : 2 * label + 6] = 200  # a bar whose height is the class
    params = quality.train_classifier({"image": images, "label": labels}, epochs=6)
    classes, features = quality.judged(params, images[:512])
    assert (classes == labels[:512]).mean() > 0.9  # chance is 0.1
    assert features.shape == (512, 128)


@pytest.mark.parametrize("name", OPS)
def test_the_kernels_benchmark_compares_like_with_like(name):
    """What one provider computes, all compute."""
    import jax

    op, shape = OPS[name], (2, 8, 8, 4)
    operands = timing.jax_operands(op, name, shape, "float32", seed=3)
    results = [jax.jit(lambda *v, f=f: (f(*v), jax.grad(lambda *v: f(*v).sum())(*v)))(*operands) for f in (op.natural, op.fused("xla"))]
    if importlib.util.find_spec("torch") is not None:
        import torch

        from benchmarks import torch_ops

        given = [torch.tensor(np.asarray(v)) for v in operands]
        given = [(v.permute(0, 3, 1, 2) if v.ndim == 4 else v).requires_grad_() for v in given]
        y = getattr(torch_ops, op.torch)(*given)
        y.sum().backward()
        last = lambda t: t.detach().permute(0, 2, 3, 1).numpy() if t.ndim == 4 else t.detach().numpy()
        results.append((last(y), last(given[0].grad)))
    for other in results[1:]:
        # E[x^2] - E[x]^2 and sums in another order, in float32.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), results[0], other)


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
    assert cells == [("gan_loss", m, p) for m in MODES for p in ("natural", "xla")] + [("step", "both", "natural"), ("step", "both", "xla")]
    for r in records[:-2]:
        assert r["us"] > 0 and r["us_20"] <= r["us"] <= r["us_80"] and len(r["samples_us"]) == 2 and r["launches"] >= 1
        assert r["minimal_bytes"] == {"forward": 2, "backward": 4, "both": 4}[r["mode"]] * 2 * 8 * 8 * 4 * 4
        np.testing.assert_allclose(r["share_of_copy"], r["floor_us"] / r["us"], rtol=1e-6)
    out = capsys.readouterr().out
    assert "FASTER_FROM = {}" in out and picture.read_bytes().startswith(b"\x89PNG")
    # The floor of a cell is printed before its figures.
    assert out.index("gan_loss 2x8x8x4 float32 forward") < out.index("natural  ")


def test_a_provider_that_cannot_run_is_refused_with_its_reason(capsys):
    with pytest.raises(SystemExit):
        kernels.main(["--providers", "triton"])
    assert "triton cannot run here: Triton kernels need a CUDA GPU" in capsys.readouterr().err


def test_the_table_lists_sizes_from_which_triton_won_everywhere():
    def cell(op, size, provider, us, mode="both"):
        return {"op": op, "shape": [size, 1, 1, 1], "dtype": "float32", "mode": mode, "provider": provider, "us": us}

    def of(op, size, triton, xla):
        return [cell(op, size, "triton", triton), cell(op, size, "xla", xla), cell(op, size, "natural", 2 * xla)]

    step = [cell("step", 1, "natural", 10.0), cell("step", 1, "xla", 9.0), cell("step", 1, "triton", 8.5)]
    cells = [*of("gan_loss", 10, 3.0, 2.0), *of("gan_loss", 100, 3.0, 4.0), *of("gan_loss", 1000, 5.0, 9.0)]
    cells += [*of("blur_halve", 100, 1.0, 2.0), *of("blur_double", 100, 1.0, 2.0), *of("blur_same", 100, 3.0, 2.0)]
    cells += of("sigmoid_bce", 10, 1.0, 2.0) + [cell("sigmoid_bce", 10, m, 3.0 - (m == "xla"), "forward") for m in ("triton", "xla")]
    assert kernels.faster_from(cells + step) == {"gan_loss": 100}
    slower = [*step[:2], cell("step", 1, "triton", 9.5)]
    assert kernels.faster_from(cells + slower) == {}
    assert kernels.faster_from(cells) == {}
