"""How a discriminator judges real and made examples."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgan import checks
from jaxgan.bound import bound
from jaxgan.calling import Apply
from jaxgan.examples import feature_of
from jaxgan.game import Batch, Play
from jaxgan.heads import Objectives, verdicts
from jaxgan.penalties import Critique
from jaxgan.traits import traits

Judge = Callable[..., tuple[Any, Any]]  # (apply, examples, state=None) -> (logits, state)


@bound
def critic(*features: str, name: str = "discriminator") -> Judge:
    """(apply, examples, state=None) -> (logits, state), by a player called with these features."""

    def judge(apply: Apply, examples: Batch, state: Any = None) -> tuple[Any, Any]:
        return apply(name, *(feature_of(examples, feature) for feature in features), state=state)

    return judge


class Verdict(NamedTuple):
    """Of a discriminator on a batch.

    Attributes:
      on_real, on_fake: all that it gives, any pytree of arrays [B, ...].
      state: the model state that judging left.
      critique: what penalties look at.
    """

    on_real: Any
    on_fake: Any
    state: Any
    critique: Critique


def judged(
    play: Play, judge: Judge, objective: Objectives, real: Batch, fake: Batch, made: Collection[str]
) -> Verdict:
    """The verdict on real and on made examples: in one pass, or one after the other where the
    discriminator looks across the batch, since what it sees of the two must not mix.

    Args:
      play, judge, objective: as in `jaxgan.gan_moves`.
      real, fake: as the discriminator is shown them.
      made: the features that the generator makes.

    Raises:
      UserError: logits that are not one, or one map, for each example or pack of examples.
    """

    def logits(examples: Batch) -> Any:
        return judge(play.apply, examples)[0]

    looks = traits(logits, real)
    checks.check_logits(jax.eval_shape(logits, real), real, looks.pack)
    if looks.across_batch:
        on_real, state = judge(play.apply, real)
        on_fake, state = judge(play.apply, fake, state=state)
    else:
        both = jax.tree.map(lambda *halves: jnp.concatenate(halves), real, fake)
        on_both, state = judge(play.apply, both)
        on_real = jax.tree.map(lambda x: x[: len(x) // 2], on_both)
        on_fake = jax.tree.map(lambda x: x[len(x) // 2 :], on_both)

    def told(examples: Batch) -> Any:
        return verdicts(objective, logits(examples))

    heads = verdicts(objective, on_real), verdicts(objective, on_fake)
    critique = Critique(told, tuple(made), *heads, looks.across_batch)
    return Verdict(on_real, on_fake, state, critique)
