"""One training step: the moves of a game, in order.

The step is a pure function of (state, batch). It runs as it is under `jit`, under `vmap` over seeds, in
`lax.scan` over steps, and with `axis_name` under `pmap` or `shard_map(check_vma=False)` over devices.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxgan import checks
from jaxgan.calling import applier
from jaxgan.game import Batch, Game, GANState, Move, Outcome, Play, Player, PlayerState, scaled
from jaxgan.rules import Gradient, Metrics, Players, Round, Rule, alternating, with_params

Step = Callable[[GANState, Batch], tuple[GANState, Metrics]]


def make_step(game: Game, axis_name: str | None = None, rule: Rule = alternating) -> Step:
    """The training step of a game.

    Args:
      game: the variant to train.
      axis_name: the mapped axis over which the batch is split, where there is one.
      rule: how gradients become updates, see `jaxgan.rules`.

    Returns:
      step(state, batch) -> (state, metrics). The batch, leaves [B, ...], holds the examples of this device.
      Metrics are float32 scalars, means over devices.

    Raises:
      ValueError: what `jaxgan.checks` finds, here or when the step is traced.
    """
    checks.check_game(game)
    modules = {name: player.module for name, player in game.players.items()}
    parts = max(move.times for move in game.moves)
    average = partial(_mean_over, axis_name) if axis_name else lambda tree: tree

    def step(state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        batch = scaled(batch)
        count = checks.share_of(checks.examples_in(batch), game)
        index = jnp.arange(count) + (lax.axis_index(axis_name) * count if axis_name else 0)
        step_key = jax.random.fold_in(state.key, state.step)

        def gradient(move: Move, players: Players, part: int = 0) -> Gradient:
            share = jax.tree.map(lambda leaf: leaf[part::parts], batch)
            keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(step_key, part)))(index)

            def loss(params: dict[str, Any]) -> tuple[Array, Outcome]:
                held = with_params(players, params)
                for other in move.lookahead:
                    held = update(held, gradient(other, held, part))
                variables = {n: {"params": p.params, **p.model_state} for n, p in held.items()}
                options: dict[str, Any] = dict(train=True, key=keys[0], axis_name=axis_name)
                apply = applier(modules, variables, game.dtype, **options)
                states = {name: player.model_state for name, player in held.items()}
                value, outcome = move.loss(Play(apply, share, keys, state.step, states))
                checks.check_outcome(game, move, value, outcome, states)
                return value, outcome

            own = {name: players[name].params for name in move.players}
            (value, outcome), grads = jax.value_and_grad(loss, has_aux=True)(own)
            return Gradient(*average((grads, value, outcome)))

        def update(players: Players, gradient: Gradient) -> Players:
            names = gradient.grads
            return players | {n: _updated(game.players[n], players[n], gradient, n) for n in names}

        players, metrics = rule(Round(game.moves, gradient, update, average), state.players)
        with jax.named_scope("ema"):
            players = {n: _averaged(game.players[n], p, state.step) for n, p in players.items()}
        return GANState(state.step + 1, state.key, players), metrics

    return step


def _updated(spec: Player, player: PlayerState, gradient: Gradient, name: str) -> PlayerState:
    player = player.replace(model_state=gradient.outcome.states.get(name, player.model_state))
    if spec.tx is None:
        return player
    update = optax.with_extra_args_support(spec.tx).update
    grads, loss = gradient.grads[name], gradient.loss
    updates, opt_state = update(grads, player.opt_state, player.params, value=loss)
    return player.replace(params=optax.apply_updates(player.params, updates), opt_state=opt_state)


def _averaged(spec: Player, player: PlayerState, step: Array) -> PlayerState:
    if spec.ema_decay is None:
        return player
    if callable(spec.ema_decay):
        decay = spec.ema_decay(step)
    else:  # counts the first steps less: else it would hold the initial weights for thousands
        steps = step.astype(jnp.float32)
        decay = jnp.minimum(spec.ema_decay, (1.0 + steps) / (10.0 + steps))

    def moved(old: Array, new: Array) -> Array:
        return decay * old + (1.0 - decay) * new

    return player.replace(ema=jax.tree.map(moved, player.ema, player.params))


def _mean_over(axis_name: str, tree: Any) -> Any:
    """The mean over devices; whole numbers and keys as they are, since devices agree on them."""

    def mean(leaf: Array) -> Array:
        return lax.pmean(leaf, axis_name) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(mean, tree)
