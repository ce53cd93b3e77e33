"""Update rules by name, for options and the command line: `consensus`, or `consensus=0.1`."""

import inspect
from typing import Any

from jaxgan import rules
from jaxgan.errors import UserError
from jaxgan.names import unknown
from jaxgan.rules import Rule

# Plain rules, and those that are made of a number: a weight, or the rate of `competitive`.
PLAIN = {f.__name__: f for f in (rules.alternating, rules.simultaneous, rules.extragradient)}
MADE: dict[str, Any] = {
    f.__name__: f for f in (rules.consensus, rules.symplectic, rules.competitive)
}
NAMES = (*PLAIN, *MADE)


def rule_of(name: str, number: float | None = None) -> Rule:
    """The rule of a name.

    Args:
      name: one of `NAMES`.
      number: the weight of `consensus` and `symplectic`, 1 by default; the rate of `competitive`.

    Raises:
      UserError: an unknown name, a number that a rule does not take, or one that it needs.
    """
    if name in PLAIN:
        if number is not None:
            raise UserError(f"the rule {name} takes no number, it was given {number}; leave it out")
        return PLAIN[name]
    if name not in MADE:
        raise UserError(unknown("rule", name, NAMES))
    if number is None:
        (first, *_) = inspect.signature(MADE[name]).parameters.values()
        if first.default is first.empty:
            raise UserError(f"the rule {name} needs its {first.name}; use {name}=0.1, say")
        return MADE[name]()
    return MADE[name](number)


def rule_in(word: str) -> Rule:
    """The rule of `NAME` or `NAME=NUMBER`; raises `UserError` as `rule_of`."""
    name, equals, text = word.partition("=")
    try:
        return rule_of(name, float(text) if equals else None)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"rule {word!r}: {text!r} is no number; use {name}=0.1, say") from None
