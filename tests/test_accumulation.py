"""Gradient accumulation: the step of the whole batch, or a refusal."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    AXIS,
    Judge,
    Layers,
    Maker,
    assert_close,
    batches,
    points,
    shared,
    toy,
    train,
)

from jaxgan import latents, objectives
from jaxgan.accumulation import over_micro_batches
from jaxgan.augment import adaptive, instance_noise
from jaxgan.errors import UserError
from jaxgan.game import Player, init
from jaxgan.models import MinibatchStdDev, Pack, SpectralNorm
from jaxgan.penalties import lecam, r1
from jaxgan.rules import consensus
from jaxgan.step import make_step
from jaxgan.two_players import gan


class Grouped(nn.Module):
    """Judges pairs of neighbours by how they differ."""

    @nn.compact
    def __call__(self, x):
        return Layers((8, 1))(MinibatchStdDev(group=2)(x))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(2)(x))


def of_everything():
    augment = adaptive(instance_noise(0.1), target=-2, kimg=0.1, interval=2)
    return gan(
        Player(Maker(), optax.adam(1e-2), 0.9),
        Player(SpectralNorm(Judge(pack=2)), optax.sgd(0.1)),
        objectives.relativistic(),
        latents.normal(3),
        augment=augment,
        penalties=(r1(0.1, subset=2),),
        critic_steps=2,
    )


def unrolled():
    game = toy(discriminator=Grouped())
    discriminate, deceive = game.moves
    return game._replace(moves=(discriminate, deceive._replace(lookahead=(discriminate,) * 2)))


GAMES = {
    "everything": (of_everything, batches(count=24, steps=4)),
    "lookahead": (unrolled, [points(i, 12) for i in range(2)]),
    "consensus": (lambda: toy()._replace(rule=consensus(0.5)), [points(0, 12)]),
}


@pytest.mark.parametrize("name", GAMES)
def test_micro_batches_train_as_the_whole_batch_does(name):
    make, items = GAMES[name]
    game = make()
    first = init(game, jax.random.key(0), items[0])
    whole, history = train(jax.jit(make_step(game)), first, items)
    parts, of_parts = train(jax.jit(make_step(game, accumulate=3)), first, items)
    assert_close(whole, parts, rtol=2e-4, atol=5e-6)  # sums in another order, which Adam enlarges
    assert_close(history, of_parts, rtol=2e-4, atol=5e-6)
    if name == "everything":  # the change of the first four updates and that of the next
        kept = parts.players["adaptive"].model_state["adaptive"]
        np.testing.assert_allclose(kept["probability"], 3 * 24 / 100, rtol=1e-6)


def test_micro_batches_are_of_each_device():
    game, batch = toy(), points(0, 16)
    first = init(game, jax.random.key(0), batch)
    whole, _ = jax.jit(make_step(game))(first, batch)
    step = make_step(game, AXIS, accumulate=2)
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=jax.devices()[:4])
    assert_close(whole, mapped(first, shared(batch))[0])


def test_of_numbers_the_mean_is_taken_and_of_others_the_last():
    def function(part):
        return {"mean": part.mean().astype(jnp.bfloat16), "count": jnp.int32(len(part))}

    x = jnp.arange(12.0)
    found = over_micro_batches(function, x, 4)
    assert found == {"mean": 5.5, "count": 3} and found["mean"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("game", "accumulate", "text"),
    [
        (
            lambda: toy(Normed()),
            2,
            "player 'generator' looks across the batch (BatchNorm), which accumulate=2 divides; "
            "use accumulate=1",
        ),
        (
            lambda: toy(penalties=(lecam(0.1),)),
            2,
            "player 'lecam' looks across the batch (MovingMean), which accumulate=2 divides",
        ),
        (
            lambda: toy(discriminator=Grouped()),
            4,
            "player 'discriminator' looks across the batch (MinibatchStdDev), which accumulate=4",
        ),
        (
            lambda: toy(discriminator=Pack(Layers((8, 1)))),
            4,
            "player 'discriminator' takes packs of 2, which do not fill the 3 examples of each of "
            "accumulate=4 micro-batches; use a batch size that 8 divides",
        ),
        (
            lambda: toy(critic_steps=2),
            4,
            "a batch of 12 examples on a device in 2 parts cannot be divided into accumulate=4 "
            "micro-batches; use a batch of 8 or 16",
        ),
        (toy, 0, "accumulate=0 is no number of micro-batches; use 1, 2, ..."),
    ],
)
def test_what_would_not_be_the_same_step_is_refused(game, accumulate, text):
    game, batch = game(), points(0, 12)
    state = jax.eval_shape(lambda: init(game, jax.random.key(0), batch))
    with pytest.raises(UserError) as error:
        jax.eval_shape(make_step(game, accumulate=accumulate), state, batch)
    assert str(error.value).startswith(text)
