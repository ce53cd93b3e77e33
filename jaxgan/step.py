"""One training step: the moves of a game, in order. A pure function of (state, batch).

It runs as it is under `jit`, `vmap` over seeds and `lax.scan` over steps; with `axis_name` also
under `pmap` or `shard_map(check_vma=False)` over devices.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgan import checks
from jaxgan.calling import applier, fold_in_name
from jaxgan.errors import blamed
from jaxgan.examples import changed, scaled
from jaxgan.game import Batch, Game, GANState, Move, Outcome, Play
from jaxgan.players import averaged, mean_over, updated
from jaxgan.rules import Gradient, Metrics, Players, Round, Rule, alternating, with_params

Step = Callable[[GANState, Batch], tuple[GANState, Metrics]]


def make_step(game: Game, axis_name: str | None = None) -> Step:
    """The training step of a game.

    Args:
      game: the variant to train.
      axis_name: the mapped axis over which the batch is split, if any.

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
        count = checks.share_of(checks.examples_in(batch), game)
        index = jnp.arange(count) + (lax.axis_index(axis_name) * count if axis_name else 0)
        step_key = jax.random.fold_in(state.key, state.step)
        if game.examples:
            size = count * parts
            place = jnp.arange(size) + (lax.axis_index(axis_name) * size if axis_name else 0)
            key = fold_in_name(step_key, "examples")
            with jax.named_scope("input"):
                keys = jax.vmap(partial(jax.random.fold_in, key))(place)
                batch = changed(game.examples, batch, keys)

        def gradient(move: Move, players: Players, part: int = 0) -> Gradient:
            share = jax.tree.map(lambda leaf: leaf[part::parts], batch)
            keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(step_key, part)))(index)

            def loss(params: dict[str, Any]) -> tuple[Array, Outcome]:
                held = with_params(players, params)
                for other in move.lookahead:
                    held = update(held, gradient(other, held, part))
                variables = {n: {"params": p.params, **p.model_state} for n, p in held.items()}
                options: Any = dict(train=True, key=keys[0], axis_name=axis_name)
                apply = applier(modules, variables, game.dtype, **options)
                states = {name: player.model_state for name, player in held.items()}
                with blamed(f"the loss of move {move.name!r}"):
                    value, outcome = move.loss(Play(apply, share, keys, state.step, states))
                checks.check_outcome(game, move, value, outcome, states)
                return value, outcome

            own = {name: players[name].params for name in move.players}
            (value, outcome), grads = jax.value_and_grad(loss, has_aux=True)(own)
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
