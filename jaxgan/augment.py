"""What a discriminator is shown instead of examples: noise, DiffAugment, with a probability."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgan.adaptive import Probability
from jaxgan.bound import bound, frozen
from jaxgan.errors import UserError
from jaxgan.examples import drawn
from jaxgan.game import Batch, Outcome, Play, Player
from jaxgan.schedules import Scheduled, at


def _as_they_are(play: Play, examples: Batch, names: Collection[str], use: str) -> Batch:
    return examples


def _nothing(play: Play, on_real: Any) -> Outcome:
    return Outcome()


class Augment(NamedTuple):
    """How examples are changed before they are judged; the generator learns through it.

    Attributes:
      shown: (play, examples, names, use) -> examples, with the features of these names changed;
        draws of different uses are independent.
      adapted: (play, logits of the real examples) -> metrics, and new states of `players`.
      players: without parameters, that keep what adapts, by name.
    """

    shown: Callable[[Play, Batch, Collection[str], str], Batch]
    adapted: Callable[[Play, Any], Outcome] = _nothing
    players: dict[str, Player] = {}

    def __hash__(self) -> int:
        return hash(frozen(tuple(self)))


NO_AUGMENT = Augment(_as_they_are)


def instance_noise(deviation: Scheduled) -> Augment:
    """Normal noise on floating features; its deviation is a number or a schedule of the step.

    References:
      Sonderby et al., Amortised MAP Inference for Image Super-resolution, 2017.
    """

    return Augment(_noise(deviation))


@bound
def _noise(deviation: Scheduled) -> Callable:
    def shown(play: Play, examples: Batch, names: Collection[str], use: str) -> Batch:
        def noisy(name: str) -> Array:
            shape = examples[name].shape[1:]
            normal = drawn(lambda key: jax.random.normal(key, shape), play.keys, f"{use} {name}")
            return examples[name] + at(deviation, play.step) * normal

        return examples | {name: noisy(name) for name in names if _is_floating(examples[name])}

    return shown


def diff_augment(*policies: str, also: tuple[str, ...] = ()) -> Augment:
    """Changes of pictures, features [B, height, width, channels], drawn for each example by itself.

    - "colour": brightness, saturation and contrast. Grey pictures have no saturation, a fourth
      channel is alpha and stays, other numbers of channels are changed in brightness and contrast
      alone;
    - "translation": moved by up to an eighth of each side, 0 where nothing was;
    - "cutout": a rectangle of half of each side, somewhere, is 0.

    Args:
      policies: of these, in order.
      also: given features that are moved and cut as the made ones are, such as a picture that is
        translated.

    References:
      Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training, 2020.
    """
    unknown = [policy for policy in policies if policy not in _POLICIES]
    if unknown or not policies:
        what = f"no policy {unknown[0]!r}" if unknown else "been given no policy"
        raise UserError(f"diff_augment has {what}; use some of {', '.join(_POLICIES)}")

    return Augment(_changed(policies, also))


@bound
def _changed(policies: tuple[str, ...], also: tuple[str, ...]) -> Callable:
    def shown(play: Play, examples: Batch, names: Collection[str], use: str) -> Batch:
        pictures = [name for name in names if _is_picture(examples[name])]
        if not pictures:
            shapes = ", ".join(f"{name!r} of shape {examples[name].shape}" for name in names)
            raise UserError(
                f"diff_augment changes pictures [B, height, width, channels], this game makes "
                f"{shapes}; leave it out, or use instance_noise"
            )
        for policy in policies:
            count, change = _POLICIES[policy]
            # Of one draw for all features of an example: places are shares of a picture's sides.
            draws = drawn(
                lambda key, n=count: jax.random.uniform(key, (n,)), play.keys, f"{use} {policy}"
            )
            changed = pictures if policy == "colour" else [*pictures, *also]
            examples = examples | {n: jax.vmap(change)(draws, examples[n]) for n in changed}
        return examples

    return shown


def with_probability(augment: Augment, probability: Scheduled) -> Augment:
    """Changes each example with a probability, a number or a schedule of the step."""

    return augment._replace(shown=_with_probability(augment, probability))


@bound
def _with_probability(augment: Augment, probability: Scheduled) -> Callable:
    def shown(play: Play, examples: Batch, names: Collection[str], use: str) -> Batch:
        return _sometimes(augment, at(probability, play.step), play, examples, names, use)

    return shown


def adaptive(
    *augments: Augment, target: float = 0.6, kimg: float = 500.0, interval: int = 4
) -> Augment:
    """Changes each example by each augment, by itself, with a probability that adapts, from 0.

    After every `interval` updates of the discriminator the probability moves towards what keeps
    E[sign D(x)], over their real examples on all devices, at `target`: by
    examples seen / (1000 kimg), up where it is above. So logits must part real from fake at 0:
    those of `relativistic` or `least_squares` do not.

    Args:
      augments: `adaptive(chain(a, b))` changes an example by both or by neither.
      target: of the mean sign.
      kimg: thousands of real examples that take the probability from 0 to 1.
      interval: in updates.

    References:
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020.
    """
    module = Probability(target, 1000.0 * kimg, interval)
    together = chain(*augments)

    return Augment(
        _adaptively(augments), _adapted(together), {"adaptive": Player(module), **together.players}
    )


@bound
def _adaptively(augments: tuple[Augment, ...]) -> Callable:
    def shown(play: Play, examples: Batch, names: Collection[str], use: str) -> Batch:
        options = dict(examples=len(play.keys), method="probability")
        probability, _ = play.apply("adaptive", **options)
        for i, augment in enumerate(augments):
            examples = _sometimes(augment, probability, play, examples, names, f"{use} {i}")
        return examples

    return shown


@bound
def _adapted(together: Augment) -> Callable:
    def adapted(play: Play, on_real: Any) -> Outcome:
        options = dict(examples=len(play.keys), method="adapt")
        _, state = play.apply("adaptive", on_real, **options)
        more = together.adapted(play, on_real)
        metrics = {"augment_probability": state["adaptive"]["probability"], **more.metrics}
        return Outcome(metrics, {"adaptive": state, **more.states})

    return adapted


def chain(*augments: Augment) -> Augment:
    """One after the other, with independent draws."""
    names = [name for augment in augments for name in augment.players]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two augmentations in a chain keep state as player {twice[0]!r}; use one")

    players = {name: player for augment in augments for name, player in augment.players.items()}
    return Augment(_chained(augments), _all_adapted(augments), players)


@bound
def _chained(augments: tuple[Augment, ...]) -> Callable:
    def shown(play: Play, examples: Batch, names: Collection[str], use: str) -> Batch:
        for i, augment in enumerate(augments):
            examples = augment.shown(play, examples, names, f"{use} {i}")
        return examples

    return shown


@bound
def _all_adapted(augments: tuple[Augment, ...]) -> Callable:
    def adapted(play: Play, on_real: Any) -> Outcome:
        metrics, states = {}, {}
        for augment in augments:
            more = augment.adapted(play, on_real)
            metrics, states = metrics | more.metrics, states | more.states
        return Outcome(metrics, states)

    return adapted


def _sometimes(
    augment: Augment,
    probability: Any,
    play: Play,
    examples: Batch,
    names: Collection[str],
    use: str,
) -> Batch:
    changed = augment.shown(play, examples, names, use)
    chosen = drawn(jax.random.uniform, play.keys, f"{use} whether") < probability

    def of(name: str) -> Array:
        feature = changed[name]
        if feature is examples[name]:
            return feature
        return jnp.where(chosen.reshape(-1, *[1] * (feature.ndim - 1)), feature, examples[name])

    return {name: of(name) for name in changed}


def _is_floating(feature: Array) -> bool:
    return jnp.issubdtype(feature.dtype, jnp.floating)


def _is_picture(feature: Array) -> bool:
    return feature.ndim == 4 and _is_floating(feature)


def _coloured(draws: Array, picture: Array) -> Array:
    """Brightness +-0.5, saturation times 0 to 2, contrast times 0.5 to 1.5; draws in [0, 1)."""
    channels = picture.shape[-1]
    colours = {2: 1, 4: 3}.get(channels, channels)  # the last of 2 or 4 is alpha
    x = picture[..., :colours] + (draws[0] - 0.5)
    if colours == 3:
        grey = jnp.mean(x, axis=-1, keepdims=True)
        x = grey + 2.0 * draws[1] * (x - grey)
    mean = jnp.mean(x)
    x = mean + (draws[2] + 0.5) * (x - mean)
    return jnp.concatenate([x, picture[..., colours:]], axis=-1)


def _translated(draws: Array, picture: Array) -> Array:
    reach = [int(side / 8.0 + 0.5) for side in picture.shape[:2]]
    padded = jnp.pad(picture, [(reach[0],) * 2, (reach[1],) * 2, (0, 0)])
    starts = [(u * (2 * r + 1)).astype(jnp.int32) for u, r in zip(draws, reach)]
    return lax.dynamic_slice(padded, (*starts, jnp.int32(0)), picture.shape)


def _cut_out(draws: Array, picture: Array) -> Array:
    def covered(u: Array, side: int) -> Array:
        """Which rows or columns the rectangle covers; its middle may be anywhere."""
        size = int(side * 0.5 + 0.5)
        first = (u * (side + 1 - size % 2)).astype(jnp.int32) - size // 2
        places = jnp.arange(side, dtype=jnp.int32)
        return (places >= first) & (places < first + size)

    rows, columns = (covered(u, side) for u, side in zip(draws, picture.shape[:2]))
    return jnp.where(rows[:, None, None] & columns[None, :, None], 0.0, picture)


_POLICIES = {"colour": (3, _coloured), "translation": (2, _translated), "cutout": (2, _cut_out)}
