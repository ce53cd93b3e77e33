"""The operations of `benchmarks.kernel_ops` in PyTorch, on channels-last tensors [B,C,H,W]."""

import torch
import torch.nn.functional as F

_TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])


def bias_leaky_relu(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x + b.to(x.dtype)[:, None, None], 0.2)


def sigmoid_bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets)


def gan_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    on_real = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
    return on_real + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))


def batch_norm_leaky_relu(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(F.batch_norm(x, None, None, scale, bias, training=True, eps=1e-5), 0.2)


def _filters(x: torch.Tensor, up: int) -> torch.Tensor:
    taps = (_TAPS * up / _TAPS.sum()).to(x.device, x.dtype)
    return torch.outer(taps, taps)[None, None].expand(x.shape[1], 1, 4, 4)


def blur_same(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    padded = F.pad(x, (2, 1, 2, 1))
    return bias_leaky_relu(F.conv2d(padded, _filters(x, 1), groups=x.shape[1]), b)


def blur_halve(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    padded = F.pad(x, (1, 1, 1, 1))
    return bias_leaky_relu(F.conv2d(padded, _filters(x, 1), stride=2, groups=x.shape[1]), b)


def blur_double(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    # The transposed convolution of symmetric taps is the zero-filled convolution, a pixel cut from
    # each side.
    groups = x.shape[1]
    y = F.conv_transpose2d(x, _filters(x, 2), stride=2, padding=1, groups=groups)
    return bias_leaky_relu(y, b)


def operands(
    shapes: list[tuple[int, ...]], dtype: str, device: str, seed: int
) -> list[torch.Tensor]:
    """Leaves that want gradients, as those of `benchmarks.kernels`: images are channels-last
    [B,C,H,W].
    """
    generator = torch.Generator(device).manual_seed(seed)
    made = []
    for i, shape in enumerate(shapes):
        random = torch.rand if i and len(shape) == 4 else torch.randn
        x = random(shape, generator=generator, device=device)
        if len(shape) == 4:
            x = x.to(getattr(torch, dtype)).permute(0, 3, 1, 2)
        made.append(x.requires_grad_())
    return made
