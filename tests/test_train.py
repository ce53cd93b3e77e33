"""Whole runs from Python: resumed bit for bit, on several devices; what goes wrong on the way."""

import contextlib
import json
import pathlib
import threading
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_equal_trees
from runs import (
    SMALL,
    Centre,
    centre_game,
    holding,
    metrics_of,
    normal,
    points,
    train_points,
)

import jaxgan
from jaxgan import Game, Move, Outcome, Player, config, init, options
from jaxgan.data import DataOptions, Feature, Source
from jaxgan.errors import UserError
from jaxgan.run import checkpoint, train
from jaxgan.run.hooks import Hook
from jaxgan.run.records import read_metrics


def steps_in(workdir):
    return checkpoint.steps_in(workdir / "checkpoints")


def train_digits(workdir, **changes):
    """The preset digits, small: batch statistics, an average, R1."""
    recipe, options, run = config.configured("digits", {**SMALL, **changes})
    return train.train(lambda example: recipe.make(example, options), run.data, workdir, run)


@contextlib.contextmanager
def guarded(*kinds):
    """A hook under which a step that moves anything of these kinds is an error."""
    guards = contextlib.ExitStack()

    def before(dispatch):
        for kind in kinds:
            guards.enter_context(getattr(jax, f"transfer_guard_{kind}")("disallow"))

    with guards:
        yield Hook(10**6, before=before, after=lambda state: guards.close())


@pytest.mark.parametrize("limit", [2048, 0], ids=["resident", "streamed"])
def test_ten_steps_and_ten_more_equal_twenty(tmp_path, limit):
    options = {"data.resident_limit_mb": limit}
    make: Any = train_points if limit == 0 else train_digits
    whole = make(tmp_path / "whole", **options)
    make(tmp_path / "halves", **options, steps=10)
    halves = make(tmp_path / "halves", **options)
    assert_equal_trees(whole, halves)
    assert int(whole.step) == 20
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "halves")
    if limit == 0:
        manifest = (tmp_path / "halves" / "checkpoints" / "20" / "manifest.json").read_text()
        assert json.loads(manifest)["position"]["next_index"] == 20


@pytest.mark.parametrize(
    ("devices", "per_call", "limit"), [(1, 1, 2048), (1, 5, 0), (4, 1, 0), (4, 5, 2048)]
)
def test_steps_move_nothing_between_host_and_devices(tmp_path, devices, per_call, limit):
    """What a step needs is on the devices before, and its results stay there.

    On one device `jit` itself takes the numbers of the examples along, ten times faster than
    `device_put` does, and what lies in a processor's memory.
    """
    kinds = ["device_to_host", "device_to_device", *["host_to_device"] * (devices > 1)]
    options = {"devices": devices, "data.resident_limit_mb": limit, "steps_per_call": per_call}
    with guarded(*kinds) as hook:
        train_points(tmp_path, **options, more_hooks=(hook,))


def test_a_run_leaves_no_thread_behind(tmp_path):
    before = set(threading.enumerate())
    seen = []

    def stop(step, metrics):
        seen.append({t.name.rpartition("_")[0] for t in set(threading.enumerate()) - before})
        return True

    options = {"data.resident_limit_mb": 0, "devices": 4}
    train_points(tmp_path, **options, callback=stop)
    assert {"jaxgan-read", "jaxgan-order", "jaxgan-place"} <= seen[0]
    assert not any(t.name.startswith("jaxgan-") for t in set(threading.enumerate()) - before)


def test_a_run_on_one_device_goes_on_on_four_and_back(tmp_path):
    often = {"log.checkpoint_every": 5}
    alone = train_points(tmp_path / "alone", **often)
    train_points(tmp_path / "moved", **often, steps=10)
    train_points(tmp_path / "moved", **often, steps=15, devices=4)
    moved = train_points(tmp_path / "moved", **often)
    assert int(moved.step) == 20
    # Means of means sum in another order; the centre has moved by 20 steps of 1e-2.
    for a, b in zip(jax.tree.leaves(moved.players), jax.tree.leaves(alone.players)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_several_steps_a_call_train_the_same(tmp_path):
    single = train_points(tmp_path / "single", **{"log.every": 10})
    several = train_points(tmp_path / "several", steps_per_call=5, **{"log.every": 10})
    # The loop's program may sum in another order; the centre has moved by 20 steps of 1e-2.
    for a, b in zip(jax.tree.leaves(single.players), jax.tree.leaves(several.players)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert int(several.step) == 20
    ours, theirs = metrics_of(tmp_path / "several"), metrics_of(tmp_path / "single")
    assert [record["step"] for record in ours] == [10, 20]
    np.testing.assert_allclose(
        [record["loss"] for record in ours], [record["loss"] for record in theirs], rtol=1e-5
    )


def test_a_workdir_holds_what_it_should(tmp_path):
    train_points(tmp_path, **{"log.tensorboard": True, "log.sample_every": 10, "log.keep": 1})
    about = json.loads((tmp_path / "config.json").read_text())
    assert (about["batch_size"], about["examples"], about["example"]["point"]["shape"]) == (
        8,
        100,
        [2],
    )
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records] == [5, 10, 15, 20]
    own = {"step", "epoch", "seconds", "examples_per_second"}
    assert all(record.keys() == {"loss", *own} for record in records)
    assert [record["epoch"] for record in records] == [5 / 12, 10 / 12, 15 / 12, 20 / 12]
    samples = sorted(p.name for p in (tmp_path / "samples").iterdir())
    assert samples == ["step_00000010.png", "step_00000020.png"]
    assert steps_in(tmp_path) == [20]
    content = b"".join(p.read_bytes() for p in (tmp_path / "tensorboard").iterdir())
    assert b"loss" in content and b"samples" in content
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".lock",
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "samples",
        "tensorboard",
    ]


def test_a_run_learns_and_its_average_follows(tmp_path):
    state = train_points(tmp_path, steps=300, **{"log.every": 100, "log.checkpoint_every": 300})
    generator = state.players["generator"]
    # Adam circles the mean of the points, (2, 0); that of a batch of 8 has a deviation of 0.35.
    np.testing.assert_allclose(generator.params["centre"], [[2, 0]], atol=0.6)
    np.testing.assert_allclose(generator.ema["centre"], generator.params["centre"], atol=0.1)
    assert float(generator.model_state["counts"]["calls"]) == 300


def test_volumes_have_no_picture_and_are_written_as_arrays(tmp_path):
    volumes = np.zeros((20, 3, 3, 3, 1), np.float32) + points(20).mean(1)[:, None, None, None, None]

    class Volume(Centre):
        def __call__(self, noise, train):
            return jnp.broadcast_to(noise[:, :1, None, None, None], (len(noise), 3, 3, 3, 1))

    def make(apply, latents, batch):
        volume, _ = apply("generator", latents)
        return {"volume": volume}, {}

    def fit(play):
        made, _ = make(play.apply, jnp.ones((len(play.batch["volume"]), 2)), play.batch)
        return jnp.mean((made["volume"] - play.batch["volume"]) ** 2), Outcome()

    game = Game({"generator": Player(Volume())}, (Move("f", ("generator",), fit),), normal, make)
    train_points(tmp_path, game, {"volume": volumes}, steps=5)
    (path,) = (tmp_path / "samples").iterdir()
    assert path.name == "step_00000005.npz"
    with np.load(path) as content:
        assert content["volume"].shape == (4, 3, 3, 3, 1)
        assert content["volume"].dtype == np.float32


# What data may be.
class Sequence:
    """Examples one by one, as data sets of other libraries give them."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        return {"point": points()[index]}


def source(name="mine", count=100, version="1", read=None):
    features = {"point": Feature((2,), np.dtype(np.float32))}
    return Source(name, count, read or (lambda i: {"point": points()[i]}), features, version)


def test_arrays_dicts_sequences_and_sources_of_the_same_examples_train_the_same_run(tmp_path):
    array = train_points(tmp_path / "array")
    for name, data in [
        ("dict", {"point": points()}),
        ("sequence", Sequence()),
        ("source", source()),
        ("jax", jnp.asarray(points())),
    ]:
        assert_equal_trees(array, train_points(tmp_path / name, data=data))


@pytest.mark.parametrize("data", [3, object(), lambda: None, "points.npy", [], np.float32(3)])
def test_data_of_another_kind_are_refused_and_leave_nothing(tmp_path, data):
    with pytest.raises(UserError) as error:
        train_points(tmp_path / "run", data=data)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_options_of_data_are_those_of_the_run(tmp_path):
    train_points(tmp_path, data=DataOptions(name="ring", features="point"))
    about = json.loads((tmp_path / "config.json").read_text())
    assert about["data.name"] == "ring" and about["data.features"] == "point"


def test_a_run_of_arrays_does_not_say_that_it_is_of_a_named_data_set(tmp_path):
    train_points(tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    assert about.get("data.name") != "digits"


@pytest.mark.parametrize("other", [{"count": 99}, {"version": "2"}])
def test_other_data_under_the_same_name_are_another_run(tmp_path, other):
    train_points(tmp_path, data=source(), steps=10)
    before = holding(tmp_path)
    name = {"count": "examples was 100, now 99", "version": "data_version was '1', now '2'"}
    with pytest.raises(UserError, match=name[next(iter(other))]):
        train_points(tmp_path, data=source(**other))
    assert holding(tmp_path) == before


# What the caller may do.
def test_a_callback_gets_the_metrics_and_stops_a_run_that_can_be_resumed(tmp_path, capsys):
    seen = []

    def stop_at_ten(step, metrics):
        seen.append((step, metrics))
        return step == 10

    whole = train_points(tmp_path / "whole")
    stopped = train_points(tmp_path / "run", callback=stop_at_ten)
    assert [step for step, _ in seen] == [5, 10] and int(stopped.step) == 10
    assert [found for _, found in seen] == [
        {"loss": r["loss"]} for r in metrics_of(tmp_path / "whole")[:2]
    ]
    line = "stopped by the callback at step 10 of 20, saved; the same command resumes"
    assert line in capsys.readouterr().out
    assert_equal_trees(whole, train_points(tmp_path / "run"))


def test_a_callback_that_stops_at_the_end_has_stopped_nothing(tmp_path, capsys):
    train_points(tmp_path, callback=lambda step, metrics: step == 20)
    said = capsys.readouterr().out
    assert "stopped" not in said and "step 20 of 20: samples in" in said


def test_a_users_hook_is_called_when_it_is_due_and_at_the_end(tmp_path, capsys):
    moments = []

    def note(moment):
        moments.append((moment.step, int(moment.state.step), float(moment.metrics["loss"])))

    hook = Hook(7, note, end=lambda: ["a line of the hook's"])
    train_points(tmp_path, more_hooks=(hook,))
    assert [moment[:2] for moment in moments] == [(7, 7), (14, 14), (20, 20)]
    assert "a line of the hook's\n" in capsys.readouterr().out
    # Looking changes nothing.
    assert_equal_trees(train_points(tmp_path / "plain"), train_points(tmp_path))


def test_a_hook_sees_each_dispatch(tmp_path):
    sent, counts = [], []

    def before(dispatch):
        sent.append((dispatch.step, dispatch.count, dispatch.until))
        return 0.0

    def after(state):
        counts.append(int(state.step))
        return 0.0

    hook = Hook(100, before=before, after=after)
    train_points(tmp_path, steps=12, steps_per_call=5, more_hooks=(hook,))
    # Five at once up to what is due, and the rest one by one.
    assert sent == [(0, 5, 5), (5, 5, 10), (10, 1, 12), (11, 1, 12)]
    assert counts == [5, 10, 11, 12]


def test_a_run_in_another_thread_than_the_main_one_trains_the_same(tmp_path):
    """As in notebooks and servers; only the main thread may handle signals."""
    found = []
    thread = threading.Thread(target=lambda: found.append(train_points(tmp_path / "thread")))
    thread.start()
    thread.join()
    assert_equal_trees(found[0], train_points(tmp_path / "main"))


def test_groups_of_options_may_be_dicts_and_all_are_checked(tmp_path):
    state = train_points(tmp_path / "run", log={"every": 3, "tensorboard": False}, steps=6)
    assert [record["step"] for record in metrics_of(tmp_path / "run")] == [3, 6]
    assert int(state.step) == 6
    for bad in ({"stepz": 3}, {"log": {"evry": 3}}, {"steps": 0}, {"run": config.RunOptions(0)}):
        with pytest.raises(UserError):
            jaxgan.train(centre_game(), points(), tmp_path / "other", **bad)
    assert not (tmp_path / "other").exists()


def test_networks_may_compute_in_bfloat16(tmp_path):
    seen = []

    class Looking(Centre):
        def __call__(self, noise, train):
            seen.append(noise.dtype)
            return super().__call__(noise.astype(jnp.float32), train)

    game = centre_game()
    players = {"generator": game.players["generator"]._replace(module=Looking())}
    game = game._replace(players=players)
    train_points(tmp_path, game, dtype="bfloat16", steps=5)
    assert jnp.dtype(jnp.bfloat16) in seen and seen[-1] == jnp.bfloat16
    found = jaxgan.restore(tmp_path, game)
    assert found.game.dtype == jnp.bfloat16
    assert found.state.players["generator"].params["centre"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"game": "dcgan"},
            "game='dcgan' is no jaxgan.Game; give one, or a function that makes it",
        ),
        ({"run": {"steps": 3}}, "run is dict and not RunOptions; give options by name"),
        ({"callback": 3}, "callback=3 is no function; give one of"),
        ({"more_hooks": (Hook(0),)}, "a hook has every=0; use 1 or more"),
        ({"workdir": None}, "workdir=None is NoneType; give a path as text"),
        ({"workdir": "gs://bucket/run"}, "is an address"),
        (
            {"game": config.configured("digits", {})},
            "give lambda example: config.recipe.make(example, config.options)",
        ),
        ({"more_hooks": 3}, "more_hooks=3 is no tuple of hooks; give (Hook(..),)"),
        ({"more_hooks": Hook(3)}, "is no tuple of hooks"),
        ({"more_hooks": (print,)}, "more_hooks holds <built-in function print>; give hooks"),
        ({"batch_size": 8.5}, "batch_size=8.5 is not a whole number"),
        ({"batch_size": True}, "batch_size=True is not a whole number"),
        ({"steps": None}, "steps=None is not a whole number; use a whole number such as 2000"),
        ({"seed": jax.random.key(0)}, "seed=Array((), dtype=key<fry>) overlaying: "),
        ({"devices": "all"}, "use a whole number such as 1, or none"),
        (
            {"devices": jax.devices()},
            "is not a whole number; use a whole number such as 1, or none",
        ),
        ({"dtype": "bf16"}, "dtype: unknown value 'bf16'; did you mean bfloat16?"),
        ({"dtype": jnp.float16}, "dtype: unknown value 'float16'"),
        ({"kernels": None}, "kernels=None is no text but NoneType; give one"),
        ({"log": [1]}, "log=[1] is no group of options; give a dict, such as {'every': ...}"),
        ({"log": None}, "log=None is no group of options"),
        (
            {"data": DataOptions(features=["point"])},
            "data.features=['point'] is no text but list; give 'point'",
        ),
    ],
)
def test_arguments_that_are_of_no_use_are_named_at_once(tmp_path, changes, text):
    arguments = {"game": centre_game(), "workdir": tmp_path / "run", **changes}
    with pytest.raises(UserError) as error:
        jaxgan.train(arguments.pop("game"), points(), **arguments)
    assert text in str(error.value) and "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 8.0},
        {"batch_size": np.int64(8)},
        {"batch_size": "8"},
        {"dtype": jnp.float32},
        {"dtype": np.dtype("float32")},
        {"log": {"every": "5"}},
        {"log": {"every": np.int32(5)}},
        {"log": config.LogOptions(5, tensorboard=False)},
        {"log.tensorboard": np.bool_(False)},
        {"data.dir": pathlib.Path("/data")},
        {"more_hooks": [Hook(3)]},
        {"may_differ": ["game"]},
    ],
)
def test_what_a_notebook_gives_for_an_option_is_taken_for_what_it_means(tmp_path, changes):
    train_points(tmp_path, steps=5, **changes)
    about = json.loads((tmp_path / "config.json").read_text())
    expected = {"batch_size": 8, "log.every": 5, "dtype": "float32" if "dtype" in changes else None}
    assert {name: about[name] for name in expected} == expected


def test_a_type_of_jax_names_a_dtype():
    for dtype in (jnp.bfloat16, jnp.dtype(jnp.bfloat16), "bfloat16"):
        assert options.replace(config.RunOptions(), {"dtype": dtype}).dtype == "bfloat16"


def test_only_the_named_part_of_a_run_may_differ(tmp_path):
    """Text is one name, and not what its letters hold."""
    train_points(tmp_path, steps=5)
    with pytest.raises(UserError, match="another game"):
        train_points(tmp_path, centre_game(0.5), may_differ="games")
    assert int(train_points(tmp_path, centre_game(0.5), may_differ="game").step) == 20


# What a record tells.
def test_a_record_is_the_mean_over_the_steps_since_the_one_before(tmp_path):
    train_points(tmp_path / "each", steps=12, **{"log.every": 1})
    train_points(tmp_path / "some", steps=12, **{"log.checkpoint_every": 3})  # looks in between
    each = [record["loss"] for record in metrics_of(tmp_path / "each")]
    some = {record["step"]: record["loss"] for record in metrics_of(tmp_path / "some")}
    assert len(set(each)) == 12 and list(some) == [5, 10, 12]
    for first, last in ((0, 5), (5, 10), (10, 12)):
        # Both are sums of float64.
        np.testing.assert_allclose(some[last], np.mean(each[first:last]), rtol=1e-15)


@pytest.mark.parametrize("stops", [(7,), (4, 6), (5, 10), (1, 2, 3, 4, 19)])
def test_a_run_stopped_between_two_records_makes_those_of_the_undisturbed_run(tmp_path, stops):
    def stop(moment):
        if moment.step in stops and moment.step not in stopped:
            stopped.append(moment.step)
            raise RuntimeError

    stopped: list[int] = []
    train_points(tmp_path / "whole")
    for _ in stops:
        with pytest.raises(RuntimeError):
            train_points(tmp_path / "run", more_hooks=(Hook(1, stop),))
    train_points(tmp_path / "run")
    assert stopped == [*stops]
    assert metrics_of(tmp_path / "run") == metrics_of(tmp_path / "whole")


def test_the_seconds_of_a_run_never_go_back(tmp_path):
    for steps in (7, 13, 20):
        train_points(tmp_path, steps=steps, **{"log.every": 2})
    seconds = [record["seconds"] for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert len(seconds) == 12 and seconds[0] >= 0 and seconds == sorted(seconds)


# What a resumed run may be.
def test_the_lines_of_a_killed_run_are_made_again_once(tmp_path):
    train_points(tmp_path, steps=10)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "loss": 0}\n{"step": 2')  # as a kill leaves them
    train_points(tmp_path)
    records = metrics_of(tmp_path)
    assert [record["step"] for record in records] == [5, 10, 15, 20]
    assert records[2]["loss"] != 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seed": 1}, "holds another run: seed was 0, now 1; choose another --workdir or that"),
        ({"steps": 5}, r"steps=5 but .* is already at step 10; use --steps 10 or more"),
    ],
)
def test_another_config_is_refused_and_nothing_changes(tmp_path, changes, text):
    train_points(tmp_path, steps=10)
    before = holding(tmp_path)
    with pytest.raises(UserError, match=text):
        train_points(tmp_path, **{"steps": 10, **changes})
    assert holding(tmp_path) == before


@pytest.mark.parametrize(
    ("players", "text"),
    [
        ({"maker": "generator"}, "players"),
        ({"generator": "generator", "extra": "generator"}, "players"),
    ],
)
def test_another_game_than_that_of_the_checkpoints_is_named(tmp_path, players, text):
    """Networks that were edited between two runs of one script are no damage."""
    train_points(tmp_path, steps=10)
    before = holding(tmp_path)
    game = centre_game()
    renamed = {new: game.players[old] for new, old in players.items()}

    def make(apply, latents, batch):
        made = [apply(name, latents) for name in renamed]
        return {"point": made[0][0]}, dict(zip(renamed, [state for _, state in made]))

    def fit(play):
        made, states = make(play.apply, jnp.ones((len(play.batch["point"]), 2)), play.batch)
        return jnp.mean((made["point"] - play.batch["point"]) ** 2), Outcome({}, states)

    other = Game(renamed, (Move("fit", tuple(renamed), fit),), normal, make)
    with pytest.raises(UserError, match=text) as error:
        train_points(tmp_path, other, may_differ=("game",))
    assert "damaged" not in str(error.value) and "\n" not in str(error.value)
    assert holding(tmp_path) == before


def test_a_finished_run_says_so_and_keeps_its_config(tmp_path, capsys):
    first = train_points(tmp_path, steps=5, kernels="plain")
    before = (tmp_path / "config.json").read_text()
    assert '"plain"' in before
    second = train_points(tmp_path, steps=5, kernels="xla")
    assert_equal_trees(first, second)
    assert "already at step 5 of 5; use more --steps" in capsys.readouterr().out
    assert (tmp_path / "config.json").read_text() == before


def test_resuming_can_be_demanded(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint to resume from; leave out --resume"):
        train_points(tmp_path / "run", must_resume=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [{}, {"notes.txt": "mine", "checkpoints/20/manifest.json": "{}"}])
@pytest.mark.parametrize("bad", [{"batch_size": 5000}, {"batch_size": 9, "devices": 2}])
def test_a_refused_run_leaves_nothing_behind_and_what_was_there_as_it_was(tmp_path, kept, bad):
    workdir = tmp_path / "runs" / "run"
    for name, text in kept.items():
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text(text)
    before = holding(tmp_path)
    with pytest.raises(UserError):
        train_points(workdir, **bad)
    assert holding(tmp_path) == before


def test_a_game_whose_step_cannot_be_traced_leaves_nothing_behind(tmp_path):
    for game, error in [
        (centre_game(feature="image"), UserError),
        (centre_game()._replace(moves=()), UserError),
        (lambda example: None, UserError),
        (lambda example: 1 / 0, ZeroDivisionError),
    ]:
        with pytest.raises(error):
            train_points(tmp_path / "run", game)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["step", "epoch", "seconds", "examples_per_second"])
def test_a_metric_may_not_take_the_name_of_a_records_own_field(tmp_path, name):
    game = centre_game()

    def fit(play):
        loss, outcome = game.moves[0].loss(play)
        return loss, outcome._replace(metrics={name: loss})

    with pytest.raises(UserError, match=f"metric '{name}'"):
        train_points(tmp_path / "run", game._replace(moves=(game.moves[0]._replace(loss=fit),)))
    assert not list(tmp_path.iterdir())


def test_the_first_state_is_that_of_init(tmp_path):
    game = centre_game()
    batch = {"point": jax.ShapeDtypeStruct((8, 2), jnp.float32)}
    ours = init(game, jax.random.key(0), batch)
    state = train_points(tmp_path, game, callback=lambda *_: True, steps=1, **{"log.every": 1})
    np.testing.assert_array_equal(jax.random.key_data(state.key), jax.random.key_data(ours.key))
    # One step of Adam at 1e-2 moves a weight by 1e-2.
    moved = state.players["generator"].params["centre"] - ours.players["generator"].params["centre"]
    np.testing.assert_allclose(np.abs(moved), 1e-2, rtol=1e-3)


def test_another_game_from_python_is_another_run(tmp_path):
    train_points(tmp_path, steps=10)
    before = holding(tmp_path)
    with pytest.raises(UserError, match=r"was trained with another game.*may_differ=\('game',\)"):
        train_points(tmp_path, game=centre_game(rate=0.5), steps=20)
    assert holding(tmp_path) == before
    after = train_points(tmp_path, game=centre_game(rate=0.5), steps=20, may_differ=("game",))
    assert int(after.step) == 20


@pytest.mark.parametrize("make", [jnp.asarray, np.asarray], ids=["jax", "numpy"])
def test_another_number_in_an_array_that_a_game_closes_over_is_another_game(tmp_path, make):
    """The text of a computation names such an array, and does not show it."""

    def game(rates):
        table = jnp.asarray(make(rates, np.float32))
        player = Player(Centre(), optax.sgd(lambda count: table[count % 2]), 0.9)
        return centre_game()._replace(players={"generator": player})

    train_points(tmp_path, game([0.1, 0.2]), steps=10)
    with pytest.raises(UserError, match="was trained with another game"):
        train_points(tmp_path, game([0.1, 0.3]), steps=20)
    train_points(tmp_path, game([0.1, 0.2]), steps=20)


def test_a_callback_that_raises_costs_no_step(tmp_path):
    def broken(step, metrics):
        raise ZeroDivisionError(step)

    with pytest.raises(ZeroDivisionError):
        train_points(tmp_path, steps=20, log={"checkpoint_every": 1000}, callback=broken)
    assert steps_in(tmp_path) == [5]


class Kept(nn.Module):
    """Adds a state to the centre."""

    shape: tuple[int, ...]
    dtype: Any = jnp.float32
    turns_to: Any = None

    @nn.compact
    def __call__(self, noise):
        kept = self.variable("kept", "it", jnp.zeros, self.shape, self.dtype)
        if self.turns_to and not self.is_initializing():
            kept.value = kept.value.astype(self.turns_to)
        return Centre()(noise, train=True)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (Kept((0,)), r"generator\.model_state\.kept\.it has shape \(0,\)"),
        (Kept((2,), jnp.bfloat16, jnp.float32), "state of another structure|from bfloat16"),
    ],
    ids=["empty", "dtype"],
)
def test_a_state_that_cannot_be_kept_is_refused_before_the_first_step(tmp_path, module, text):
    game = centre_game()
    game = game._replace(players={"generator": Player(module, optax.adam(0.1), 0.9)})
    with pytest.raises(UserError, match=text):
        train_points(tmp_path / "run", game)
    assert not (tmp_path / "run").exists()


def test_an_average_keeps_the_dtype_of_its_parameters(tmp_path):
    class Half(nn.Module):
        @nn.compact
        def __call__(self, noise):
            centre = self.param("centre", nn.initializers.ones, (1, 2), jnp.bfloat16)
            return centre.astype(jnp.float32) + noise

    game = centre_game()
    game = game._replace(players={"generator": Player(Half(), optax.sgd(0.1), 0.9)})
    whole = train_points(tmp_path / "whole", game, steps=12)
    train_points(tmp_path / "halves", game, steps=6)
    halves = train_points(tmp_path / "halves", game, steps=12)
    assert whole.players["generator"].ema["centre"].dtype == jnp.bfloat16
    assert_equal_trees(whole, halves)
