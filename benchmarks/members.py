"""Members of one variant, one for each seed, for the commands that compare variants."""

import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import Sampler, members
from jaxgan import images as pictures
from jaxgan.config import Config
from jaxgan.data import Source
from jaxgan.game import Game, GANState
from jaxgan.run import finite, runtime


class Members(NamedTuple):
    """Members that train side by side.

    Attributes:
      begun: seeds, one of each -> the state of all, after no step.
      go_on: (state, how many steps) -> state; what it is given may not be used again.
    """

    begun: Callable[[list[int]], GANState]
    go_on: Callable[[GANState, int], GANState]


def side_by_side(
    game: Game, examples: dict[str, Any], batch_size: int, n: int, steps_at_once: int | None = None
) -> Members:
    """`n` members in one step, with batches drawn with replacement.

    Args:
      game: the variant.
      examples: leaves [N, ...].
      batch_size: of each member.
      n: how many.
      steps_at_once: steps of a dispatch; None for all that are asked for.
    """
    init, step = members.ensemble(game, n)
    resident = jax.tree.map(jnp.asarray, examples)
    count = len(next(iter(resident.values())))

    def chosen(key: Any, at: Any) -> Any:
        own = jax.random.fold_in(jax.random.fold_in(key, at), 1)
        return jax.random.randint(own, (batch_size,), 0, count)

    def one(examples: Any, state: GANState) -> GANState:
        rows = jax.vmap(chosen, (0, None))(state.key, state.step)
        return step(state, {name: leaf[rows] for name, leaf in examples.items()})[0]

    def several(examples: Any, state: GANState, count: Any) -> GANState:
        return jax.lax.fori_loop(0, count, lambda _, held: one(examples, held), state)

    options: Any = runtime.compiler_options(jax.default_backend())
    compiled = jax.jit(
        one if steps_at_once == 1 else several, donate_argnums=1, compiler_options=options
    )
    first = jax.jit(init)

    def begun(seeds: list[int]) -> GANState:
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
        return first(keys, {name: leaf[:batch_size] for name, leaf in resident.items()})

    def go_on(state: GANState, steps: int) -> GANState:
        at_once = steps_at_once or steps
        for done in range(0, steps, at_once):
            how_many = () if steps_at_once == 1 else (min(at_once, steps - done),)
            state = compiled(resident, state, *how_many)
        return jax.block_until_ready(state)

    return Members(begun, go_on)


def images_of(
    config: Config, source: Source, images: np.ndarray, seeds: list[int], count: int
) -> tuple[list[np.ndarray | None], float]:
    """Trains convolutional networks with each seed.

    On a CPU one after the other, a step at a time: side by side they take twice the processor's
    time, and XLA runs the convolutions of a loop on one core and without the libraries, ten times
    slower. On a GPU all together.

    Args:
      config: of the variant.
      source: of `images`, uint8 [N,H,W,C].
      seeds: of the members.
      count: how many samples of each.

    Returns:
      (the samples of each member's last weights, uint8 [count,H,W,C], or None where these are not
      finite; the seconds that training took).
    """
    game = config.recipe.make(source.features, config.options)
    on_cpu = jax.default_backend() == "cpu"
    together, at_once = (1, 1) if on_cpu else (len(seeds), 50)
    begun, go_on = side_by_side(game, {"image": images}, config.run.batch_size, together, at_once)
    sampler, found, seconds = Sampler(game, ("image",), averaged=False), [], 0.0
    for first in range(0, len(seeds), together):
        own = seeds[first : first + together]
        state, start = begun(own), time.perf_counter()
        state = go_on(state, config.run.steps)
        seconds += time.perf_counter() - start
        for i, seed in enumerate(own):
            member = members.alone(state, i)
            is_finite = not finite.first_not_finite(member)
            key = jax.random.key(seed)
            found.append(sampler.sample(member, key, count)["image"] if is_finite else None)
    return found, seconds


def save_some(folder: str | None, name: str, made: list[np.ndarray | None]) -> None:
    """Writes samples of the first member, where there are any and a folder was named."""
    if folder and made[0] is not None:
        place = pathlib.Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        pictures.save(place / f"{name}.png", {"image": made[0][:100]})


def doubling(steps: int, pictures: int) -> list[int]:
    """The steps at which samples are drawn for pictures: the last, and others that double."""
    return sorted({max(1, steps >> i) for i in range(pictures)})
