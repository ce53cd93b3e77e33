"""What a discriminator is shown instead of examples: noise, DiffAugment, with a probability that may adapt."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import optax
from jax import Array

from jaxgan.examples import drawn
from jaxgan.game import Batch, Play, Player


def _as_they_are(play: Play, examples: Batch, names: Collection[str], use: str) -> Batch:
    return examples


def _nothing(play: Play, on_real: Any) -> dict[str, Any]:
    return {}


class Augment(NamedTuple):
    """How examples are changed before they are judged; differentiable, since the generator learns through it.

    Attributes:
      shown: (play, examples, names, use) -> examples, with the features of these names changed; draws of
        different uses are independent.
      adapted: (play, logits of the real examples) -> new states of `players`.
      players: without parameters, that keep what adapts, by name.
    """

    shown: Callable[[Play, Batch, Collection[str], str], Batch]
    adapted: Callable[[Play, Any], dict[str, Any]] = _nothing
    players: dict[str, Player] = {}


NO_AUGMENT = Augment(_as_they_are)


def instance_noise(deviation: optax.Schedule) -> Augment:
    """Normal noise of a standard deviation that is a schedule of the step."""

    def shown(play: Play, examples: Batch, names: Collection[str], use: str) -> Batch:
        def noisy(feature: Array) -> Array:
            normal = drawn(lambda key: jax.random.normal(key, feature.shape[1:]), play.keys, use)
            return feature + deviation(play.step) * normal

        return examples | {name: noisy(examples[name]) for name in names}

    return Augment(shown)
