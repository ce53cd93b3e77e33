"""One training step: a discriminator update, then a generator update against the updated discriminator.

The step is a pure function of (state, batch). It runs as it is under `jit`, under `vmap` over seeds, in `lax.scan` over steps,
and with `axis_name` under `pmap` or `shard_map(check_vma=False)` over devices.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxgan.game import Game, GANState, Key

Batch = dict[str, Array]
Metrics = dict[str, Array]
Step = Callable[[GANState, Batch], tuple[GANState, Metrics]]


def make_step(game: Game, axis_name: str | None = None) -> Step:
    """The training step of a game.

    Args:
      game: the variant to train.
      axis_name: the mapped axis over which the batch is split; gradients, statistics and metrics are averaged over it.

    Returns:
      step(state, batch) -> (state, metrics). The batch holds `image` [B,H,W,C], uint8 or float32 in [-1, 1], of this device.
      Metrics are float32 scalars: loss_discriminator (without penalties) and loss_generator in the objective's units, and
      score_real = E[sigmoid D(x)] and score_fake = E[sigmoid D(G(z))], both before the discriminator's update.
    """
    generator, discriminator = (
        with_axis(game.generator, axis_name),
        with_axis(game.discriminator, axis_name),
    )
    average = (lambda tree: lax.pmean(tree, axis_name)) if axis_name else (lambda tree: tree)

    def step(state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        real = scaled(batch["image"])
        count = real.shape[0]
        first = lax.axis_index(axis_name) * count if axis_name else 0

        def noisy(images: Array, use: int) -> Array:
            if game.instance_noise is None:
                return images
            normal = per_example(
                lambda k: jax.random.normal(k, images.shape[1:]),
                jax.random.fold_in(key, use),
                first,
                count,
            )
            return images + game.instance_noise(state.step) * normal

        def judge(params: Any, images: Array, model_state: Any) -> tuple[Array, Any]:
            variables = {"params": params, **model_state}
            logits, model_state = discriminator.apply(
                variables, images.astype(game.dtype), train=True, mutable=list(model_state)
            )
            return logits.astype(jnp.float32), model_state

        with jax.named_scope("generate"):
            z = draw_latent(game, state, first, count).astype(game.dtype)

            def generate(params: Any) -> tuple[Array, Any]:
                player = state.generator
                return generator.apply(
                    {"params": params, **player.model_state},
                    z,
                    train=True,
                    mutable=list(player.model_state),
                )

            # One forward pass serves both players: the second update pulls its gradient back through this one.
            fake, pull_back, generator_model_state = jax.vjp(
                generate, state.generator.params, has_aux=True
            )
            if real.shape != fake.shape or not count:
                raise ValueError(
                    f"the batch holds images {real.shape}, the generator makes {fake.shape}; make them equal, and not empty"
                )

        with jax.named_scope("discriminator_update"):
            player = state.discriminator
            seen_real, seen_fake = noisy(real, 1), noisy(fake, 2)

            def discriminator_loss(params: Any) -> tuple[Array, tuple[Array, Array, Array, Any]]:
                if (
                    "batch_stats" in player.model_state
                ):  # statistics of real and of fake images must not mix
                    on_real, model_state = judge(params, seen_real, player.model_state)
                    on_fake, model_state = judge(params, seen_fake, model_state)
                else:
                    seen = jnp.concatenate(
                        [images.astype(game.dtype) for images in (seen_real, seen_fake)]
                    )
                    both, model_state = judge(params, seen, player.model_state)
                    on_real, on_fake = both[:count], both[count:]
                loss = game.objective.discriminator(on_real, on_fake)
                critique = lambda images: judge(params, images, player.model_state)[0]
                penalties = [
                    p(critique, seen_real, seen_fake, jax.random.fold_in(key, 5))
                    for p in game.penalties
                ]
                return loss + sum(penalties), (loss, on_real, on_fake, model_state)

            (_, aux), grads = jax.value_and_grad(discriminator_loss, has_aux=True)(player.params)
            loss_discriminator, on_real, on_fake, discriminator_model_state = aux
            new_discriminator = _updated(
                player, average(grads), average(discriminator_model_state), game.discriminator_tx
            )

        with jax.named_scope("generator_update"):

            def generator_loss(images: Array) -> Array:
                params, model_state = new_discriminator.params, new_discriminator.model_state
                on_fake, _ = judge(params, noisy(images, 3), model_state)
                on_real, _ = judge(
                    params, noisy(real, 4), model_state
                )  # dropped by XLA where the objective ignores it
                return game.objective.generator(on_real, on_fake)

            loss_generator, towards_fooling = jax.value_and_grad(generator_loss)(fake)
            (grads,) = pull_back(towards_fooling)
            new_generator = _updated(
                state.generator, average(grads), average(generator_model_state), game.generator_tx
            )

        with jax.named_scope("ema"):
            # The first steps count less: with a constant decay the average would hold the initial weights for thousands of steps.
            decay = jnp.minimum(game.ema_decay, (1.0 + state.step) / (10.0 + state.step))
            ema = jax.tree.map(
                lambda old, new: decay * old + (1.0 - decay) * new, state.ema, new_generator.params
            )

        metrics = dict(
            loss_discriminator=loss_discriminator,
            loss_generator=loss_generator,
            score_real=jnp.mean(jax.nn.sigmoid(on_real)),
            score_fake=jnp.mean(jax.nn.sigmoid(on_fake)),
        )
        state = GANState(state.step + 1, state.key, new_generator, new_discriminator, ema)
        return state, average(metrics)

    return step


def scaled(images: Array) -> Array:
    """uint8 [0, 255] to float32 [-1, 1]; floating images as they are."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 127.5 - 1.0
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images are {images.dtype}; give uint8 in [0, 255] or floating numbers in [-1, 1]"
        )
    return images


def per_example(draw: Callable[[Key], Array], key: Key, first: Any, count: int) -> Array:
    """draw(key) for each of `count` examples, [count, ...]. Example i of the global batch draws from fold_in(key, i), so what it
    draws does not depend on how many devices share the batch."""
    return jax.vmap(lambda i: draw(jax.random.fold_in(key, i)))(first + jnp.arange(count))


def draw_latent(game: Game, state: GANState, first: Any, count: int) -> Array:
    """The z [count, Z] that the next step uses for the examples from `first` on."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 0)
    return per_example(lambda k: game.latent(k, 1)[0], key, first, count)


def with_axis(module: nn.Module, axis_name: str | None) -> nn.Module:
    """The module with its batch statistics shared over `axis_name`, where it has any."""
    return module.clone(axis_name=axis_name) if hasattr(module, "axis_name") else module


def _updated(player: Any, grads: Any, model_state: Any, tx: optax.GradientTransformation) -> Any:
    updates, opt_state = tx.update(grads, player.opt_state, player.params)
    return player.replace(
        params=optax.apply_updates(player.params, updates),
        model_state=model_state,
        opt_state=opt_state,
    )
