"""Groups of options that recipes share, and what they mean."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import optax

from jaxgan import objectives
from jaxgan.augment import NO_AUGMENT, Augment, instance_noise
from jaxgan.bound import bound
from jaxgan.errors import UserError
from jaxgan.flips import flips
from jaxgan.objectives import Objective
from jaxgan.options import option
from jaxgan.penalties import Penalty, r1
from jaxgan.schedules import is_given
from jaxgan.words import near_multiples

_SMOOTHED = ("nonsaturating", "minimax", "least_squares")


@dataclasses.dataclass(frozen=True)
class ObjectiveOptions:
    """What a discriminator and a generator minimise."""

    name: str = option(
        "nonsaturating",
        "nonsaturating, minimax, hinge, least_squares, relativistic or wasserstein",
        choices=tuple(make.__name__ for make in objectives.OBJECTIVES),
    )
    label_smoothing: float = option(
        0.0,
        f"one-sided: real labels are 1 minus this ({', '.join(_SMOOTHED)})",
        low=0.0,
        below=1.0,
    )
    r1_weight: float = option(
        0.0, "weight of R1, the discriminator's squared slope at real images; 0 for none", low=0.0
    )
    r1_every: int = option(
        8, "R1 is taken on every n-th image of each batch (of each step)", low=1, below=2**24
    )
    instance_noise: float = option(
        0.0, "standard deviation of noise on all that is judged, at step 0", low=0.0
    )
    instance_noise_steps: int = option(
        2000, "steps over which that noise falls linearly to 0", low=1, below=2**31
    )


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Adam of both players."""

    generator_rate: float = option(2e-4, "Adam's learning rate for the generator", above=0.0)
    discriminator_rate: float = option(
        2e-4, "Adam's learning rate for the discriminator", above=0.0
    )
    beta1: float = option(0.5, "Adam's decay of the first moment", low=0.0, below=1.0)
    beta2: float = option(0.999, "Adam's decay of the second moment", low=0.0, below=1.0)
    decay_from: int = option(
        0, "step at which the rates begin to fall linearly", low=0, below=2**31
    )
    decay_steps: int | None = option(
        None, "steps in which the rates fall to a hundredth; none keeps them", low=1, below=2**31
    )
    clip_norm: float | None = option(
        None, "clip each player's gradient to this global norm; none does not clip", above=0.0
    )
    ema_decay: float = option(
        0.999, "decay per step of the averaged generator that samples come from", low=0.0, below=1.0
    )


@bound
def adam(options: OptimizerOptions, rate: float) -> optax.GradientTransformation:
    """Adam at a rate that falls, of clipped gradients, as the options say."""
    schedule: Any = rate
    if options.decay_steps is not None:
        schedule = optax.linear_schedule(rate, 0.01 * rate, options.decay_steps, options.decay_from)
    update = optax.adam(schedule, b1=options.beta1, b2=options.beta2)
    if options.clip_norm is None:
        return update
    return optax.chain(optax.clip_by_global_norm(options.clip_norm), update)


def objective_of(options: ObjectiveOptions) -> Objective:
    """The objective of that name, with its label smoothing."""
    smoothing = options.label_smoothing
    if smoothing and options.name not in _SMOOTHED:
        raise UserError(
            f"objective.label_smoothing={smoothing} has no meaning for {options.name}; use 0, or "
            f"one of {', '.join(_SMOOTHED)}"
        )
    make = getattr(objectives, options.name)
    return make(smoothing) if smoothing else make()


def penalties_of(options: ObjectiveOptions) -> tuple[Penalty, ...]:
    """R1, where it has a weight."""
    if not is_given(options.r1_weight):
        return ()
    return (r1(options.r1_weight, subset=options.r1_every),)


def augment_of(options: ObjectiveOptions) -> Augment:
    """Instance noise, where there is any."""
    if not is_given(options.instance_noise):
        return NO_AUGMENT
    return instance_noise(_falling(options.instance_noise, options.instance_noise_steps))


@bound
def _falling(start: float, steps: int) -> optax.Schedule:
    return optax.linear_schedule(start, 0.0, steps)


def flips_of(wanted: bool, example: dict[str, Any]) -> Callable | None:
    """Flips of all pictures of an example, where they are wanted."""
    pictures = [
        name
        for name, feature in example.items()
        if feature.dtype == np.uint8 and len(feature.shape) == 3 and feature.shape[2] in (1, 3, 4)
    ]
    return flips(*pictures) if wanted else None


def image_shape(
    recipe: str, example: dict[str, Any], factor: int, least: int = 0
) -> tuple[int, int, int]:
    """(H, W, C) of the examples' images, whose sides a network needs to be multiples of `factor`,
    and `least` or more.

    Raises:
      UserError: examples without images, or with sides that are none.
    """
    if "image" not in example or len(example["image"].shape) != 3:
        shapes = {name: feature.shape for name, feature in example.items()}
        raise UserError(f"recipe {recipe} needs a feature 'image' [H,W,C]; an example has {shapes}")
    height, width, channels = example["image"].shape
    for option_, side in (("height", height), ("width", width)):
        if side % factor or side < least:
            option_ = "image_size" if height == width else option_
            below = side // factor * factor
            near = sorted({max(n, least) for n in (below, below + factor)} - {0})
            raise UserError(
                f"data.{option_}={side} cannot be made by doublings, {factor} in all; use "
                f"{' or '.join(map(str, near))}, multiples of {factor}"
            )
    return height, width, channels


def last_width(width: int, doublings: int) -> int:
    """Channels of a DCGAN generator's last layer but one, each of which has half of those before.

    Raises:
      UserError: for channels that cannot be halved so often.
    """
    halvings = 2 ** (doublings - 1)
    if width % halvings:
        raise UserError(
            f"model.generator_width={width} cannot be halved {doublings - 1} times by the "
            f"generator's layers; use {near_multiples(width, halvings)}"
        )
    return width // halvings


def classes(recipe: str, example: dict[str, Any]) -> int:
    """How many labels the data have.

    Raises:
      UserError: data without labels of a known number.
    """
    found = getattr(example.get("label"), "classes", None)
    if not found:
        raise UserError(
            f"a conditional {recipe} needs a feature 'label' of whole numbers, an example has "
            f"{', '.join(example)}; use labelled data, or --model.conditional false"
        )
    return found
