"""Alarms: each rings where it is provoked and nowhere else, and none changes a healthy run."""

import dataclasses
import shutil
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Layers
from runs import centre_game, metrics_of, points, train_points

from jaxgan import Player, cli, gan, init, objectives, players
from jaxgan.alarms import going_back, looking
from jaxgan.alarms.alarm import Alarm, Rung, held
from jaxgan.alarms.going_back import Past
from jaxgan.alarms.listing import ALARMS
from jaxgan.alarms.measures import measures
from jaxgan.config import RunOptions
from jaxgan.errors import AlarmStop, RunError, UserError
from jaxgan.run import ensembles
from jaxgan.run.hooks import Hook
from jaxgan.run.records import read_metrics
from jaxgan.step import make_step


class Noise(nn.Module):
    """Latents [B, 4, 4, 1] about a centre: uniform noise at first, as the pictures here are."""

    @nn.compact
    def __call__(self, latents):
        spread = self.param("spread", nn.initializers.ones, (1, 1, 1, 1))
        centre = self.param("centre", nn.initializers.zeros, (1, 4, 4, 1))
        return centre + spread * latents


def uniform(key):
    return jax.random.uniform(key, (4, 4, 1), minval=-1.0)


def tiny(objective, generator_rate, discriminator_rate):
    return gan(
        Player(Noise(), optax.sgd(generator_rate)),
        Player(Layers((64, 1)), optax.sgd(discriminator_rate)),
        objective,
        uniform,
    )


@partial(jax.jit, static_argnums=(0, 1))
def trained(objective, looks, rates, batch, held_out, factor):
    """What looks at a run of two networks measure, one after each of `looks` rounds of steps.

    Args:
      rates: of the generator and the discriminator, steps of a round, and by what the rates are
        multiplied from the seventh round on.
      factor: of the generator's spread; where it is 0 it makes one point.
    """
    state = init(tiny(objective, 0.1, 0.1), jax.random.key(0), batch)
    generator = state.players["generator"]
    params = generator.params | {"spread": generator.params["spread"] * factor}
    state = state.replace(players=state.players | {"generator": generator.replace(params=params)})
    look = measures(tiny(objective, 0.1, 0.1))

    def one(state, i):
        boost = jnp.where(i < 6, 1.0, rates[3])
        step = make_step(tiny(objective, rates[0] * boost, rates[1] * boost))
        state = jax.lax.fori_loop(0, rates[2].astype(int), lambda _, s: step(s, batch)[0], state)
        state, metrics = step(state, batch)
        losses = {name: x for name, x in metrics.items() if name.startswith("loss")}
        return state, losses | look(state, batch, held_out)

    return jax.lax.scan(one, state, jnp.arange(looks))[1]


def pictures(seed, count=40):
    rng = np.random.default_rng(seed)
    return {"image": rng.uniform(-1, 1, (count, 4, 4, 1)).astype(np.float32)}


LOOKS = 12  # the most that an alarm waits for are 10
NONSATURATING, OTHERS = objectives.nonsaturating(), pictures(1)


def rung(objective=NONSATURATING, rates=(0.02, 0.02, 5), others=OTHERS, factor=1.0, boost=1.0):
    """{name: Rung} of the alarms that rang at any look of a run, and its last look."""
    rates = jnp.asarray((*rates, boost), jnp.float32)
    found = trained(objective, LOOKS, rates, pictures(0), others, jnp.float32(factor))
    found = jax.device_get(found)
    looks = [{"step": i, **{n: float(x[i]) for n, x in found.items()}} for i in range(LOOKS)]
    windows = [tuple(looks[: i + 1]) for i in range(LOOKS)]
    rang = {a.name: r for a in ALARMS for window in windows if (r := a.rings(window))}
    return rang, looks[-1]


def test_all_stay_quiet_where_two_networks_learn():
    rang, last = rung()
    assert rang == {}
    assert last["spread"] > 0.5 and 0.5 < last["signal"] < 1.5


def test_a_generator_of_one_point_has_collapsed():
    rang, last = rung(rates=(0, 0.02, 5), factor=0.0)
    assert last["spread"] == 0.0
    assert rang == {"collapse": Rung("spread", 0.0, 0.1, since=7)}


def test_a_discriminator_that_is_right_of_everything_is_saturated():
    rang, last = rung(rates=(0, 3.0, 100), factor=0.0)
    assert last["accuracy"] == 1.0
    assert rang["saturation"].value == last["signal"] < 0.02


def test_forty_images_are_learnt_by_heart():
    """Made ones are drawn as these images were: they alone can be told apart."""
    rates = 0.0, 0.3, 100
    rang, _ = rung(objectives.minimax(), rates, None)
    assert rang == {"overfitting": Rung("sureness", 1.0, 0.95, since=2)}
    rang, last = rung(rates=rates)
    assert rang["overfitting"].value == last["overfitting"] > 0.6
    rang, last = rung(rates=rates, others=pictures(0))  # which are the same
    assert rang == {} and last["overfitting"] == 0.0


def test_a_gradient_vanishes_where_nothing_is_left_to_learn():
    rang, last = rung(objectives.minimax(), (0, 3.0, 300), None, factor=0.0, boost=30.0)
    assert rang["vanishing gradients"].value < 1e-4
    assert last["gradient_generator"] < 1e-4


def test_rates_that_explode_let_losses_diverge_and_gradients_explode():
    rang, _ = rung(rates=(0, 0.02, 5), boost=1000.0)
    assert rang.keys() == {"diverging losses", "exploding gradients"}


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


def first_state():
    return init(centre_game(), jax.random.key(0), {"point": points(8)})


def once(window):
    """Rings at step 15, but not where the run went back to step 10."""
    last = window[-1] if window else {"step": 0}
    return Rung("loss", last["loss"], 0.0, 15) if last["step"] == 15 and len(window) > 1 else None


def from_15(look, before):
    return ("loss", look["loss"], 0.0) if look["step"] >= 15 else None


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


def test_a_stop_saves_and_has_a_status_of_its_own(tmp_path, one_alarm):
    one_alarm(held(1, from_15))
    with pytest.raises(AlarmStop, match="alarm test at step 15 of 25, saved") as error:
        train_points(tmp_path, alarms="stop", **LOOKED)
    assert error.value.status == 3
    assert (tmp_path / "checkpoints" / "15").is_dir()
    assert [event["did"] for event in read_metrics(tmp_path / "alarms.jsonl")] == ["stop"]


def test_going_back_is_replayed_with_the_same_bits(tmp_path, one_alarm, monkeypatch):
    one_alarm(once)
    often = {**LOOKED, "alarms": "rollback", "log.checkpoint_every": 5}
    usual, killed = going_back.set_aside, tmp_path / "killed"

    def copying(folder, past):  # as the workdir is where it is killed as soon as it goes back
        if past.times and not killed.exists():
            shutil.copytree(folder.parent, killed)
        return usual(folder, past)

    def later(moment):
        if (tmp_path / "first" / "checkpoints" / "rolled_back_15").exists() and moment.step == 20:
            shutil.copytree(tmp_path / "first", tmp_path / "later")

    monkeypatch.setattr(going_back, "set_aside", copying)
    first = train_points(tmp_path / "first", more_hooks=(Hook(5, later),), **often)
    (event,) = read_metrics(tmp_path / "first" / "alarms.jsonl")
    assert (event["step"], event["to"], event["rollback"], event["rate"]) == (15, 10, 1, 0.5)
    for again in ("killed", "later"):
        assert same(first, train_points(tmp_path / again, **often)), again
        assert metrics_of(tmp_path / again) == metrics_of(tmp_path / "first")
    assert read_metrics(killed / "alarms.jsonl") == [event]
    folded = jax.random.fold_in(first_state().key, 1)
    assert jax.random.key_data(first.key).tolist() == jax.random.key_data(folded).tolist()


def test_a_run_goes_back_so_often_then_stops_and_the_same_command_goes_on(tmp_path, one_alarm):
    one_alarm(held(1, from_15))
    options = {**LOOKED, "alarms": "rollback", "alarm.most": 1}
    with pytest.raises(AlarmStop, match="after it went back 1 times"):
        train_points(tmp_path, **options)
    events = read_metrics(tmp_path / "alarms.jsonl")
    assert [event.get("to") for event in events] == [10, None]
    assert int(train_points(tmp_path, **options).step) == 25


def test_where_a_run_goes_back_to():
    assert going_back.target([5, 10, 15], 12, Past()) == 10
    assert going_back.target([5, 10, 15], 12, Past(1, 10)) == 5  # nothing was reached since
    assert going_back.target([5, 10, 15], 12, Past(1, 5)) == 10
    assert going_back.target([10, 15], 8, Past()) == going_back.target([], 8, Past()) == 0


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


def test_updates_of_a_slower_game_are_multiplied_by_its_rate():
    slower = players.slower(tiny(NONSATURATING, 0.5, 0.5), 0.25).players["generator"]
    updates, _ = slower.tx.update({"w": jnp.ones(2)}, slower.tx.init({"w": jnp.zeros(2)}))
    np.testing.assert_array_equal(updates["w"], [-0.125, -0.125])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"alarms": "loud"}, "alarms: unknown value 'loud'"),
        ({"alarm.rate": 0}, "alarm.rate=0.0 is too small"),
        ({"alarm.held_out": "test"}, "is a split of named data"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(tmp_path, changes, text):
    with pytest.raises(UserError, match=text):
        train_points(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_look_that_fails_ends_no_run_and_is_told_once():
    def fails(state):
        raise ValueError("of a network")

    told = []
    once = looking.Once(fails, told.append)
    assert [once(None)[0] for _ in range(3)] == [{}, {}, {}]
    assert told == ["alarms watch the losses alone, as a look fails: ValueError: of a network"]


def test_the_command_ends_with_the_status_of_an_alarm(monkeypatch, capsys):
    def stopped(argv):
        raise AlarmStop("stopped by the alarm collapse")

    monkeypatch.setattr(cli, "_run", stopped)
    assert (
        cli.main([]) == 3 and capsys.readouterr().err == "jaxgan: stopped by the alarm collapse\n"
    )


def test_a_sweep_that_is_to_stop_is_refused():
    run = dataclasses.replace(RunOptions(), alarms="stop")
    with pytest.raises(UserError, match="alarms=stop is for a run of one member"):
        ensembles._devices(2, run)


def test_going_back_is_for_one_process():
    with pytest.raises(UserError, match="one process, here are 2; use --alarms stop"):
        going_back.check(dataclasses.replace(RunOptions(), alarms="rollback"), 2)
