"""TFDS builders that need no TensorFlow: scikit-learn's digits, MNIST and Fashion-MNIST.

TFDS's own MNIST builders read and unpack through TensorFlow. These subclass them for names,
versions, addresses and checksums, and read the IDX files themselves; what they prepare is what
`tfds.data_source("mnist")` then reads.
"""

import gzip
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered
from tensorflow_datasets.image_classification import mnist


def _png(image: np.ndarray) -> bytes:
    """A PNG of uint8 [H,W,1]. TFDS takes bytes as they are; arrays it encodes with TensorFlow."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0]).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _examples(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield i, {"image": _png(image), "label": int(label)}


class IDXFormatError(ValueError):
    """A file that is not what its name says."""


def read_idx(path: Any, magic: int) -> np.ndarray:
    """The uint8 array of a gzipped IDX file: images [N,H,W] (2051) or labels [N] (2049).

    Raises:
      IDXFormatError: where the header and the length of the file do not agree with that.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise IDXFormatError(f"{path} is not a readable gzip file: {error}") from None
    dims = magic & 0xFF
    header = np.frombuffer(content[: 4 * (dims + 1)], ">i4")
    if len(header) != dims + 1 or header[0] != magic:
        raise IDXFormatError(f"{path} does not begin with the IDX number {magic}")
    shape = tuple(int(n) for n in header[1:])
    body = np.frombuffer(content, np.uint8, offset=4 * (dims + 1))
    if body.size != np.prod(shape):
        raise IDXFormatError(
            f"{path} holds {body.size} bytes, its header promises {np.prod(shape)}"
        )
    return body.reshape(shape)


class _IDXFiles:
    """Makes a TFDS builder of the MNIST family generate its examples without TensorFlow."""

    URL: str

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        files = {"train": "train", "test": "t10k"}
        # Not download_and_extract, which needs TensorFlow.
        paths = dl_manager.download(
            {
                (split, part): f"{self.URL}{stem}-{part}-ubyte.gz"
                for split, stem in files.items()
                for part in ("images-idx3", "labels-idx1")
            }
        )
        return {
            s: self._generate_examples(paths[s, "images-idx3"], paths[s, "labels-idx1"])
            for s in files
        }

    def _generate_examples(self, images: Any, labels: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        return _examples(read_idx(images, 2051)[..., None], read_idx(labels, 2049))


with registered.skip_registration():  # tfds.builder("mnist") stays the stock class

    class MNIST(_IDXFiles, mnist.MNIST):
        """MNIST. LeCun, Cortes and Burges."""

        name = "mnist"
        url_infos = (
            mnist.MNIST.url_infos
        )  # sizes and checksums; a subclass elsewhere does not find them by itself

    class FashionMNIST(_IDXFiles, mnist.FashionMNIST):
        """Fashion-MNIST. Xiao, Rasul and Vollgraf, 2017."""

        name = "fashion_mnist"
        url_infos = mnist.FashionMNIST.url_infos

    class Digits(tfds.core.GeneratorBasedBuilder):
        """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries.

        They are the test set of UCI's optical recognition of handwritten digits.
        """

        name = "digits"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description="1,797 handwritten digits, 8 x 8 pixels of 17 grey levels.",
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                        "label": tfds.features.ClassLabel(num_classes=10),
                    }
                ),
                supervised_keys=("image", "label"),
                homepage="https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html",
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
            from sklearn.datasets import load_digits

            digits: Any = load_digits()
            return _examples(
                np.round(digits.images * (255.0 / 16.0)).astype(np.uint8)[..., None], digits.target
            )


TF_FREE = {"digits": Digits, "mnist": MNIST, "fashion_mnist": FashionMNIST}
