"""Inception-v3 as an extractor, with weights of a file that the user supplies.

With the weights of the network of 2015 that the Frechet Inception distance is defined by, and with
nothing else, the distance of its features is called FID. Other weights of the same layers, such as
torchvision's, describe images too.
"""

import functools
import hashlib
import pathlib
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgan import files
from jaxgan.errors import UserError
from jaxgan.features import extractor, torch_files
from jaxgan.features.extractor import Described, Extractor
from jaxgan.features.inception_network import SIDE, InceptionV3
from jaxgan.paths import shown, user_path

RESIZED = (
    "bilinear without antialiasing, half-pixel centres, to 299 x 299; grey three times; [-1,1]"
)
FID = "Inception-v3 of FID"  # the name of the extractor with the weights that define it
FID_SHA256 = "6726825d"  # the first digits of theirs, which the file's published name carries
_BLOCK = 50  # images at once: activations of 0.5 GB
_MOST = 2**28  # bytes of a file


class Weights(NamedTuple):
    """What a file holds.

    Attributes:
      variables: as `InceptionV3.apply` takes them.
      classes: of its last layer.
      sha256: of the file, hex.
    """

    variables: dict[str, Any]
    classes: int
    sha256: str

    @property
    def are_fids(self) -> bool:
        """Whether they are those by which FID is defined."""
        return self.sha256.startswith(FID_SHA256)


def read_weights(file: str | pathlib.Path) -> Weights:
    """The weights of a state dict that PyTorch saved. PyTorch is not needed, and nothing in the
    file is executed.

    Raises:
      UserError: for a file that cannot be read, is none of PyTorch's, or is of other layers.
    """
    path = user_path(file, "features")
    try:
        content = files.read(path, _MOST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{shown(path)} cannot be read: {reason}") from None
    try:
        arrays = torch_files.state_dict(content)
    except ValueError as error:
        raise UserError(
            f"{shown(path)} is no state dict of PyTorch: {error}; give "
            "pt_inception-2015-12-05-6726825d.pth, or torchvision's inception_v3 weights"
        ) from None
    classes = len(arrays["fc.bias"]) if "fc.bias" in arrays else 0
    variables = variables_of(arrays, InceptionV3(classes or 1), shown(path))
    return Weights(variables, classes, hashlib.sha256(content).hexdigest())


def variables_of(arrays: dict[str, np.ndarray], net: InceptionV3, file: str) -> dict[str, Any]:
    """Arrays by PyTorch's names as Flax has them; further ones, such as of auxiliary heads, are
    passed over.

    Raises:
      UserError: where one is missing or has another shape.
    """
    shape = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), np.float32)
    expected: Any = jax.eval_shape(net.init, jax.random.key(0), shape)
    flat: dict[Any, Any] = flax.traverse_util.flatten_dict(expected)
    made = {}
    for path, leaf in flat.items():
        *layers, last = path[1:]
        name = ".".join([*layers, _TORCH_NAMES[last]])
        if name not in arrays:
            raise UserError(f"{file} has no {name}; give weights of Inception-v3")
        array = arrays[name]
        if last == "kernel":
            array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
        if array.shape != leaf.shape:
            raise UserError(
                f"{file} has {name} of shape {arrays[name].shape}, which does not fit "
                f"{leaf.shape}; give weights of Inception-v3"
            )
        made[path] = np.ascontiguousarray(array, np.float32)
    return flax.traverse_util.unflatten_dict(made)


_TORCH_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def is_file(place: str) -> bool:
    """Whether a place is of weights, by the ending that PyTorch's files have."""
    return place.lower().endswith((".pth", ".pt"))


def inception(file: str | pathlib.Path) -> Extractor:
    """Inception-v3 with the weights of a file as an extractor: 2048 features, and the probabilities
    that Inception scores are made of, which leave the bias of the last layer out.

    Raises:
      UserError: as `read_weights`.

    References:
      Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
      Equilibrium, 2017, for FID; Salimans et al., Improved Techniques for Training GANs, 2016.
    """
    weights = read_weights(file)
    net = InceptionV3(weights.classes, of_fid=weights.classes != 1000)
    judge = functools.partial(_described, net, weights.variables)
    name = FID if weights.are_fids else "Inception-v3 of other weights"
    digest = hashlib.sha256(f"{weights.sha256}\n{RESIZED}".encode()).hexdigest()

    def describe(images: np.ndarray) -> Described:
        images = extractor.checked(images)
        if images.shape[3] not in (1, 3):
            raise UserError(f"images have {images.shape[3]} channels; Inception-v3 takes 1 or 3")
        return extractor.in_blocks(judge, images, _BLOCK)

    return Extractor(name, digest, None, describe, is_whole=True)


@functools.partial(jax.jit, static_argnums=0)
def _described(net: InceptionV3, variables: Any, images: Array) -> tuple[Array, Array]:
    found: Any = net.apply(variables, resized(images))
    features, logits = found
    return features, jax.nn.softmax(logits - variables["params"]["fc"]["bias"])


def resized(images: Array) -> Array:
    """uint8 [B,H,W,1 or 3] -> float32 [B,299,299,3], by the one policy `RESIZED`, that of the
    PyTorch port whose weights these are."""
    x = images.astype(jnp.float32) / 255.0
    shape = (len(x), SIDE, SIDE, x.shape[3])
    x = 2.0 * jax.image.resize(x, shape, "linear", antialias=False) - 1.0
    return jnp.broadcast_to(x, (*shape[:3], 3))
