"""What a discriminator is wrapped in, or has as a layer: several examples at once, smoothness."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxgan import checks
from jaxgan.calling import train_option
from jaxgan.errors import UserError
from jaxgan.words import near_multiples


class Pack(nn.Module):
    """A discriminator of packs: `pack` consecutive examples become one input and get one logit.

    Every input is joined along its last axis: images [B,H,W,C] as [B/m,H,W,m C], text [B,T,F] as
    [B/m,T,m F], and what has one number an example, such as labels [B], as [B/m,m]. Packs do not
    mix real and made examples, and where m divides a device's share they do not depend on the
    number of devices. The wrapped module must not expect labels [B].

    Attributes:
      module: (*inputs) -> logits [B/m, ...].
      pack: m, examples in a pack.

    Raises:
      UserError: where m does not divide the examples of a device.

    References:
      Lin et al., PacGAN: The power of two samples in generative adversarial networks, 2018.
    """

    module: nn.Module
    pack: int = 2

    @nn.compact
    def __call__(self, *inputs: Array, train: bool = True) -> Any:
        packed = [_packed(x, self.pack) for x in inputs]
        return self.module(*packed, **train_option(self.module, train))


def _packed(x: Array, pack: int) -> Array:
    checks.check_packs(len(x), pack)
    x = x[:, None] if x.ndim == 1 else x
    members = x.reshape(-1, pack, *x.shape[1:])
    joined = jnp.moveaxis(members, 1, -2)  # [B/m, ..., m, C]
    return joined.reshape(*joined.shape[:-2], -1)


class FourierFeatures(nn.Module):
    """Gives a module more than the numbers themselves: [B,...,D] becomes [B,...,D + 2 count], with
    the sines and cosines of `count` random projections, in which a network tells near points
    apart sooner. The projections are the same for every seed.

    Attributes:
      module: (numbers, *other inputs) -> anything.
      count: projections.
      scale: standard deviation of their coefficients, radians for a unit of the input.

    References:
      Rahimi and Recht, Random Features for Large-Scale Kernel Machines, 2007; Tancik et al.,
      Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains, 2020.
    """

    module: nn.Module
    count: int = 16
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: Array, *inputs: Array, train: bool = True) -> Any:
        shape = x.shape[-1], self.count
        coefficients = self.scale * jax.random.normal(jax.random.key(0, impl="threefry2x32"), shape)
        angles = x @ coefficients.astype(x.dtype)
        joined = jnp.concatenate([x, jnp.sin(angles), jnp.cos(angles)], axis=-1)
        return self.module(joined, *inputs, **train_option(self.module, train))


class MinibatchStdDev(nn.Module):
    """Joins to each example how much its group varies: [B,...,C] -> [B,...,C + features].

    Each number has its standard deviation over groups of consecutive examples; what is joined is
    its mean over places and channels, where there are more `features` over as many parts of the
    channels. A batch that `group` does not divide has groups of its next smaller divisor, and a
    batch of one example the deviation 0. Where `group` divides a device's share, the groups do
    not depend on the number of devices.

    Attributes:
      group: examples in a group, at most.
      features: new channels; they divide C.

    Raises:
      UserError: for a batch without such a divisor, and for features that do not divide C.

    References:
      Karras et al., Progressive Growing of GANs, 2018, with the groups of Karras et al., 2020.
    """

    group: int = 4
    features: int = 1
    across_batch = True

    def accumulates(self, micro_batches: int, x: Array) -> bool:
        """Whether the groups of a batch are those of its micro-batches, of which x is one."""
        return len(x) % _group_of(micro_batches * len(x), self.group) == 0

    def __call__(self, x: Array) -> Array:
        *places, channels = x.shape[1:]
        if channels % self.features:
            raise UserError(
                f"features={self.features} of MinibatchStdDev do not divide the {channels} "
                f"channels; use a divisor of {channels}"
            )
        size = _group_of(len(x), self.group)
        groups = x.reshape(-1, size, *places, self.features, channels // self.features)
        variance = jnp.var(groups.astype(jnp.float32), axis=1)
        deviation = jnp.sqrt(variance + 1e-8)  # its slope at 0 stays finite
        summed = [i for i in range(1, deviation.ndim) if i != deviation.ndim - 2]
        means = jnp.repeat(jnp.mean(deviation, axis=summed), size, axis=0)  # [B, features]
        means = means.reshape(len(x), *(1,) * len(places), self.features)
        spread = jnp.broadcast_to(means, (len(x), *places, self.features))
        return jnp.concatenate([x, spread.astype(x.dtype)], axis=-1)


def _group_of(count: int, group: int) -> int:
    """The largest divisor of `count` up to `group`."""
    size = max(n for n in range(1, group + 1) if count % n == 0)
    if size == 1 < min(count, group):
        raise UserError(
            f"a batch of {count} examples has no groups of 2 to {group} for MinibatchStdDev; "
            f"use a batch of {near_multiples(count, group)}"
        )
    return size


class SpectralNorm(nn.Module):
    """A layer, or a whole network, each of whose kernels is divided by its largest singular value.

    A kernel [..., O] counts as a matrix of O columns. Its singular value is estimated by power
    iteration from a vector that the collection `spectral_norm` keeps. Each call improves the
    estimate for itself; the vector moves only where a move gives the state back, so neither
    penalties nor sampling advance it. Biases and scales are left as they are.

    Attributes:
      module: (*inputs) -> output.
      iterations: of the power method, in each call.

    References:
      Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018.
    """

    module: nn.Module
    iterations: int = 1

    @nn.compact
    def __call__(self, *inputs: Any, train: bool = True) -> Any:
        normalised = nn.SpectralNorm(
            self.module, n_steps=self.iterations, collection_name="spectral_norm"
        )
        kept = self.is_mutable_collection("spectral_norm")
        return normalised(*inputs, update_stats=kept, **train_option(self.module, train))
