"""Members of one variant that train side by side, for the commands that compare variants."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgan import Sampler, members
from jaxgan.game import Game, GANState
from jaxgan.run import finite, runtime


class Members(NamedTuple):
    """Attributes:
    state: of them all, after no step.
    go_on: (state, how many steps) -> state; what it is given may not be used again.
    """

    state: GANState
    go_on: Callable[[GANState, int], GANState]


def begun(
    game: Game,
    examples: dict[str, Any],
    batch_size: int,
    seeds: list[int],
    steps_at_once: int | None = None,
) -> Members:
    """One member for each seed, with batches drawn with replacement.

    Args:
      game: the variant.
      examples: leaves [N, ...].
      batch_size: of each member.
      seeds: of the members.
      steps_at_once: steps of a dispatch; None for all. XLA runs convolutions of a loop on one core
        of a CPU, without the libraries: there 1 is many times faster.
    """
    first, step = members.ensemble(game, len(seeds))
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

    def go_on(state: GANState, steps: int) -> GANState:
        at_once = steps_at_once or steps
        for done in range(0, steps, at_once):
            how_many = () if steps_at_once == 1 else (min(at_once, steps - done),)
            state = compiled(resident, state, *how_many)
        return jax.block_until_ready(state)

    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    batch = {name: leaf[:batch_size] for name, leaf in resident.items()}
    return Members(jax.jit(first)(keys, batch), go_on)


def steps_at_once() -> int:
    """Of convolutional networks on this machine."""
    return 1 if jax.default_backend() == "cpu" else 50


def samples(sampler: Sampler, state: GANState, member: int, seed: int, count: int) -> Any:
    """What a member makes, leaves [count, ...]; None where its state is not finite."""
    own = members.alone(state, member)
    if finite.first_not_finite(own):
        return None
    return sampler.sample(own, jax.random.key(seed), count)


def doubling(steps: int, pictures: int) -> list[int]:
    """The steps at which samples are drawn for pictures: the last, and others that double."""
    return sorted({max(1, steps >> i) for i in range(pictures)})
