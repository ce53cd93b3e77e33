"""Which way of compiling a run takes: measured, remembered, and shown."""

import json
from typing import Any

import jax
import numpy as np
import pytest
from helpers import assert_equal_trees
from runs import train_points

from jaxgan import cli
from jaxgan.config import RunOptions
from jaxgan.errors import UserError
from jaxgan.game import GANState, PlayerState
from jaxgan.run import choice, remembered, runtime, ways
from jaxgan.run.choice import Candidate, Measured, Peers, Ready
from jaxgan.run.parallel import Way


def same(first: Any, other: Any) -> str:
    return "" if first == other else f"gives {other}, not {first}"


def of_speed(name: str, seconds: Any, result: Any = 1) -> Candidate:
    """A candidate whose n-th run takes so many seconds: a number, or a list to go round."""
    rounds = iter(range(10**6))

    def run(count: int) -> float:
        times = seconds if isinstance(seconds, list) else [seconds]
        return count * times[next(rounds) % len(times)]

    def ready() -> Ready:
        return Ready(result, run)

    return Candidate(name, ready)


def failing(name: str, error: Exception) -> Candidate:
    def ready() -> Ready:
        raise error

    return Candidate(name, ready)


def taken(*candidates: Candidate) -> tuple[str, list[Measured]]:
    found = choice.measured(candidates, same)
    return choice.winner(found).name, found


def test_the_fastest_is_taken():
    assert taken(of_speed("a", 3.0), of_speed("b", 1.0), of_speed("c", 2.0))[0] == "b"


def test_another_than_the_first_must_win_by_more_than_the_spread():
    noisy = [1.0, 1.2, 0.8, 1.1, 0.9]
    assert taken(of_speed("a", noisy), of_speed("b", [0.95 * t for t in noisy]))[0] == "a"
    assert taken(of_speed("a", noisy), of_speed("b", [0.5 * t for t in noisy]))[0] == "b"
    # Its own spread counts as much.
    assert taken(of_speed("a", 1.0), of_speed("b", [0.1, 0.99, 1.9, 0.99, 0.2]))[0] == "a"
    assert taken(of_speed("a", 1.0), of_speed("b", 1.0))[0] == "a"


@pytest.mark.parametrize(
    "bad, reason",
    [
        (failing("b", RuntimeError("no room\nfor it")), "no room for it"),
        (failing("b", ValueError()), "ValueError"),
        (of_speed("b", 0.1, result=float("nan")), "gives nan, not 1"),
        (of_speed("b", 0.1, result=2), "gives 2, not 1"),
    ],
)
def test_a_candidate_that_fails_or_differs_loses_with_its_reason(bad, reason):
    name, found = taken(of_speed("a", 1.0), bad, of_speed("c", 0.5))
    assert name == "c" and found[1].fault == reason and not found[1].seconds
    assert f"b {reason}" in choice.line(found, found[2], 1, 0.0)


def test_a_candidate_that_fails_while_it_is_timed_loses():
    def run(count: int) -> float:
        raise RuntimeError("lost")

    def ready() -> Ready:
        return Ready(1, run)

    name, found = taken(of_speed("a", 1.0), Candidate("b", ready))
    assert name == "a" and found[1].fault == "lost" and len(found[0].seconds) == choice.ROUNDS


def test_where_the_first_fails_nothing_else_is_tried():
    name, found = taken(failing("a", RuntimeError("broken")), of_speed("b", 0.1))
    assert name == "a" and [of.fault for of in found] == ["broken", "not tried"]


def test_candidates_take_turns_and_run_for_equally_long():
    order: list[tuple[str, int]] = []

    def noted(name: str, seconds: float) -> Candidate:
        def run(count: int) -> float:
            order.append((name, count))
            return count * seconds

        def ready() -> Ready:
            return Ready(1, run)

        return Candidate(name, ready)

    taken(noted("a", 0.01), noted("b", 0.02))
    assert order[:2] == [("b", 1), ("a", 1)]  # which warms up
    assert order[2:6] == [("a", 20), ("b", 10), ("b", 10), ("a", 20)]


def test_what_fails_in_one_of_several_processes_fails_in_all():
    def of_other(fault: str) -> str:
        return fault or "process 1: no room"

    found = choice.measured([of_speed("a", 1.0), of_speed("b", 0.1)], same, Peers(of_other))
    assert [of.fault for of in found] == ["process 1: no room", "not tried"]


def test_options_and_the_platform_say_which_ways_are_open(monkeypatch):
    monkeypatch.delenv("JAXGAN_KERNELS", raising=False)

    def named(platform: str, **options: Any) -> list[str]:
        return [str(way) for way in ways.open_ways(RunOptions(**options), platform)]

    assert named("cpu") == ["xla"] and named("cpu", kernels="plain") == ["plain"]
    monkeypatch.setattr(runtime, "why_no_triton", lambda platform: "")
    monkeypatch.setattr(runtime.probe, "refusal", str)
    monkeypatch.setattr(runtime, "options_refused", lambda platform, one_graph: "")
    all_four = ["xla", "xla in one graph", "triton in one graph", "triton"]
    assert named("gpu") == all_four
    assert named("gpu", one_graph=True) == ["xla in one graph", "triton in one graph"]
    assert named("gpu", kernels="triton", one_graph=False) == ["triton"]
    monkeypatch.setattr(runtime, "why_no_triton", lambda platform: "it is not installed")
    assert named("gpu") == all_four[:2]
    monkeypatch.setenv("JAXGAN_KERNELS", "plain")
    assert named("gpu") == ["plain", "plain in one graph"]
    monkeypatch.setattr(runtime, "options_refused", lambda platform, one_graph: "an old XLA")
    assert named("gpu") == ["plain"] == named("gpu", one_graph=True)
    _, (line,) = runtime.check_way(RunOptions(one_graph=True), "gpu")
    assert line == "one_graph=true: training without, as an old XLA"


@pytest.fixture
def two_ways(monkeypatch, tmp_path):
    """Two ways on a CPU, of which the second is taken; gives the ways that were compiled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "_ROUND_SECONDS", 0.0)
    open_ways, made, program_of = [Way("xla"), Way("plain")], [], ways.program_of

    def noted(work, way):
        made.append(way)
        return program_of(work, way)

    monkeypatch.setattr(ways, "open_ways", lambda run, platform: open_ways)
    monkeypatch.setattr(ways, "program_of", noted)
    monkeypatch.setattr(choice, "winner", lambda found: found[1])
    return made


def test_a_run_keeps_the_way_that_it_was_begun_with(two_ways, tmp_path, capsys, monkeypatch):
    train_points(tmp_path / "run", steps=10)
    out = capsys.readouterr().out
    assert "timing the step in 2 ways: xla, plain" in out
    assert "kernels: plain" in out and "against xla" in out
    monkeypatch.delattr(choice, "measured")
    two_ways.clear()
    again = train_points(tmp_path / "run", steps=20)
    assert two_ways == [Way("plain")] and "kernels: plain" in capsys.readouterr().out
    # Another run of the same game on this machine is not measured, either.
    whole = train_points(tmp_path / "other", steps=20)
    assert two_ways == [Way("plain")] * 2
    assert_equal_trees(again, whole)
    kept = (tmp_path / "run" / remembered.IN_WORKDIR).read_text()
    assert json.loads(kept) == json.loads((tmp_path / "other" / remembered.IN_WORKDIR).read_text())


def test_measuring_changes_no_bit_of_a_run(two_ways, tmp_path, monkeypatch):
    measured = train_points(tmp_path / "measured", steps=10)
    monkeypatch.setattr(ways, "open_ways", lambda run, platform: [Way("plain")])
    assert_equal_trees(measured, train_points(tmp_path / "plain", steps=10))
    assert not (tmp_path / "plain" / remembered.IN_WORKDIR).exists()


@pytest.mark.parametrize("content", ["", '{"way": [1, 2]}'])
def test_what_cannot_be_read_is_measured_again(two_ways, tmp_path, capsys, content):
    train_points(tmp_path / "run", steps=5)
    (kept,) = (tmp_path / "cache" / "jaxgan" / "kernels").iterdir()
    for path in (kept, tmp_path / "run" / remembered.IN_WORKDIR):
        path.write_text(content)
    capsys.readouterr()
    train_points(tmp_path / "run", steps=10)
    assert "timing the step" in capsys.readouterr().out
    assert json.loads(kept.read_text())["way"] == ["plain", False]


def test_the_command_shows_what_was_measured_and_forgets_it(two_ways, tmp_path, capsys):
    train_points(tmp_path / "run", steps=5)
    capsys.readouterr()
    assert cli.main(["kernels"]) == 0
    assert "plain" in capsys.readouterr().out
    assert cli.main(["kernels", "--clear"]) == 0
    assert "forgot 1" in capsys.readouterr().out
    assert cli.main(["kernels"]) == 0
    assert "nothing was measured" in capsys.readouterr().out
    assert (tmp_path / "run" / remembered.IN_WORKDIR).exists()


def state_of(**parts: Any) -> Any:
    """A result of `ways.ready` of one player."""
    whole = {"params": np.ones(3), "model_state": {}, "opt_state": (), "ema": None, **parts}
    player = PlayerState(**whole)
    return GANState(np.int32(0), np.zeros(2, np.uint32), {"generator": player})


def result(loss: float, **parts: Any) -> dict[str, Any]:
    return {"metrics": {"loss": np.float32(loss)}, "state": state_of(**parts)}


def test_results_are_compared_with_how_far_a_step_moves():
    start, moved = state_of(params=np.zeros(3)), np.full(3, 1e-3)
    of_step = result(1.0, params=moved)
    assert not ways.apart(start, jax.numpy.float32, of_step, result(1.001, params=1.01 * moved))
    for other, names in (
        (result(1.1, params=moved), "loss"),
        (result(float("nan"), params=moved), "loss"),
        (result(1.0, params=1.2 * moved), "params of generator"),
        (result(1.0, params=0 * moved), "params of generator"),
        (result(1.0, params=np.nan * moved), "params of generator"),
    ):
        assert names in ways.apart(start, jax.numpy.float32, of_step, other)


def test_one_graph_is_refused_where_there_are_none(tmp_path):
    with pytest.raises(UserError, match="one_graph=true needs a CUDA GPU"):
        train_points(tmp_path, one_graph=True)
