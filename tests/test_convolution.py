"""The convolutions: values, derivatives of any order, and every transformation of a GAN's step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from jaxgan.kernels import convolution, transposed_convolution

SIZES = [(8, 8), (7, 7), (6, 10)]
CHANNELS = [(1, 3), (2, 1), (3, 2)]


def normal(seed, *shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def equal(found, expected, rtol=1e-5, atol=1e-5):
    """Equal to a few units of float32's last place, by default of sums of some ten terms."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, expected
    )


def reference(x, w, stride=2, padding=1):
    return lax.conv_general_dilated(
        x, w, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def naive_transposed(y, w, stride, padding):
    """Each pixel stamps its kernel onto the image, in float64."""
    b, h, width, _ = y.shape
    k, o = w.shape[0], w.shape[2]
    image = np.zeros((b, (h - 1) * stride + k, (width - 1) * stride + k, o))
    for i in range(h):
        for j in range(width):
            stamp = np.einsum("bi,kloi->bklo", np.float64(y[:, i, j]), np.float64(w))
            image[:, i * stride : i * stride + k, j * stride : j * stride + k] += stamp
    return image[:, padding : image.shape[1] - padding, padding : image.shape[2] - padding]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_convolution_equals_xla(size, channels):
    x, w = normal(0, 2, *size, channels[0]), normal(1, 4, 4, *channels)
    # Sums of 16 to 48 products of normals in another order, of numbers up to 10.
    equal(convolution(x, w), reference(x, w), atol=2e-6)


@pytest.mark.parametrize(("width", "stride", "padding"), [(4, 2, 1), (3, 1, 1), (5, 3, 2)])
@pytest.mark.parametrize("channels", CHANNELS)
def test_transposed_convolution_equals_stamping(width, stride, padding, channels):
    y, w = normal(0, 2, 3, 5, channels[1]), normal(1, width, width, *channels)
    expected = naive_transposed(y, w, stride, padding)
    for implementation in ("xla", "plain"):
        found = transposed_convolution(
            y, w, stride=stride, padding=padding, implementation=implementation
        )
        equal(found, expected, atol=4e-6)  # as above, summed in float32


@pytest.mark.parametrize("function", [convolution, transposed_convolution])
@pytest.mark.parametrize("channels", CHANNELS)
def test_derivatives_to_second_order_in_both_modes(function, channels):
    images = normal(0, 1, 6, 6, channels[0] if function is convolution else channels[1])

    def square(x, w):
        return function(x, w) ** 2

    # The maps are bilinear, so central differences are exact and only rounding is left.
    bounds = dict(order=2, modes=("fwd", "rev"), atol=0.1, rtol=0.02)
    check_grads(square, (images, normal(1, 4, 4, *channels)), **bounds)


@pytest.mark.parametrize("channels", CHANNELS)
def test_gradients_equal_those_of_xla(channels):
    x, w = normal(0, 3, 8, 8, channels[0]), normal(1, 4, 4, *channels)
    mine, theirs = (
        jax.grad(lambda x, w, f=f: jnp.sum(jnp.sin(f(x, w))), (0, 1))(x, w)
        for f in (convolution, reference)
    )
    equal(mine, theirs, atol=2e-5)  # sums of up to 200 terms of size 1 to 10


def test_gradient_penalty_equals_that_of_xla():
    x, w, v = normal(0, 3, 8, 8, 1), normal(1, 4, 4, 1, 3), normal(2, 4, 4, 3, 2)

    def penalty(params, f):
        def critique(x):
            return jnp.sum(jnp.tanh(f(jnp.tanh(f(x, params[0])), params[1])))

        return jnp.sum(jax.grad(critique)(x) ** 2)

    mine, theirs = (jax.grad(penalty)((w, v), f) for f in (convolution, reference))
    equal(mine, theirs, rtol=1e-4, atol=1e-4)  # two orders of derivatives in float32


def test_per_example_gradients_equal_those_of_the_sum():
    x, w = normal(0, 3, 8, 8, 1), normal(1, 4, 4, 1, 3)
    alone = jax.vmap(jax.grad(lambda image: jnp.sum(convolution(image[None], w) ** 2)))(x)
    together = jax.grad(lambda x: jnp.sum(convolution(x, w) ** 2))(x)
    equal(alone, together)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (2, 1)])
@pytest.mark.parametrize("function", [convolution, transposed_convolution])
def test_vmap_equals_a_loop(function, axes):
    x, w = normal(0, 3, 2, 6, 6, 2), normal(1, 3, 4, 4, 2, 2)
    members = [[a[0 if axis is None else i] for a, axis in zip((x, w), axes)] for i in range(3)]
    operands = [a[0] if axis is None else jnp.moveaxis(a, 0, axis) for a, axis in zip((x, w), axes)]

    def loss(x, w):
        return jnp.sum(jnp.sin(function(x, w)))

    for f in (function, jax.grad(loss, 0), jax.grad(loss, 1)):
        mapped = jax.vmap(f, axes)(*operands)
        equal(mapped, jnp.stack([f(*member) for member in members]))


def test_nested_vmap_equals_loops():
    x, w = normal(0, 2, 3, 1, 4, 4, 2), normal(1, 2, 3, 4, 4, 2, 2)
    mapped = jax.vmap(jax.vmap(convolution))(x, w)
    looped = [[convolution(x[i, j], w[i, j]) for j in range(3)] for i in range(2)]
    equal(mapped, jnp.stack([jnp.stack(row) for row in looped]))


def test_scan_and_remat_keep_the_gradient():
    x, w = normal(0, 2, 8, 8, 2), normal(1, 4, 4, 2, 2)

    def there_and_back(x, w):
        return transposed_convolution(convolution(x, w), w)

    def called(w):
        return jnp.sum(there_and_back(x, w) ** 2)

    def scanned(w):
        def body(y, _):
            return jax.checkpoint(there_and_back)(y, w), None

        return jnp.sum(lax.scan(body, x, None, length=1)[0] ** 2)

    equal(jax.grad(scanned)(w), jax.grad(called)(w), atol=1e-3)  # numbers of size 1e3


def test_bfloat16_stays_bfloat16_and_is_close():
    x, w = normal(0, 2, 8, 8, 3, dtype=jnp.bfloat16), normal(1, 4, 4, 3, 4, dtype=jnp.bfloat16)
    y = convolution(x, w)
    assert y.dtype == jnp.bfloat16
    exact = reference(x.astype(jnp.float32), w.astype(jnp.float32))
    error = jnp.linalg.norm(y.astype(jnp.float32) - exact) / jnp.linalg.norm(exact)
    assert error < 4e-3  # one rounding to 8 bits: at most 2^-8 relative


def test_an_empty_batch_gives_an_empty_batch_and_zero_gradient():
    x, w = jnp.zeros((0, 8, 8, 1)), normal(1, 4, 4, 1, 3)
    assert convolution(x, w).shape == (0, 4, 4, 3)
    np.testing.assert_array_equal(jax.grad(lambda w: jnp.sum(convolution(x, w)))(w), 0.0)


IMAGES, KERNEL = jnp.zeros((2, 8, 8, 3)), jnp.zeros((4, 4, 3, 2))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: convolution(IMAGES, jnp.zeros((4, 4, 1, 2))),
            "3 channels.*third axis is 1",
        ),
        (lambda: transposed_convolution(IMAGES, KERNEL), "3 channels.*last axis is 2"),
        (lambda: convolution(IMAGES[0], KERNEL), r"shapes \(8, 8, 3\)"),
        (
            lambda: convolution(IMAGES.astype(jnp.bfloat16), KERNEL),
            "bfloat16 but the kernel is float32",
        ),
        (
            lambda: convolution(IMAGES, KERNEL, stride=2.0),
            "stride=2.0 and padding=1 must be whole",
        ),
        (lambda: convolution(IMAGES, KERNEL, padding=-1), "stride=2 and padding=-1"),
        (
            lambda: transposed_convolution(IMAGES[..., :2], KERNEL, stride=0),
            "stride=0 and padding=1",
        ),
        (lambda: convolution(IMAGES[:, :1, :1], KERNEL), "4-pixel kernel does not fit"),
    ],
)
def test_operands_that_do_not_fit_are_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()
