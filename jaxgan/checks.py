"""What is looked at when a step is traced, so that nothing is trained wrongly without a word.

Each function raises `UserError` with one line: the move or player, the shapes, and the fix.
"""

import numbers
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxgan.errors import UserError
from jaxgan.game import Game, Move, Outcome, Player
from jaxgan.words import near_multiples


def check_game(game: Game) -> None:
    """Refuses moves and players that do not go together."""
    _check_fields(game)
    known = ", ".join(map(repr, game.players))
    if isinstance(game.moves, Move) or not isinstance(game.moves, tuple | list):
        raise UserError("the game's moves are no tuple; give (move, ...), also of one move")
    if not game.moves:
        raise UserError("the game has no moves; give it one or more")
    for move in _with_lookahead(game.moves):
        if not isinstance(move.name, str) or not callable(move.loss):
            raise UserError(f"{move!r} is no move; give Move(name, players, loss)")
        if isinstance(move.players, str):
            raise UserError(
                f"move {move.name!r} names its players by the text {move.players!r}; give a tuple: "
                f"({move.players!r},)"
            )
        if not isinstance(move.times, int) or move.times < 1:
            raise UserError(f"move {move.name!r} has times={move.times!r}; use 1, 2, ...")
        if len(set(move.players)) < len(move.players):
            raise UserError(
                f"move {move.name!r} names a player twice: {move.players}; name it once"
            )
        if not move.players:
            raise UserError(f"move {move.name!r} names no player to update; this game has {known}")
        for name in sorted(set(move.players) - set(game.players)):
            raise UserError(f"move {move.name!r} names player {name!r}; this game has {known}")
    moved = {name for move in game.moves for name in move.players}
    for name, player in game.players.items():
        _check_parts(name, player)
        decay = player.ema_decay
        # One that is traced, of a member of an ensemble, has no value yet.
        traced = isinstance(decay, Tracer)
        is_number = traced or (isinstance(decay, numbers.Real) and 0 <= float(decay) < 1)
        if not (decay is None or callable(decay) or is_number):
            raise UserError(
                f"player {name!r} has ema_decay={decay!r}; use a number in [0, 1), a schedule, "
                "or None"
            )
        if player.tx is not None and name not in moved:
            raise UserError(
                f"no move trains player {name!r}, which has an optimizer; name it in a move's "
                "players, or leave out its tx to keep it as it is"
            )


def _check_fields(game: Game) -> None:
    if not isinstance(game.players, dict) or not all(isinstance(n, str) for n in game.players):
        raise UserError(
            f"the game's players are {type(game.players).__name__}; give a dict by name"
        )
    for name in ("latent", "generate"):
        if not callable(getattr(game, name)):
            raise UserError(f"the game's {name} is {getattr(game, name)!r}; give a function")
    if game.rule is not None and not callable(game.rule):
        raise UserError(
            f"the game's rule is {game.rule!r}; give a function of jaxgan.rules, or None"
        )
    if game.examples is not None and not callable(game.examples):
        raise UserError(
            f"the game's examples are {game.examples!r}; give a function (batch, keys) -> batch, "
            "or None"
        )
    try:
        floating = jnp.issubdtype(jnp.dtype(game.dtype), jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        raise UserError(f"the game's dtype is {game.dtype!r}; use jnp.float32 or jnp.bfloat16")


def _check_parts(name: str, player: Any) -> None:
    """Refuses what is easily given in place of a network or of an optimizer."""
    if not isinstance(player, Player):
        raise UserError(f"player {name!r} is {type(player).__name__}; give Player(module, tx)")
    if not isinstance(player.module, nn.Module):
        given = getattr(player.module, "__name__", type(player.module).__name__)
        fix = f"call it: {given}()" if isinstance(player.module, type) else "give one of flax.linen"
        raise UserError(f"the module of player {name!r} is {given} and no network; {fix}")
    if player.tx is not None and not (hasattr(player.tx, "init") and hasattr(player.tx, "update")):
        given = getattr(player.tx, "__name__", repr(player.tx))
        raise UserError(
            f"the tx of player {name!r} is {given} and no optimizer; give one such as "
            "optax.adam(1e-3)"
        )


def examples_in(batch: Any) -> int:
    """How many examples a batch holds; refuses leaves that disagree."""
    shapes = {name: jnp.shape(leaf) for name, leaf in _leaves(batch).items()}
    counts = {shape[0] if shape else 0 for shape in shapes.values()}
    if len(counts) != 1 or counts == {0}:
        raise UserError(
            f"a batch has leaves of 1 or more examples each, as many in all; got {shapes}"
        )
    return counts.pop()


def share_of(count: int, game: Game, accumulate: int = 1) -> int:
    """The examples of a move that takes its part of `count`; refuses a remainder, also of its
    micro-batches."""
    if not isinstance(accumulate, int) or accumulate < 1:
        raise UserError(f"accumulate={accumulate!r} is no number of micro-batches; use 1, 2, ...")
    move = max(game.moves, key=lambda move: move.times)
    if count % move.times:
        raise UserError(
            f"a batch of {count} examples on a device cannot be divided into {move.times} parts, "
            f"the times of move {move.name!r}; use {near_multiples(count, move.times)}"
        )
    share = count // move.times
    if share % accumulate:
        parts = f" in {move.times} parts" if move.times > 1 else ""
        raise UserError(
            f"a batch of {count} examples on a device{parts} cannot be divided into "
            f"accumulate={accumulate} micro-batches; use a batch of "
            f"{near_multiples(count, move.times * accumulate)}"
        )
    return share


def check_outcome(game: Game, move: Move, value: Any, outcome: Any, states: dict[str, Any]) -> None:
    """Refuses a loss or metrics that are no scalars, and states that the next step could not
    take."""
    if not isinstance(outcome, Outcome):
        raise UserError(
            f"the loss of move {move.name!r} gives {type(outcome).__name__} beside its value; "
            "return (scalar, Outcome(metrics, states))"
        )
    for name, scalar in {"the loss": value, **outcome.metrics}.items():
        shape, dtype = jnp.shape(scalar), jnp.result_type(scalar)
        if shape != () or not jnp.issubdtype(dtype, jnp.floating):
            raise UserError(
                f"{name} of move {move.name!r} is no floating scalar but {dtype} of shape {shape}; "
                "take its mean as float32"
            )
    for name, state in outcome.states.items():
        if name not in game.players:
            raise UserError(
                f"move {move.name!r} gives back a state of {name!r}; this game has "
                f"{', '.join(map(repr, game.players))}"
            )
        before, after = _spec(states[name]).items(), _spec(state).items()
        if name in move.players and before != after:
            raise UserError(
                f"move {move.name!r} gives player {name!r} a state of another structure, with "
                f"{dict(sorted(after - before))}, without {dict(sorted(before - after))}; use "
                "self.variable, or self.sow with a reduce_fn that replaces"
            )


def check_made(real: Any, made: Any) -> None:
    """Refuses made features that a batch has not, or has in another shape or as integers."""
    for name in made:
        if name not in real:
            raise UserError(
                f"feature {name!r} is made, the batch holds {', '.join(map(repr, real))}; "
                "name a feature of the data"
            )
    held = _leaves({name: real[name] for name in made})
    given = _leaves(made)
    for name in sorted({*held, *given}):
        ours, theirs = (
            jnp.shape(leaves[name]) if name in leaves else None for leaves in (held, given)
        )
        if ours != theirs:
            raise UserError(
                f"feature {name!r}: the batch holds {ours or 'none'}, the generator makes "
                f"{theirs or 'none'}; make them equal"
            )
        types = held[name].dtype, given[name].dtype
        if not jnp.issubdtype(types[1], jnp.floating):
            raise UserError(
                f"feature {name!r} is made as {types[1]}, through which no gradient flows; make "
                "floating numbers"
            )
        if not jnp.issubdtype(types[0], jnp.floating):
            raise UserError(
                f"feature {name!r} of the batch is {types[0]}, the made one {types[1]}; give "
                "uint8 in [0, 255] of two axes or more, or floating numbers in [-1, 1]"
            )


def check_packs(count: int, pack: int) -> None:
    """Refuses examples that do not fill packs."""
    if count % pack:
        raise UserError(
            f"{count} examples on a device do not fill packs of {pack}; "
            f"use {near_multiples(count, pack)}"
        )


def check_logits(logits: Any, examples: Any, pack: int) -> None:
    """Refuses examples that do not fill packs, and logits whose leading axis is not theirs."""
    count = examples_in(examples)
    check_packs(count, pack)
    for leaf in jax.tree.leaves(logits):
        if leaf.shape[:1] != (count // pack,):
            packed = f" in packs of {pack}" if pack > 1 else ""
            raise UserError(
                f"the discriminator gives logits of shape {leaf.shape} for {count} "
                f"examples{packed}; give them a leading axis of {count // pack}, such as [B, "
                "height, width] for a map of patches"
            )


def _with_lookahead(moves: tuple[Move, ...]) -> list[Move]:
    for move in moves:
        if not isinstance(move, Move):
            raise UserError(f"{move!r} is no move; give Move(name, players, loss)")
        if isinstance(move.lookahead, Move) or not isinstance(move.lookahead, tuple | list):
            raise UserError(f"the lookahead of move {move.name!r} is no tuple; give (move, ...)")
    return [m for move in moves for m in (move, *_with_lookahead(move.lookahead))]


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _leaves(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _spec(tree: Any) -> dict[str, str]:
    return {name: jax.typeof(leaf).str_short() for name, leaf in _leaves(tree).items()}
