"""Sweeps: members are their runs alone, resume bit for bit, and share programs where they can."""

import json
import pathlib
import re
from typing import Any

import jax
import numpy as np
import pytest
from helpers import assert_close, assert_equal_trees
from runs import RUN, SMALL, flags, metrics_of

import jaxgan
from jaxgan import UserError, charts, cli
from jaxgan.config import configured
from jaxgan.run.records import read_metrics
from jaxgan.sweeps import chart, grouping, plan, running, table
from jaxgan.sweeps.plan import planned

# The points game, with numbers that scale, that decide, and that are counted.
RECIPE = '''
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan import Game, Move, Outcome, Player, drawn, recipe
from jaxgan.schedules import is_given


class Centre(nn.Module):
    @nn.compact
    def __call__(self, noise):
        return self.param("centre", nn.initializers.normal(1.0), (1, 2)) + 0.1 * noise


def normal(key):
    return jax.random.normal(key, (2,))


@recipe(steps=20, batch_size=8, data={"name": "ring"}, log={"samples": 4})
def centre(rate: float = 1e-2, decay: float = 0.0, power: int = 2, bound: float = 9.0) -> Game:
    """Learns the centre of points."""
    limit = "far" if bound > 1.0 else "near"  # which has to know the number

    def make(apply, latents, batch):
        points, state = apply("generator", latents)
        return {"point": points}, {"generator": state}

    def fit(play):
        made, states = make(play.apply, drawn(normal, play.keys, "latent"), play.batch)
        loss = jnp.mean((made["point"] - play.batch["point"]) ** power)
        if is_given(decay):
            loss = loss + decay * jnp.mean(made["point"] ** 2)
        return loss, Outcome({"loss": loss, limit: loss}, states)

    player = Player(Centre(), optax.adam(rate), 0.9)
    return Game({"generator": player}, (Move("fit", ("generator",), fit),), normal, make)
'''


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "points.py"
    path.write_text(RECIPE)
    return f"{path}:centre"


def sweep(recipe: str, workdir: pathlib.Path, *words: str, **changes) -> int:
    """A sweep of the points game, of 20 steps."""
    options = flags({**RUN, **changes})
    return cli.main(["sweep", recipe, "--workdir", str(workdir), *options, *words])


TWO_BY_TWO = "--seeds", "2", "--vary", "rate=0.01,0.1"


@pytest.fixture(scope="module")
def swept(recipe, tmp_path_factory):
    """A sweep of four members, all together."""
    workdir = tmp_path_factory.mktemp("sweeps") / "swept"
    assert sweep(recipe, workdir, *TWO_BY_TWO, "--together", "4") == 0
    return workdir


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory):
    """The run that is member 3 of it."""
    workdir = tmp_path_factory.mktemp("sweeps") / "alone"
    words = flags({**RUN, "rate": 0.1, "seed": 1})
    assert cli.main(["train", recipe, "--workdir", str(workdir), *words]) == 0
    return workdir


def of_member(workdir: pathlib.Path, name: int) -> list[dict]:
    """The records of a member, without its number."""
    found = [r for path in sorted(workdir.glob("groups/*")) for r in metrics_of(path)]
    return [{n: v for n, v in r.items() if n != "member"} for r in found if r["member"] == name]


def test_a_member_is_its_run_alone_to_rounding(swept, alone):
    found, expected = jaxgan.restore(swept, member=3), jaxgan.restore(alone)
    # Adam divides by the roots of second moments.
    assert_close(found.state, expected.state, rtol=1e-4, atol=1e-5)
    assert found.about["seed"] == 1 and found.about["rate"] == 0.1
    own, its = of_member(swept, 3), metrics_of(alone)
    assert [r["step"] for r in own] == [r["step"] for r in its] == [5, 10, 15, 20]
    for one, other in zip(own, its):
        assert one.keys() == other.keys()
        np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=1e-5)
    grid, its_grid = (
        path / "step_00000020.png"
        for path in (swept / "groups/0/samples/member_3", alone / "samples")
    )
    assert grid.read_bytes() == its_grid.read_bytes()


def test_one_after_the_other_a_member_is_its_run_alone_in_all_bits(recipe, alone, tmp_path):
    """Also over the edge of a checkpoint: 10 steps and 10 more."""
    for steps in (10, 20):
        words = "--seeds", "2", "--rate", "0.1", "--together", "1"
        assert sweep(recipe, tmp_path / "sweep", *words, steps=steps) == 0
    found = jaxgan.restore(tmp_path / "sweep", member=1)
    assert_equal_trees(found.state, jaxgan.restore(alone).state)
    assert of_member(tmp_path / "sweep", 1) == metrics_of(alone)


def test_a_sweep_that_was_killed_goes_on_to_the_same_bits(recipe, swept, tmp_path, monkeypatch):
    """In the middle of a program's run: what is on the disk then is what a kill leaves."""
    workdir, saved = tmp_path / "sweep", running.train
    begun = []

    def killed(subject, source, place, run, **more):
        begun.append(place.name)
        saved(subject, source, place, run, callback=lambda step, metrics: step == 15, **more)
        raise KeyboardInterrupt

    words = *TWO_BY_TWO, "--together", "4"
    monkeypatch.setattr(running, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep(recipe, workdir, *words)
    monkeypatch.setattr(running, "train", saved)
    assert sweep(recipe, workdir, *words) == 0
    for member in range(4):
        one, other = (jaxgan.restore(path, member=member).state for path in (workdir, swept))
        assert_equal_trees(one, other)
        assert of_member(workdir, member) == of_member(swept, member)
    # Finished programs are not looked at again.
    monkeypatch.setattr(running, "train", killed)
    begun.clear()
    assert sweep(recipe, workdir, *words) == 0 and not begun


def test_members_over_devices_need_nothing_of_each_other(recipe, swept, tmp_path, capsys):
    """Also with several steps in a dispatch, of data that stream."""
    words = *TWO_BY_TWO, "--together", "4"
    many = {"steps_per_call": 5, "data.resident_limit_mb": 0}
    assert sweep(recipe, tmp_path / "sweep", *words, devices=4, **many) == 0
    assert "on 4 cpu devices" in capsys.readouterr().out
    for member in (0, 3):
        one, other = (
            jaxgan.restore(path, member=member).state for path in (tmp_path / "sweep", swept)
        )
        assert_close(one, other, rtol=1e-4, atol=1e-5)
        losses = ([r["loss"] for r in of_member(p, member)] for p in (tmp_path / "sweep", swept))
        np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_sweep_is_told_in_a_table_and_a_plot(swept, recipe, capsys):
    about = json.loads((swept / "sweep.json").read_text())
    assert about["varied"] == {"rate": [0.01, 0.1]} and about["seeds"] == [0, 1]
    assert about["groups"] == [{"members": [0, 1, 2, 3], "numbers": ["rate"]}]
    assert about["versions"]["jax"] == jax.__version__
    last = [of_member(swept, m)[-1]["loss"] for m in range(4)]
    assert [r["metrics"]["loss"] for r in about["results"]] == last
    assert [(r["member"], r["seed"], r["options"]) for r in about["results"]][2] == (
        2,
        0,
        {"rate": 0.1},
    )
    text = (swept / "table.md").read_text().splitlines()
    (row,) = [line for line in text if line.startswith("| 0.1 ") and " loss " in line]
    words = [word.strip() for word in row.strip("|").split("|")]
    assert words[2] == f"{np.mean(last[2:]):.4g}" and words[3] == f"{np.std(last[2:], ddof=1):.4g}"
    assert words[-1] == "2 of 2"
    assert (swept / "plot.png").read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    before = (swept / "sweep.json").read_bytes()
    assert cli.main(["sweep", "--workdir", str(swept), "--table"]) == 0
    assert capsys.readouterr().out.splitlines() == text
    assert (swept / "sweep.json").read_bytes() == before


def test_samples_are_of_a_member(swept, tmp_path, capsys):
    words = ["sample", "--workdir", str(swept), "--out", str(tmp_path / "a.npz"), "--num", "8"]
    assert cli.main(words) == 2
    assert "holds a sweep of 4 members; name one by --member, 0 to 3" in capsys.readouterr().err
    assert cli.main([*words, "--member", "4"]) == 2
    assert "member=4 but" in capsys.readouterr().err
    assert cli.main([*words, "--member", "3"]) == 0
    assert np.load(tmp_path / "a.npz")["point"].shape == (8, 2)


def test_a_member_that_is_not_finite_ends_alone(recipe, tmp_path, capsys):
    """The others go on as without it, and a resumed sweep knows of it."""
    words = "--seeds", "1", "--vary", "rate=0.1,1e38"
    for steps in (10, 20):
        assert sweep(recipe, tmp_path / "sweep", *words, "--together", "2", steps=steps) == 0
        out = capsys.readouterr().out
        assert re.search("member 1 ended: .* is not finite at step", out)
    (group,) = (tmp_path / "sweep" / "groups").iterdir()
    assert [r["step"] for r in read_metrics(group / "metrics.jsonl") if r["member"] == 0] == [
        *(5, 10, 15, 20)
    ]
    assert not [r for r in read_metrics(group / "metrics.jsonl") if r["member"] == 1]
    results = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["results"]
    assert results[0]["ended"] is None and results[1]["metrics"] == {}
    assert results[1]["ended"][1] in ("far", "loss")
    assert "0 of 1" in (tmp_path / "sweep" / "table.md").read_text()


def test_where_all_members_of_a_program_end_the_others_go_on(recipe, tmp_path, capsys):
    words = "--seeds", "1", "--vary", "power=999,2"
    assert sweep(recipe, tmp_path / "sweep", *words) == 0
    out, err = capsys.readouterr()
    assert "all 1 members are not finite" in err and err.count("\n") == 1
    assert sweep(recipe, tmp_path / "sweep", *words) == 0
    assert out.splitlines()[-7:] == capsys.readouterr().out.splitlines()[-7:]
    assert "member 0 ended: " in out and "| 2     | loss   |" in out


def plan_of(recipe: str, *varied: str, seeds: str = "1", **changes: Any) -> plan.Plan:
    return planned(configured(recipe, changes), seeds, varied)


def groups_of(recipe: str, *varied: str) -> list[tuple[list[int], tuple[str, ...]]]:
    """The members of each program and the numbers in which they differ."""
    found = grouping.grouped(plan_of(recipe, *varied), running.sources())
    return [([m.name for m in group.members], group.numbers) for group in found]


@pytest.mark.parametrize(
    "varied, expected",
    [
        (["rate=0.1,0.2,0.3"], [([0, 1, 2], ("rate",))]),
        # With no weight decay there is no such term.
        (["decay=0,1,2"], [([0], ()), ([1, 2], ("decay",))]),
        (["rate=0.1,0.2", "decay=1,2"], [([0, 1, 2, 3], ("rate", "decay"))]),
        # A whole number is a number of something, and may be a shape.
        (["power=2,3"], [([0], ()), ([1], ())]),
        # What the recipe decides by it must know it.
        (["bound=8,9"], [([0], ()), ([1], ())]),
        (["bound=8,9", "rate=0.1,0.2"], [([0, 1], ("rate",)), ([2, 3], ("rate",))]),
        (["batch_size=8,16"], [([0], ()), ([1], ())]),
    ],
)
def test_members_that_differ_in_numbers_that_scale_share_a_program(recipe, varied, expected):
    assert groups_of(recipe, *varied) == expected


def test_rates_weights_and_decays_of_the_library_scale():
    config = configured("dcgan", {n: v for n, v in SMALL.items() if n not in RUN})
    features = {"image": jaxgan.data.Feature((8, 8, 1), np.dtype(np.uint8))}
    of_optimizer = ("generator_rate", "discriminator_rate", "beta1", "beta2", "ema_decay")
    of_objective = ("r1_weight", "instance_noise")
    names = [f"optimizer.{name}" for name in of_optimizer]
    names += [f"objective.{name}" for name in of_objective]
    assert grouping.traces(config, features, names)
    assert not grouping.traces(config, features, [*names, "objective.label_smoothing"])
    points = {"point": jaxgan.data.Feature((2,), np.dtype(np.float32))}
    names = ["objective.r1_weight", "objective.r2_weight", "optimizer.generator_rate"]
    assert grouping.traces(configured("ring", {}), points, names)


def test_an_option_is_named_by_what_is_its_own():
    found = plan_of("dcgan", "r1_weight=1,2", "objective=hinge,relativistic", seeds="3,5")
    assert found.varied == {
        "objective.r1_weight": [1.0, 2.0],
        "objective.name": ["hinge", "relativistic"],
    }
    assert len(found.members) == 8
    second = found.members[1]
    assert (second.name, second.seed, second.options["objective.name"]) == (1, 5, "hinge")
    assert plan.config_of(found, second).run.seed == 5


@pytest.mark.parametrize(
    "words, told",
    [
        (["--vary", "rate"], "--vary 'rate' has no values; give OPTION=VALUE,VALUE"),
        (["--vary", "rate="], "--vary rate= has an empty value"),
        (["--vary", "rate=1,,2"], "--vary rate=1,,2 has an empty value"),
        (["--vary", "rat=1"], "unknown option 'rat'; did you mean rate"),
        (["--vary", "rate=1,1.0"], "--vary rate has 1.0 twice"),
        (["--vary", "rate=1", "--vary", "rate=2"], "--vary names rate twice"),
        (["--vary", "rate=x"], "rate='x' is not a number"),
        (["--vary", "batch_size=0"], "batch_size=0 is too small; use 1 or more"),
        (["--vary", "seed=1,2"], "seeds are given by --seeds"),
        (["--vary", "log.every=1,2"], "it changes nothing that is trained; give --log.every"),
        (["--seeds", "0"], "seeds=0 is too small; use 1 or more"),
        (["--seeds", "1,1"], "seeds=1,1 has 1 twice"),
        (["--seeds", "1,4294967296"], "seeds=4294967296 is too large"),
        (["--seeds", "2", "--seed", "4294967295"], "use a lower --seed"),
        (["--seeds", "x"], "seeds='x' is not a whole number"),
        (["--together", "0"], "together=0 is too small"),
        (["--resume"], "holds no sweep to resume; leave out --resume to begin anew"),
        (["--table"], "holds no sweep; begin one there by jaxgan sweep"),
        (["--table", "--dry-run"], "give one of them"),
        (["--vary", "data.name=grid,rign"], "rign"),
        (["--devices", "3", "--seeds", "2"], "devices=3 cannot share 2 members of a program"),
        (["--vary", "batch_size=8,200000"], "batch_size=200000 exceeds the 100000 examples"),
        (["--batch-size", "8", "--accumulate", "3"], "cannot be divided into accumulate=3"),
        (["--devices", "9"], "devices=9 but this machine has 4; use at most 4"),
    ],
)
def test_what_cannot_be_swept_over_is_refused_in_a_line(recipe, tmp_path, capsys, words, told):
    words = ["sweep", recipe, "--workdir", str(tmp_path / "sweep"), *words]
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert told in err and err.count("\n") == 1
    assert "timing" not in out and not list((tmp_path / "sweep").glob("groups/*/checkpoints/*"))


def test_another_sweep_is_refused_with_what_differs(recipe, swept, alone, tmp_path, capsys):
    for words, told in (
        (("--seeds", "3", "--vary", "rate=0.01,0.1"), "seeds was [0, 1], now [0, 1, 2]"),
        (("--seeds", "2", "--vary", "rate=0.01,1"), "varied was {'rate': [0.01, 0.1]}, now"),
        ((*TWO_BY_TWO, "--decay", "1"), "decay was 0.0, now 1.0"),
        ((*TWO_BY_TWO, "--steps", "19"), "steps=19 but program 0 of"),
    ):
        assert sweep(recipe, swept, *words) == 2
        assert told in capsys.readouterr().err
    assert sweep(recipe, alone, *TWO_BY_TWO) == 2
    assert "holds config.json and no sweep.json" in capsys.readouterr().err
    assert cli.main(["train", recipe, "--workdir", str(swept)]) == 2
    assert "holds a sweep; go on with it by jaxgan sweep" in capsys.readouterr().err
    with pytest.raises(UserError, match="holds no sweep; leave out --member"):
        jaxgan.restore(alone, member=0)


def test_a_dry_run_tells_the_programs_and_writes_nothing(recipe, tmp_path, capsys):
    words = ("--seeds", "2", "--vary", "power=2,3", "--vary", "rate=1,2", "--dry-run")
    assert sweep(recipe, tmp_path / "sweep", *words) == 0
    out = capsys.readouterr().out
    assert "sweep of 8 members: 2 of power x 2 of rate, 2 seeds, in 2 programs" in out
    assert "program 1: members 4 to 7; rate of each" in out
    assert not (tmp_path / "sweep").exists()


def test_a_table_tells_of_combinations_that_log_other_metrics():
    results = [
        {"options": {"a": 1}, "metrics": {"loss": 1.0}},
        {"options": {"a": 1}, "metrics": {"loss": 4.0}},
        {"options": {"a": 1}, "metrics": {}},
        {"options": {"a": 2}, "metrics": {"score": 5.0}},
        {"options": {"a": 3}, "metrics": {}},
    ]
    found = table.lines(["a"], table.rows([{"a": 1}, {"a": 2}, {"a": 3}], results))
    assert [[word.strip() for word in line.strip("|").split("|")] for line in found[2:]] == [
        ["1", "loss", "2.5", "2.121", "1", "4", "2 of 3"],
        ["2", "score", "5", "-", "5", "5", "1 of 1"],
        ["3", "-", "-", "-", "-", "-", "0 of 1"],
    ]


def test_a_chart_shows_means_within_the_range_of_members():
    lines = [chart.Line("a", [1, 2], [[0.0, 1.0], [0.0, 3.0]]), chart.Line("b", [1], [[]])]
    page = chart.chart("a sweep", {"loss": lines, "empty": [chart.Line("a", [1], [[]])]})
    assert page.dtype == np.uint8 and page.shape[2] == 3
    blue = [int(charts.COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)]
    far = np.abs(page.astype(int) - np.array(blue)).max(2)
    line, band = (far < 60).sum(), (page.std(2) > 5).sum()
    assert line > 300 and band > 5 * line


@pytest.mark.parametrize("least, most", [(0, 1), (-1e-3, 2e-3), (0.95, 1.05), (0, 60_000)])
def test_ticks_are_a_few_round_numbers_of_the_range(least, most):
    found = charts.ticks(least, most)
    assert 3 <= len(found) <= 7 and least <= found[0] and found[-1] <= most
