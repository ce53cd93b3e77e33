"""Ensembles: members of one game, each with a seed, a batch and numbers of its own, in one step.

All members have made the same number of steps, so that the state of an ensemble is a `GANState`
whose `step` is that number and whose other leaves have an axis [n] of members in front. What
depends on the step alone, such as whether a penalty is due, then stays one condition: with a step
of each member, `vmap` would take both of its branches.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.errors import UserError
from jaxgan.game import Batch, Game, GANState, init
from jaxgan.rules import Metrics
from jaxgan.step import make_step

Numbers = dict[str, Any]  # of an ensemble by name, float32 [n]; of a member float32 []
Making = Callable[[Numbers], Game]
Init = Callable[[Array, Batch], GANState]
Step = Callable[[GANState, Batch], tuple[GANState, Metrics]]


def in_parts(step: Any, others: Any) -> Any:
    """A state that holds something of each part of members' state, such as axes or shardings: of
    the one step, and of all that has an axis of members."""
    return GANState(step, others, others)


AXES = in_parts(None, 0)


def ensemble(
    game: Game | Making, n: int, numbers: Numbers | None = None, **options: Any
) -> tuple[Init, Step]:
    """The first state and the step of `n` members that train side by side.

    A member is the same as its run alone, up to the rounding of sums in another order.

    Args:
      game: the variant, or where members differ in numbers a function that makes it from those of
        a member: {name: float32 []} -> Game. They are traced, so that they may scale a loss or a
        rate but not decide what is computed.
      n: how many members.
      numbers: {name: [n]}, for such a function.
      options: of `make_step`.

    Returns:
      init(keys [n], batch), with the batch of one member or its shapes, and step(state, batches
      [n, B, ...]) -> (state, metrics [n]). Pure: for `jit`, and `lax.scan` over steps.

    Raises:
      UserError: numbers, keys or batches that are not of n members; what `make_step` refuses.
    """
    if type(n) is not int or n < 1:
        raise UserError(f"n={n!r} is no number of members; use 1 or more")
    given = {name: jnp.asarray(values, jnp.float32) for name, values in (numbers or {}).items()}
    _check_axis("numbers", given, n)
    if isinstance(game, Game) and given:
        raise UserError("numbers are given but the game is made; give a function that makes it")
    making = always(game) if isinstance(game, Game) else game

    def first(keys: Array, batch: Batch) -> GANState:
        _check_axis("keys", keys, n)
        return init_of(making, given, keys, batch)

    def step(state: GANState, batches: Batch) -> tuple[GANState, Metrics]:
        _check_axis("batches", batches, n)
        return step_of(making, given, state, batches, **options)

    return first, step


def always(game: Game) -> Making:
    """Members that differ in no numbers."""

    def making(numbers: Numbers) -> Game:
        return game

    return making


def init_of(making: Making, numbers: Numbers, keys: Array, batch: Batch) -> GANState:
    """The state of members before the first step.

    Args:
      making: a member's numbers -> its game.
      numbers: {name: [n]}.
      keys: [n], consumed.
      batch: of one member, or its shapes.
    """

    def of_member(numbers: Numbers, key: Array) -> GANState:
        return init(making(numbers), key, batch)

    return jax.vmap(of_member, out_axes=AXES)(numbers, keys)


def step_of(
    making: Making, numbers: Numbers, state: GANState, batches: Batch, **options: Any
) -> tuple[GANState, Metrics]:
    """A step of members, on batches [n, B, ...]; other arguments as for `init_of` and of
    `make_step`."""

    def of_member(numbers: Numbers, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        return make_step(making(numbers), **options)(state, batch)

    mapped = jax.vmap(of_member, in_axes=(0, AXES, 0), out_axes=(AXES, 0))
    return mapped(numbers, state, batches)


def alone(state: GANState, member: int) -> GANState:
    """The state of one member, as its run alone has it."""
    key, players = jax.tree.map(lambda leaf: leaf[member], (state.key, state.players))
    return GANState(state.step, key, players)


def joined(states: Sequence[GANState]) -> GANState:
    """The state of members from those of their runs, all after the same step."""
    both = [(state.key, state.players) for state in states]
    key, players = jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)
    return GANState(states[0].step, key, players)


def _check_axis(what: str, tree: Any, n: int) -> None:
    for leaf in jax.tree.leaves(tree):
        if not leaf.shape or leaf.shape[0] != n:
            raise UserError(
                f"{what} of shape {leaf.shape} are not those of {n} members; give them an axis "
                f"[{n}] in front"
            )
