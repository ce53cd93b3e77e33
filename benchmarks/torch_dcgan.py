"""The games of `jaxgan`'s presets in PyTorch: the same networks, losses and updates from the same config, as a peer in benchmarks.

Two ways to run them. Eager, as a practitioner writes it: channels first, one pass of the discriminator over real and one over fake
images, `backward`, `Adam`, an average of the generator parameter by parameter. And at its best (`tuned`): channels last, networks
compiled by `torch.compile`, with CUDA graphs on a GPU, real and fake in one pass, fused Adam, the average in one call for all
parameters, TF32 where float32 is asked for. In both, bfloat16 is autocast.
"""

import contextlib
import itertools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import torch_peer
from jaxgan.config import Config

# What these networks and losses cover; a config beyond it is refused by name.
MODELS, OBJECTIVES = ("dcgan", "seed"), ("nonsaturating",)


class Generator(nn.Module):
    """z [B,Z] -> images [B,channels,S,S], as `jaxgan.models.DCGANGenerator`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        model, doublings = config.model, config.model.doublings
        self.width, self.start = model.generator_width, config.data.image_size // 2**doublings
        self.linear = nn.Linear(model.latent_size, self.start**2 * self.width, bias=False)
        widths = [self.width // 2**i for i in range(doublings)]
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width, eps=1e-5, momentum=0.1) for width in widths
        )
        self.spreads = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in itertools.pairwise(widths)
        )
        self.last = nn.ConvTranspose2d(widths[-1], model.channels, 4, 2, 1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(
            self.norms[0](self.linear(z).view(-1, self.width, self.start, self.start)), 0.2
        )
        for spread, norm in zip(self.spreads, list(self.norms)[1:]):
            x = F.leaky_relu(norm(spread(x)), 0.2)
        return torch.tanh(self.last(x))


class Discriminator(nn.Module):
    """images [B,channels,S,S] -> logits [B,1], as `jaxgan.models.DCGANDiscriminator`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        model, doublings = config.model, config.model.doublings
        widths = [model.channels] + [2**i * model.discriminator_width for i in range(doublings)]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in itertools.pairwise(widths))
        self.last = nn.Linear((config.data.image_size // 2**doublings) ** 2 * widths[-1], 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            images = F.leaky_relu(layer(images), 0.2)
        return self.last(images.flatten(1))


class Trainer:
    """Both networks, their optimizers and the averaged generator; `step` is one training step of the config's game.

    Raises:
      ValueError: for a config that these networks and losses do not cover.
    """

    def __init__(
        self, config: Config, device: str = "cpu", dtype: str = "float32", tuned: bool = False
    ) -> None:
        objective, optimizer = config.objective, config.optimizer
        if (
            config.model.name not in MODELS
            or objective.name not in OBJECTIVES
            or objective.instance_noise
            or optimizer.clip_norm
        ):
            raise ValueError(
                f"the PyTorch peer has the models {', '.join(MODELS)} and the objective {', '.join(OBJECTIVES)}, without instance noise "
                f"and clipping; this config has {config.model.name}, {objective.name}"
            )
        self.config, self.device, self.tuned, self.at = config, device, tuned, 0
        seed = config.model.name == "seed"
        layout: Any = torch.channels_last if tuned else torch.contiguous_format
        self.layout = layout
        self.generator: nn.Module = torch_peer.Generator() if seed else Generator(config)
        self.discriminator: nn.Module = (
            torch_peer.Discriminator() if seed else Discriminator(config)
        )
        for network in (self.generator, self.discriminator):
            network.to(device=device)
            network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        self.average = {
            name: value.detach().clone() for name, value in self.generator.named_parameters()
        }
        self.parameters = list(self.generator.parameters())
        adam: dict[str, Any] = dict(
            betas=(optimizer.beta1, optimizer.beta2), **({"fused": True} if tuned else {})
        )
        self.for_generator = torch.optim.Adam(self.parameters, lr=optimizer.generator_rate, **adam)
        self.for_discriminator = torch.optim.Adam(
            self.discriminator.parameters(), lr=optimizer.discriminator_rate, **adam
        )
        self.generate: Any = self.generator
        self.judge: Any = self.discriminator
        if tuned:
            torch.set_float32_matmul_precision("high")
            mode = "reduce-overhead" if device == "cuda" else None
            # The discriminator meets batches of two sizes, each of which deserves kernels of its own.
            compiled = lambda network: torch.compile(network, mode=mode, dynamic=False)
            self.generate, self.judge = compiled(self.generator), compiled(self.discriminator)
        low = torch.autocast(device, torch.bfloat16)
        self.precision: Any = low if dtype == "bfloat16" else contextlib.nullcontext()

    def step(self, real: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """real [B,C,S,S] in [-1, 1], z [B,Z] -> (loss of the discriminator without penalty, loss of the generator)."""
        if self.tuned and self.device == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        self._set_rates()
        smooth = 1.0 - self.config.objective.label_smoothing
        with self.precision:
            fake = self.generate(z)
        self.for_discriminator.zero_grad(set_to_none=True)
        with self.precision:
            if self.tuned:
                both = self.judge(
                    torch.cat([real, fake.detach().to(real.dtype)]).contiguous(
                        memory_format=self.layout
                    )
                ).float()
                on_real, on_fake = both.chunk(2)
            else:
                on_real, on_fake = self.judge(real).float(), self.judge(fake.detach()).float()
            on_truth = F.binary_cross_entropy_with_logits(on_real, torch.full_like(on_real, smooth))
            loss_discriminator = on_truth + F.binary_cross_entropy_with_logits(
                on_fake, torch.zeros_like(on_fake)
            )
        penalty = self._r1(real) if self.config.objective.r1_weight else 0.0
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

    def _r1(self, real: torch.Tensor) -> torch.Tensor:
        # torch.compile does not differentiate twice, so the penalty goes through the network itself.
        objective = self.config.objective
        seen = real[:: objective.r1_every].detach().requires_grad_()
        with self.precision:
            total = self.discriminator(seen).float().sum()
        (slopes,) = torch.autograd.grad(total, seen, create_graph=True)
        return 0.5 * objective.r1_weight * slopes.float().square().sum((1, 2, 3)).mean()

    def _set_rates(self) -> None:
        optimizer = self.config.optimizer
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
        decay = min(self.config.optimizer.ema_decay, (1.0 + self.at) / (10.0 + self.at))
        if not self.config.optimizer.ema_decay:
            return  # an average without memory is the generator itself, which nobody copies
        if self.tuned:
            many: Any = torch
            many._foreach_lerp_(list(self.average.values()), self.parameters, 1.0 - decay)
            return
        for name, value in self.generator.named_parameters():
            self.average[name].mul_(decay).add_(value, alpha=1.0 - decay)


def to_torch(
    config: Config, generator: Any, discriminator: Any
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Parameters of `jaxgan`'s networks as state dicts of the networks above, without the running statistics."""
    if config.model.name == "seed":
        return torch_peer.to_torch(generator, discriminator)
    tensor = lambda x: torch.from_numpy(np.array(x, np.float32, order="C"))
    turned = lambda kernel: tensor(
        np.transpose(kernel, (3, 2, 0, 1))
    )  # [k,k,O,I] -> [I,O,k,k]; [k,k,I,O] -> [O,I,k,k]
    doublings, width = config.model.doublings, config.model.generator_width
    start = config.data.image_size // 2**doublings
    # Images are [row, column, channel] there and [channel, row, column] here.
    first = (
        np.reshape(generator["Dense_0"]["kernel"], (-1, start, start, width))
        .transpose(3, 1, 2, 0)
        .reshape(start * start * width, -1)
    )
    of_generator = {
        "linear.weight": tensor(first),
        "last.bias": tensor(generator[f"ConvTranspose_{doublings - 1}"]["bias"]),
    }
    of_generator["last.weight"] = turned(generator[f"ConvTranspose_{doublings - 1}"]["kernel"])
    for i in range(doublings):
        norm = generator[f"BatchNorm_{i}"]
        of_generator |= {
            f"norms.{i}.weight": tensor(norm["scale"]),
            f"norms.{i}.bias": tensor(norm["bias"]),
        }
        if i < doublings - 1:
            of_generator[f"spreads.{i}.weight"] = turned(generator[f"ConvTranspose_{i}"]["kernel"])
    head = discriminator["Dense_0"]
    last = np.reshape(head["kernel"], (start, start, -1)).transpose(2, 0, 1).reshape(1, -1)
    of_discriminator = {"last.weight": tensor(last), "last.bias": tensor(head["bias"])}
    for i in range(doublings):
        layer = discriminator[f"Conv_{i}"]
        of_discriminator |= {
            f"layers.{i}.weight": turned(layer["kernel"]),
            f"layers.{i}.bias": tensor(layer["bias"]),
        }
    return of_generator, of_discriminator
