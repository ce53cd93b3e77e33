"""The types of the library, and the first state of a run.

A GAN variant is one `Game`: players, and the moves that they make in a round; `game._replace(...)`
makes the next variant. All that training changes is in `GANState`. B is the number of examples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from jaxgan.bound import frozen
from jaxgan.calling import Apply, begun
from jaxgan.errors import UserError, blamed
from jaxgan.examples import changed, scaled

Batch = dict[str, Any]  # an example is a dict, real or made: `image`, and what it is an image of


class Player(NamedTuple):
    """A network and how it is trained.

    Attributes:
      module: any Linen module. One without parameters keeps state, such as a running mean.
      tx: the optimizer, an Optax transformation, or `jaxgan.bound.Bound(optax.adam, 1e-3)`, which
        can be compared and pickled; None for a module without parameters, or one that stays as it
        begins.
      ema_decay: of the parameters' average, per step: a number, which counts the first steps less;
        a schedule (`jaxgan.schedules`); None for no average.
    """

    module: nn.Module
    tx: optax.GradientTransformation | None = None
    ema_decay: Any = None


class Play(NamedTuple):
    """What a loss may look at.

    Attributes:
      apply: (name, *inputs, state=None, **options) -> (output, state): a player as it is now. Pure:
        a state that no `Outcome` gives back is forgotten. Outputs are float32.
      batch: leaves [B, ...], of this device; pixels, uint8 of two axes or more, come as
        float32 in [-1, 1].
      keys: [B], of the examples: what `drawn` draws from them is the same on any number of devices.
      step: int32 [], finished steps.
      states: the model states of the players as they are now.
    """

    apply: Apply
    batch: Batch
    keys: Array
    step: Array
    states: dict[str, Any]


class Outcome(NamedTuple):
    """What a loss gives beside its value: scalars to log, model states of the move's players."""

    metrics: dict[str, Array] = {}
    states: dict[str, Any] = {}


class Move(NamedTuple):
    """One update: `players` descend `loss`, and nobody else changes.

    Attributes:
      name: in errors and profiles.
      players: who descends.
      loss: Play -> (scalar, Outcome).
      times: how often in a round, each time on its own part of the batch (critic steps).
      lookahead: moves of others to look through, differentiated (Metz et al., Unrolled GANs, 2016).
        Through Adam that is NaN where a second moment is exactly 0: give it `eps_root` > 0.
    """

    name: str
    players: tuple[str, ...]
    loss: Callable[[Play], tuple[Array, Outcome]]
    times: int = 1
    lookahead: tuple["Move", ...] = ()


class Game(NamedTuple):
    """A GAN variant. Static: a step is compiled for it.

    Attributes:
      players: by name.
      moves: of one round, in order.
      latent: key -> all that is random in making one example: z, or a pytree with noise, masks.
      generate: (apply, latents, batch) -> (made, states), what the game is played for: the features
        that are made, leaves [B, ...], and the model states that this left.
      dtype: what players compute in, float32 or bfloat16; what is kept and told is float32.
      rule: how gradients become updates, see `jaxgan.rules`; None for `alternating`.
      examples: (batch, keys [B]) -> batch: how real examples are changed before the moves see them,
        such as `jaxgan.flips.flips`; None for as they are. uint8 features come as float32 in
        [-1, 1]; what `drawn` draws from the keys is the same on any number of devices.
    """

    players: dict[str, Player]
    moves: tuple[Move, ...]
    latent: Callable[[Array], Any]
    generate: Callable[[Apply, Any, Batch], tuple[Batch, dict[str, Any]]]
    dtype: Any = jnp.float32
    rule: Callable | None = None
    examples: Callable[[Batch, Array], Batch] | None = None

    def __hash__(self) -> int:
        return hash(frozen(tuple(self)))


class PlayerState(struct.PyTreeNode):
    """model_state: the collections beside `params`. ema: the average of `params`, or None."""

    params: Any
    model_state: Any
    opt_state: Any
    ema: Any


class GANState(struct.PyTreeNode):
    """step: int32 [], finished ones. key: of the run; step t draws from fold_in(key, t)."""

    step: Array
    key: Array
    players: dict[str, PlayerState]


def init(game: Game, key: Array, batch: Batch) -> GANState:
    """The state before the first step. Pure: works under `jit` and, over keys, under `vmap`.

    Args:
      game: the variant.
      key: consumed. A player's parameters depend on it, the player's name and its inputs' shapes.
      batch: leaves [B, ...]; only shapes and dtypes count, so `jax.ShapeDtypeStruct` will do.
    """
    for_training, for_players = jax.random.split(key)
    modules = {name: player.module for name, player in game.players.items()}

    def every_move(apply: Apply, states: dict[str, Any], batch: Batch) -> None:
        keys = jax.random.split(for_training, len(jax.tree.leaves(batch)[0]))
        batch = changed(game.examples, scaled(batch), for_training)
        for move in game.moves:
            with blamed(f"the loss of move {move.name!r}"):
                move.loss(Play(apply, batch, keys, jnp.zeros((), jnp.int32), states))

    variables = begun(modules, game.dtype, for_players, every_move, batch)
    descending = {name: move.name for move in game.moves for name in move.players}

    def player(name: str, spec: Player) -> PlayerState:
        params = variables[name].pop("params", {})
        if params and spec.tx is None and name in descending:
            by = f"player {name!r} has parameters, descends in move {descending[name]!r}"
            raise UserError(f"{by} and has no optimizer; give its tx (or optax.set_to_zero())")
        ema = None if spec.ema_decay is None else jax.tree.map(jnp.copy, params)
        with blamed(f"the optimizer of player {name!r}"):
            opt_state = () if spec.tx is None else spec.tx.init(params)
        return PlayerState(params, variables[name], opt_state, ema)

    players = {name: player(name, spec) for name, spec in game.players.items()}
    return GANState(jnp.zeros((), jnp.int32), for_training, players)
