"""The README is short, has the two commands, and its numbers are on record."""

import json
import pathlib
import re
import statistics

from jaxgan import config, recipes
from jaxgan.recipes import PRESETS as ALL

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"
RESEARCH = [name for name, preset in ALL.items() if preset.recipe in ("mixtures", "stacked")]
PRESETS = [name for name in ALL if name not in RESEARCH]  # which have a row each


def records(name: str) -> list[dict]:
    return [json.loads(line) for line in (RESULTS / name).read_text().splitlines()]


def row(preset: str) -> list[str]:
    """The cells of a preset in the table, after its name."""
    (found,) = re.findall(rf"^\| `{preset}`: (.*) \|$", README, re.M)
    return [cell.strip() for cell in found.split("|")][1:]


def rates(preset: str, provider: str) -> set[str]:
    """The steps a second on record, with one digit and with two behind the point."""
    found = [r for r in records("train_step.jsonl") if r["preset"] == preset]
    found = [r["steps_per_s"] for r in found if r["provider"] == provider]
    return {f"{rate:.{digits}f}" for rate in found for digits in (1, 2)}


def test_it_is_short():
    assert len(README.splitlines()) <= 130 and len(README.split()) <= 820


def test_one_command_sets_up_and_trains_and_one_sets_up_and_tests():
    assert "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/jaxgan train" in README
    (test,) = re.findall(r"^python3 -m venv .venv-test && .*$", README, re.M)
    assert test in (ROOT / ".ci" / "run").read_text().replace("pip install -q", "pip install")


def test_all_presets_stand_in_the_table_with_their_steps():
    for name in PRESETS:
        run = config.begun(recipes.find(name)).run
        assert row(name)[0] == f"{run.steps:,} of {run.batch_size}"


def test_the_presets_of_research_are_named():
    assert RESEARCH and all(f"`{name}`" in README for name in RESEARCH)


def test_the_rates_are_on_record():
    for preset in PRESETS:
        assert row(preset)[1] in rates(preset, "jaxgan")
    for rate, preset in re.findall(r"(\d\.\d\d)\s(?:steps/s\s)?of\s`([\w-]+)`", README):
        assert rate in rates(preset, "torch-eager")


def test_the_distances_are_on_record():
    for preset in PRESETS:
        found = [r["frechet_distance"] for r in records("quality.jsonl") if r["preset"] == preset]
        said = row(preset)[2]
        if not found:
            assert said == "not measured"
        else:
            middle, low, high = statistics.median(found), min(found), max(found)
            assert said == f"{middle:.1f} ({low:.1f} to {high:.1f})"
    of_images = records("quality.jsonl")[0]["real_frechet_distance"]
    assert f"training images have {of_images:.1f}" in " ".join(README.split())


def test_that_no_gpu_measured_is_said_once():
    assert README.count("No GPU has run any of this yet") == 1
