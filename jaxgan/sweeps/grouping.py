"""Which members of a sweep share a program: those that differ in numbers alone which only scale.

Nothing declares which these are: a game is made and a step of it traced with the number in
question unknown. Where the recipe or a part of the game must know it, that raises an error, and
each of its values has a program of its own. So has a weight of 0, with which a term is left out.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgan.config import Config, step_options
from jaxgan.data import Source
from jaxgan.data.feeds import check_batch_size
from jaxgan.errors import UserError
from jaxgan.game import Game, init
from jaxgan.options import fields, kind_of, with_values
from jaxgan.run import first
from jaxgan.step import make_step
from jaxgan.sweeps.plan import Member, Plan, config_of


class Group(NamedTuple):
    """Members that share a program.

    Attributes:
      config: of the first of them.
      members: in the plan's order.
      numbers: names of the options that are arrays of the ensemble.
    """

    config: Config
    members: list[Member]
    numbers: tuple[str, ...]


def grouped(plan: Plan, source_of: Callable[[Config], Source]) -> list[Group]:
    """The members of a plan by programs.

    Args:
      plan: of the sweep.
      source_of: config -> its data.

    Raises:
      UserError: a member whose game or step cannot be made, by its options.
    """
    floats = _floats(plan)
    buckets: dict[Any, list[Member]] = {}
    for member in plan.members:
        exact = [
            (value == 0.0, None) if name in floats and value is not None else (False, value)
            for name, value in member.options.items()
        ]
        buckets.setdefault(repr(exact), []).append(member)
    groups: list[Group] = []
    for bucket in buckets.values():
        source = source_of(config_of(plan, bucket[0]))
        features = source.features
        for member in bucket:
            if member.seed == plan.seeds[0]:
                with _told_of(member):
                    config = config_of(plan, member)
                    check_batch_size(source, config.run.batch_size)
                    game_of(config, features, {})
        config = config_of(plan, bucket[0])
        differ = [n for n in floats if len({m.options[n] for m in bucket}) > 1]
        shared = [name for name in differ if traces(config, features, [name])]
        if len(shared) > 1 and not traces(config, features, shared):
            shared = []
        apart = [name for name in differ if name not in shared]
        parts: dict[Any, list[Member]] = {}
        for member in bucket:
            parts.setdefault(tuple(member.options[n] for n in apart), []).append(member)
        for part in parts.values():
            of_first = config_of(plan, part[0])
            with _told_of(part[0]):
                _check_step(of_first, features)
            groups.append(Group(of_first, part, tuple(shared)))
    return groups


def _floats(plan: Plan) -> list[str]:
    """The varied options of the recipe that are numbers, not counts."""
    kinds = {name: kind_of(field.type) for name, field, _ in fields(plan.config.options)}
    return [name for name in plan.varied if (kind := kinds.get(name)) and kind.kind is float]


def game_of(config: Config, features: first.Features, numbers: dict[str, Any]) -> Game:
    """The game of a config with some options set to numbers that may be traced."""
    options = with_values(config.options, numbers)
    made = config.recipe.make(features, options)
    return first.game_of(made, features, config.run.dtype)


@contextlib.contextmanager
def _told_of(member: Member) -> Iterator[None]:
    """An error of the block names the options of the member."""
    try:
        yield
    except UserError as error:
        told = ", ".join(f"{name}={value}" for name, value in member.options.items())
        raise UserError(f"{error} (of the sweep's {told})" if told else str(error)) from error


def _check_step(config: Config, features: first.Features) -> None:
    """Refuses what a run would refuse, before any is compiled."""
    game = game_of(config, features, {})
    template = first.template_of(game, features, config.run)
    first.check_step(game, template, features, config.run, 1)


def traces(config: Config, features: first.Features, names: list[str]) -> bool:
    """Whether a step can be made without knowing these numbers."""
    batch = first.batch_of(features, config.run.batch_size)

    def step(numbers: dict[str, Any], batch: Any) -> Any:
        game = game_of(config, features, numbers)
        return make_step(game, **step_options(config.run))(
            init(game, jax.random.key(0), batch), batch
        )

    numbers = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in names}
    try:
        jax.eval_shape(step, numbers, batch)
    except MemoryError:
        raise
    except Exception:  # of any part of the game, which goes without saying with known numbers
        return False
    return True
