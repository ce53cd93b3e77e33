"""`jaxgan diagnose`: what it computes of a run, prints and draws, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxgan import charts
from jaxgan.cli import main
from jaxgan.named_rules import rule_in


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the Dirac-GAN with R1 that is at its equilibrium."""
    workdir = tmp_path_factory.mktemp("runs") / "dirac"
    words = ["--objective.r1-weight", "0.3", "--optimizer.rule", "simultaneous"]
    words += ["--log.tensorboard", "false", "--devices", "1"]
    assert main(["train", "dirac", "--workdir", str(workdir), *words]) == 0
    return workdir


def test_it_tells_and_draws_what_the_formulas_say_of_the_equilibrium(run, capsys):
    capsys.readouterr()
    words = ["diagnose", "--workdir", str(run), "--rules", "simultaneous,alternating", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["step"], found["examples"]) == (500, 64)
    root = (0.25 - 0.15**2) ** 0.5
    # What is left of the way to the equilibrium, 5e-6, is squared.
    assert found["field"]["largest_real_part"] == pytest.approx(-0.15, abs=1e-6)
    assert found["field"]["rotation"] == pytest.approx(root / 0.15, rel=1e-5)
    (pair,) = found["field"]["eigenvalues"]
    assert pair["imaginary"] == pytest.approx(root, rel=1e-5) and pair["converged"]
    radii = {name: step["spectral_radius"] for name, step in found["steps"].items()}
    # I + eta J; in turn, a map of determinant 1 - 0.3 eta.
    assert radii["simultaneous"] == pytest.approx(abs(1 - 0.03 + 0.2j * root), rel=1e-5)
    assert radii["alternating"] == pytest.approx((1 - 0.06) ** 0.5, rel=1e-5)
    picture = np.asarray(Image.open(found["picture"]))
    assert found["picture"] == str(run / "dynamics" / "step_00000500.png")
    blue = np.array([int(charts.COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)])
    dots = (np.abs(picture.astype(int) - blue) < 40).all(2)
    by_panel = [dots[:, at : at + 420].sum() for at in (0, 420, 840)]
    assert picture.shape == (360, 1260, 3) and min(by_panel) > 20


def test_the_rule_of_the_run_is_the_default_and_a_replaced_picture_is_told(run, capsys):
    out = run / "mine.png"
    out.write_text("")
    assert main(["diagnose", "--workdir", str(run), "--checkpoint", "500", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "gradient field, 2 numbers: largest real part -0.15, |Im|/|Re| 3.18" in said
    assert "a step, simultaneous, 2 numbers: spectral radius 0.974679" in said
    assert "alternating" not in said and said.endswith(f"replaced {out}\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--rules", "extragradeint"], "unknown rule 'extragradeint'; did you mean extragradient"),
        (["--rules", "competitive"], "the rule competitive needs its rate; use competitive=0.1"),
        (["--rules", "consensus=x"], "rule 'consensus=x': 'x' is no number; use consensus=0.1"),
        (["--rules", "alternating=1"], "the rule alternating takes no number, it was given 1.0"),
        (["--batch-size", "100001"], "batch-size=100001 exceeds the 100000 examples of dirac"),
        (["--out", "a.pdf"], "a.pdf does not end in .png; name a picture"),
        (["--products", "1"], "products=1 is too small; use 2 or more"),
        (["--checkpoint", "7"], "no checkpoint of step 7"),
    ],
)
def test_what_cannot_be_diagnosed_is_one_line(run, words, text, capsys):
    assert main(["diagnose", "--workdir", str(run), *words]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_other_data_than_those_of_the_run_are_refused(run, tmp_path, capsys):
    other = tmp_path / "moved"
    other.mkdir()
    for path in run.iterdir():
        (other / path.name).symlink_to(path) if path.is_dir() else None
    about = json.loads((run / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(about | {"data_version": "another"}))
    assert main(["diagnose", "--workdir", str(other)]) == 2
    assert "was trained on other data than dirac holds now" in capsys.readouterr().err


def test_a_rule_is_known_by_its_name_and_its_number():
    assert rule_in("consensus") == rule_in("consensus=1")
    assert rule_in("consensus=0.5") != rule_in("consensus")
    assert rule_in("extragradient").__name__ == "extragradient"


def test_the_ticks_of_an_axis_are_round_numbers_within_it():
    np.testing.assert_allclose(charts.ticks(-2.2, 2.2), [-2, -1, 0, 1, 2])
    np.testing.assert_allclose(charts.ticks(0.0, 0.5), [0, 0.1, 0.2, 0.3, 0.4, 0.5])
    for low, high in ((-61.3, 5.0), (0.99871, 0.99899), (1e-7, 3e-7)):
        found = charts.ticks(low, high)
        assert 2 <= len(found) <= 6 and low <= found[0] and found[-1] <= high * (1 + 1e-9)


def test_a_chart_shows_what_is_in_its_limits_at_its_place():
    series = charts.Series([[0.0, 0.0], [5.0, 5.0], [np.nan, 0.0]], "#ff0000", size=6.0)
    panel = charts.Panel("title", "x", "y", (series,), (-1.0, 1.0), (-1.0, 1.0))
    page = charts.picture((panel,), 1, 300, 300).astype(int)
    red = (page[..., 0] > 200) & (page[..., 1] < 90)
    rows, columns = np.nonzero(red)
    # The middle of the box, which has the margins around it; the other points are outside.
    assert 15 < len(rows) < 40
    assert abs(rows.mean() - (34 + 300 - 46) / 2) < 1 and abs(columns.mean() - 173) < 1
