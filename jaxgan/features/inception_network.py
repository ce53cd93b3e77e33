"""The layers of Inception-v3, as two ports of it have them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

SIDE = 299  # of its images

# A layer: name, channels, kernel, and where it is not 1 the stride; with a stride above 1 nothing
# is padded. A branch: layers in order; a tuple in the place of a layer are layers side by side.
_DOUBLE = (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3))
_BLOCKS: dict[str, tuple] = {}
for _name, _pool in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
    _BLOCKS[_name] = (
        (("branch1x1", 64, 1),),
        (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        (*_DOUBLE, ("branch3x3dbl_3", 96, 3)),
        ("average", ("branch_pool", _pool, 1)),
    )
_BLOCKS["Mixed_6a"] = (
    (("branch3x3", 384, 3, 2),),
    (*_DOUBLE, ("branch3x3dbl_3", 96, 3, 2)),
    ("largest, halved",),
)
for _name, _width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
    _BLOCKS[_name] = (
        (("branch1x1", 192, 1),),
        (
            ("branch7x7_1", _width, 1),
            ("branch7x7_2", _width, (1, 7)),
            ("branch7x7_3", 192, (7, 1)),
        ),
        (
            ("branch7x7dbl_1", _width, 1),
            ("branch7x7dbl_2", _width, (7, 1)),
            ("branch7x7dbl_3", _width, (1, 7)),
            ("branch7x7dbl_4", _width, (7, 1)),
            ("branch7x7dbl_5", 192, (1, 7)),
        ),
        ("average", ("branch_pool", 192, 1)),
    )
_BLOCKS["Mixed_7a"] = (
    (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)),
    (
        ("branch7x7x3_1", 192, 1),
        ("branch7x7x3_2", 192, (1, 7)),
        ("branch7x7x3_3", 192, (7, 1)),
        ("branch7x7x3_4", 192, 3, 2),
    ),
    ("largest, halved",),
)
for _name, _of in (("Mixed_7b", "average"), ("Mixed_7c", "largest")):
    _BLOCKS[_name] = (
        (("branch1x1", 320, 1),),
        (
            ("branch3x3_1", 384, 1),
            (("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))),
        ),
        (
            ("branch3x3dbl_1", 448, 1),
            ("branch3x3dbl_2", 384, 3),
            (("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))),
        ),
        (_of, ("branch_pool", 192, 1)),
    )


def _averaged(x: Array, of_fid: bool) -> Array:
    """Means of 3 x 3 places; what lies outside counts as zeros in torchvision's network alone."""

    def summed(x: Array) -> Array:
        around = ((0, 0), (1, 1), (1, 1), (0, 0))
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), around)

    return summed(x) / (summed(jnp.ones_like(x[:1, ..., :1])) if of_fid else 9.0)


class _Unit(nn.Module):
    """A convolution, its norm by the moments of training, and ReLU."""

    width: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padded: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = (self.kernel,) * 2 if isinstance(self.kernel, int) else self.kernel
        padding: Any = [
            (k // 2,) * 2 if self.padded and self.stride == 1 else (0, 0) for k in kernel
        ]
        strides = (self.stride,) * 2
        x = nn.Conv(self.width, kernel, strides, padding, use_bias=False, name="conv")(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


class _Mixed(nn.Module):
    """Branches side by side, joined by channels."""

    branches: tuple
    of_fid: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return jnp.concatenate([self._branch(x, branch) for branch in self.branches], axis=-1)

    def _branch(self, x: Array, branch: tuple) -> Array:
        for layer in branch:
            if layer == "largest, halved":
                x = nn.max_pool(x, (3, 3), (2, 2))
            elif layer == "largest" and self.of_fid:
                x = nn.max_pool(x, (3, 3), (1, 1), "SAME")
            elif isinstance(layer, str):
                x = _averaged(x, self.of_fid)
            elif isinstance(layer[0], tuple):
                parts = [_Unit(*part[1:], name=part[0])(x) for part in layer]
                x = jnp.concatenate(parts, axis=-1)
            else:
                x = _Unit(*layer[1:], name=layer[0])(x)
        return x


class InceptionV3(nn.Module):
    """images [B,299,299,3] in [-1,1] -> (features [B,2048], logits [B,classes]).

    Attributes:
      classes: 1008 of the network of 2015, 1000 of torchvision's.
      of_fid: pools as the network of 2015 does.

    References:
      Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016.
    """

    classes: int = 1008
    of_fid: bool = True

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        x = _Unit(32, 3, 2, name="Conv2d_1a_3x3")(x)
        x = _Unit(32, 3, 1, False, name="Conv2d_2a_3x3")(x)
        x = nn.max_pool(_Unit(64, 3, name="Conv2d_2b_3x3")(x), (3, 3), (2, 2))
        x = _Unit(80, 1, name="Conv2d_3b_1x1")(x)
        x = nn.max_pool(_Unit(192, 3, 1, False, name="Conv2d_4a_3x3")(x), (3, 3), (2, 2))
        for name, branches in _BLOCKS.items():
            x = _Mixed(branches, self.of_fid, name=name)(x)
        features = x.mean((1, 2))
        return features, nn.Dense(self.classes, name="fc")(features)
