"""What a step changes of a player."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxgan.bound import made
from jaxgan.errors import blamed
from jaxgan.game import Game, Player, PlayerState
from jaxgan.kernels.arrays import wide
from jaxgan.rules import Gradient


def updated(spec: Player, player: PlayerState, gradient: Gradient, name: str) -> PlayerState:
    """The player after a move, by its optimizer, with the state that the move gave back."""
    player = player.replace(model_state=gradient.outcome.states.get(name, player.model_state))
    if spec.tx is None:
        return player
    update: Any = optax.with_extra_args_support(made(spec.tx)).update
    grads, loss = gradient.grads[name], gradient.loss
    with jax.named_scope("optimizer"), blamed(f"the optimizer of player {name!r}"):
        updates, opt_state = update(grads, player.opt_state, player.params, value=loss)
        params = optax.apply_updates(player.params, updates)
    return player.replace(params=params, opt_state=opt_state)


def slower(game: Game, rate: float) -> Game:
    """A game whose optimizers' updates are multiplied by a rate; its states are the same."""
    of = {n: _slower(p, rate) if p.tx is not None else p for n, p in game.players.items()}
    return game._replace(players=of)


def _slower(spec: Player, rate: float) -> Player:
    whole: Any = optax.with_extra_args_support(made(spec.tx))

    def update(*arguments: Any, **more: Any) -> tuple[Any, Any]:
        updates, state = whole.update(*arguments, **more)
        return jax.tree.map(lambda x: x * rate, updates), state

    return spec._replace(tx=optax.GradientTransformationExtraArgs(whole.init, update))


def averaged(spec: Player, player: PlayerState, step: Array) -> PlayerState:
    """The player with its average moved towards its parameters, at the end of a step."""
    if spec.ema_decay is None:
        return player
    decay: Any = spec.ema_decay
    # A number counts the first steps less: the average would hold the initial weights for long.
    steps = step.astype(jnp.float32)
    warm = (1.0 + steps) / (10.0 + steps)
    decay = decay(step) if callable(decay) else jnp.minimum(decay, warm)

    def moved(old: Array, new: Array) -> Array:
        return (decay * wide(old) + (1.0 - decay) * wide(new)).astype(old.dtype)

    return player.replace(ema=jax.tree.map(moved, player.ema, player.params))


def mean_over(axis_name: str | None, tree: Any) -> Any:
    """The mean over devices; whole numbers and keys as they are, since devices agree on them."""

    def mean(leaf: Array) -> Array:
        return lax.pmean(leaf, axis_name) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(mean, tree) if axis_name else tree
