"""Coverage of modes against closed forms, and the command that measures a run on a mixture."""

import json

import numpy as np
import pytest
from runs import RUN, flags

from jaxgan import evaluate
from jaxgan.cli import main
from jaxgan.data.mixtures import MIXTURES
from jaxgan.errors import UserError
from jaxgan.metrics import modes

GRID = MIXTURES["grid"]


def exact(counts, deviation, seed=0):
    """So many samples at each mode of the grid, of a Gaussian of this deviation."""
    middles = np.repeat(GRID.centres, counts, axis=0)
    return middles + deviation * np.random.default_rng(seed).normal(size=middles.shape)


@pytest.mark.parametrize("name", [n for n, mixture in MIXTURES.items() if mixture.deviation])
def test_true_samples_have_all_modes_the_true_share_and_spread_and_the_kl_of_chance(name):
    centres, deviation = mixture = MIXTURES[name]
    count = 26_000
    found = modes.coverage(mixture.drawn(count, 1), centres, deviation)
    share = modes.true_share(centres.shape[1])
    assert found.modes == len(centres)
    # Five standard deviations of a binomial share.
    assert abs(found.high_quality - share) < 5 * np.sqrt(share * (1 - share) / count)
    # 2 N KL is about chi-square of modes - 1 degrees, whose deviation is below its mean + 5.
    for kl, drawn in ((found.reverse_kl, count), (found.reverse_kl_2500, 2500)):
        assert 0 <= 2 * drawn * kl < len(centres) - 1 + 5 * np.sqrt(2 * len(centres))
    assert found.binned_kl < (len(centres) + 5 * np.sqrt(2 * len(centres))) / (2 * count)
    # The root mean square of n numbers errs by 1 / sqrt(2n) of itself.
    assert abs(found.spread - 1) < 5 / np.sqrt(2 * count)
    assert found.tightest > 1 - 5 / np.sqrt(2 * count / len(centres))
    assert not modes.is_collapsed_within(found, count, centres.shape[1])


def test_the_true_share_is_that_of_a_gaussian():
    assert modes.true_share(2) == pytest.approx(1 - np.exp(-4.5), rel=1e-12)
    assert modes.true_share(1) == pytest.approx(0.9973002039367398, rel=1e-12)  # erf(3 / sqrt(2))


def test_a_missing_mode_costs_the_logarithm_of_what_is_left():
    counts = np.full(25, 40)
    counts[3] = 0
    found = modes.coverage(exact(counts, 0.0), *GRID)
    share = modes.true_share(2)
    assert found.modes == 24
    assert found.reverse_kl == pytest.approx(np.log(25 / 24), rel=1e-9)
    assert found.reverse_kl_2500 == found.reverse_kl
    assert found.binned_kl == pytest.approx(np.log(25 / 24 / share), rel=1e-9)


def test_samples_off_the_modes_count_in_their_own_bin_alone():
    points = np.concatenate([exact(np.full(25, 30), 0.0), np.full((250, 2), 1.0)])  # between four
    found = modes.coverage(points, *GRID)
    share = modes.true_share(2)
    assert found.high_quality == 0.75 and found.reverse_kl == pytest.approx(0, abs=1e-12)
    expected = 0.75 * np.log(0.75 / share) + 0.25 * np.log(0.25 / (1 - share))
    assert found.binned_kl == pytest.approx(expected, rel=1e-9)


def test_modes_that_are_too_tight_are_told_by_their_spread_and_flagged():
    samples = exact(np.full(25, 1000), GRID.deviation / 3)
    found = modes.coverage(samples, *GRID)
    assert found.modes == 25 and found.high_quality == 1.0
    # Nearly nothing is cut off, so the ratio has the root of the cut Gaussian's variance in it.
    assert found.spread == pytest.approx(
        1 / 3 / np.sqrt(1 - 4.5 * np.exp(-4.5) / 0.98889), rel=0.02
    )
    assert modes.is_collapsed_within(found, len(samples), 2)


def test_one_collapsed_mode_and_samples_at_none_have_numbers():
    one = modes.coverage(np.zeros((50, 2)), *GRID)
    assert one.modes == 1 and one.reverse_kl == pytest.approx(np.log(25)) and one.spread == 0
    none = modes.coverage(np.full((50, 2), 9.0), *GRID)
    assert none.modes == 0 and none.reverse_kl is None and none.spread is None
    assert none.binned_kl == pytest.approx(-np.log(1 - modes.true_share(2)))


def test_samples_that_cannot_be_measured_are_refused():
    with pytest.raises(ValueError, match=r"expected samples \[N,2\] for centres"):
        modes.coverage(np.zeros((5, 3)), *GRID)
    with pytest.raises(ValueError, match="1 of 2 samples are not finite"):
        modes.coverage(np.array([[0.0, np.nan], [0.0, 0.0]]), *GRID)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir of the recipe mixtures, tiny."""
    workdir = tmp_path_factory.mktemp("runs") / "line"
    options = {**RUN, "steps": 2, "data.name": "mixture-1d", "model.width": 4, "log.samples": 1}
    options |= {"objective.r1_weight": 0, "objective.r2_weight": 0}  # compiles sooner
    assert main(["train", "mixtures", "--workdir", str(workdir), *flags(options)]) == 0
    return workdir


def test_evaluate_prints_the_samples_beside_as_many_true_ones(trained, capsys):
    words = ["evaluate", "--workdir", str(trained), "--num", "500"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["data"] == "mixture-1d" and told["num"] == 500 and told["step"] == 2
    true = modes.coverage(MIXTURES["mixture-1d"].drawn(500, 0), *MIXTURES["mixture-1d"])
    assert told["truth"] == pytest.approx(true._asdict())
    assert told["samples"]["high_quality"] < 0.5 and told["warnings"] == []
    assert main(words) == 0
    said, head, *lines = capsys.readouterr().out.splitlines()
    assert said.startswith("500 samples of the average at step 2 of ") and head.split() == [
        "samples",
        "truth",
    ]
    assert len(lines) == len(true) and lines[0].split()[-1] == "4"


def test_evaluate_flags_collapse_within_modes(trained):
    (kind,) = filter(None, [evaluate.kind_of({"data_version": "grid 1 train"})])
    tight = kind.measured(exact(np.full(25, 100), 0.01))
    (line,) = kind.warnings(tight, 2500)
    assert line == (
        "collapse within modes: 100.0 % of the samples are within 3 deviations, of true ones 98.9 %"
    )
    assert kind.warnings(kind.measured(kind.true(2500, 0)), 2500) == []


def test_data_of_which_nothing_is_known_get_one_line(trained, monkeypatch):
    assert evaluate.kind_of({"data_version": "digits"}) is None
    monkeypatch.setattr(evaluate, "KINDS", ())
    with pytest.raises(UserError, match="nothing is known that samples can be measured by"):
        evaluate.evaluate(trained, count=10)
