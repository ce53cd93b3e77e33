"""Alarms: each rings where it is provoked and nowhere else, and none changes a healthy run."""

import dataclasses
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Judge, Maker
from runs import centre_game, metrics_of, train_points

from jaxgan import Player, gan, init, latents, objectives
from jaxgan.alarms import going_back, looking
from jaxgan.alarms.alarm import Alarm, Rung, held
from jaxgan.alarms.listing import ALARMS
from jaxgan.alarms.measures import measures
from jaxgan.config import RunOptions
from jaxgan.errors import AlarmStop, RunError, UserError
from jaxgan.run.hooks import Hook
from jaxgan.run.records import read_metrics
from jaxgan.step import make_step


def tiny(objective, generator_rate, discriminator_rate):
    return gan(
        Player(Maker(), optax.sgd(generator_rate)),
        Player(Judge(), optax.sgd(discriminator_rate)),
        objective,
        latents.normal(3),
    )


@partial(jax.jit, static_argnums=(0, 1))
def trained(objective, looks, rates, batch, held_out, factor):
    """What looks of a run of a few networks measure, one after each of `looks` rounds of steps.

    factor: of the last layer of the generator, which makes one point where it is 0.
    """
    game = tiny(objective, rates[0], rates[1])
    state = init(game, jax.random.key(0), batch)
    generator = state.players["generator"]
    last = generator.params["Dense_1"]
    last = last | {"kernel": last["kernel"] * factor}
    params = generator.params | {"Dense_1": last}
    state = state.replace(players=state.players | {"generator": generator.replace(params=params)})
    step, look = make_step(game), measures(game)

    def one(state, _):
        state = jax.lax.fori_loop(0, rates[2].astype(int), lambda _, s: step(s, batch)[0], state)
        _, metrics = step(state, batch)
        losses = {name: x for name, x in metrics.items() if name.startswith("loss")}
        return state, losses | look(state, batch, held_out)

    return jax.lax.scan(one, state, length=looks)[1]


def pictures(seed, count=40):
    rng = np.random.default_rng(seed)
    return {"image": rng.uniform(-1, 1, (count, 4, 4, 1)).astype(np.float32)}


def rung(objective=objectives.nonsaturating(), rates=(0.02, 0.02, 5), others=None, factor=1.0):
    """{name: Rung} of the alarms that ang at any look of a run, and its last look."""
    given = jnp.asarray(rates, jnp.float32), pictures(0), others, jnp.float32(factor)
    found = jax.device_get(trained(objective, 15, *given))
    looks = [{"step": i, **{n: float(x[i]) for n, x in found.items()}} for i in range(15)]
    windows = [tuple(looks[: i + 1]) for i in range(15)]
    rang = {a.name: r for a in ALARMS for window in windows if (r := a.rings(window))}
    return rang, looks[-1]


def test_all_stay_quiet_where_two_networks_learn():
    rang, last = rung()
    assert rang == {}
    assert last["spread"] > 0.2 and 0.5 <= last["accuracy"] <= 1.0 and 0 < last["signal"] < 2


def test_a_generator_of_one_point_has_collapsed():
    rang, last = rung(rates=(0, 0.02, 5), factor=0.0)
    assert last["spread"] == 0.0
    assert rang["collapse"] == Rung("spread", 0.0, 0.1, since=10)


def test_a_discriminator_that_is_right_of_everything_is_saturated():
    rang, last = rung(rates=(0, 1.0, 100))
    assert last["accuracy"] == 1.0
    assert rang["saturation"].value == last["signal"] < 0.02


def test_forty_images_are_learnt_by_heart():
    """Others of the same kind are judged as the made ones are, or in between."""
    rates = 0.0, 0.5, 200  # the generator stays, so that the images alone can be told apart
    rang, last = rung(rates=rates)
    assert "overfitting" in rang and last["overfitting"] == 1.0  # by r_t
    _, last = rung(rates=rates, others=pictures(0))
    assert last["overfitting"] == 0.0  # the same images, by r_v
    _, last = rung(rates=rates, others=pictures(1))
    assert 0.05 < last["overfitting"] <= 1.0


def test_a_gradient_vanishes_where_a_minimax_loss_saturates():
    rang, last = rung(objectives.minimax(), rates=(0, 100.0, 100))
    assert rang["vanishing gradients"].value < 1e-6
    assert last["gradient_generator"] < 1e-6


def test_losses_without_a_bound_diverge_and_gradients_explode():
    rang, _ = rung(objectives.wasserstein(), rates=(0.0, 1.0, 100))
    assert "diverging losses" in rang
    assert "overfitting" not in rung(objectives.wasserstein())[1]  # its logits part at no number


WINDOW = tuple({"step": i, "gradient_generator": 0.5, "loss": 1.0} for i in range(5))


@pytest.mark.parametrize("size", [60.0, 1e6])
def test_a_gradient_a_hundred_times_the_usual_explodes(size):
    (alarm,) = [a for a in ALARMS if a.name == "exploding gradients"]
    more = [{"step": 5 + i, "gradient_generator": size} for i in range(2)]
    assert alarm.rings((*WINDOW, *more)) == Rung("gradient_generator", size, 50.0, since=5)
    assert alarm.rings((*WINDOW, more[0])) is None  # once may be chance
    assert alarm.rings((*WINDOW, *({**look, "gradient_generator": 40.0} for look in more))) is None


def test_no_alarm_rings_of_what_was_not_measured():
    window = tuple({"step": i} for i in range(40))
    assert [a.rings(window) for a in ALARMS] == [None] * len(ALARMS)
    assert [a.rings(()) for a in ALARMS] == [None] * len(ALARMS)


# In runs.
LOOKED = {"alarm.every": 5, "log.every": 5, "steps": 25}


def same(first, second):
    def bits(state):
        leaves = jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))
        return [np.asarray(leaf).tobytes() for leaf in leaves]

    return bits(first) == bits(second)


def looked(**more):
    return {**LOOKED, "data": None, **more}


def test_a_healthy_run_has_the_same_bits_with_alarms(tmp_path):
    on = train_points(tmp_path / "on", **LOOKED)
    off = train_points(tmp_path / "off", alarms="off", **LOOKED)
    assert same(on, off)
    assert metrics_of(tmp_path / "on") == metrics_of(tmp_path / "off")
    looks = read_metrics(tmp_path / "on" / "measures.jsonl")
    assert [look["step"] for look in looks] == [5, 10, 15, 20, 25]
    assert looks[0].keys() == {"step", "loss", "spread", "gradient_generator"}
    assert not (tmp_path / "on" / "alarms.jsonl").exists()
    assert not (tmp_path / "off" / "measures.jsonl").exists()


def once(window):
    """Rings at step 15, but not where the run went back to step 10."""
    last = window[-1] if window else {"step": 0}
    return Rung("loss", last["loss"], 0.0, 15) if last["step"] == 15 and len(window) > 1 else None


def at_15(look, before):
    return ("loss", look["loss"], 0.0) if look["step"] == 15 else None


@pytest.fixture
def one_alarm(monkeypatch):
    def set_to(rings):
        alarm = Alarm("test", "something is so", "nothing", rings)
        monkeypatch.setattr(looking, "EVERY_ALARM", (alarm,))

    return set_to


def test_a_warning_is_a_line_and_an_event_and_told_once(tmp_path, one_alarm, capsys):
    one_alarm(held(1, lambda look, before: ("loss", look["loss"], 0.0)))
    train_points(tmp_path, **LOOKED)
    out = capsys.readouterr().out
    assert out.count("alarm at step") == 1
    assert "alarm at step 5, test: something is so (loss " in out
    assert ", over 0 since step 5); what helps: nothing" in out
    (event,) = read_metrics(tmp_path / "alarms.jsonl")
    assert event["step"] == 5 and event["alarm"] == "test" and event["did"] == "warn"


def test_a_stop_saves_and_the_same_command_goes_on(tmp_path, one_alarm):
    one_alarm(held(1, at_15))
    with pytest.raises(AlarmStop, match="alarm test at step 15 of 25, saved") as error:
        train_points(tmp_path, alarms="stop", **LOOKED)
    assert error.value.status == 3
    assert (tmp_path / "checkpoints" / "15").is_dir()
    assert int(train_points(tmp_path, alarms="stop", **LOOKED).step) == 25


def test_going_back_is_replayed_with_the_same_bits(tmp_path, one_alarm, monkeypatch):
    one_alarm(once)
    options = {**LOOKED, "alarms": "rollback"}
    usual, killed = going_back.set_aside, tmp_path / "killed"

    def copying(folder, past):  # as the workdir is where it is killed as soon as it goes back
        if past.times and not killed.exists():
            shutil.copytree(folder.parent, killed)
        return usual(folder, past)

    def later(moment):
        if (tmp_path / "first" / "checkpoints" / "rolled_back_15").exists() and moment.step == 20:
            shutil.copytree(tmp_path / "first", tmp_path / "later")

    monkeypatch.setattr(going_back, "set_aside", copying)
    often = {**options, "log.checkpoint_every": 5}
    first = train_points(tmp_path / "first", more_hooks=(Hook(5, later),), **often)
    (event,) = read_metrics(tmp_path / "first" / "alarms.jsonl")
    assert (event["step"], event["to"], event["rollback"], event["rate"]) == (15, 10, 1, 0.5)
    assert int(first.step) == 25
    for again in ("second", "killed", "later"):
        assert same(first, train_points(tmp_path / again, **often)), again
        assert metrics_of(tmp_path / again) == metrics_of(tmp_path / "first")
    assert read_metrics(killed / "alarms.jsonl") == [event]
    # Other noise and lower rates than of a run that did not go back.
    other = train_points(tmp_path / "other", **{**often, "alarms": "off"})
    assert not same(first, other)
    # It may go on with more steps, and knows what it is.
    more = [train_points(tmp_path / name, **{**often, "steps": 30}) for name in ("first", "killed")]
    assert same(*more)


def test_a_run_goes_back_so_often_and_then_stops(tmp_path, one_alarm):
    one_alarm(held(1, at_15))
    with pytest.raises(AlarmStop, match="after it went back 2 times"):
        train_points(tmp_path, alarms="rollback", alarm={"most": 2}, **LOOKED)
    events = read_metrics(tmp_path / "alarms.jsonl")
    # Nothing was reached since, so the second goes further back.
    assert [event.get("to") for event in events] == [10, 0, None]


def test_what_is_not_finite_is_told_by_name_and_goes_back(tmp_path, capsys):
    game = centre_game()
    player = game.players["generator"]._replace(tx=optax.sgd(1e30))
    game = game._replace(players={"generator": player})
    text = "of the state, players.generator.params.centre is the first"
    with pytest.raises(RunError, match=text):
        train_points(tmp_path, game, alarms="rollback", alarm={"most": 1}, **LOOKED)
    events = read_metrics(tmp_path / "alarms.jsonl")
    assert [event["did"] for event in events] == ["rollback", "stop"]
    assert "going back to the beginning with other noise and rates times 0.5" in (
        capsys.readouterr().out
    )


def test_rates_of_a_slower_game_are_lower():
    from jaxgan import players

    game = tiny(objectives.hinge(), 0.5, 0.5)
    slower = players.slower(game, 0.25)
    batch = pictures(0, 8)
    state = init(game, jax.random.key(0), batch)
    for name in game.players:
        one, other = (make_step(of)(state, batch)[0].players[name].params for of in (game, slower))
        moved = [jax.tree.map(jnp.subtract, to, state.players[name].params) for to in (one, other)]
        # The discriminator moves first, and the generator against it.
        if name == "discriminator":
            jax.tree.map(lambda a, b: np.testing.assert_allclose(0.25 * a, b, atol=1e-7), *moved)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"alarms": "loud"}, "alarms: unknown value 'loud'"),
        ({"alarm.rate": 0}, "alarm.rate=0 is too small"),
        ({"alarm.held_out": "test"}, "is a split of named data"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(tmp_path, changes, text):
    with pytest.raises(UserError, match=text):
        train_points(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_going_back_is_for_one_process():
    with pytest.raises(UserError, match="one process, here are 2; use --alarms stop"):
        going_back.check(dataclasses.replace(RunOptions(), alarms="rollback"), 2)
