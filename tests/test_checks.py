"""What would be trained wrongly is refused by one line, the same under `jit` and under `pmap`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import AXIS, Layers, normal, points, shared, toy, trained

from jaxgan.checks import near_multiples
from jaxgan.errors import UserError
from jaxgan.examples import drawn
from jaxgan.game import Move, Outcome, Player, init
from jaxgan.models import Pack
from jaxgan.penalties import r1
from jaxgan.step import make_step

# Of this many examples each of four devices has 6.
COUNT = 24
ON_A_DEVICE = COUNT // 4


def refused(game, batch=None):
    """The line with which a step is refused on one device and, with as many examples, on each of
    four."""
    batch = batch or points(count=COUNT)
    state = uncritical_state(game)
    with pytest.raises(UserError) as alone:
        jax.jit(make_step(game))(state, jax.tree.map(lambda leaf: leaf[:ON_A_DEVICE], batch))
    with pytest.raises(UserError) as mapped:
        step = jax.pmap(make_step(game, AXIS), AXIS, in_axes=(None, 0), out_axes=None)
        step(state, shared(batch))
    text = str(alone.value)
    assert text == str(mapped.value)
    assert "\n" not in text and len(text) < 400
    return text


def uncritical_state(game):
    """A first state of a game with faults: each player is called, and nothing is looked at."""

    def loss(play):
        made, _ = game.generate(play.apply, drawn(game.latent, play.keys, "latent"), play.batch)
        play.apply("discriminator", *made.values())
        return jnp.zeros(()), Outcome()

    move = Move("move", ("generator", "discriminator"), loss)
    return begun(game._replace(moves=(move,)), points(count=12))


def begun(game, batch):
    return init(game, jax.random.key(0), batch)


def with_move(loss, name="discriminator", **changes):
    """The toy game, whose first move has this loss."""
    game = toy()
    move = game.moves[0]._replace(loss=loss, **changes)
    return game._replace(moves=(move, game.moves[1]))


def with_outcome(change):
    """The toy game, whose first move's (loss, outcome) is changed."""
    loss = toy().moves[0].loss
    return with_move(lambda play: change(*loss(play)))


class Flattened(nn.Module):
    """A critic of patches that forgets which example a patch is of."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(x).reshape(-1, 1)


def test_logits_without_an_axis_of_examples():
    text = refused(toy(discriminator=Flattened()))
    assert "logits of shape (24, 1) for 6 examples; give them a leading axis of 6" in text


def test_logits_of_packs_that_are_not_one_each():
    class Forgets(nn.Module):
        pack = 3

        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(x)

    text = refused(toy(discriminator=Forgets()))
    assert (
        "logits of shape (6, 1) for 6 examples in packs of 3; give them a leading axis of 2" in text
    )


@pytest.mark.parametrize("pack", [Pack(Layers((8, 1)), pack=4), None])
def test_examples_that_do_not_fill_packs(pack):
    class OwnPack(nn.Module):
        pack = 4

        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(x[: len(x) // 4])

    text = refused(toy(discriminator=pack or OwnPack()))
    assert text == "6 examples on a device do not fill packs of 4; use 4 or 8"


def test_made_features_of_another_shape():
    text = refused(toy(generator=Layers((8, 3))))
    assert text.startswith("feature 'point': the batch holds (6, 2), the generator makes (6, 3)")


def test_made_features_that_are_trees_of_another_shape():
    class Pair(nn.Module):
        @nn.compact
        def __call__(self, z):
            return {"mean": nn.Dense(2)(z), "mass": nn.Dense(1)(z)}

    class OfPair(nn.Module):
        @nn.compact
        def __call__(self, pair):
            return nn.Dense(1)(jnp.concatenate([pair["mean"], pair["mass"]], -1))

    game = toy(Pair(), OfPair(), made="pair")
    pair = {"mean": np.zeros((COUNT, 2), np.float32), "mass": np.zeros((COUNT, 3), np.float32)}
    text = refused(game, {"pair": pair})
    assert text.startswith(
        "feature 'pair.mass': the batch holds (6, 3), the generator makes (6, 1)"
    )
    text = refused(game, {"pair": {"mean": pair["mean"]}})
    assert "'pair.mass': the batch holds none, the generator makes (6, 1)" in text


def test_a_made_feature_that_the_data_lack():
    text = refused(toy(made="image"), points(count=COUNT, label=np.zeros(COUNT, np.int32)))
    assert text.startswith("feature 'image' is made, the batch holds 'label', 'point'")


@pytest.mark.parametrize("dtype", ["int32", "uint16", "bool"])
def test_images_of_integers(dtype):
    text = refused(toy(), {"point": np.zeros((COUNT, 2), dtype)})
    assert f"'point' of the batch is {dtype}, the made one float32; give uint8 in [0, 255]" in text


def test_a_batch_of_nothing():
    game = toy()
    state = begun(game, points())
    with pytest.raises(UserError, match=r"1 or more examples each.*'point': \(0, 2\)"):
        jax.jit(make_step(game))(state, points(count=0))


def test_leaves_of_several_numbers_of_examples():
    game = toy()
    state = begun(game, points())
    for label, shape in ((np.zeros(7, np.int32), r"\(7,\)"), (np.int32(1), r"\(\)")):
        with pytest.raises(UserError, match=f"as many in all.*'label': {shape}"):
            jax.jit(make_step(game))(state, points(label=label))


def test_a_batch_that_critic_steps_do_not_divide():
    text = refused(toy(critic_steps=4))
    assert "a batch of 6 examples on a device cannot be divided into 4 parts" in text
    assert text.endswith("the times of move 'discriminator'; use 4 or 8")


def test_a_loss_that_is_no_scalar():
    text = refused(with_outcome(lambda loss, outcome: (loss * jnp.ones(6), outcome)))
    assert text.startswith("the loss of move 'discriminator' is no floating scalar but float32 of")
    assert "shape (6,)" in text


@pytest.mark.parametrize("metric", [jnp.zeros((3, 1)), jnp.int32(2)])
def test_a_metric_that_is_no_floating_scalar(metric):
    text = refused(
        with_outcome(lambda loss, outcome: (loss, outcome._replace(metrics={"count": metric})))
    )
    assert text.startswith("count of move 'discriminator' is no floating scalar but")
    assert f"{metric.dtype} of shape {metric.shape}" in text


def test_a_loss_without_an_outcome():
    text = refused(with_outcome(lambda loss, outcome: (loss, outcome.metrics)))
    assert "gives dict beside its value; return (scalar, Outcome(metrics, states))" in text


def test_a_state_of_nobody():
    text = refused(with_outcome(lambda loss, outcome: (loss, Outcome({}, {"critic": {}}))))
    assert "a state of 'critic'; this game has 'generator', 'discriminator'" in text


def test_a_state_of_another_structure():
    class Sows(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.Dense(1)(x)
            self.sow("seen", "mean", jnp.mean(y))
            return y

    text = refused(toy(discriminator=Sows()))
    assert "gives player 'discriminator' a state of another structure" in text
    assert "with {'seen.mean.1': 'float32[]'}, without {}" in text
    assert text.endswith("or self.sow with a reduce_fn that replaces")


def test_a_loss_that_calls_nobody():
    text = refused(with_move(lambda play: play.apply("critic", play.batch["point"])))
    assert text == "a loss calls player 'critic'; this game has 'generator', 'discriminator'"


def check_refused(game, text):
    with pytest.raises(UserError) as refusal:
        make_step(game)
    assert text in str(refusal.value) and "\n" not in str(refusal.value)


def test_moves_that_do_not_fit_the_players():
    game = toy()
    first, second = game.moves
    check_refused(game._replace(moves=()), "has no moves; give it one or more")
    check_refused(
        game._replace(moves=(first._replace(times=0), second)), "has times=0; use 1, 2, ..."
    )
    check_refused(game._replace(moves=(first._replace(players=()), second)), "names no player")
    nobody = first._replace(players=("critic",))
    for moves in (
        (nobody, second),
        (first, second._replace(lookahead=(nobody,))),
        (first, second._replace(lookahead=(first._replace(lookahead=(nobody,)),))),
    ):
        check_refused(
            game._replace(moves=moves),
            "move 'discriminator' names player 'critic'; this game has 'generator', "
            "'discriminator'",
        )


def test_an_optimizer_that_no_move_uses():
    game = toy()
    check_refused(
        game._replace(moves=game.moves[:1]),
        "no move trains player 'generator', which has an optimizer; name it in a move's players",
    )


def test_a_player_in_a_move_without_an_optimizer():
    game = toy()
    players = game.players | {"generator": Player(Layers((8, 2)))}
    with pytest.raises(UserError, match="'generator' has parameters, descends in move 'gener"):
        begun(game._replace(players=players), points())


def test_a_player_that_no_loss_calls():
    game = toy()
    players = game.players | {"encoder": Player(Layers((8, 2)))}
    with pytest.raises(UserError, match="player 'encoder' is called by no loss"):
        begun(game._replace(players=players), points())


def test_a_frozen_player_stays_as_it_is():
    game = toy()
    frozen = game.players["generator"]._replace(tx=None)
    game = game._replace(players=game.players | {"generator": frozen}, moves=game.moves[:1])
    state = begun(game, points())
    after, _ = jax.jit(make_step(game))(state, points())
    jax.tree.map(
        np.testing.assert_array_equal,
        after.players["generator"].params,
        state.players["generator"].params,
    )


def test_near_multiples_are_the_next_below_and_above():
    assert near_multiples(10, 4) == "8 or 12"
    assert near_multiples(3, 4) == "4"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda game: game._replace(moves=game.moves[0]), r"are no tuple; give \(move, \.\.\.\)"),
        (
            lambda game: game._replace(moves=(game.moves[0]._replace(times=2.0), game.moves[1])),
            r"has times=2\.0; use 1, 2, \.\.\.",
        ),
        (
            lambda game: game._replace(
                moves=(game.moves[0]._replace(players=("discriminator",) * 2), game.moves[1])
            ),
            "names a player twice",
        ),
        (
            lambda game: game._replace(
                players={
                    **game.players,
                    "generator": game.players["generator"]._replace(ema_decay=-1.0),
                }
            ),
            r"player 'generator' has ema_decay=-1\.0; use a number in \[0, 1\)",
        ),
    ],
    ids=["moves", "times", "twice", "ema"],
)
def test_a_game_of_odd_parts_is_named(change, text):
    with pytest.raises(UserError, match=text):
        make_step(change(toy()))


def game_with(**changes):
    game = toy()
    return game._replace(
        players={**game.players, "generator": game.players["generator"]._replace(**changes)}
    )


@pytest.mark.parametrize(
    ("game", "text"),
    [
        (game_with(module=Layers), r"module of player 'generator' is Layers .*call it: Layers\(\)"),
        (game_with(module=abs), "module of player 'generator' is abs and no network"),
        (game_with(tx=optax.adam), "tx of player 'generator' is adam and no optimizer"),
        (game_with(tx=1e-3), r"tx of player 'generator' is 0\.001 and no optimizer"),
        (toy()._replace(latent=None), "the game's latent is None; give a function"),
        (toy()._replace(generate="image"), "the game's generate is 'image'; give a function"),
        (toy()._replace(rule="alternating"), "the game's rule is 'alternating'; give a function"),
        (toy()._replace(dtype=jnp.int32), r"the game's dtype is .*int32.*use jnp\.float32"),
        (toy()._replace(dtype="float33"), r"the game's dtype is 'float33'; use jnp\.float32"),
        (toy()._replace(players=["generator"]), "the game's players are list; give a dict"),
        (toy()._replace(moves=("generator",)), "'generator' is no move; give Move"),
    ],
)
def test_a_part_that_is_easily_given_in_place_of_another_is_named(game, text):
    with pytest.raises(UserError, match=text):
        make_step(game)


class Broken(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.no_such_attribute


def test_an_error_of_a_network_names_its_player_and_is_the_cause():
    with pytest.raises(UserError, match="player 'generator' cannot be begun: Attribute") as error:
        init(toy(generator=Broken()), jax.random.key(0), points())
    assert isinstance(error.value.__cause__, AttributeError)


def test_an_error_of_an_optimizer_names_its_player():
    def update(updates, state, params=None):
        raise KeyError("mine")

    bad = optax.GradientTransformation(lambda params: (), update)
    game = game_with(tx=bad)
    state = init(game, jax.random.key(0), points())
    with pytest.raises(UserError, match="the optimizer of player 'generator': KeyError"):
        jax.eval_shape(make_step(game), state, points())


def test_a_feature_that_a_game_is_given_and_the_data_lack_is_named():
    game = toy(given=("label",))
    with pytest.raises(UserError, match="given the feature 'label', the batch holds 'point'"):
        init(game, jax.random.key(0), points())


def test_penalties_from_an_iterator_are_taken_and_nothing_else_is():
    game = toy(penalties=(p for p in [r1(1.0)]))
    _, metrics = trained(game, [points()])
    assert "penalty_r1" in metrics
    with pytest.raises(UserError, match="penalties holds what is no Penalty"):
        toy(penalties=None)


def test_two_moves_do_not_log_one_name():
    def loss(play):
        made, _ = play.apply("generator", drawn(normal, play.keys, "latent"))
        return jnp.mean(made**2), Outcome({"loss_discriminator": jnp.mean(made)})

    game = toy()
    game = game._replace(moves=(game.moves[0], game.moves[1]._replace(loss=loss)))
    state = init(game, jax.random.key(0), points())
    with pytest.raises(UserError, match="move 'generator' logs 'loss_discriminator', as a move"):
        jax.eval_shape(make_step(game), state, points())
