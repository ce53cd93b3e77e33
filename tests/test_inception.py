"""Inception-v3 and files of PyTorch: the layers of two ports, and nothing executed."""

import io
import json
import pathlib
import pickle
import re
import zipfile

import jax
import numpy as np
import pytest

from jaxgan.errors import UserError
from jaxgan.evaluation import measures
from jaxgan.features import extractor, torch_files
from jaxgan.features import inception_v3 as inception
from jaxgan.features.inception_network import InceptionV3

DATA = pathlib.Path(__file__).parent / "data"
# Of each layer by pytorch-fid 0.3.0's network, and by torchvision 0.29's, with the weights and the
# image below: mean, root mean square, and five numbers.
RECORDED = json.loads((DATA / "inception.json").read_text())


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1), the same everywhere."""
    key = np.array([len(name), sum(name.encode())], np.uint64)
    raw = np.random.Philox(key=key).random_raw(int(np.prod(shape))) >> np.uint64(40)
    return (raw.astype(np.float32) / np.float32(2**24)).reshape(shape)


def weights_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by PyTorch's names with which activations keep their size from layer to layer."""
    made = {}
    for name, shape in shapes.items():
        numbers = uniform(name, shape)
        if name.endswith(("conv.weight", "fc.weight")):
            numbers = (2 * numbers - 1) * np.sqrt(6 / np.prod(shape[1:]), dtype=np.float32)
        made[name] = numbers + np.float32(0.5) if name.endswith("running_var") else numbers
    return made


def image() -> np.ndarray:
    return 2 * uniform("image", (1, 79, 83, 3)) - 1


def shapes_of(net: InceptionV3) -> dict[str, tuple[int, ...]]:
    variables = jax.eval_shape(net.init, jax.random.key(0), image())
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        *layers, last = (part.key for part in path[1:])
        shape = leaf.shape
        if last == "kernel":
            shape = shape[::-1] if len(shape) == 2 else (shape[3], shape[2], *shape[:2])
        found[".".join([*layers, inception._TORCH_NAMES[last]])] = shape
    return found


@pytest.mark.parametrize(("port", "classes"), [("fid", 1008), ("torchvision", 1000)])
def test_every_layer_equals_that_of_the_port(port, classes):
    net = InceptionV3(classes, of_fid=port == "fid")
    variables = inception.variables_of(weights_of(shapes_of(net)), net, "weights")

    @jax.jit
    def layers(variables, image):
        return net.apply(variables, image, capture_intermediates=True, mutable="intermediates")[1]

    found = layers(variables, image())["intermediates"]
    assert len(RECORDED[port]) == 17
    for name, (mean, size, *some) in RECORDED[port].items():
        numbers = np.asarray(found[name]["__call__"][0], np.float64).reshape(-1)
        at = [i * (len(numbers) - 1) // 4 for i in range(5)]
        got = [numbers.mean(), np.sqrt(np.square(numbers).mean()), *numbers[at]]
        np.testing.assert_allclose(got, [mean, size, *some], atol=1e-4 * size, err_msg=name)


def test_images_are_resized_as_the_port_does():
    pixels = np.array([[0, 255, 51]], np.uint8).reshape(1, 1, 3, 1)
    found = np.asarray(inception.resized(pixels))
    assert found.shape == (1, 299, 299, 3)
    # Of 299 columns the i-th looks at (i + 1/2) 3 / 299 - 1/2, no farther than the outermost.
    at = np.clip((np.arange(299) + 0.5) * 3 / 299 - 0.5, 0, 2)
    expected = 2 * np.interp(at, [0, 1, 2], [0, 1, 0.2]) - 1
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None], found.shape), atol=1e-6)


@pytest.mark.parametrize("kind", ["zip", "pickles"])
def test_a_file_of_pytorch_is_read_without_it(kind):
    """`torch.save` of 2.13 wrote them, with `_use_new_zipfile_serialization` and without."""
    found = torch_files.state_dict((DATA / f"torch_{kind}.pth").read_bytes())
    np.testing.assert_array_equal(found["layer.weight"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["layer.half"], np.array([0.5, -2], np.float16))
    np.testing.assert_array_equal(found["tail"], [3.0, 4.0, 5.0, 6.0])
    assert found["steps"] == 7 and found["steps"].dtype == np.int64


class Harm:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return pathlib.Path.touch, (self.file,)


def test_a_file_that_names_anything_else_is_refused_and_not_executed(tmp_path):
    harmful = pickle.dumps({"fc.bias": Harm(tmp_path / "touched")})
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", harmful)
    for content in (harmful, zipped.getvalue(), (DATA / "torch_module.pth").read_bytes()):
        with pytest.raises(ValueError, match=r"it names .*, which no state dict needs"):
            torch_files.state_dict(content)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("kind", ["zip", "pickles"])
def test_a_damaged_file_is_refused_at_any_length(kind):
    content = (DATA / f"torch_{kind}.pth").read_bytes()
    for length in range(0, len(content), 97):
        with pytest.raises(ValueError):
            torch_files.state_dict(content[:length])


def test_weights_of_other_layers_are_one_line(tmp_path):
    file = tmp_path / "weights.pth"
    for content, told in [
        (b"some text", r"is no state dict of PyTorch: .*; give pt_inception"),
        ((DATA / "torch_zip.pth").read_bytes(), r"has no Conv2d_1a_3x3\.\S+; give weights"),
    ]:
        file.write_bytes(content)
        with pytest.raises(UserError, match=told):
            inception.inception(file)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        inception.inception(tmp_path / "none.pth")
    arrays = weights_of(shapes_of(InceptionV3(10)))
    with pytest.raises(UserError, match=r"weights has fc\.bias of shape \(10,\), which"):
        inception.variables_of(arrays, InceptionV3(11), "weights")


def test_only_the_known_file_is_called_fid():
    named = measures.named(("fd",), False)
    for name, label in ((inception.FID, "FID"), ("Inception-v3 of other weights", "Frechet dis")):
        of_name = extractor.Extractor(name, "", None, extractor.checked)
        assert measures.rows_of(named, of_name)["fd"].label.startswith(label)
    for sha256, are_fids in ((inception.FID_SHA256 + "0" * 56, True), ("0" * 64, False)):
        assert inception.Weights({}, 1008, sha256).are_fids is are_fids
    assert re.fullmatch("[0-9a-f]{8}", inception.FID_SHA256)
