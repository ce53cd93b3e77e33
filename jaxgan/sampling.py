"""Examples from the averaged players: samples, and walks through the latent space.

Latents are those of the game; conditions are features of a batch, leaves [N, ...].
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgan import memory
from jaxgan.calling import applier
from jaxgan.errors import UserError
from jaxgan.examples import drawn, scaled
from jaxgan.game import Batch, Game, GANState, Player, PlayerState

_STATISTICS_BATCH = 1024
_CHUNK = 250  # examples made at once
Examples = dict[str, np.ndarray]


class Sampler:
    """Makes examples of a game from its states; compiles once for all of them, and for samplers of
    games that make examples alike.

    Args:
      game: the variant.
      pixels: made features that are given as uint8, [-1, 1] as [0, 255]; the others are float32.
      averaged: with the players' averages, where they have one, or with the parameters of training.
    """

    def __init__(
        self, game: Game, pixels: tuple[str, ...] = ("image",), averaged: bool = True
    ) -> None:
        self._game, self._averaged = game, averaged
        # What making an example looks at: rates, losses and rules are others' concern.
        players = {name: Player(player.module) for name, player in game.players.items()}
        makes = game._replace(players=players, moves=(), rule=None)
        try:
            programs = _shared_programs(makes, tuple(pixels))
        except TypeError:  # a part of the user's own that cannot be hashed
            programs = _programs(makes, tuple(pixels))
        self._made, self._with_statistics, self._latents = programs

    def variables(self, state: GANState, conditions: Batch | None = None) -> dict[str, Any]:
        """What the players make examples with: their averages, with batch statistics of their own.

        The running statistics of training belong to the parameters of training, not to their
        average. So they are taken anew, over 1,024 latents that are always the same (Brock et al.,
        Large Scale GAN Training, 2019, call them standing statistics).
        """
        chosen = self._chosen(state)
        if not any("batch_stats" in held for held in chosen.values()):
            return chosen
        return self._with_statistics(chosen, tiled(conditions or {}, np.arange(_STATISTICS_BATCH)))

    def _chosen(self, state: GANState) -> dict[str, Any]:
        def params(player: PlayerState) -> Any:
            return player.ema if self._averaged and player.ema is not None else player.params

        return {n: {"params": params(p), **p.model_state} for n, p in state.players.items()}

    def sample(
        self, state: GANState, key: Array, count: int, conditions: Batch | None = None
    ) -> Examples:
        """`count` examples, leaves [count, ...].

        Args:
          state: whose players make them.
          key: consumed. Example i depends on the key and i alone.
          conditions: leaves [N, ...]; example i gets number i modulo N.

        Raises:
          UserError: for more than the machine's memory holds, before any is made.
        """
        return self._together(state, count, self.parts(state, key, count, conditions), conditions)

    def parts(
        self, state: GANState, key: Array, count: int, conditions: Batch | None = None
    ) -> Iterator[Examples]:
        """The examples of `sample`, up to 250 at a time: what is written as it comes may be more
        than memory holds."""
        if count < 1:
            raise UserError(f"num={count} is too small; use 1 or more")
        chunk = min(_CHUNK, count)

        def made() -> Iterator[Any]:
            variables = self.variables(state, conditions)
            for first in range(0, count, chunk):
                index = np.arange(first, first + chunk)
                latents = self._latents(key, jnp.asarray(index))
                yield self._made(variables, latents, tiled(conditions or {}, index))

        return _fetched(made(), count)

    def generate(self, state: GANState, latents: Any, conditions: Batch | None = None) -> Examples:
        """The examples of given latents, leaves [N, ...], all at once."""
        count = len(jax.tree.leaves(latents)[0])
        made = self._made(
            self.variables(state, conditions), latents, tiled(conditions or {}, np.arange(count))
        )
        return jax.device_get(made)

    def latents(self, key: Array, index: np.ndarray) -> Any:
        """The latents of examples of these numbers, int [N], as those of `sample` have."""
        return self._latents(key, jnp.asarray(index))

    def interpolate(
        self, state: GANState, key: Array, rows: int, columns: int, conditions: Batch | None = None
    ) -> Examples:
        """Walks between pairs of latents on great circles, leaves [rows * columns, ...], row by
        row; all examples of a row have one condition. Raises as `sample`."""
        walks = self.walks(state, key, rows, columns, conditions)
        return self._together(state, rows * columns, walks, conditions)

    def walks(
        self, state: GANState, key: Array, rows: int, columns: int, conditions: Batch | None = None
    ) -> Iterator[Examples]:
        """The examples of `interpolate`, some rows at a time."""
        if rows < 1 or columns < 1:
            raise UserError(f"rows={rows} and columns={columns} are no walk; use 1 or more of each")
        chunk = min(max(1, _CHUNK // columns), rows)

        def made() -> Iterator[Any]:
            variables = self.variables(state, conditions)
            for first in range(0, rows, chunk):
                ends = self._latents(key, jnp.arange(2 * first, 2 * (first + chunk)))
                walk = jax.tree.map(lambda x: great_circles(x[::2], x[1::2], columns), ends)
                row = np.repeat(np.arange(first, first + chunk), columns)
                yield self._made(variables, walk, tiled(conditions or {}, row))

        return _fetched(made(), rows * columns)

    def _check_room(self, state: GANState, count: int, conditions: Batch | None) -> None:
        def made(key: Array) -> Any:
            latents = latents_at(self._game, key, jnp.arange(1))
            given = tiled(conditions or {}, np.arange(1))
            return self._made(self._chosen(state), latents, given), given

        leaves = jax.tree.leaves(jax.eval_shape(made, jax.random.key(0)))
        size, room = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves), memory.most()
        if room and count * size > room:
            raise UserError(
                f"num={count} examples take {count * size / 1e9:.1f} GB, this machine has "
                f"{room / 1e9:.1f} GB of memory; use {room // size // 2} or less, or a folder of "
                "images (--out FOLDER/, or Sampler.parts), which is written as they are made"
            )

    def _together(
        self, state: GANState, count: int, parts: Iterable[Examples], conditions: Batch | None
    ) -> Examples:
        """The examples of all parts, for which there must be room."""
        if count > _CHUNK:
            self._check_room(state, count, conditions)
        whole: Examples = {}
        first = 0
        for part in parts:
            for name, leaf in part.items():
                if name not in whole:
                    whole[name] = np.empty((count, *leaf.shape[1:]), leaf.dtype)
                whole[name][first : first + len(leaf)] = leaf
            first += len(jax.tree.leaves(part)[0])
        return whole


def _programs(game: Game, pixels: tuple[str, ...]) -> tuple[Any, Any, Any]:
    """Compiled `_made`, `_with_statistics` and `latents_at` of a game."""
    return (
        jax.jit(functools.partial(_made, game, pixels)),
        jax.jit(functools.partial(_with_statistics, game)),
        jax.jit(functools.partial(latents_at, game)),
    )


_shared_programs = functools.lru_cache(64)(_programs)  # equal games are compiled once


def _fetched(parts: Iterator[Any], count: int) -> Iterator[Examples]:
    """The first `count` examples of these parts, on the host, while the next part is being made."""
    left, ahead = count, next(parts)
    while left > 0:
        part, ahead = ahead, next(parts, None)
        part = {name: leaf[:left] for name, leaf in jax.device_get(part).items()}
        left -= len(jax.tree.leaves(part)[0])
        yield part


def latents_at(game: Game, key: Array, index: Array) -> Any:
    """The latents of examples of these numbers, leaves [N, ...]."""
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(index)
    return drawn(game.latent, keys, "latent")


def great_circles(first: Array, last: Array, columns: int) -> Array:
    """[R, ...] and [R, ...] -> [R * columns, ...], from the first to the last of each row.

    Great circles keep the norm that normal latents have; straight lines pass through short ones
    (White, Sampling Generative Networks, 2016). What is no floating vector stays as the first of
    the row has it.
    """
    if not jnp.issubdtype(first.dtype, jnp.floating) or first.ndim != 2:
        return jnp.repeat(first, columns, axis=0)
    first, last = first[:, None], last[:, None]
    norm = functools.partial(jnp.linalg.norm, axis=-1, keepdims=True)
    cosine = jnp.sum(first * last, -1, keepdims=True) / (norm(first) * norm(last))
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    t = jnp.linspace(0.0, 1.0, columns)[None, :, None]
    # Nearly parallel ends have no arc to follow; a straight line is the limit.
    straight = jnp.sin(angle) < 1e-4
    safe = jnp.where(straight, 1.0, jnp.sin(angle))
    arc = (jnp.sin((1.0 - t) * angle) * first + jnp.sin(t * angle) * last) / safe
    walk = jnp.where(straight, (1.0 - t) * first + t * last, arc)
    return walk.reshape(-1, first.shape[-1])


def conditions_of(game: Game, state: GANState, features: dict[str, Any]) -> tuple[str, ...]:
    """The features of an example that making one looks at, such as ("label",).

    Args:
      game: the variant.
      state: of it; only shapes count, so `jax.eval_shape` of `init` will do.
      features: name -> what has the `shape` and `dtype` of one example's feature.
    """
    read: set[str] = set()

    class Noting(dict):
        def __getitem__(self, name: str) -> Any:
            read.add(name)
            return super().__getitem__(name)

        def get(self, name: str, default: Any = None) -> Any:
            return self[name] if name in self.keys() else default

        def values(self) -> Any:
            return [self[name] for name in self]

        def items(self) -> Any:
            return [(name, self[name]) for name in self]

    def make(view: Any, state: GANState, batch: Batch, key: Array) -> None:
        held = {name: {"params": p.params, **p.model_state} for name, p in state.players.items()}
        latents = latents_at(game, key, jnp.arange(2))
        game.generate(_applier(game, held, train=False), latents, view(scaled(batch)))

    batch = {n: jax.ShapeDtypeStruct((2, *f.shape), f.dtype) for n, f in features.items()}
    key = jax.random.key(0)
    jax.eval_shape(functools.partial(make, Noting), state, batch, key)
    wanted = sorted(read & features.keys())
    alone = {name: batch[name] for name in wanted}
    try:
        jax.eval_shape(functools.partial(make, dict), state, alone, key)
    except (KeyError, UserError):  # read through a copy of the batch, say
        return tuple(sorted(features))
    return tuple(wanted)


def _applier(game: Game, variables: Any, **options: Any) -> Any:
    modules = {name: player.module for name, player in game.players.items()}
    return applier(modules, variables, game.dtype, **options)


def _given(conditions: Batch) -> Batch:
    """The conditions; a feature that is missing is told by its name."""

    class Given(dict):
        def __missing__(self, name: str) -> Any:
            raise UserError(
                f"this game makes examples from feature {name!r}; give conditions={{{name!r}: ...}}"
            )

    return Given(scaled(conditions))


def _made(
    game: Game, pixels: tuple[str, ...], variables: Any, latents: Any, conditions: Batch
) -> dict[str, Array]:
    made, _ = game.generate(_applier(game, variables, train=False), latents, _given(conditions))
    return {name: as_pixels(x) if name in pixels else x for name, x in made.items()}


def as_pixels(images: Array) -> Array:
    """[-1, 1] as uint8 [0, 255]."""
    return jnp.clip(jnp.round((images + 1.0) * 127.5), 0.0, 255.0).astype(jnp.uint8)


def _with_statistics(game: Game, variables: Any, conditions: Batch) -> Any:
    latents = latents_at(game, jax.random.key(0), jnp.arange(_STATISTICS_BATCH))
    # A momentum of 0 keeps the batch's own statistics.
    apply = _applier(game, variables, train=True, key=jax.random.key(0), momentum=0.0)
    _, states = game.generate(apply, latents, _given(conditions))
    statistics = {name: state for name, state in states.items() if "batch_stats" in state}
    return variables | {
        name: {**variables[name], "batch_stats": state["batch_stats"]}
        for name, state in statistics.items()
    }


def tiled(conditions: Batch, index: np.ndarray) -> Batch:
    """The conditions of examples of these numbers, from the first again after the last."""
    lengths = {name: len(leaf) for name, leaf in conditions.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"the conditions have {lengths} examples; give as many of each")
    return {name: np.asarray(leaf)[index % len(leaf)] for name, leaf in conditions.items()}


def rows_of_classes(
    conditions: Batch, classes: int, columns: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """What a picture is made of that has a row of each class: the number of each example's latent,
    int [classes * columns], which is its column, and its conditions.

    Args:
      conditions: leaves [N, ...], of which `label` is replaced.
      classes: rows.
      columns: examples of each class.
    """
    label, column = np.divmod(np.arange(classes * columns), columns)
    own = label.astype(conditions["label"].dtype)
    return column, {**tiled(conditions, column), "label": own}
