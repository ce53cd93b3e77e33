"""What a run begins with: its game, and a state that is new or read back."""

import hashlib
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.checks import check_game
from jaxgan.config import Config, RunOptions, step_options
from jaxgan.errors import UserError
from jaxgan.game import Game, GANState, init
from jaxgan.kernels import using
from jaxgan.options import shown
from jaxgan.run import finite, saved
from jaxgan.run.hooks import Hook
from jaxgan.run.records import OWN_FIELDS
from jaxgan.run.workdir import CHECKPOINTS
from jaxgan.step import make_step

Features = dict[str, Any]  # of one example, name -> `jaxgan.data.Feature`


def check_arguments(run: Any, callback: Any, more_hooks: Any) -> None:
    """Raises `UserError` for arguments of `train` that are of no use, which would show late."""
    if not isinstance(run, RunOptions):
        raise UserError(
            f"run is {type(run).__name__} and not RunOptions; give options by name, such as "
            "steps=1000"
        )
    if callback is not None and not callable(callback):
        raise UserError(f"callback={callback!r} is no function; give one of (step, metrics)")
    if not isinstance(more_hooks, tuple | list) or isinstance(more_hooks, Hook):
        raise UserError(f"more_hooks={shown(more_hooks)} is no tuple of hooks; give (Hook(..),)")
    for hook in more_hooks:
        if not isinstance(hook, Hook):
            raise UserError(f"more_hooks holds {shown(hook)}; give hooks, such as Hook(100, do)")
        if hook.every < 1:
            raise UserError(f"a hook has every={hook.every}; use 1 or more")


def check_given(game: Any) -> None:
    """Raises `UserError` for what is given in place of a game."""
    if isinstance(game, Game) or callable(game):
        return
    fix = "give one, or a function that makes it"
    if isinstance(game, Config):
        fix = "give lambda example: config.recipe.make(example, config.options)"
    raise UserError(f"game={shown(game)} is no jaxgan.Game; {fix}")


def game_of(
    game: Game | Callable[[Features], Game], features: Features, dtype: str | None = None
) -> Game:
    """The game itself, or the one that a function makes for examples of these features; in another
    dtype."""
    check_given(game)
    if not isinstance(game, Game):
        game = game(features)
    if not isinstance(game, Game):
        raise UserError(
            f"the function of the game gives {type(game).__name__}; return a jaxgan.Game"
        )
    check_game(game)
    return game if dtype is None else game._replace(dtype=jnp.dtype(dtype))


def batch_of(features: Features, count: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a batch."""
    return {n: jax.ShapeDtypeStruct((count, *f.shape), f.dtype) for n, f in features.items()}


def new_state(game: Game, features: Features, run: RunOptions) -> Callable[[], GANState]:
    """() -> the state before the first step."""
    batch = batch_of(features, run.batch_size)
    return lambda: init(game, jax.random.key(run.seed), batch)


def template_of(game: Game, features: Features, run: RunOptions) -> GANState:
    """The shapes of a state."""
    return jax.eval_shape(new_state(game, features, run))


def check_step(
    game: Game, template: GANState, features: Features, run: RunOptions, devices: int
) -> None:
    """Raises `UserError` for a game whose step cannot be traced on a device's share of a batch, or
    whose metrics take the names of a record's own fields."""
    batch = batch_of(features, run.batch_size // devices)
    after, metrics = jax.eval_shape(make_step(game, **step_options(run)), template, batch)
    _check_kept(template.players, after.players)
    for name, metric in metrics.items():
        if not isinstance(name, str) or name in OWN_FIELDS:
            raise UserError(f"the game logs a metric {name!r}, which each record has; rename it")
        if metric.shape != () or not jnp.issubdtype(metric.dtype, jnp.floating):
            raise UserError(
                f"the game logs the metric {name!r} of {metric.dtype} and shape {metric.shape}; "
                "take its mean as float32"
            )


def _check_kept(before: Any, after: Any) -> None:
    """Refuses a state that a checkpoint cannot hold, or that another step could not take."""
    kept = {p: leaf for p, leaf in jax.tree_util.tree_leaves_with_path(after)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(before):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise UserError(
                f"the state of {name} is a typed key, which a checkpoint does not hold; keep "
                "jax.random.key_data of it"
            )
        if 0 in leaf.shape:
            raise UserError(
                f"the state of {name} has shape {leaf.shape}; give it a number, or none"
            )
        if (kept[path].shape, kept[path].dtype) != (leaf.shape, leaf.dtype):
            raise UserError(
                f"a step turns the state of {name} from {leaf.dtype}{list(leaf.shape)} into "
                f"{kept[path].dtype}{list(kept[path].shape)}; keep its shape and dtype"
            )


def fingerprint(game: Game, template: GANState, features: Features, run: RunOptions) -> str:
    """Of a game's step: another game, or another rate or weight in it, has another one.

    It is taken of JAX's own operations, so that it is the same for all kernels, and of the whole
    batch, so that it is the same for any number of devices and of micro-batches. Other versions of
    JAX may give another.
    """
    batch = batch_of(features, run.batch_size)
    with using("plain"):
        step = jax.make_jaxpr(make_step(game))(template, batch)
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", str(step)).encode())
    for constant in _constants(step):  # which the text names, and does not show
        array = np.asarray(constant)
        digest.update(f"{array.dtype.str} {array.shape};".encode() + array.tobytes())
    return digest.hexdigest()[:16]


def _constants(closed: Any) -> Iterator[Any]:
    """The arrays that a computation closes over, in its order, and those of the ones within it."""
    for constant in closed.consts:
        key = jnp.issubdtype(constant.dtype, jax.dtypes.prng_key)
        yield jax.random.key_data(constant) if key else constant
    for equation in closed.jaxpr.eqns:
        for name in sorted(equation.params):
            for part in jax.tree.leaves(equation.params[name], is_leaf=_is_closed):
                if _is_closed(part):
                    yield from _constants(part)


def _is_closed(part: Any) -> bool:
    return hasattr(part, "jaxpr") and hasattr(part, "consts")


class First(NamedTuple):
    """state: of the run's beginning; position: of the reader; damaged: a line for each checkpoint
    passed over; records: what the checkpoint keeps for the run's records."""

    state: GANState
    position: Any = None
    damaged: tuple[str, ...] = ()
    records: Any = None


def first_state(
    new: Callable[[], GANState],
    template: GANState,
    watch: finite.Watch,
    workdir: pathlib.Path | None,
    run_id: str | None = None,
) -> First:
    """The newest whole state of the workdir, or a new one.

    Args:
      new: () -> the state before the first step.
      template: its shapes.
      watch: over its numbers.
      workdir: of the run, None in a process that does not write.
      run_id: of the run.

    Raises:
      UserError: checkpoints of another game or run.
      RunError: checkpoints that cannot be read, or hold numbers that are not finite.
    """
    if workdir:
        found = saved.restore(workdir / CHECKPOINTS, template, run_id=run_id)
        if found:
            watch.restored(found.state, workdir, found.records)
            return First(found.state, found.position, tuple(found.damaged), found.records)
    return First(new())


def made_state(game: Game, features: Features, run: RunOptions) -> GANState:
    """The state before the first step."""
    return computed_once(new_state(game, features, run))()


def computed_once(function: Callable) -> Callable:
    """A function that is compiled for a single call.

    XLA:CPU would take longer to compile the draws of a first state well than the step: 3.8 s of a
    core for mnist, and 1.1 s like this. The bits are the same.
    """
    quick = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=quick)
