"""The count of a step's floating-point operations is the one done by hand, whichever way the step is written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.flops import PEAKS, model_flops, peak_flops, utilisation
from jaxgan import init, make_game, make_step
from jaxgan.config import preset, replace
from jaxgan.kernels import convolution, transposed_convolution

X, W = (
    jax.ShapeDtypeStruct((5, 12, 12, 3), "float32"),
    jax.ShapeDtypeStruct((4, 4, 3, 7), "float32"),
)
CONVOLUTION = 2 * 5 * 6 * 6 * 4 * 4 * 3 * 7


@pytest.mark.parametrize("kind", ["plain", "xla"])
def test_a_step_of_the_founding_networks_is_counted_as_by_hand(kind):
    config = replace(preset("seed-mnist"), {"kernels": kind, "batch_size": 128})
    game = make_game(config)
    state = jax.eval_shape(lambda: init(game, jax.random.key(0)))
    batch = {"image": jax.ShapeDtypeStruct((128, 28, 28, 1), "uint8")}
    linear, first, second = 100 * 7 * 7 * 64, 7 * 7 * 16 * 64 * 32, 14 * 14 * 16 * 32
    one, two, three = 14 * 14 * 16 * 16, 7 * 7 * 16 * 16 * 32, 3 * 3 * 16 * 32
    generator = 2 * linear + 3 * (first + second)  # nothing asks for the gradient of z
    on_both = 2 * one + 3 * (
        two + three
    )  # nor for that of the images, of which there are twice as many
    towards_fooling = 2 * (one + two + three)  # nor, here, for those of the kernels
    assert model_flops(make_step(game), state, batch) == 2 * 128 * (
        generator + 2 * on_both + towards_fooling
    )


def test_convolutions_count_the_same_as_primitives_and_as_xla_differentiates_them():
    ours = lambda x, w: convolution(x, w)
    xlas = lambda x, w: jax.lax.conv_general_dilated(
        x, w, (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    for f in (ours, xlas):
        assert model_flops(f, X, W) == CONVOLUTION
        assert (
            model_flops(jax.grad(lambda x, w, f=f: f(x, w).sum(), (0, 1)), X, W) == 2 * CONVOLUTION
        )  # linear in both: no forward pass
        squares = jax.grad(lambda x, w, f=f: (f(x, w) ** 2).sum(), (0, 1))
        assert model_flops(squares, X, W) == 3 * CONVOLUTION
    small = jax.ShapeDtypeStruct((5, 6, 6, 7), "float32")
    assert model_flops(transposed_convolution, small, W) == CONVOLUTION


def test_calls_loops_and_devices_are_looked_into():
    f = lambda x, w: convolution(x, w).sum()
    twice = lambda x, w: jax.lax.scan(lambda c, _: (c + f(x, w), None), 0.0, length=2)[0]
    assert model_flops(jax.jit(jax.checkpoint(twice)), X, W) == 2 * CONVOLUTION
    assert (
        model_flops(lambda x, w: jax.lax.cond(x[0, 0, 0, 0] > 0, f, lambda x, w: 0.0, x, w), X, W)
        == CONVOLUTION
    )
    stacked = jax.ShapeDtypeStruct((3, *W.shape), "float32")
    assert model_flops(jax.vmap(f, (None, 0)), X, stacked) == 3 * CONVOLUTION
    devices = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("x",))
    spread = jax.sharding.PartitionSpec("x")
    sharded = jax.shard_map(
        convolution, mesh=devices, in_specs=(spread, None), out_specs=spread, check_vma=False
    )
    assert (
        model_flops(sharded, jax.ShapeDtypeStruct((6, *X.shape[1:]), "float32"), W)
        == CONVOLUTION * 6 // 5
    )


def test_what_no_result_depends_on_is_not_counted():
    both = jax.jit(lambda x, w: (convolution(x, w), convolution(2 * x, w)))
    assert model_flops(lambda x, w: both(x, w)[0], X, W) == CONVOLUTION


def test_a_loop_of_unknown_length_is_refused():
    product = lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) < 1, lambda x: x @ x, x)
    with pytest.raises(ValueError, match="cannot be counted"):
        model_flops(product, jax.ShapeDtypeStruct((3, 3), "float32"))
    adds = lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) < 1, lambda x: x + 1, x) @ x
    assert model_flops(adds, jax.ShapeDtypeStruct((3, 3), "float32")) == 2 * 27


def test_utilisation_is_a_share_of_the_peak_for_the_dtype_and_unknown_elsewhere():
    h100 = "NVIDIA H100 80GB HBM3"
    assert (
        peak_flops(h100, "float32") == PEAKS[h100].tf32
        and peak_flops(h100, "bfloat16") == PEAKS[h100].bfloat16
    )
    assert utilisation(989.4e9, 500.0, h100, "bfloat16") == pytest.approx(0.5)
    assert utilisation(1e9, 500.0, "Intel(R) Xeon(R) Processor", "float32") is None
