"""Penalties on the discriminator: terms of its loss beside the objective.

Slopes are those of D, the sum of an example's logits, in the features that the generator makes,
whatever their rank. Where the discriminator packs m neighbouring examples in a logit, a slope is
that of the pack.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgan import slopes
from jaxgan.bound import bound, frozen
from jaxgan.errors import UserError
from jaxgan.game import Batch, Play, Player
from jaxgan.moving import MovingMean
from jaxgan.schedules import Scheduled, at

Value = Array | tuple[Array, dict[str, Any]]
Method = Literal["exact", "finite_difference"]


class Critique(NamedTuple):
    """What a penalty on the discriminator looks at.

    Attributes:
      logits: examples -> logits, leaves [B, ...] or [B / m, ...]: the discriminator as it is now.
      made: names of the features that the generator makes, in which slopes are taken.
      on_real, on_fake: the logits that the objective is taken of.
      across_batch: an example's logit depends on other examples.
    """

    logits: Callable[[Batch], Any]
    made: tuple[str, ...]
    on_real: Any
    on_fake: Any
    across_batch: bool = False


class Penalty(NamedTuple):
    """A term of the discriminator's loss.

    Attributes:
      name: of the metric `penalty_<name>`, the value without its weight.
      weight: times the value; a number, or a schedule of the step.
      value: (play, critique, real, fake) -> scalar, or (scalar, states); `real` and `fake` are
        examples as the discriminator is shown them.
      every: taken in every n-th step only, times n; the metric is 0 in the others.
      players: without parameters, that keep its state, by name.
    """

    name: str
    weight: Scheduled
    value: Callable[[Play, Critique, Batch, Batch], Value]
    every: int = 1
    players: dict[str, Player] = {}

    def __hash__(self) -> int:
        return hash(frozen(tuple(self)))


class GeneratorPenalty(NamedTuple):
    """A term of the generator's loss. As `Penalty`, but value: (play, latents, fake) -> scalar, or
    (scalar, states); `fake` holds the examples made from the latents."""

    name: str
    weight: Scheduled
    value: Callable[[Play, Any, Batch], Value]
    every: int = 1
    players: dict[str, Player] = {}

    def __hash__(self) -> int:
        return hash(frozen(tuple(self)))


def added(
    penalties: tuple[Any, ...], play: Play, *arguments: Any
) -> tuple[Any, dict[str, Array], dict[str, Any]]:
    """The weighted sum of penalties, their values as metrics, and the states that they leave."""
    total, metrics, states = 0.0, {}, {}
    for penalty in penalties:
        metric = f"penalty_{penalty.name}"
        if not isinstance(penalty.every, int) or penalty.every < 1:
            raise UserError(
                f"penalty {penalty.name!r} has every={penalty.every!r}; use a whole number of "
                "steps, "
                "1 or more"
            )
        if metric in metrics:
            raise UserError(
                f"two penalties are named {penalty.name!r}; give one another by _replace(name=...)"
            )

        def value(penalty: Any = penalty) -> tuple[Array, dict[str, Any]]:
            given = penalty.value(play, *arguments)
            return given if isinstance(given, tuple) else (given, {})

        if penalty.every == 1:
            of_penalty, kept = value()
        else:
            due = play.step % penalty.every == 0
            unchanged = {name: play.states[name] for name in jax.eval_shape(value)[1]}
            of_penalty, kept = lax.cond(due, value, lambda held=unchanged: (jnp.zeros(()), held))
            of_penalty = penalty.every * of_penalty  # so that the mean over steps is the value
        total = total + at(penalty.weight, play.step) * of_penalty
        metrics[metric] = of_penalty
        states |= kept
    return total, metrics, states


def r1(
    weight: Scheduled,
    *,
    method: Method = "exact",
    every: int = 1,
    subset: int = 1,
    independent: bool = True,
) -> Penalty:
    """E[|grad D(x)|^2] / 2 at real examples.

    Args:
      weight: gamma; a number or a schedule of the step.
      method: "exact" differentiates the slopes once more; "finite_difference" estimates the square
        by ((D(x + eps n) - D(x)) / eps)^2 with eps = 0.01 and n standard normal, drawn for each
        example: first derivatives only, in expectation the same up to eps^2. Not for bfloat16,
        whose rounding is of eps.
      every: taken in every n-th step, times n.
      subset: of every n-th example (or pack) only; the same expectation at 1/n of the cost.
      independent: refuse a discriminator that looks across the batch, whose slopes mix examples.
        False takes the slopes of the sum over the batch all the same, as StyleGAN2 does.

    References:
      Mescheder, Geiger and Nowozin, Which Training Methods for GANs do actually Converge?, 2018;
      Lin et al., Diffusion Adversarial Post-Training for One-Step Video Generation, 2025, for
      finite differences.
    """
    return _on_slopes("r1", weight, slopes.at_real, _half, method, every, subset, independent)


def r2(
    weight: Scheduled,
    *,
    method: Method = "exact",
    every: int = 1,
    subset: int = 1,
    independent: bool = True,
) -> Penalty:
    """E[|grad D(x)|^2] / 2 at made examples; arguments and references as for `r1`."""
    return _on_slopes("r2", weight, slopes.at_fake, _half, method, every, subset, independent)


def gradient_penalty(
    weight: Scheduled,
    kind: Literal["one_centred", "zero_centred", "dragan"] = "one_centred",
    *,
    deviation: float = 0.25,
    method: Method = "exact",
    every: int = 1,
    subset: int = 1,
    independent: bool = True,
) -> Penalty:
    """A penalty on slopes between or around examples, by kind:

    - "one_centred": E[(|grad D| - 1)^2] at t x + (1 - t) G(z), t uniform in [0, 1);
    - "zero_centred": E[|grad D|^2] there;
    - "dragan": E[(|grad D| - 1)^2] at x + n, with n normal of standard deviation `deviation`.

    The one centred at 1 have no finite differences. Other arguments as for `r1`.

    References:
      Gulrajani et al., Improved Training of Wasserstein GANs, 2017; Thanh-Tung, Tran and Venkatesh,
      Improving Generalization and Stability of GANs, 2019; Kodali et al., On Convergence and
      Stability of GANs, 2017.
    """
    kinds = {
        "one_centred": ("gradient_penalty", slopes.between, _from_one),
        "zero_centred": ("gradient_penalty", slopes.between, _as_it_is),
        "dragan": ("dragan", slopes.around_real(deviation), _from_one),
    }
    if kind not in kinds:
        raise UserError(f"gradient_penalty has no kind {kind!r}; use {', '.join(kinds)}")
    if method != "exact" and kind != "zero_centred":
        raise UserError(
            f"gradient_penalty of kind {kind!r} needs the slope, finite differences estimate its "
            "square; use method 'exact' or kind 'zero_centred'"
        )
    name, where, form = kinds[kind]
    return _on_slopes(name, weight, where, form, method, every, subset, independent)


def lecam(weight: Scheduled, *, decay: float = 0.99, every: int = 1) -> Penalty:
    """E[(D(x) - a_fake)^2] + E[(D(G(z)) - a_real)^2], with moving averages a of the logits.

    The averages hold a <- decay a + (1 - decay) E[D] over all devices, from 0, and count the
    present step. Heads of a discriminator have averages of their own, and add up.

    References:
      Tseng et al., Regularizing Generative Adversarial Networks under Limited Data, 2021.
    """

    return Penalty("lecam", weight, _lecam(), every, {"lecam": Player(MovingMean(decay))})


@bound
def _lecam() -> Callable[[Play, Critique, Batch, Batch], Value]:
    def value(play: Play, critique: Critique, real: Batch, fake: Batch) -> Value:
        logits = {"real": critique.on_real, "fake": critique.on_fake}
        means, state = play.apply("lecam", logits)

        def distance(head: Array, mean: Array) -> Array:
            return jnp.mean((head - mean) ** 2)

        on_real = jax.tree.map(distance, critique.on_real, means["fake"])
        on_fake = jax.tree.map(distance, critique.on_fake, means["real"])
        return sum(jax.tree.leaves((on_real, on_fake)), jnp.zeros(())), {"lecam": state}

    return value


def _on_slopes(
    name: str,
    weight: Scheduled,
    where: Callable[..., Batch],
    form: Callable[[Array], Array],
    method: str,
    every: int,
    subset: int,
    independent: bool,
) -> Penalty:
    """`form` of the squared slopes [B] at `where`, a scalar."""
    if method not in slopes.METHODS:
        raise UserError(f"{name} has no method {method!r}; use {', '.join(slopes.METHODS)}")

    value = _of_slopes(name, where, form, method, subset, independent)
    return Penalty(name, weight, value, every)


@bound
def _of_slopes(
    name: str,
    where: Callable[..., Batch],
    form: Callable[[Array], Array],
    method: str,
    subset: int,
    independent: bool,
) -> Callable[[Play, Critique, Batch, Batch], Value]:
    def value(play: Play, critique: Critique, real: Batch, fake: Batch) -> Value:
        if independent and critique.across_batch:
            raise UserError(
                f"penalty {name!r} takes slopes by example, but this discriminator looks across "
                "the batch; give it independent=False, or the discriminator no batch statistics"
            )
        pack = len(play.keys) // len(jax.tree.leaves(critique.on_real)[0])
        chosen = slopes.every_nth(f"penalty {name!r}", (real, fake, play.keys), subset, pack)
        examples, other, keys = chosen
        made = slopes.floating(examples, critique.made, f"penalty {name!r}")
        at_examples = where(made, {n: other[n] for n in made}, keys, pack, name)
        given = other if where is slopes.at_fake else examples

        def logits(made: Batch) -> Any:
            return critique.logits(given | made)

        return form(slopes.METHODS[method](logits, at_examples, keys, name))

    return value


def _half(squared: Array) -> Array:
    # Halved after the mean: XLA makes one sum of two that follow each other.
    return jnp.mean(squared) / 2.0


def _as_it_is(squared: Array) -> Array:
    return jnp.mean(squared)


def _from_one(squared: Array) -> Array:
    return jnp.mean((slopes.length(squared) - 1.0) ** 2)


def companions(*parts: Any) -> dict[str, Player]:
    """The players without parameters with which penalties and augmentations keep state.

    Raises:
      UserError: two of one name.
    """
    found: dict[str, Player] = {}
    for part in parts:
        for name, player in part.players.items():
            if name in found:
                raise UserError(
                    f"two parts of the game keep state as player {name!r}; use one of them"
                )
            found[name] = player
    return found
