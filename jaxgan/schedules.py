"""Numbers that move with training: functions of the step, as optax has them.

A weight, a deviation, a probability or an EMA decay may be a number or a schedule. Those that optax
has are used from there, such as `optax.linear_schedule(start, end, steps)` and
`optax.join_schedules`.
"""

from typing import Any

import jax.numpy as jnp
import optax
from jax import Array
from jax.core import Tracer

from jaxgan.bound import bound

Scheduled = float | optax.Schedule


def at(value: Scheduled, step: Array) -> Any:
    """The value at a step."""
    return value(step) if callable(value) else value


def is_given(weight: Scheduled) -> bool:
    """Whether a term of this weight is there at all.

    A number that is traced, as members of an ensemble have them, counts as one that is not 0: it is
    asked before it has a value.
    """
    return isinstance(weight, Tracer) or bool(weight)


@bound
def cosine(start: float, end: float, steps: int) -> optax.Schedule:
    """Half a cosine from `start` at step 0 to `end` at `steps` and after; either may be 0."""
    falling = optax.cosine_decay_schedule(1.0, steps)  # whose own end is a share of its start

    def schedule(step: Any) -> Any:
        return end + (start - end) * falling(jnp.asarray(step, jnp.float32))

    return schedule


@bound
def half_life(images: float, batch_size: int, ramp_up: float | None = None) -> optax.Schedule:
    """The decay of an EMA by step: what a weight counts halves with every so many images.

    0.5 ** (batch_size / half_life), where half_life = min(images, ramp_up * images seen), so that
    the first average is of the present alone.

    Args:
      images: the half-life.
      batch_size: images of a step, on all devices.
      ramp_up: the half-life's share of the images seen so far, 0.05 in StyleGAN2; None for no ramp.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020.
    """
    if ramp_up is None:
        return optax.constant_schedule(0.5 ** (batch_size / images))

    def schedule(step: Any) -> Any:
        seen = jnp.asarray(step, jnp.float32) * batch_size
        return 0.5 ** (batch_size / jnp.clip(ramp_up * seen, 1e-8, images))

    return schedule
