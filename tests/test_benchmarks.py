"""The benchmark commands run, in their smallest form, and write what they say."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from benchmarks import quality, report


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
