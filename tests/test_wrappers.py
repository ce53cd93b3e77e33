"""Packs, minibatch deviation and spectral norm: their formulas, and that they train as they
should."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    Layers,
    assert_close,
    assert_equal_trees,
    assert_one_device_equals_four,
    points,
    toy,
    train,
)

from jaxgan.errors import UserError
from jaxgan.game import init
from jaxgan.models import MinibatchStdDev, MLPDiscriminator, MLPGenerator, Pack, SpectralNorm
from jaxgan.step import make_step
from jaxgan.traits import traits

BATCHES = [points(i, 16) for i in range(3)]


class Told(nn.Module):
    """Gives back what it is given."""

    @nn.compact
    def __call__(self, *inputs, train):
        return inputs, train


def test_a_pack_joins_examples_along_the_last_axis():
    images = np.arange(4 * 2 * 3 * 2, dtype=np.float32).reshape(4, 2, 3, 2)
    labels = np.arange(4, dtype=np.int32)
    text = np.arange(4 * 5, dtype=np.float32).reshape(4, 5)
    (seen, of_labels, of_text), trains = Pack(Told(), pack=2).apply(
        {}, images, labels, text, train=False
    )
    assert seen.shape == (2, 2, 3, 4) and of_text.shape == (2, 10) and not trains
    for i in range(2):
        expected = np.concatenate([images[2 * i], images[2 * i + 1]], axis=-1)
        np.testing.assert_array_equal(seen[i], expected)
        np.testing.assert_array_equal(of_labels[i], labels[2 * i : 2 * i + 2])
        np.testing.assert_array_equal(of_text[i], text[2 * i : 2 * i + 2].ravel())


def test_a_pack_is_found_however_deep():
    module = nn.Sequential([Pack(Layers((1,)), pack=2), nn.Dense(1)])
    variables = module.init(jax.random.key(0), BATCHES[0]["point"])
    assert traits(lambda x: module.apply(variables, x), BATCHES[0]["point"]) == (False, 2)


def test_packs_of_real_and_of_made_examples_do_not_mix():
    game = toy(discriminator=Pack(Layers((8, 1)), pack=4))
    state = init(game, jax.random.key(0), BATCHES[0])
    module, params = game.players["discriminator"].module, state.players["discriminator"].params
    _, metrics = jax.jit(make_step(game))(state, BATCHES[0])
    logits = module.apply({"params": params}, BATCHES[0]["point"])
    assert logits.shape == (4, 1)
    # A mean in another order.
    np.testing.assert_allclose(metrics["score_real"], jax.nn.sigmoid(logits).mean(), rtol=1e-5)


def test_packs_of_examples_with_labels_train_the_same_on_any_number_of_devices():
    labels = np.arange(16, dtype=np.int32) % 3
    networks = MLPGenerator((2,), (8,), classes=3), Pack(MLPDiscriminator((8,), classes=3))
    game = toy(*networks, given=("label",))
    assert_one_device_equals_four(game, [batch | {"label": labels} for batch in BATCHES])


def deviation(x, group, features):
    """The formula of minibatch deviation, by loops."""
    count, channels = len(x), x.shape[-1]
    size = channels // features
    found = np.zeros((*x.shape[:-1], features))
    for start in range(0, count, group):
        members = x[start : start + group]
        for feature in range(features):
            part = members[..., feature * size : (feature + 1) * size]
            found[start : start + group, ..., feature] = np.sqrt(part.var(axis=0) + 1e-8).mean()
    return np.concatenate([x, found], axis=-1)


@pytest.mark.parametrize(
    ("shape", "group", "features", "used"),
    [
        ((8, 6), 4, 1, 4),
        ((8, 3, 2, 4), 4, 2, 4),
        ((6, 5, 4), 4, 1, 3),
        ((2, 4), 4, 1, 2),
        ((1, 4), 4, 1, 1),
    ],
    ids=str,
)
def test_minibatch_deviation_is_that_of_groups_of_consecutive_examples(
    shape, group, features, used
):
    x = np.random.default_rng(0).normal(size=shape)
    y = MinibatchStdDev(group, features).apply({}, x.astype(np.float32))
    np.testing.assert_allclose(y, deviation(x, used, features), rtol=1e-5)  # float32 sums


def test_minibatch_deviation_in_bfloat16_is_taken_in_float32():
    x = np.random.default_rng(0).normal(size=(4, 8)).astype(jnp.bfloat16)
    y = MinibatchStdDev().apply({}, jnp.asarray(x))
    assert y.dtype == jnp.bfloat16
    expected = deviation(np.float64(x), 4, 1)[:, -1]
    np.testing.assert_allclose(np.float64(y)[:, -1], expected, rtol=2**-8)  # rounded once


def test_groups_that_cannot_be_are_refused():
    with pytest.raises(UserError, match=r"batch of 7 examples has no groups of 2 to 4.*4 or 8"):
        MinibatchStdDev(4).apply({}, jnp.ones((7, 4)))
    with pytest.raises(UserError, match=r"features=3.*do not divide the 4 channels"):
        MinibatchStdDev(4, features=3).apply({}, jnp.ones((8, 4)))


class Varied(nn.Module):
    """A discriminator with minibatch deviation."""

    @nn.compact
    def __call__(self, x):
        x = nn.leaky_relu(MinibatchStdDev(4, features=2)(nn.Dense(8)(x)))
        return nn.Dense(1)(x)


def test_minibatch_deviation_sees_real_and_made_examples_apart_and_groups_alike_on_any_devices():
    after = assert_one_device_equals_four(toy(discriminator=Varied()), BATCHES)
    game = toy(discriminator=Varied())
    state = init(game, jax.random.key(0), BATCHES[0])
    _, metrics = jax.jit(make_step(game))(state, BATCHES[0])
    logits = Varied().apply({"params": state.players["discriminator"].params}, BATCHES[0]["point"])
    # A mean in another order.
    np.testing.assert_allclose(metrics["score_real"], jax.nn.sigmoid(logits).mean(), rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.players))


def test_the_slope_of_minibatch_deviation_is_finite_where_all_examples_are_equal():
    slope = jax.grad(lambda x: MinibatchStdDev().apply({}, x)[..., -1].sum())(jnp.ones((4, 3)))
    assert np.isfinite(slope).all()


class Convolved(nn.Module):
    """A convolution, batch norm and a dense layer."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(6, (3, 3))(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(4)(x.reshape(len(x), -1))


def largest(kernel):
    return np.linalg.svd(np.reshape(kernel, (-1, kernel.shape[-1])), compute_uv=False)[0]


def test_spectral_norm_divides_each_kernel_by_its_largest_singular_value():
    module = SpectralNorm(Convolved(), iterations=50)
    x = jax.random.normal(jax.random.key(0), (4, 5, 4, 3))
    variables = module.init(jax.random.key(1), x)
    assert set(variables) == {"params", "batch_stats", "spectral_norm"}
    y, _ = module.apply(variables, x, train=False, mutable=["spectral_norm", "batch_stats"])

    def divided(path, leaf):
        return leaf / largest(leaf) if path[-1].key == "kernel" else leaf

    params = jax.tree_util.tree_map_with_path(divided, variables["params"]["module"])
    stats = variables["batch_stats"]["module"]
    expected = Convolved().apply({"params": params, "batch_stats": stats}, x, train=False)
    # Fifty iterations: (second / first singular value)^100, squared, beside float32.
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)


def test_the_estimate_of_spectral_norm_moves_with_updates_of_the_discriminator_alone():
    game = toy(discriminator=SpectralNorm(Layers((8, 1))))
    state = init(game, jax.random.key(0), BATCHES[0])
    after, _ = jax.jit(make_step(game))(state, BATCHES[0])
    module, params = game.players["discriminator"].module, state.players["discriminator"]
    # One call on any examples: the estimate depends on the kernels alone.
    variables = {"params": params.params, **params.model_state}
    _, once = module.apply(variables, BATCHES[1]["point"], mutable=["spectral_norm"])
    kept = after.players["discriminator"].model_state
    assert_close(dict(once), kept, rtol=1e-5, atol=1e-6)  # products in another order
    # And where nothing may be kept, nothing is.
    first = module.apply(variables, BATCHES[1]["point"])
    assert_equal_trees(first, module.apply(variables, BATCHES[1]["point"]))


def test_a_discriminator_with_spectral_norm_trains_and_stays_smooth():
    game = toy(discriminator=SpectralNorm(Layers((8, 1))))
    after = assert_one_device_equals_four(game, BATCHES)
    state, _ = train(jax.jit(make_step(game)), after, BATCHES * 7)
    player = state.players["discriminator"]
    variables = {"params": player.params, **player.model_state}
    module, x = game.players["discriminator"].module, BATCHES[0]["point"]
    slopes = jax.grad(lambda x: module.apply(variables, x).sum())(x)
    # Each layer is 1-Lipschitz, but for an estimate that lags behind by a step.
    assert float(jnp.linalg.norm(slopes, axis=-1).max()) < 1.05


def test_spectral_norm_of_a_layer_leaves_the_others():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(4, name="free")(x))
            return SpectralNorm(nn.Dense(1, name="bound"))(x)

    variables = Network().init(jax.random.key(0), BATCHES[0]["point"])
    assert len(jax.tree.leaves(variables["spectral_norm"])) == 2  # a vector and its value
