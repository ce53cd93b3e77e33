"""Update rules: how the gradients of a game's moves become one step of its players.

A rule is a function (round, players) -> (players, metrics). Write xi for the joint gradient, the
gradients of all moves at the same players, and J for its Jacobian. Optimistic updates need no rule
of their own: give the players `optax.optimistic_gradient_descent` or `optax.optimistic_adam_v2`
under `simultaneous`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.bound import bound
from jaxgan.errors import UserError
from jaxgan.game import Move, Outcome, PlayerState

Players = dict[str, PlayerState]
Metrics = dict[str, Array]


class Gradient(NamedTuple):
    """Of one move: grads by player, the loss, and its outcome; means over devices."""

    grads: dict[str, Any]
    loss: Array
    outcome: Outcome


class Round(NamedTuple):
    """What a rule works with.

    Attributes:
      moves: of the game.
      gradient: (move, players, part=0) -> Gradient, on part `part` of the move's `times`.
      update: (players, Gradient) -> players, by their optimizers.
      average: tree -> tree, the mean over devices, for what a rule itself differentiates.
    """

    moves: tuple[Move, ...]
    gradient: Callable[..., Gradient]
    update: Callable[[Players, Gradient], Players]
    average: Callable[[Any], Any]


Rule = Callable[[Round, Players], tuple[Players, Metrics]]


def alternating(round: Round, players: Players) -> tuple[Players, Metrics]:
    """Each move against the players as the moves before it left them, as GANs usually train."""
    metrics: Metrics = {}
    for move in round.moves:
        with jax.named_scope(move.name):
            of_move: Metrics = {}
            for part in range(move.times):
                gradient = round.gradient(move, players, part)
                players = round.update(players, gradient)
                of_move = gradient.outcome.metrics
            metrics = _joined(metrics, of_move, move.name)
    return players, metrics


def simultaneous(round: Round, players: Players) -> tuple[Players, Metrics]:
    """All moves against the players as the step found them."""
    return _finished(round, players, _gradients(round, players))


def extragradient(round: Round, players: Players) -> tuple[Players, Metrics]:
    """A step along the joint gradient at where a first such step leads; two evaluations a step.

    References:
      Korpelevich, The extragradient method, 1976; Gidel et al., A Variational Inequality
      Perspective on GANs, 2019.
    """
    ahead = players
    for gradient in _gradients(round, players):
        ahead = round.update(ahead, gradient)
    # The first step is undone, also in what the optimizers keep.
    there = with_params(players, {name: ahead[name].params for name in players})
    return _finished(round, players, _gradients(round, there))


@bound
def consensus(weight: float = 1.0) -> Rule:
    """xi + weight J^T xi: descends the squared norm of the joint gradient beside the losses.

    References:
      Mescheder, Nowozin and Geiger, The Numerics of GANs, 2017.
    """
    return functools.partial(_consensus, weight)


@bound
def symplectic(weight: float = 1.0, align: bool = False) -> Rule:
    """Symplectic gradient adjustment, xi + weight A^T xi with A = (J - J^T) / 2.

    Args:
      weight: of the adjustment.
      align: choose its sign in each step by the paper's criterion, so that it repels from unstable
        points.

    References:
      Balduzzi et al., The Mechanics of n-Player Differentiable Games, 2018.
    """
    return functools.partial(_symplectic, weight, align)


@bound
def competitive(rate: float, iterations: int = 10) -> Rule:
    """Competitive gradient descent: two moves step to the equilibrium of the local bilinear game.

    With losses f(x, y) and g(x, y) it solves
    (I - rate^2 D_xy f D_yx g) dx = D_x f - rate D_xy f D_y g, and the same with x and y exchanged,
    by GMRES. Optimizers get dx and dy as gradients: give both players `optax.sgd(rate)`.

    Args:
      rate: eta of the paper.
      iterations: of each of the two linear solvers; each takes two Jacobian-vector products.

    References:
      Schaefer and Anandkumar, Competitive Gradient Descent, 2019.
    """
    return functools.partial(_competitive, rate, iterations)


def with_params(players: Players, params: dict[str, Any]) -> Players:
    """The players, with these parameters."""
    return players | {name: players[name].replace(params=p) for name, p in params.items()}


def _consensus(weight: float, round: Round, players: Players) -> tuple[Players, Metrics]:
    field, params = _field(round, players)
    joint, pull_back, gradients = jax.vjp(field, params, has_aux=True)
    (adjustment,) = round.average(pull_back(joint))
    return _finished(round, players, gradients, _plus(joint, weight, adjustment))


def _symplectic(
    weight: float, align: bool, round: Round, players: Players
) -> tuple[Players, Metrics]:
    field, params = _field(round, players)
    joint, pull_back, gradients = jax.vjp(field, params, has_aux=True)
    (of_transpose,) = round.average(pull_back(joint))
    _, of_jacobian, _ = jax.jvp(field, (params,), (joint,), has_aux=True)
    adjustment = jax.tree.map(lambda a, b: (a - b) / 2.0, of_transpose, of_jacobian)
    if align:
        # J^T xi is the gradient of |xi|^2 / 2; the paper's 1/10 prefers the positive sign.
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        alignment = _dot(joint, of_transpose) * _dot(adjustment, of_transpose) / count
        signed = weight * jnp.where(alignment < -0.1, -1.0, 1.0)
    else:
        signed = weight
    return _finished(round, players, gradients, _plus(joint, signed, adjustment))


def _competitive(
    rate: float, iterations: int, round: Round, players: Players
) -> tuple[Players, Metrics]:
    if len(round.moves) != 2:
        raise UserError(
            f"competitive gradient descent is for 2 moves, the game has {len(round.moves)}"
        )
    field, params = _field(round, players)
    joint, jacobian, gradients = jax.linearize(field, params, has_aux=True)
    first, second = ({n: joint[n] for n in move.players} for move in round.moves)
    zeros = jax.tree.map(jnp.zeros_like, params)

    def cross(direction: Any, onto: Any) -> Any:
        """How the gradients of `onto`'s players change along a direction of the others."""
        changes = jacobian(zeros | direction)
        return {name: changes[name] for name in onto}

    def solved(own: Any, other: Any) -> Any:
        def matrix(direction: Any) -> Any:
            return _plus(direction, -(rate**2), cross(cross(direction, other), own))

        right = _plus(own, -rate, cross(other, own))
        options: dict[str, Any] = dict(restart=iterations, maxiter=1, solve_method="batched")
        return jax.scipy.sparse.linalg.gmres(matrix, right, x0=own, tol=1e-6, **options)[0]

    return _finished(round, players, gradients, solved(first, second) | solved(second, first))


def _field(round: Round, players: Players) -> tuple[Callable, dict[str, Any]]:
    """The joint gradient, params -> (grads by player, [Gradient]), and where the players are."""

    def field(params: dict[str, Any]) -> tuple[dict[str, Any], list[Gradient]]:
        gradients = _gradients(round, with_params(players, params))
        joint: dict[str, Any] = {}
        for gradient in gradients:
            joint |= gradient.grads
        return joint, gradients

    return field, {name: players[name].params for move in round.moves for name in move.players}


def _gradients(round: Round, players: Players) -> list[Gradient]:
    """The gradient of each move, all at the same players."""
    moved = [name for move in round.moves for name in move.players]
    twice = sorted({name for name in moved if moved.count(name) > 1})
    often = [move for move in round.moves if move.times > 1]
    if twice or often:
        what = (
            f"player {twice[0]!r} is in two moves"
            if twice
            else f"move {often[0].name!r} is made {often[0].times} times"
        )
        raise UserError(f"{what}; only the rule 'alternating' can do that")
    with jax.named_scope("gradients"):
        return [round.gradient(move, players) for move in round.moves]


def _joined(metrics: Metrics, more: Metrics, move: str) -> Metrics:
    """The metrics of a round with those of a further move."""
    for name in sorted(metrics.keys() & more.keys()):
        raise UserError(
            f"move {move!r} logs {name!r}, as a move before it does; rename one of them"
        )
    return metrics | more


def _finished(
    round: Round, players: Players, gradients: list[Gradient], changes: dict[str, Any] | None = None
) -> tuple[Players, Metrics]:
    """All players updated: by the gradients, or by `changes` in their place."""
    metrics: Metrics = {}
    for move, gradient in zip(round.moves, gradients):
        if changes is not None:
            gradient = gradient._replace(grads={name: changes[name] for name in gradient.grads})
        players = round.update(players, gradient)
        metrics = _joined(metrics, gradient.outcome.metrics, move.name)
    return players, metrics


def _plus(tree: Any, factor: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: a + factor * b, tree, other)


def _dot(first: Any, second: Any) -> Array:
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, first, second)), jnp.zeros(()))
