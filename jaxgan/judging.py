"""How a discriminator judges real and made examples."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgan import checks
from jaxgan.calling import Apply
from jaxgan.game import Batch
from jaxgan.traits import traits

Judge = Callable[..., tuple[Any, Any]]  # (apply, examples, state=None) -> (logits, state)


@functools.cache
def critic(*features: str, name: str = "discriminator") -> Judge:
    """(apply, examples, state=None) -> (logits, state), by a player called with these features."""

    def judge(apply: Apply, examples: Batch, state: Any = None) -> tuple[Any, Any]:
        return apply(name, *(examples[feature] for feature in features), state=state)

    return judge


class Verdict(NamedTuple):
    """Of a discriminator on a batch.

    Attributes:
      on_real, on_fake: logits, any pytree of arrays [B, ...].
      state: the model state that judging left.
      logits: examples -> logits, the discriminator as it is.
      across_batch: an example's logit depends on the other examples.
    """

    on_real: Any
    on_fake: Any
    state: Any
    logits: Callable[[Batch], Any]
    across_batch: bool


def judged(apply: Apply, judge: Judge, real: Batch, fake: Batch) -> Verdict:
    """The verdict on real and on made examples: in one pass, or one after the other where the
    discriminator looks across the batch, since what it sees of the two must not mix.

    Raises:
      UserError: logits that are not one, or one map, for each example or pack of examples.
    """

    def logits(examples: Batch) -> Any:
        return judge(apply, examples)[0]

    looks = traits(logits, real)
    checks.check_logits(jax.eval_shape(logits, real), real, looks.pack)
    if looks.across_batch:
        on_real, state = judge(apply, real)
        on_fake, state = judge(apply, fake, state=state)
    else:
        both = jax.tree.map(lambda *halves: jnp.concatenate(halves), real, fake)
        on_both, state = judge(apply, both)
        on_real = jax.tree.map(lambda x: x[: len(x) // 2], on_both)
        on_fake = jax.tree.map(lambda x: x[len(x) // 2 :], on_both)
    return Verdict(on_real, on_fake, state, logits, looks.across_batch)
