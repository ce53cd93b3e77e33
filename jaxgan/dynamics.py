"""The dynamics of a game near a state: where its players move, and the eigenvalues of that.

A `Flow` is a function of numbers of the players, at a point: `field`, along which plain gradient
descent would move, or `update_map`, what a step makes of them. The batch and the key of the state
stay, so that a game of minibatches is a fixed one too. What networks keep beside their parameters,
such as batch statistics, stays as it is.

    flow = update_map(game, state, batch)
    spectral_radius = abs(spectra.eigenvalues(flow).values).max()

A derivative takes what a loss stops (`lax.stop_gradient`) for constant, here as in training.

References:
  Mescheder, Nowozin and Geiger, The Numerics of GANs, 2017; Berard et al., A Closer Look at the
  Optimization Landscapes of Generative Adversarial Networks, 2020.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxgan import rules
from jaxgan.game import Batch, Game, GANState
from jaxgan.rules import Metrics, Players, Round
from jaxgan.spectra import Flow
from jaxgan.step import make_step


def field(game: Game, state: GANState, batch: Batch) -> Flow:
    """Minus the gradient of each move in the parameters of its players.

    Rates, critic steps and the game's rule are not in it. At a fixed point the players are stable
    under small enough rates where all its eigenvalues have negative real parts.

    Args:
      game: the variant. Its dtype is that of the derivatives, so make it float32.
      state: whose parameters are the point; its key and step say what is random.
      batch: leaves [B, ...].
    """
    moved = {name for move in game.moves for name in move.players}
    params = {name: player.params for name, player in state.players.items() if name in moved}
    step = make_step(game._replace(rule=_to_gradients))
    point, rebuilt = _numbers(params)

    def function(numbers: Array) -> Array:
        players = rules.with_params(state.players, rebuilt(numbers))
        after, _ = step(state.replace(players=players), batch)
        return -_numbers({name: after.players[name].params for name in params})[0]

    return Flow(function, point)


def update_map(game: Game, state: GANState, batch: Batch) -> Flow:
    """What a step makes of the parameters and of what the optimizers keep.

    Averages are left out, as nothing depends on them. At a fixed point training converges where the
    spectral radius is below 1; elsewhere it says how nearby runs come together or part in a step.

    Args:
      game, state, batch: as of `field`; the rule is the game's.
    """
    step = make_step(game)

    def changing(players: Players) -> Any:
        return {name: (player.params, player.opt_state) for name, player in players.items()}

    point, rebuilt = _numbers(changing(state.players))

    def function(numbers: Array) -> Array:
        players = {
            name: state.players[name].replace(params=params, opt_state=opt_state)
            for name, (params, opt_state) in rebuilt(numbers).items()
        }
        after, _ = step(state.replace(players=players), batch)
        return _numbers(changing(after.players))[0]

    return Flow(function, point, kinds=True)


def _to_gradients(round: Round, players: Players) -> tuple[Players, Metrics]:
    """A rule that leaves the gradients in the place of the parameters."""
    joint: dict[str, Any] = {}
    for move in round.moves:
        for name, grads in round.gradient(move, players).grads.items():
            joint[name] = jax.tree.map(jnp.add, joint[name], grads) if name in joint else grads
    return rules.with_params(players, joint), {}


def _numbers(tree: Any) -> tuple[Array, Callable[[Array], Any]]:
    """The floating numbers of a tree as one vector, and a vector -> the tree with these."""
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    flat, parts = ravel_pytree([leaves[i] for i in places])

    def rebuilt(numbers: Array) -> Any:
        new = dict(zip(places, parts(numbers)))
        return jax.tree.unflatten(structure, [new.get(i, leaf) for i, leaf in enumerate(leaves)])

    return flat, rebuilt
