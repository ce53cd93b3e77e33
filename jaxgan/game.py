"""The types of the library, and the first state of a run.

A GAN variant is one `Game`: players, and the moves that they make in a round; `game._replace(...)` makes the
next variant. All that training changes is in `GANState`. In shapes, B is the number of examples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from jaxgan.calling import Apply, applier, begin, cast_floats, fold_in_name
from jaxgan.errors import UserError

Key = Array
Batch = dict[str, Array]  # an example is a dict, real or made: `image`, and what it is an image of


class Player(NamedTuple):
    """A network and how it is trained.

    Attributes:
      module: any Linen module. One without parameters keeps state: an adaptive probability, a running mean.
      tx: the optimizer; None for a module without parameters, or one that stays as it begins.
      ema_decay: decay per step of the average of the parameters, which counts the first steps less; or a
        schedule of it, taken as it is; None for no average. See `jaxgan.schedules`.
    """

    module: nn.Module
    tx: optax.GradientTransformation | None = None
    ema_decay: float | optax.Schedule | None = None


class Play(NamedTuple):
    """What a loss may look at.

    Attributes:
      apply: (name, *inputs, state=None, **options) -> (output, state): a player as it is now. Pure: a state
        that no `Outcome` gives back is forgotten. Outputs are float32, whatever the game computes in.
      batch: leaves [B, ...], of this device; uint8 features come as float32 in [-1, 1].
      keys: [B], one for each example of the global batch, so that draws (see `drawn`) do not depend on the
        number of devices.
      step: int32 [], finished steps.
      states: the players' model states as they are now, by name.
    """

    apply: Apply
    batch: Batch
    keys: Array
    step: Array
    states: dict[str, Any]


class Outcome(NamedTuple):
    """What a loss gives beside its value: scalars to log, and new model states of the move's players."""

    metrics: dict[str, Array] = {}
    states: dict[str, Any] = {}


class Move(NamedTuple):
    """One update: `players` descend `loss`, and nobody else changes.

    Attributes:
      name: in errors and profiles.
      players: who descends.
      loss: Play -> (scalar, Outcome).
      times: how often in a round, each time on its own part of the batch (critic steps).
      lookahead: moves of others to look through, differentiated (Metz et al., Unrolled GANs, 2016). Through
        Adam that is NaN where a second moment is exactly 0: give it `eps_root` > 0.
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
      latent: key -> all that is random in one example that is made: z, or a pytree with noise, masks, ...
      generate: (apply, latents, batch) -> (made, states), what the game is played for: the features that are
        made, leaves [B, ...], and the model states that this left.
      dtype: what players compute in, float32 or bfloat16; parameters, states and losses stay float32.
    """

    players: dict[str, Player]
    moves: tuple[Move, ...]
    latent: Callable[[Key], Any]
    generate: Callable[[Apply, Any, Batch], tuple[Batch, dict[str, Any]]]
    dtype: Any = jnp.float32


class PlayerState(struct.PyTreeNode):
    """model_state: the collections beside `params`, such as batch_stats; ema: of `params`, or None."""

    params: Any
    model_state: Any
    opt_state: Any
    ema: Any


class GANState(struct.PyTreeNode):
    """step: int32 [], finished ones. key: of the run; step t draws from fold_in(key, t), so that a resumed
    run is the same run. The state is replicated over devices and has no device axis."""

    step: Array
    key: Key
    players: dict[str, PlayerState]


def init(game: Game, key: Key, batch: Batch) -> GANState:
    """The state before the first step. Pure: works under `jit` and, over keys, under `vmap`.

    Args:
      game: the variant.
      key: consumed. A player's parameters depend on it, and on the player's name and input shapes alone.
      batch: leaves [B, ...], of which only shapes and dtypes count: `jax.ShapeDtypeStruct` will do.

    Raises:
      UserError: a player that no loss calls, or that has parameters to train and no optimizer.
    """
    for_training, for_players = jax.random.split(key)
    modules = {name: player.module for name, player in game.players.items()}
    first_calls: dict[str, Any] = {}

    def begun(name: str) -> dict[str, Any]:
        return begin(modules[name], fold_in_name(for_players, name), *first_calls[name])

    def every_move(batch: Batch) -> None:
        variables: dict[str, Any] = {}
        states: dict[str, Any] = {}

        def apply(name: str, *inputs: Any, **options: Any) -> tuple[Any, Any]:
            if name in modules and name not in variables:  # comes to life when it is first called
                shapes = jax.tree.map(jax.typeof, cast_floats(inputs, game.dtype))
                first_calls[name] = shapes, {k: v for k, v in options.items() if k != "state"}
                shapes = jax.eval_shape(lambda: begun(name))
                variables[name] = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
                states[name] = {k: v for k, v in variables[name].items() if k != "params"}
            held = jax.tree.map(jnp.asarray, variables)
            called = applier(modules, held, game.dtype, train=True, key=key)
            return called(name, *inputs, **options)

        batch = scaled(batch)
        keys = jax.random.split(key, len(jax.tree.leaves(batch)[0]))
        for move in game.moves:
            move.loss(Play(apply, batch, keys, jnp.zeros((), jnp.int32), states))

    jax.eval_shape(every_move, batch)
    descends = {name: move.name for move in game.moves for name in move.players}

    def player(name: str, spec: Player) -> PlayerState:
        if name not in first_calls:
            raise UserError(
                f"player {name!r} is called by no loss; call it in a move, or leave it out"
            )
        variables = begun(name)
        params = variables.pop("params", {})
        if params and spec.tx is None and name in descends:
            raise UserError(
                f"player {name!r} has parameters and descends in move {descends[name]!r}, but has no "
                "optimizer; give its tx (optax.set_to_zero() keeps the parameters as they are)"
            )
        ema = None if spec.ema_decay is None else jax.tree.map(jnp.copy, params)
        return PlayerState(params, variables, spec.tx.init(params) if spec.tx else (), ema)

    players = {name: player(name, spec) for name, spec in game.players.items()}
    return GANState(jnp.zeros((), jnp.int32), for_training, players)


def drawn(draw: Callable[[Key], Any], keys: Array, use: str) -> Any:
    """draw(key) for each example, leaves [B, ...]; draws of different uses are independent."""
    return jax.vmap(lambda key: draw(fold_in_name(key, use)))(keys)


def scaled(batch: Batch) -> Batch:
    """uint8 features [B, ...], [0, 255], as float32 in [-1, 1], other floats as float32, the rest as it is.

    A uint8 feature [B] is a label.
    """

    def feature(x: Array) -> Array:
        if x.dtype == jnp.uint8 and x.ndim > 1:
            return x.astype(jnp.float32) / 127.5 - 1.0
        return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(feature, batch)
