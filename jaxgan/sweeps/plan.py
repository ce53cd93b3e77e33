"""The members of a sweep: each combination of varied options with each seed."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxgan import config as configs
from jaxgan.config import Config
from jaxgan.errors import UserError
from jaxgan.names import listed, unknown
from jaxgan.options import checked, fields
from jaxgan.words import flag, shown_value, whole

Cell = dict[str, Any]  # varied options by dotted names
_MOST = 10_000  # members


class Member(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: its number, from 0.
      seed: of weights, noise and data order.
      options: the varied ones.
    """

    name: int
    seed: int
    options: Cell


class Plan(NamedTuple):
    """What is swept over.

    Attributes:
      config: of all members, but for what is varied.
      varied: {name: values}, in the order in which they were given.
      seeds: of each combination.
      members: the combinations in order, each with all seeds.
    """

    config: Config
    varied: dict[str, list[Any]]
    seeds: list[int]
    members: list[Member]

    def cells(self) -> list[Cell]:
        """The combinations of varied options, in order."""
        return [
            dict(zip(self.varied, values)) for values in itertools.product(*self.varied.values())
        ]


def planned(config: Config, seeds: str, varied: Sequence[str]) -> Plan:
    """The plan that words ask for.

    Args:
      config: of the recipe, with options as given.
      seeds: "10" for that many from the run's seed on, or a list such as "3,7".
      varied: texts such as "objective.name=hinge,relativistic".

    Raises:
      UserError: for what cannot be swept over.
    """
    given: dict[str, list[Any]] = {}
    for text in varied:
        name, values = _values(config, text)
        if name in given:
            raise UserError(f"--vary names {name} twice; give all its values at once")
        given[name] = values
    plan = Plan(config, given, _seeds(seeds, config.run.seed), [])
    count = len(plan.seeds)
    for values in given.values():
        count *= len(values)
    if count > _MOST:
        raise UserError(f"a sweep of {count} members is too large; use {_MOST} or fewer")
    pairs = itertools.product(plan.cells(), plan.seeds)
    members = [Member(i, seed, cell) for i, (cell, seed) in enumerate(pairs)]
    for cell in plan.cells():
        configs.changed(config, cell)
    return plan._replace(members=members)


def config_of(plan: Plan, member: Member) -> Config:
    """All options of a member."""
    return configs.changed(plan.config, {**member.options, "seed": member.seed})


def _seeds(text: str, first: int) -> list[int]:
    words = text.split(",")
    if len(words) == 1:
        count = whole("seeds", text, 1, _MOST + 1)
        if first + count > 2**32:
            raise UserError(f"seed={first} and {count} seeds pass {2**32 - 1}; use a lower --seed")
        return list(range(first, first + count))
    seeds = [whole("seeds", word, 0, 2**32) for word in words]
    if twice := {seed for seed in seeds if seeds.count(seed) > 1}:
        raise UserError(f"seeds={text[:80]} has {min(twice)} twice; give each once")
    return seeds


def _values(config: Config, text: str) -> tuple[str, list[Any]]:
    name, equals, rest = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name:
        raise UserError(f"--vary {text[:80]!r} has no values; give OPTION=VALUE,VALUE")
    known = {n: field for n, field, _ in (*fields(config.options), *fields(config.run))}
    name = _resolved(name, list(known))
    if name == "seed":
        raise UserError("--vary seed: seeds are given by --seeds, such as --seeds 10")
    if not configs.is_of_training(name) and name != "steps":
        raise UserError(f"--vary {name}: it changes nothing that is trained; give {flag(name)}")
    words = [word.strip() for word in rest.split(",")]
    if not all(words):
        raise UserError(f"--vary {name}={rest[:80]} has an empty value; give one or more values")
    values = [checked(name, known[name], word) for word in words]
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"--vary {name} has {shown_value(value)} twice; give each once")
    return name, values


def _resolved(name: str, known: list[str]) -> str:
    """An option by its whole name, or by the part of it that no other option has: `r1_weight` for
    `objective.r1_weight`, `objective` for `objective.name`."""
    if name in known:
        return name
    found = [n for n in known if n.rpartition(".")[2] == name or n == f"{name}.name"]
    found = found or [n for n in known if n.rpartition(".")[2].startswith(f"{name}_")]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"--vary {name} may be {listed(found)}; name one of them")
    raise UserError(unknown("option", name, known))
