"""The count of a step's floating-point operations is the one done by hand, whichever way the step
is written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.flops import PEAKS, model_flops, peak_flops
from benchmarks.workload import kernels_of, step_shapes
from jaxgan.config import configured
from jaxgan.kernels import convolution, transposed_convolution

X = jax.ShapeDtypeStruct((5, 12, 12, 3), "float32")
W = jax.ShapeDtypeStruct((4, 4, 3, 7), "float32")
CONVOLUTION = 2 * 5 * 6 * 6 * 4 * 4 * 3 * 7


@pytest.fixture(autouse=True)
def as_users_run():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def xlas(x, w):
    options = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.lax.conv_general_dilated(x, w, (2, 2), [(1, 1)] * 2, **options)


def total(x, w):
    return convolution(x, w).sum()


# Of an odd number of pixels XLA's own derivative by the images counts one in four as half of each
# side, which puts 13 of 49 pixels where there are 9 places: a thousandth of the step.
@pytest.mark.parametrize(("kind", "tolerance"), [("plain", 1e-3), ("xla", 0)])
def test_a_step_of_the_founding_networks_is_counted_as_by_hand(kind, tolerance):
    """The generator's pass is written in both moves, and counts once."""
    config = configured("seed-mnist", {"kernels": kind})
    linear, first, second = 100 * 7 * 7 * 64, 7 * 7 * 16 * 64 * 32, 14 * 14 * 16 * 32
    one, two, three = 14 * 14 * 16 * 16, 7 * 7 * 16 * 16 * 32, 3 * 3 * 16 * 32
    generator = 2 * linear + 3 * (first + second)  # nothing asks for the gradient of z
    # Nor for that of the images, of which there are twice as many.
    on_both = 2 * one + 3 * (two + three)
    towards_fooling = 2 * (one + two + three)  # nor, here, for those of the kernels
    by_hand = 2 * 128 * (generator + 2 * on_both + towards_fooling)
    with kernels_of(config):
        run, shapes = step_shapes(config, 1, 1)
        assert model_flops(run, *shapes) == pytest.approx(by_hand, rel=tolerance, abs=0)


@pytest.mark.parametrize("function", [convolution, xlas])
def test_convolutions_count_the_same_as_primitives_and_as_xla_differentiates_them(function):
    def linear(x, w):
        return function(x, w).sum()

    def square(x, w):
        return (function(x, w) ** 2).sum()

    assert model_flops(function, X, W) == CONVOLUTION
    # Linear in both: no forward pass.
    assert model_flops(jax.grad(linear, (0, 1)), X, W) == 2 * CONVOLUTION
    assert model_flops(jax.grad(square, (0, 1)), X, W) == 3 * CONVOLUTION


def test_a_transposed_convolution_counts_what_it_transposes():
    small = jax.ShapeDtypeStruct((5, 6, 6, 7), "float32")
    assert model_flops(transposed_convolution, small, W) == CONVOLUTION


def test_calls_loops_and_devices_are_looked_into():
    def looped(x, w):
        return jax.lax.scan(lambda c, _: (c + total(x, w), None), 0.0, length=2)[0]

    def conditional(x, w):
        return jax.lax.cond(x[0, 0, 0, 0] > 0, total, lambda x, w: 0.0, x, w)

    assert model_flops(jax.jit(jax.checkpoint(looped)), X, W) == 2 * CONVOLUTION
    assert model_flops(conditional, X, W) == CONVOLUTION
    stacked = jax.ShapeDtypeStruct((3, *W.shape), "float32")
    assert model_flops(jax.vmap(total, (None, 0)), X, stacked) == 3 * CONVOLUTION
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("x",))
    split = jax.sharding.PartitionSpec("x")
    specs = dict(in_specs=(split, None), out_specs=split, check_vma=False)
    sharded = jax.shard_map(convolution, mesh=mesh, **specs)
    six = jax.ShapeDtypeStruct((6, *X.shape[1:]), "float32")
    assert model_flops(sharded, six, W) == CONVOLUTION * 6 // 5


def test_the_same_product_counts_once_and_what_no_result_depends_on_not_at_all():
    @jax.jit
    def both(x, w):
        return convolution(x, w), convolution(2 * x, w)

    assert model_flops(lambda x, w: both(x, w)[0], X, W) == CONVOLUTION
    assert model_flops(lambda x, w: (both(x, w), convolution(x, w)), X, W) == 2 * CONVOLUTION
    assert model_flops(lambda x, w: (total(x, w), total(x, w + 1)), X, W) == 2 * CONVOLUTION


def test_a_loop_of_unknown_length_is_refused():
    square = jax.ShapeDtypeStruct((3, 3), "float32")

    def unfinished(x):
        return jnp.sum(x) < 1

    def products(x):
        return jax.lax.while_loop(unfinished, lambda x: x @ x, x)

    def sums(x):
        return jax.lax.while_loop(unfinished, lambda x: x + 1, x) @ x

    with pytest.raises(ValueError, match="cannot be counted"):
        model_flops(products, square)
    assert model_flops(sums, square) == 2 * 27


def test_the_peak_is_that_of_the_arithmetic_which_jax_chooses():
    assert peak_flops("NVIDIA H100 80GB HBM3", "float32") == 494.7e12  # TF32
    assert peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989.4e12
    assert peak_flops("a processor", "float32") is None and len(PEAKS) >= 5
