"""The games of `jaxgan`'s presets in PyTorch: the same networks, losses and updates, as a peer in
benchmarks.

Two ways to run them. Eager, as a practitioner writes it: channels first, one pass of the
discriminator over real and one over fake images, `backward`, `Adam`, an average of the generator
parameter by parameter. And at its best (`tuned`): channels last, networks compiled by
`torch.compile`, with CUDA graphs on a GPU, real and fake in one pass, fused Adam, the average in
one call for all parameters, TF32 where float32 is asked for. In both, bfloat16 is autocast.
"""

import contextlib
import itertools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import torch_peer
from jaxgan.game import Game
from jaxgan.models import (
    DCGANDiscriminator,
    DCGANGenerator,
    ListingDiscriminator,
    ListingGenerator,
)


class Generator(nn.Module):
    """z [B,Z] -> images [B,C,H,W], as `jaxgan.models.DCGANGenerator`."""

    def __init__(self, made: DCGANGenerator, latent_size: int) -> None:
        super().__init__()
        height, width, channels = made.shape
        self.first = made.width, height // 2**made.doublings, width // 2**made.doublings
        size = self.first[0] * self.first[1] * self.first[2]
        self.linear = nn.Linear(latent_size, size, bias=False)
        widths = [made.width // 2**i for i in range(made.doublings)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(n, eps=1e-5, momentum=0.1) for n in widths)
        self.doubles = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in itertools.pairwise(widths)
        )
        self.last = nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.norms[0](self.linear(z).view(-1, *self.first)), 0.2)
        for double, norm in zip(self.doubles, list(self.norms)[1:]):
            x = F.leaky_relu(norm(double(x)), 0.2)
        return torch.tanh(self.last(x))


class Discriminator(nn.Module):
    """images [B,C,H,W] -> logits [B,1], as `jaxgan.models.DCGANDiscriminator`."""

    def __init__(self, made: DCGANDiscriminator, shape: tuple[int, int, int]) -> None:
        super().__init__()
        height, width, channels = shape
        widths = [channels] + [2**i * made.width for i in range(made.doublings)]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in itertools.pairwise(widths))
        pixels = (height // 2**made.doublings) * (width // 2**made.doublings)
        self.last = nn.Linear(pixels * widths[-1], 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            images = F.leaky_relu(layer(images), 0.2)
        return self.last(images.flatten(1))


def networks(game: Game, latent_size: int) -> tuple[nn.Module, nn.Module]:
    """The players of a game of the recipes `dcgan` and `listing` in PyTorch.

    Raises:
      ValueError: for other networks.
    """
    makes, judges = (game.players[name].module for name in ("generator", "discriminator"))
    if isinstance(makes, DCGANGenerator) and isinstance(judges, DCGANDiscriminator):
        return Generator(makes, latent_size), Discriminator(judges, makes.shape)
    founding = (ListingGenerator(), ListingDiscriminator())
    if (makes, judges) == founding and latent_size == 100:
        return torch_peer.Generator(), torch_peer.Discriminator()
    raise ValueError(
        f"the PyTorch peer has the networks of dcgan and listing, not {type(makes).__name__} "
        f"and {type(judges).__name__}, or not of these sizes"
    )


class Trainer:
    """Both networks, their optimizers and the averaged generator; `step` is one training step of
    the game.

    Args:
      game: of the recipes `dcgan` and `listing`.
      options: of the recipe.
      device, dtype, tuned: where, in what, and how it runs.

    Raises:
      ValueError: for a game that these networks and losses do not cover.
    """

    def __init__(
        self,
        game: Game,
        options: Any,
        device: str = "cpu",
        dtype: str = "float32",
        tuned: bool = False,
    ) -> None:
        self.objective, self.optimizer = options.objective, options.optimizer
        if self.objective.name != "nonsaturating":
            raise ValueError(f"the PyTorch peer is nonsaturating, this game {self.objective.name}")
        if self.objective.instance_noise or self.optimizer.clip_norm:
            raise ValueError("the PyTorch peer has neither instance noise nor clipping")
        self.device, self.tuned, self.at = device, tuned, 0
        self.layout: Any = torch.channels_last if tuned else torch.contiguous_format
        self.generator, self.discriminator = networks(game, options.model.latent_size)
        for network in (self.generator, self.discriminator):
            network.to(device=device)
            network.to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]
        self.average = {n: p.detach().clone() for n, p in self.generator.named_parameters()}
        self.parameters = list(self.generator.parameters())
        adam: dict[str, Any] = dict(betas=(self.optimizer.beta1, self.optimizer.beta2))
        adam |= {"fused": True} if tuned else {}
        rates = self.optimizer.generator_rate, self.optimizer.discriminator_rate
        self.for_generator = torch.optim.Adam(self.parameters, lr=rates[0], **adam)
        judging = self.discriminator.parameters()
        self.for_discriminator = torch.optim.Adam(judging, lr=rates[1], **adam)
        self.generate: Any = self.generator
        self.judge: Any = self.discriminator
        if tuned:
            torch.set_float32_matmul_precision("high")
            # The discriminator meets batches of two sizes, each of which deserves kernels of its
            # own.
            how: dict[str, Any] = dict(dynamic=False)
            how["mode"] = "reduce-overhead" if device == "cuda" else None
            self.generate = torch.compile(self.generator, **how)
            self.judge = torch.compile(self.discriminator, **how)
        low = torch.autocast(device, torch.bfloat16)
        self.precision: Any = low if dtype == "bfloat16" else contextlib.nullcontext()

    def step(self, real: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """real [B,C,H,W] in [-1, 1], z [B,Z] -> (loss of the discriminator without penalty, of the
        generator).
        """
        if self.tuned and self.device == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        self._set_rates()
        with self.precision:
            fake = self.generate(z)
        self.for_discriminator.zero_grad(set_to_none=True)
        on_real, on_fake = self._judged(real, fake.detach())
        label = torch.full_like(on_real, 1.0 - self.objective.label_smoothing)
        loss_discriminator = F.binary_cross_entropy_with_logits(on_real, label)
        loss_discriminator = loss_discriminator + F.binary_cross_entropy_with_logits(
            on_fake, torch.zeros_like(on_fake)
        )
        penalty = self._r1(real) if self.objective.r1_weight else 0.0
        (loss_discriminator + penalty).backward()
        self.for_discriminator.step()

        self.for_generator.zero_grad(set_to_none=True)
        with self.precision:
            on_fake = self.judge(fake).float()
            loss_generator = F.binary_cross_entropy_with_logits(on_fake, torch.ones_like(on_fake))
        loss_generator.backward()
        self.for_generator.step()
        self._move_average()
        self.at += 1
        return loss_discriminator.detach().clone(), loss_generator.detach().clone()

    def _judged(self, real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with self.precision:
            if not self.tuned:
                return self.judge(real).float(), self.judge(fake).float()
            both = torch.cat([real, fake.to(real.dtype)]).contiguous(memory_format=self.layout)
            return self.judge(both).float().chunk(2)

    def _r1(self, real: torch.Tensor) -> torch.Tensor:
        # torch.compile does not differentiate twice, so the penalty goes through the network
        # itself.
        seen = real[:: self.objective.r1_every].detach().requires_grad_()
        with self.precision:
            total = self.discriminator(seen).float().sum()
        (slopes,) = torch.autograd.grad(total, seen, create_graph=True)
        return 0.5 * self.objective.r1_weight * slopes.float().square().sum((1, 2, 3)).mean()

    def _set_rates(self) -> None:
        optimizer = self.optimizer
        if optimizer.decay_steps is None:
            return
        done = min(max(self.at - optimizer.decay_from, 0) / optimizer.decay_steps, 1.0)
        for adam, rate in (
            (self.for_generator, optimizer.generator_rate),
            (self.for_discriminator, optimizer.discriminator_rate),
        ):
            for group in adam.param_groups:
                group["lr"] = rate * (1.0 - 0.99 * done)

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.optimizer.ema_decay, (1.0 + self.at) / (10.0 + self.at))
        if not self.optimizer.ema_decay:
            return  # an average without memory is the generator itself, which nobody copies
        if self.tuned:
            many: Any = torch
            many._foreach_lerp_(list(self.average.values()), self.parameters, 1.0 - decay)
            return
        for name, value in self.generator.named_parameters():
            self.average[name].mul_(decay).add_(value, alpha=1.0 - decay)


def to_torch(
    game: Game, generator: Any, discriminator: Any
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The players' parameters as state dicts of `networks(game)`; no running statistics."""
    made: Any = game.players["generator"].module
    if isinstance(made, ListingGenerator):
        return torch_peer.to_torch(generator, discriminator)
    height, width, _ = made.shape
    rows, columns = height // 2**made.doublings, width // 2**made.doublings
    # Images are [row, column, channel] there and [channel, row, column] here.
    first = np.reshape(generator["Dense_0"]["kernel"], (-1, rows, columns, made.width))
    last = np.reshape(discriminator["Dense_0"]["kernel"], (rows, columns, -1))
    outer = made.doublings - 1
    of_generator = {
        "linear.weight": first.transpose(3, 1, 2, 0).reshape(-1, first.shape[0]),
        "last.bias": generator[f"Double_{outer}"]["bias"],
        "last.weight": _turned(generator[f"Double_{outer}"]["kernel"]),
    }
    of_discriminator = {
        "last.weight": last.transpose(2, 0, 1).reshape(1, -1),
        "last.bias": discriminator["Dense_0"]["bias"],
    }
    for i in range(made.doublings):
        norm, layer = generator[f"BatchNormLeakyReLU_{i}"], discriminator[f"Halve_{i}"]
        of_generator |= {f"norms.{i}.weight": norm["scale"], f"norms.{i}.bias": norm["bias"]}
        of_discriminator |= {f"layers.{i}.weight": _turned(layer["kernel"])}
        of_discriminator |= {f"layers.{i}.bias": layer["bias"]}
        if i < outer:
            of_generator[f"doubles.{i}.weight"] = _turned(generator[f"Double_{i}"]["kernel"])
    return _tensors(of_generator), _tensors(of_discriminator)


def _turned(kernel: Any) -> np.ndarray:
    """Transposed convolution: [k,k,O,I] -> [I,O,k,k]; convolution: [k,k,I,O] -> [O,I,k,k]."""
    return np.transpose(kernel, (3, 2, 0, 1))


def _tensors(arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {n: torch.from_numpy(np.array(x, np.float32, order="C")) for n, x in arrays.items()}
