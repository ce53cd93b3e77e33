"""The types of the library, and the first state of a run.

A GAN variant is one `Game`; `game._replace(...)` makes the next variant. All that training changes is in `GANState`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from jaxgan import models, objectives, penalties
from jaxgan.config import Config
from jaxgan.kernels import batch_norm_leaky_relu, bias_leaky_relu, fused
from jaxgan.models import layers
from jaxgan.objectives import Objective
from jaxgan.penalties import Penalty

Key = Array


class Game(NamedTuple):
    """What is played: networks, objective and optimizers. Static; compiled into the step.

    Attributes:
      generator: module (z [B,Z], train) -> images [B,H,W,C] in [-1, 1].
      discriminator: module (images [B,H,W,C], train) -> logits [B,...].
      objective: what each player minimises.
      generator_tx: the generator's optimizer.
      discriminator_tx: the discriminator's optimizer.
      latent: (key, n) -> z [n,Z]; the key is consumed.
      penalties: added to the discriminator's loss, with their weights inside.
      ema_decay: decay per step of the averaged generator; smaller in the first steps, see `step`.
      instance_noise: step -> standard deviation of the noise on all that the discriminator sees; None for none.
      dtype: what the networks compute in, float32 or bfloat16; parameters, statistics, logits and losses stay float32.
    """

    generator: nn.Module
    discriminator: nn.Module
    objective: Objective
    generator_tx: optax.GradientTransformation
    discriminator_tx: optax.GradientTransformation
    latent: Callable[[Key, int], Array]
    penalties: tuple[Penalty, ...] = ()
    ema_decay: float = 0.999
    instance_noise: optax.Schedule | None = None
    dtype: Any = jnp.float32


class Player(struct.PyTreeNode):
    """One network and its optimizer. model_state: the collections beside the parameters, such as batch_stats; {} for none."""

    params: Any
    model_state: Any
    opt_state: Any


class GANState(struct.PyTreeNode):
    """All that training changes, and nothing else; replicated over devices, with no device axis.

    Attributes:
      step: int32 [], finished steps.
      key: the run's key. Never split: step t draws from fold_in(key, t), so a resumed run is the same run.
      generator: the player that makes images.
      discriminator: the player that judges them.
      ema: the average of the generator's parameters over steps, from which samples are made.
    """

    step: Array
    key: Key
    generator: Player
    discriminator: Player
    ema: Any


def normal_latent(size: int) -> Callable[[Key, int], Array]:
    """z ~ N(0, I) of `size` numbers."""
    return lambda key, n: jax.random.normal(key, (n, size))


def make_game(config: Config) -> Game:
    """The game that a config describes."""
    model, objective, optimizer = config.model, config.objective, config.optimizer
    image: dict[str, Any] = dict(
        image_size=config.data.image_size, channels=model.channels, width=model.generator_width
    )
    smoothing = {"label_smoothing": objective.label_smoothing} if objective.label_smoothing else {}
    losses = getattr(objectives, objective.name)(**smoothing)
    if config.kernels == "plain":
        act, norm_act = layers.plain_act, layers.plain_norm_act
    else:
        implementation = None if config.kernels == "auto" else config.kernels
        losses = fused(losses, implementation)
        act = functools.partial(bias_leaky_relu, implementation=implementation)
        norm_act = functools.partial(batch_norm_leaky_relu, implementation=implementation)
    if model.name == "seed":
        networks = (
            models.SeedGenerator(**image, act=act),
            models.SeedDiscriminator(model.discriminator_width, act),
        )
    else:
        discriminator = models.DCGANDiscriminator(model.discriminator_width, model.doublings, act)
        networks = (
            models.DCGANGenerator(**image, doublings=model.doublings, act=act, norm_act=norm_act),
            discriminator,
        )
    noise = None
    if objective.instance_noise:
        noise = optax.linear_schedule(objective.instance_noise, 0.0, objective.instance_noise_steps)

    def adam(rate: float) -> optax.GradientTransformation:
        schedule = rate
        if optimizer.decay_steps is not None:
            schedule = optax.linear_schedule(
                rate, 0.01 * rate, optimizer.decay_steps, optimizer.decay_from
            )
        update = optax.adam(schedule, b1=optimizer.beta1, b2=optimizer.beta2)
        return (
            optax.chain(optax.clip_by_global_norm(optimizer.clip_norm), update)
            if optimizer.clip_norm
            else update
        )

    return Game(
        *networks,
        objective=losses,
        generator_tx=adam(optimizer.generator_rate),
        discriminator_tx=adam(optimizer.discriminator_rate),
        latent=normal_latent(model.latent_size),
        penalties=(penalties.r1(objective.r1_weight, objective.r1_every),)
        if objective.r1_weight
        else (),
        ema_decay=optimizer.ema_decay,
        instance_noise=noise,
        dtype=jnp.dtype(config.dtype),
    )


def init(game: Game, key: Key) -> GANState:
    """The state before the first step. Pure, so it works under `jit` and, over keys, under `vmap`; the key is consumed."""
    for_generator, for_discriminator, for_training, for_shape = jax.random.split(key, 4)
    z = game.latent(for_shape, 1)
    generator = game.generator.init(for_generator, z, train=True)
    images, _ = game.generator.apply(generator, z, train=True, mutable=True)
    discriminator = game.discriminator.init(for_discriminator, images, train=True)

    def player(variables: Any, tx: optax.GradientTransformation) -> Player:
        params = variables["params"]
        return Player(
            params, {k: v for k, v in variables.items() if k != "params"}, tx.init(params)
        )

    return GANState(
        step=jnp.zeros((), jnp.int32),
        key=for_training,
        generator=player(generator, game.generator_tx),
        discriminator=player(discriminator, game.discriminator_tx),
        ema=jax.tree.map(jnp.copy, generator["params"]),
    )
