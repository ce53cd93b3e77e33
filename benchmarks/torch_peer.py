"""The founding algorithm in PyTorch, as a practitioner writes it: a peer and an oracle of tests.

The listing's faults are mended as in `jaxgan.models.listing`; each layer, loss and update is
otherwise PyTorch's own.
"""

from typing import Any

import numpy as np
import torch
from torch import nn


class Generator(nn.Module):
    """z [B,100] -> images [B,1,28,28]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(100, 7 * 7 * 64)
        self.first = nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False)
        self.second = nn.ConvTranspose2d(32, 1, 4, 2, 1, bias=False)
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.linear(z)).view(-1, 64, 7, 7)
        return torch.tanh(self.second(self.activation(self.first(x))))


class Discriminator(nn.Module):
    """images [B,1,28,28] -> logits [B,1,3,3]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 32, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 1, 4, 2, 1, bias=False),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


class Trainer:
    """Both networks and their optimizers; `step` is one iteration of the listing."""

    def __init__(self, rate: float = 2e-4) -> None:
        self.generator, self.discriminator = Generator(), Discriminator()
        self.loss = nn.BCEWithLogitsLoss()
        self.for_generator = torch.optim.Adam(self.generator.parameters(), lr=rate)
        self.for_discriminator = torch.optim.Adam(self.discriminator.parameters(), lr=rate)

    def step(self, real: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """real [B,1,28,28] in [-1, 1], z [B,100] -> (the discriminator's loss, the generator's)."""
        fake = self.generator(z)
        self.for_discriminator.zero_grad()
        on_real, on_fake = self.discriminator(real), self.discriminator(fake.detach())
        loss_discriminator = self.loss(on_real, torch.ones_like(on_real)) + self.loss(
            on_fake, torch.zeros_like(on_fake)
        )
        loss_discriminator.backward()
        self.for_discriminator.step()

        self.for_generator.zero_grad()
        on_fake = self.discriminator(fake)
        loss_generator = self.loss(on_fake, torch.ones_like(on_fake))
        loss_generator.backward()
        self.for_generator.step()
        return loss_discriminator.detach(), loss_generator.detach()


def to_torch(
    generator: Any, discriminator: Any
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Parameters of `jaxgan.models.listing` as state dicts of the networks above."""

    def tensor(x: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(x, np.float32, order="C"))

    def spread(kernel: Any) -> torch.Tensor:
        """[k,k,O,I] -> [I,O,k,k]; [k,k,I,O] -> [O,I,k,k]."""
        return tensor(np.transpose(kernel, (3, 2, 0, 1)))

    dense = generator["Dense_0"]
    # jaxgan's Linear puts out [7,7,64], PyTorch's [64,7,7].
    weight = np.transpose(np.reshape(dense["kernel"], (100, 7, 7, 64)), (3, 1, 2, 0)).reshape(
        3136, 100
    )
    bias = np.transpose(np.reshape(dense["bias"], (7, 7, 64)), (2, 0, 1)).reshape(3136)
    return (
        {
            "linear.weight": tensor(weight),
            "linear.bias": tensor(bias),
            "first.weight": spread(generator["Double_0"]["kernel"]),
            "second.weight": spread(generator["Double_1"]["kernel"]),
        },
        {f"layers.{2 * i}.weight": spread(discriminator[f"Halve_{i}"]["kernel"]) for i in range(3)},
    )
