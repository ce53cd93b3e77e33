"""Networks and layers: shapes, sizes, initial weights, and batch norm against NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import normal
from jax.extend import core

from jaxgan.calling import train_option
from jaxgan.game import Player, init
from jaxgan.models import (
    DCGANDiscriminator,
    DCGANGenerator,
    ListingDiscriminator,
    ListingGenerator,
)
from jaxgan.models.layers import BatchNormLeakyReLU
from jaxgan.objectives import nonsaturating
from jaxgan.step import make_step
from jaxgan.two_players import gan

Z = jax.ShapeDtypeStruct((2, 5), jnp.float32)


def variables(module: nn.Module, shape):
    options = train_option(module, True)
    return jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(shape), **options))


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree["params"]))


@pytest.mark.parametrize("network", [ListingGenerator, DCGANGenerator])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 16, 3), (8, 8, 1)], ids=str)
def test_generators_make_images_between_minus_one_and_one(network, shape):
    module = network(shape=shape, width=4)
    z = jax.random.normal(jax.random.key(0), (3, 5))
    options = train_option(module, True)
    images, _ = module.init_with_output(jax.random.key(1), 100.0 * z, **options)
    assert images.shape == (3, *shape)
    assert float(jnp.abs(images).max()) <= 1.0


def test_the_networks_of_dcgan_have_odd_sides_by_a_pixel_more_that_is_cut_or_put_there():
    shape = (2, 28, 26, 3)
    generator, discriminator = DCGANGenerator(shape[1:], 8, doublings=4), DCGANDiscriminator(2, 4)
    kernels = variables(generator, (2, 5))["params"]
    assert kernels["Dense_0"]["kernel"].shape == (5, 2 * 2 * 8)
    made = jax.eval_shape(lambda z: generator.init_with_output(jax.random.key(0), z, True)[0], Z)
    assert made.shape == shape  # from 2 x 2 by 4 x 4, 7 x 7 and 14 x 13
    # 16 channels of 2 x 2 pixels.
    assert variables(discriminator, shape)["params"]["Dense_0"]["kernel"].shape == (64, 1)


def test_the_networks_of_the_listing_have_its_sizes():
    generator = variables(ListingGenerator(), (2, 100))
    discriminator = variables(ListingDiscriminator(), (2, 28, 28, 1))
    assert size(generator) == 100 * 3136 + 3136 + 64 * 32 * 16 + 32 * 16
    assert size(discriminator) == 16 * 16 + 16 * 32 * 16 + 32 * 16


def test_the_discriminator_of_the_listing_gives_a_map_of_three_by_three():
    images = jnp.zeros((2, 28, 28, 1))
    logits = ListingDiscriminator().init_with_output(jax.random.key(0), images)[0]
    assert logits.shape == (2, 3, 3, 1)


def test_the_networks_of_dcgan_at_64_pixels_have_the_shapes_of_the_paper():
    network = DCGANGenerator((64, 64, 3), width=512, doublings=4)
    generator = variables(network, (2, 100))
    discriminator = variables(DCGANDiscriminator(64, doublings=4), (2, 64, 64, 3))

    def kernels(tree, kind):
        layers = [name for name in sorted(tree["params"]) if name.startswith(kind)]
        return [tree["params"][name]["kernel"].shape for name in layers]

    assert kernels(generator, "Dense") == [(100, 4 * 4 * 512)]
    assert kernels(generator, "Double") == [
        (4, 4, 256, 512),
        (4, 4, 128, 256),
        (4, 4, 64, 128),
        (4, 4, 3, 64),
    ]
    assert kernels(discriminator, "Halve") == [
        (4, 4, 3, 64),
        (4, 4, 64, 128),
        (4, 4, 128, 256),
        (4, 4, 256, 512),
    ]
    made = jax.eval_shape(lambda v: network.apply(v, jnp.zeros((2, 100)), False), generator)
    assert made.shape == (2, 64, 64, 3)
    assert kernels(discriminator, "Dense") == [(4 * 4 * 512, 1)]


@pytest.mark.parametrize(
    "networks",
    [
        (ListingGenerator(), ListingDiscriminator()),
        (DCGANGenerator(), DCGANDiscriminator()),
    ],
    ids=["listing", "dcgan"],
)
def test_every_product_and_convolution_of_a_bfloat16_step_is_in_bfloat16(networks):
    players = [Player(network, optax.sgd(0.1)) for network in networks]
    game = gan(*players, nonsaturating(), normal, dtype=jnp.bfloat16)
    batch = {"image": jax.ShapeDtypeStruct((4, 28, 28, 1), jnp.uint8)}
    state = jax.eval_shape(lambda key: init(game, key, batch), jax.random.key(0))
    step = jax.make_jaxpr(make_step(game))(state, batch)
    products = "dot_general", "gan_convolve", "gan_spread", "gan_correlate"
    found = [eqn for eqn in subequations(step.jaxpr) if eqn.primitive.name in products]
    assert len(found) > 10
    assert {v.aval.dtype for eqn in found for v in (*eqn.invars, *eqn.outvars)} == {
        jnp.dtype("bfloat16")
    }
    # What is kept is float32: parameters, moments, averages, metrics.
    kept = {leaf.aval.dtype for leaf in step.jaxpr.outvars}
    assert {d.name for d in kept if jnp.issubdtype(d, jnp.floating)} == {"float32"}


def subequations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in core.jaxprs_in_params(eqn.params):
            yield from subequations(inner)


def test_the_discriminator_of_dcgan_gives_one_logit_and_keeps_no_statistics():
    module, images = DCGANDiscriminator(), jnp.zeros((2, 28, 28, 1))
    assert module.init_with_output(jax.random.key(0), images)[0].shape == (2, 1)
    assert set(variables(module, (2, 28, 28, 1))) == {"params"}


def test_weights_of_the_listing_start_as_in_pytorch():
    params = ListingGenerator().init(jax.random.key(0), jnp.zeros((1, 100)))["params"]
    for weights, fan_in in [
        (params["Dense_0"]["kernel"], 100),
        (params["Dense_0"]["bias"], 100),
        (params["Double_0"]["kernel"], 32 * 16),
        (params["Double_1"]["kernel"], 16),
    ]:
        bound = fan_in**-0.5
        # Of n uniform numbers the largest is within 10/n of the bound, but for one time in e^10.
        assert bound * (1 - 10 / weights.size) <= float(jnp.abs(weights).max()) <= bound


def test_batch_norm_normalises_by_the_batch_and_moves_the_running_statistics():
    x = jax.random.normal(jax.random.key(0), (6, 5, 4, 3)) * 2.0 + 1.0
    module = BatchNormLeakyReLU(momentum=0.75)
    start = module.init(jax.random.key(1), x, True)
    np.testing.assert_array_equal(start["batch_stats"]["mean"], 0.0)
    y, updated = module.apply(start, x, True, mutable=["batch_stats"])
    values = np.float64(x)
    mean, variance = values.mean((0, 1, 2)), values.var((0, 1, 2))
    scale = np.float64(start["params"]["scale"])
    expected = (values - mean) / np.sqrt(variance + 1e-5) * scale
    np.testing.assert_allclose(
        y, np.where(expected > 0, expected, 0.2 * expected), rtol=1e-4, atol=1e-5
    )  # E[x^2] - E[x]^2 cancels
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(
        updated["batch_stats"]["variance"], 0.75 + 0.25 * variance, rtol=1e-5
    )


def test_batch_norm_uses_the_running_statistics_when_not_training():
    given = {
        "params": {"scale": jnp.full(2, 3.0), "bias": jnp.full(2, 1.0)},
        "batch_stats": {"mean": jnp.full(2, 5.0), "variance": jnp.full(2, 4.0)},
    }
    y = BatchNormLeakyReLU().apply(given, jnp.array([[7.0, 3.0]]), False)
    np.testing.assert_allclose(
        y, [[(7 - 5) / 2 * 3 + 1, 0.2 * ((3 - 5) / 2 * 3 + 1)]], rtol=1e-5
    )  # epsilon is 1e-5 beside 4


def test_batch_norm_over_replicas_equals_one_device():
    x = jax.random.normal(jax.random.key(0), (8, 4, 4, 3)) + 3.0
    alone, shared = BatchNormLeakyReLU(), BatchNormLeakyReLU(axis_name="i")
    start = alone.init(jax.random.key(1), x, True)
    y, stats = alone.apply(start, x, True, mutable=["batch_stats"])
    apart, apart_stats = jax.vmap(
        lambda x: shared.apply(start, x, True, mutable=["batch_stats"]), axis_name="i"
    )(x.reshape(4, 2, 4, 4, 3))
    np.testing.assert_allclose(
        apart.reshape(y.shape), y, rtol=1e-4, atol=1e-5
    )  # means of means, in float32
    for name in ("mean", "variance"):
        for replica in apart_stats["batch_stats"][name]:
            np.testing.assert_allclose(replica, stats["batch_stats"][name], rtol=1e-5)
