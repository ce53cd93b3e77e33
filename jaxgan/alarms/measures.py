"""What a look measures, in a program of its own: the step that trains is the same with and without.

A look takes the gradients of one step and a few passes more, once in a hundred steps or more. In
the step itself the same numbers would cost as much in each step, and XLA would round others.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.examples import drawn
from jaxgan.game import Batch, Game, GANState, Move, Outcome, Play
from jaxgan.gan_moves import Judgement, judgement
from jaxgan.heads import Objectives, over_heads, verdicts
from jaxgan.rules import Metrics, Players, Round
from jaxgan.step import make_step

Looked = Callable[[GANState, Batch, Batch | None], Metrics]


def measures(game: Game, **of_step: Any) -> Looked:
    """What is measured of a game; nothing of its state changes.

    Args:
      game: the variant.
      of_step: `accumulate` and `remat` of `make_step`.

    Returns:
      look(state, batch, held_out) -> float32 scalars by name, of real examples of training and of
      others, leaves [B, ...], None for none:

      - `spread`: the standard deviation of made examples over that of the real ones, from the
        variances of all floating numbers of an example, summed;
      - `accuracy`: in which share of all pairs of a real and a made example the discriminator gives
        the real one the greater logit;
      - `logit_gap`: by how much, in the mean;
      - `signal`: what the discriminator's loss still asks of its logits, the sum of |dL/dlogit|:
        1 at logits of 0 by cross entropy, 0 where it is sure, always 2 by `wasserstein`;
      - `overfitting`: where others are held out, by how much of the way from training to made
        examples they are judged to be made, r_v = (E D(training) - E D(held out)) / (E D(training)
        - E D(made)), cut to [0, 1]; a gap below the standard deviation of the logits counts as
        that, as the quotient would be noise;
      - `sureness`: else, where logits part real from made at 0, r_t = E sign D(training), cut too;
      - `gradient_NAME`: the norm of each player's gradient.

      Those of the discriminator are of moves of `jaxgan.gan_moves.adversarial`.

    References:
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020, for r_v, r_t.
    """
    judged = judgement(game)
    held_move = Move("held out", (), partial(_on_held_out, game, judged))
    looked_move = Move("look", (), partial(_looked, game, judged))
    alone = make_step(game._replace(rule=partial(_only, held_move)), **of_step)
    whole = make_step(game._replace(rule=partial(_with_norms, looked_move)), **of_step)

    def look(state: GANState, batch: Batch, held_out: Batch | None) -> Metrics:
        _, found = whole(state, batch)
        if judged is None:
            return found
        on_real, deviation, sign = (found.pop(n) for n in ("on_real", "deviation", "sign"))
        if held_out is not None:
            _, other = alone(state, held_out)
            gap = jnp.maximum(jnp.maximum(found["logit_gap"], deviation), 1e-6)
            found["overfitting"] = jnp.clip((on_real - other["on_real"]) / gap, 0.0, 1.0)
        elif _parts_at_zero(judged.objective):
            found["sureness"] = jnp.clip(sign, 0.0, 1.0)
        return found

    return look


def _only(move: Move, round: Round, players: Players) -> tuple[Players, Metrics]:
    return players, round.gradient(move, players).outcome.metrics


def _with_norms(move: Move, round: Round, players: Players) -> tuple[Players, Metrics]:
    _, metrics = _only(move, round, players)
    squares: dict[str, Array] = {}
    for of_game in round.moves:
        for name, grads in round.gradient(of_game, players).grads.items():
            leaves = [jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(grads)]
            squares[name] = squares.get(name, jnp.zeros(())) + sum(leaves, jnp.zeros(()))
    norms = {f"gradient_{name}": jnp.sqrt(square) for name, square in squares.items()}
    return players, {**metrics, **norms}


def _looked(game: Game, judged: Judgement | None, play: Play) -> tuple[Array, Outcome]:
    made, _ = game.generate(play.apply, drawn(game.latent, play.keys, "latent"), play.batch)
    real = {name: play.batch[name] for name in made if name in play.batch}
    found = _spread({name: made[name] for name in real}, real)
    if judged:
        real, fake = play.batch, play.batch | made
        on_real, on_fake = (
            judged.judge(play.apply, judged.augment.shown(play, of, made.keys(), kind))[0]
            for of, kind in ((real, "real"), (fake, "fake"))
        )
        found |= _judged(judged.objective, on_real, on_fake)
    return jnp.zeros(()), Outcome(found)


def _on_held_out(game: Game, judged: Judgement | None, play: Play) -> tuple[Array, Outcome]:
    assert judged is not None
    latents = drawn(game.latent, play.keys, "latent")
    made = jax.eval_shape(lambda: game.generate(play.apply, latents, play.batch)[0])
    shown = judged.augment.shown(play, play.batch, made.keys(), "real")
    outputs, _ = judged.judge(play.apply, shown)
    logits = _of_examples(verdicts(judged.objective, outputs))
    return jnp.zeros(()), Outcome({"on_real": jnp.mean(logits)})


def _spread(made: Batch, real: Batch) -> Metrics:
    """Nothing of a single example, which does not vary; 1 of data that do not vary themselves."""
    if not made or len(jax.tree.leaves(made)[0]) < 2:
        return {}

    def variance(tree: Any) -> Array:
        leaves = [x.reshape(len(x), -1).astype(jnp.float32) for x in jax.tree.leaves(tree)]
        return sum((jnp.sum(jnp.var(x, axis=0)) for x in leaves), jnp.zeros(()))

    of_made, of_real = variance(made), variance(real)
    share = of_made / jnp.where(of_real > 0.0, of_real, 1.0)
    return {"spread": jnp.where(of_real > 0.0, jnp.sqrt(share), 1.0)}


def _judged(objective: Objectives, on_real: Any, on_fake: Any) -> Metrics:
    if isinstance(objective, dict):  # without heads that judge something else
        objective = {head: of for head, of in objective.items() if not of.auxiliary}
    on_real, on_fake = verdicts(objective, on_real), verdicts(objective, on_fake)
    loss = partial(over_heads, objective, "discriminator")
    slopes = jax.grad(lambda logits: loss(*logits))((on_real, on_fake))
    heads = len(jax.tree.leaves(on_real))
    signal = sum((jnp.sum(jnp.abs(x)) for x in jax.tree.leaves(slopes)), jnp.zeros(()))
    real, fake = _of_examples(on_real), _of_examples(on_fake)
    pairs = real[:, None] - fake[None, :]
    return {
        "accuracy": jnp.mean((jnp.sign(pairs) + 1.0) / 2.0),
        "logit_gap": jnp.mean(real) - jnp.mean(fake),
        "signal": signal / heads,
        "on_real": jnp.mean(real),
        "deviation": jnp.std(real),
        "sign": jnp.mean(jnp.sign(real)),
    }


def _of_examples(heads: Any) -> Array:
    """One logit [B] of each example: the mean over the places of a head, and over heads."""
    means = [
        jnp.mean(x.reshape(len(x), -1).astype(jnp.float32), axis=1) for x in jax.tree.leaves(heads)
    ]
    return sum(means[1:], means[0]) / len(means)


def _parts_at_zero(objective: Objectives) -> bool:
    heads = objective.values() if isinstance(objective, dict) else (objective,)
    return all(head.log_odds for head in heads if not head.auxiliary)
