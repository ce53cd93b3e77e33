"""Members of an ensemble: each is its run alone, also in its own numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Layers, assert_close, points, toy
from helpers import train as stepped

import jaxgan
from jaxgan import UserError, members
from jaxgan.game import Player
from jaxgan.penalties import r1
from jaxgan.schedules import is_given


def made(numbers):
    """A game of these numbers: R1, due in every second step, and rates that are traced."""
    discriminator = Player(Layers((8, 1)), optax.adam(numbers["rate"], b1=0.5))
    game = toy(penalties=(r1(numbers["weight"], every=2),))
    return game._replace(players=game.players | {"discriminator": discriminator})


NUMBERS = {"rate": np.array([1e-2, 1e-3, 3e-2]), "weight": np.array([0.1, 1.0, 10.0])}


@pytest.fixture(scope="module")
def trained():
    """(state, metrics) of three members after four steps, and of the last of them alone."""
    batches = [[points(10 * step + member) for member in range(3)] for step in range(4)]
    stacked = [jax.tree.map(lambda *x: np.stack(x), *batch) for batch in batches]
    init, step = jaxgan.ensemble(made, 3, NUMBERS)
    keys = jax.random.split(jax.random.key(3), 3)
    together = stepped(jax.jit(step), jax.jit(init)(keys, points()), stacked)
    game = made({name: float(values[2]) for name, values in NUMBERS.items()})
    state = jax.jit(functools.partial(jaxgan.init, game))(keys[2], points())
    alone = stepped(jax.jit(jaxgan.make_step(game)), state, [batch[2] for batch in batches])
    return together, alone


def test_a_member_is_its_run_alone(trained):
    (state, metrics), (one, told) = trained
    assert int(state.step) == 4
    # Adam divides by roots of second moments, so rounding of small gradients counts.
    assert_close(members.alone(state, 2), one, rtol=1e-3, atol=1e-5)
    mine = {name: values[:, 2] for name, values in metrics.items()}
    assert_close(mine, told, rtol=1e-4, atol=1e-5)
    assert len({float(x) for x in metrics["penalty_r1"][2]}) == 3  # which is due there
    assert not metrics["penalty_r1"][1].any()


def test_what_is_joined_is_taken_apart_again(trained):
    (state, _), (one, _) = trained
    found = members.joined([members.alone(state, 0), one, one])
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, state)
    assert_close(members.alone(found, 1), one, rtol=0, atol=0)


def test_a_condition_on_the_step_stays_one_condition():
    """With a step of each member, `vmap` would take the penalty in every step."""
    init, step = jaxgan.ensemble(made, 3, NUMBERS)
    batch = jax.tree.map(lambda x: np.stack([x] * 3), points())
    state = jax.eval_shape(init, jax.random.split(jax.random.key(0), 3), points())
    assert " cond[" in str(jax.make_jaxpr(step)(state, batch))


def test_a_traced_number_is_given():
    assert is_given(0.1) and is_given(optax.constant_schedule(0.0)) and not is_given(0.0)
    jax.make_jaxpr(lambda x: x if is_given(x) else None)(0.0)


def test_what_is_not_of_all_members_is_refused():
    with pytest.raises(UserError, match="n=0 is no number of members; use 1 or more"):
        jaxgan.ensemble(toy(), 0)
    with pytest.raises(UserError, match=r"numbers of shape \(3,\) are not those of 2 members"):
        jaxgan.ensemble(made, 2, NUMBERS)
    with pytest.raises(UserError, match="numbers are given but the game is made"):
        jaxgan.ensemble(toy(), 3, NUMBERS)
    init, step = jaxgan.ensemble(toy(), 2)
    with pytest.raises(UserError, match=r"keys of shape \(3,\) are not those of 2 members"):
        init(jax.random.split(jax.random.key(0), 3), points())
    state = jax.eval_shape(init, jax.random.split(jax.random.key(0), 2), points())
    with pytest.raises(UserError, match=r"batches of shape \(8, 2\) .* give them an axis \[2\]"):
        jax.eval_shape(step, state, points())
