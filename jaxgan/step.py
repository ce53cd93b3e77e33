"""One training step: the moves of a game, in order. A pure function of (state, batch).

It runs as it is under `jit`, `vmap` over seeds and `lax.scan` over steps; with `axis_name` also
under `pmap` or `shard_map(check_vma=False)` over devices.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import Array

from jaxgan import checks
from jaxgan.accumulation import over_micro_batches
from jaxgan.calling import applier
from jaxgan.errors import blamed
from jaxgan.examples import changed, keys_of, scaled
from jaxgan.game import Batch, Game, GANState, Move, Outcome, Play
from jaxgan.players import averaged, mean_over, updated
from jaxgan.rules import Gradient, Metrics, Players, Round, Rule, alternating, with_params

Step = Callable[[GANState, Batch], tuple[GANState, Metrics]]


def make_step(
    game: Game, axis_name: str | None = None, *, accumulate: int = 1, remat: str = "none"
) -> Step:
    """The training step of a game.

    Args:
      game: the variant to train.
      axis_name: the mapped axis over which the batch is split, if any.
      accumulate: in how many micro-batches of neighbouring examples each gradient is taken, one
        after the other: the same step up to rounding, in the memory of a smaller one.
      remat: what networks keep for their gradients, see `jaxgan.rematerialisation`.

    Returns:
      step(state, batch) -> (state, metrics), for a batch of this device, leaves [B, ...]. Metrics
      are float32 scalars, means over devices.

    Raises:
      UserError: what `jaxgan.checks` finds, here or when the step is traced.
    """
    checks.check_game(game)
    rule: Rule = game.rule or alternating
    modules = {name: player.module for name, player in game.players.items()}
    parts = max(move.times for move in game.moves)

    def step(state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        batch = scaled(batch)
        count = checks.share_of(checks.examples_in(batch), game, accumulate)
        step_key = jax.random.fold_in(state.key, state.step)
        batch = changed(game.examples, batch, step_key, axis_name)

        def gradient(move: Move, players: Players, part: int = 0) -> Gradient:
            share = jax.tree.map(lambda leaf: leaf[part::parts], batch)
            examples = share, keys_of(jax.random.fold_in(step_key, part), count, axis_name)

            def ahead(params: dict[str, Any]) -> Players:
                """The players when the move's turn comes, had they these parameters now."""
                held = with_params(players, params)
                for other in move.lookahead:
                    held = update(held, gradient(other, held, part))
                return held

            def loss(held: Players, examples: Any) -> tuple[Array, Outcome]:
                share, keys = examples
                variables = {n: {"params": p.params, **p.model_state} for n, p in held.items()}
                options: Any = dict(train=True, key=keys[0], axis_name=axis_name)
                apply = applier(modules, variables, game.dtype, accumulate, remat, **options)
                states = {name: player.model_state for name, player in held.items()}
                with blamed(f"the loss of move {move.name!r}"):
                    value, outcome = move.loss(Play(apply, share, keys, state.step, states))
                checks.check_outcome(game, move, value, outcome, states)
                return value, outcome

            def of_batch(params: dict[str, Any]) -> tuple[Array, Outcome]:
                return over_micro_batches(partial(loss, ahead(params)), examples, accumulate)

            def of_part(params: dict[str, Any], examples: Any) -> tuple[Array, Outcome]:
                return loss(with_params(players, params), examples)

            own = {name: players[name].params for name in move.players}
            if move.lookahead:  # which takes the whole batch
                (value, outcome), grads = jax.value_and_grad(of_batch, has_aux=True)(own)
            else:  # and here no micro-batch is computed twice
                slope = partial(jax.value_and_grad(of_part, has_aux=True), own)
                (value, outcome), grads = over_micro_batches(slope, examples, accumulate)
            return Gradient(*mean_over(axis_name, (grads, value, outcome)))

        def update(players: Players, gradient: Gradient) -> Players:
            names = gradient.grads
            return players | {n: updated(game.players[n], players[n], gradient, n) for n in names}

        average = partial(mean_over, axis_name)
        players, metrics = rule(Round(game.moves, gradient, update, average), state.players)
        with jax.named_scope("ema"):
            players = {n: averaged(game.players[n], p, state.step) for n, p in players.items()}
        return GANState(state.step + 1, state.key, players), metrics

    return step
