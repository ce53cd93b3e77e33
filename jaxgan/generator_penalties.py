"""Penalties on the generator: terms of its loss beside the objective."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgan import slopes
from jaxgan.bound import bound
from jaxgan.errors import UserError
from jaxgan.examples import drawn
from jaxgan.game import Batch, Play, Player
from jaxgan.moving import MovingMean
from jaxgan.penalties import GeneratorPenalty, Value
from jaxgan.schedules import Scheduled
from jaxgan.traits import traits

_NORMS = {"l1": jnp.abs, "l2": jnp.square}
Generate = Callable[..., tuple[Batch, dict[str, Any]]]
Styled = Callable[[Play, Any], tuple[Any, Callable[[Any], Array]]]


def path_length(
    weight: Scheduled,
    of: Styled,
    *,
    decay: float = 0.01,
    every: int = 1,
    subset: int = 1,
    independent: bool = True,
) -> GeneratorPenalty:
    """E[(|J^T y| - a)^2], J the Jacobian of a picture in its styles w, y normal.

    y has variance 1 / (height width). The length of slopes [B, layers, W] is the root of the mean
    over layers of the squares' sum. a is the moving mean of lengths over all devices, from 0, which
    counts the present step and is not differentiated.

    Args:
      weight: a number or a schedule of the step; 2 in StyleGAN2.
      of: (play, latents) -> (w, synthesis), where synthesis(w) are the examples [B, ..., channels]
        and w is an array [B, ..., W], or a tree of such; `in_latent` gives one for a latent.
      decay: what the present step counts in a.
      every: taken in every n-th step, times n; 4 in StyleGAN2.
      subset: of every n-th example only; 2 in StyleGAN2.
      independent: refuse a synthesis that looks across the batch, whose slopes mix examples.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020.
    """

    companion = Player(MovingMean(1.0 - decay))
    return GeneratorPenalty(
        "path_length",
        weight,
        _path_length(of, subset, independent),
        every,
        {"path_length": companion},
    )


@bound
def _path_length(of: Styled, subset: int, independent: bool) -> Callable:
    def value(play: Play, latents: Any, fake: Batch) -> Value:
        batch, keys, latents = slopes.every_nth(
            "penalty 'path_length'", (play.batch, play.keys, latents), subset
        )
        styles, synthesis = of(play._replace(batch=batch, keys=keys), latents)
        if independent and traits(synthesis, styles).across_batch:
            raise UserError(
                "penalty 'path_length' takes slopes by example, but this generator looks across "
                "the batch; give it independent=False, or the generator no batch statistics"
            )
        made, pull_back = jax.vjp(synthesis, styles)
        noise = slopes.noise_like(made, keys, "path_length")
        (back,) = pull_back(noise / np.float32(np.sqrt(np.prod(made.shape[1:-1]))))
        squares = [_mean_square(slope) for slope in jax.tree.leaves(back)]
        lengths = slopes.length(sum(squares[1:], squares[0]))
        mean, state = play.apply("path_length", lengths)
        return jnp.mean((lengths - mean) ** 2), {"path_length": state}

    return value


def in_latent(generate: Generate, made: str = "image", name: str | None = None) -> Styled:
    """Path lengths in the latents, where these are one array, or in their leaf of this name."""
    return _in_latent(generate, made, name)


@bound
def _in_latent(generate: Generate, made: str, name: str | None) -> Callable:
    def of(play: Play, latents: Any) -> tuple[Any, Callable[[Any], Array]]:
        def synthesis(z: Any) -> Array:
            moved = z if name is None else latents | {name: z}
            return generate(play.apply, moved, play.batch)[0][made]

        return (latents if name is None else latents[name]), synthesis

    return of


def mode_seeking(
    weight: Scheduled,
    latent: Callable[[Array], Any],
    generate: Generate,
    *,
    name: str | None = None,
    every: int = 1,
) -> GeneratorPenalty:
    """E[1 / (|G(z) - G(z')| / |z - z'| + 1e-5)], over pairs of latents for the same conditions.

    Distances are means of absolute differences of one example's numbers; the ratio is formed
    example by example, where the authors' code takes that of the means over a batch.

    Args:
      weight: a number or a schedule of the step; 1 in the paper.
      latent, generate: those of the game.
      name: of the leaf of the latents in which they are compared; None for all floating ones.
      every: taken in every n-th step, times n.

    References:
      Mao et al., Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis, 2019.
    """

    return GeneratorPenalty("mode_seeking", weight, _mode_seeking(latent, generate, name), every)


@bound
def _mode_seeking(latent: Callable[[Array], Any], generate: Generate, name: str | None) -> Callable:
    def value(play: Play, latents: Any, fake: Batch) -> Array:
        others = drawn(latent, play.keys, "mode_seeking")
        made, _ = generate(play.apply, others, play.batch)  # the state of this pass is forgotten
        made = slopes.floating(made, made, "penalty 'mode_seeking'")
        between = (latents, others) if name is None else (latents[name], others[name])
        of_latents = _distance(*between)
        of_made = _distance({n: fake[n] for n in made}, made)
        return jnp.mean(of_latents / (of_made + 1e-5 * of_latents + 1e-12))

    return value


def reconstruction(
    weight: Scheduled,
    target: str,
    *,
    made: str | None = None,
    norm: Literal["l1", "l2"] = "l1",
    every: int = 1,
) -> GeneratorPenalty:
    """E[|made - target|] ("l1") or E[(made - target)^2] ("l2"), over all numbers of all examples.

    Args:
      weight: a number or a schedule of the step; 100 in pix2pix.
      target: a feature of the data.
      made: the feature that is to equal it; None for the one of the same name.
      norm: "l1" or "l2".
      every: taken in every n-th step, times n.

    References:
      Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, 2017.
    """
    if norm not in _NORMS:
        raise UserError(f"reconstruction has no norm {norm!r}; use {', '.join(_NORMS)}")

    return GeneratorPenalty("reconstruction", weight, _reconstruction(target, made, norm), every)


@bound
def _reconstruction(target: str, made: str | None, norm: Literal["l1", "l2"]) -> Callable:
    def value(play: Play, latents: Any, fake: Batch) -> Array:
        wanted, got = play.batch[target], fake[made or target]
        if wanted.shape != got.shape:
            raise UserError(
                f"reconstruction of {target!r} {wanted.shape} by {made or target!r} {got.shape}; "
                "make their shapes equal"
            )
        return jnp.mean(_NORMS[norm](got - wanted))

    return value


def _mean_square(slope: Array) -> Array:
    """By example: the sum of squares over the last axis, the mean over those between."""
    squares = jnp.sum(slope**2, axis=-1)
    return jnp.mean(squares, axis=tuple(range(1, squares.ndim)))


def _distance(first: Any, second: Any) -> Array:
    """By example: the mean absolute difference over all floating numbers."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second))
    apart = [
        jnp.abs(a - b).reshape(len(a), -1)
        for a, b in pairs
        if jnp.issubdtype(a.dtype, jnp.floating)
    ]
    return jnp.mean(jnp.concatenate(apart, axis=1), axis=1)
