"""Functions that are values: made by a function from arguments, and known by these.

A closure compares by identity and cannot be pickled, and so would each game that holds one. Here it
is kept with what it was made from: two of equal makers and arguments are equal, have one hash,
are pickled as the maker's name and the arguments, and show themselves as the call that makes them.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

P = ParamSpec("P")


class Bound:
    """What a maker returns for some arguments, called as that.

    Args:
      maker: a function that returns a function, or another value such as an Optax transformation.
        To be pickled it must be found by its name in its module, as must classes.
      arguments, options: of the maker.
    """

    def __init__(self, maker: Callable, /, *arguments: Any, **options: Any) -> None:
        make = getattr(maker, "__wrapped__", maker)
        given = inspect.signature(make).bind(*arguments, **options)
        self._given = maker, given.args, given.kwargs
        given.apply_defaults()
        self._known = maker, tuple(given.arguments.items())
        self.made = make(*arguments, **options)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.made(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        # `init` and `update` of an Optax transformation. While it is unpickled it holds nothing.
        if name.startswith("_") or name == "made":
            raise AttributeError(name)
        return getattr(self.made, name)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Bound) and self._known == other._known

    def __hash__(self) -> int:
        return hash(frozen(self._known))

    def __reduce__(self) -> Any:
        return _again, self._given

    def __repr__(self) -> str:
        maker, arguments, options = self._given
        words = [*map(repr, arguments), *(f"{n}={value!r}" for n, value in options.items())]
        return f"{maker.__name__}({', '.join(words)})"


def _again(maker: Callable, arguments: tuple, options: dict[str, Any]) -> Bound:
    return Bound(maker, *arguments, **options)


def bound(maker: Callable[P, Any]) -> Callable[P, Any]:
    """A decorator of functions in modules: what the maker returns is a `Bound`."""

    @functools.wraps(maker)
    def make(*arguments: P.args, **options: P.kwargs) -> Any:
        return Bound(make, *arguments, **options)

    return make


def arguments_of(value: Any, maker: Callable) -> dict[str, Any] | None:
    """The arguments, by name, of a value that this maker made; None for any other."""
    if not isinstance(value, Bound) or value._known[0] != maker:
        return None
    return dict(value._known[1])


def made(value: Any) -> Any:
    """What a `Bound` holds; any other value as it is."""
    return value.made if isinstance(value, Bound) else value


def frozen(value: Any) -> Any:
    """A value that hashes as equal ones do, where its leaves can."""
    if isinstance(value, dict):
        return frozenset((name, frozen(leaf)) for name, leaf in value.items())
    if type(value) in (tuple, list):
        return tuple(map(frozen, value))
    return value
