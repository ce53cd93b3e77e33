"""Penalties: closed forms on linear networks, finite differences, state, and one device as four."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    Judge,
    Maker,
    a_play,
    assert_one_device_equals_four,
    batches,
    on_four_devices,
    trained,
)
from jax.flatten_util import ravel_pytree

from jaxgan import latents, objectives, slopes
from jaxgan.errors import UserError
from jaxgan.examples import drawn
from jaxgan.game import Player, init
from jaxgan.generator_penalties import in_latent, mode_seeking, path_length, reconstruction
from jaxgan.moving import MovingMean
from jaxgan.penalties import Critique, Penalty, added, gradient_penalty, lecam, r1, r2
from jaxgan.step import make_step
from jaxgan.two_players import gan, maker

KINDS = ("one_centred", "zero_centred", "dragan")
SHAPES = {"points": (2,), "sound": (16, 1), "pictures": (4, 5, 3), "volumes": (2, 3, 4, 1)}
FLOAT32 = 1e-6  # relative, of sums of a few dozen numbers


def examples(count=8, shape=(2,), seed=0):
    normal = jax.random.normal(jax.random.key(seed), (count, *shape))
    return {"image": normal, "label": jnp.arange(count, dtype=jnp.int32)}


def critique(logits, real, fake, made=("image",), across_batch=False):
    return Critique(logits, made, logits(real), logits(fake), across_batch)


def value_of(penalty, logits, real=None, fake=None, step=0, seed=0, **options):
    """The value of a penalty of a discriminator."""
    real = examples() if real is None else real
    fake = examples(len(real["image"]), real["image"].shape[1:], 1) if fake is None else fake
    looks = critique(logits, real, fake, **options)
    return penalty.value(a_play(real, step, seed), looks, real, fake)


def linear(v):
    return lambda x: jnp.sum((x["image"] * v[None]).reshape(len(x["image"]), -1), axis=1)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_of_a_linear_discriminator_each_is_a_function_of_its_slope_alone(shape):
    v = jax.random.normal(jax.random.key(2), shape)
    square = float(jnp.sum(v**2))
    expected = [
        (r1(1.0), square / 2),
        (r2(1.0), square / 2),
        (gradient_penalty(1.0), (square**0.5 - 1) ** 2),
        (gradient_penalty(1.0, "zero_centred"), square),
        (gradient_penalty(1.0, "dragan"), (square**0.5 - 1) ** 2),
    ]
    for penalty, formula in expected:
        found = value_of(penalty, linear(v), examples(6, shape))
        np.testing.assert_allclose(found, formula, rtol=10 * FLOAT32, err_msg=penalty.name)


def test_each_is_taken_where_it_says():
    real, fake = examples(), examples(seed=1)

    def half_square(x):  # whose slope is the example itself
        return jnp.sum(x["image"] ** 2, axis=1) / 2

    def found(penalty):
        return value_of(penalty, half_square, real, fake)

    x, y = real["image"], fake["image"]
    np.testing.assert_allclose(found(r1(1.0)), jnp.mean(jnp.sum(x**2, 1)) / 2, rtol=FLOAT32)
    np.testing.assert_allclose(found(r2(1.0)), jnp.mean(jnp.sum(y**2, 1)) / 2, rtol=FLOAT32)
    keys = a_play(real).keys
    t = drawn(jax.random.uniform, keys, "gradient_penalty")[:, None]
    between = jnp.sum((t * x + (1 - t) * y) ** 2, 1)
    np.testing.assert_allclose(
        found(gradient_penalty(1.0, "zero_centred")), between.mean(), rtol=FLOAT32
    )
    np.testing.assert_allclose(
        found(gradient_penalty(1.0)), jnp.mean((between**0.5 - 1) ** 2), rtol=10 * FLOAT32
    )
    assert found(gradient_penalty(1.0, "dragan", deviation=0.0)) == pytest.approx(
        float(jnp.mean((jnp.linalg.norm(x, axis=1) - 1) ** 2)), rel=10 * FLOAT32
    )


def test_dragan_moves_each_example_by_noise_of_its_deviation():
    real = examples(4000, (3,))

    def half_square(x):
        return jnp.sum(x["image"] ** 2, axis=1) / 2

    penalty = gradient_penalty(1.0, "dragan", deviation=2.0)
    at_zero = {**real, "image": jnp.zeros_like(real["image"])}
    found = value_of(penalty, half_square, at_zero)
    # |n| of 3 dimensions has mean 2 sqrt(8 / pi) and mean square 12: E(|n| - 1)^2 = 13 - 2 E|n|.
    expected = 13 - 4 * np.sqrt(8 / np.pi)
    n = 2 * np.random.default_rng(0).normal(size=(100_000, 3))
    spread = ((np.linalg.norm(n, axis=1) - 1) ** 2).std() / 4000**0.5
    assert abs(found - expected) < 4 * spread


def test_a_flat_discriminator_has_finite_gradients():
    def loss(weight):
        return value_of(gradient_penalty(1.0), linear(weight * jnp.ones(2)))

    found, slope = jax.value_and_grad(loss)(0.0)
    assert found == 1.0 and np.isfinite(slope)


def test_slopes_of_heads_and_of_maps_are_those_of_their_sum_by_example():
    v = jnp.array([1.0, -2.0])

    def heads(x):
        map_ = x["image"][:, None, :, None] * v[None, None, :, None]  # [B, 1, 2, 1]
        return {"map": map_, "one": jnp.sum(x["image"], axis=1)}

    # The slope is v + 1: |(2, -1)|^2 / 2. An estimate of n has a standard error of sqrt(2 / n).
    assert value_of(r1(1.0), heads) == pytest.approx(2.5, rel=FLOAT32)
    estimate = value_of(r1(1.0, method="finite_difference"), heads, examples(20_000))
    assert estimate == pytest.approx(2.5, rel=4 * (2 / 20_000) ** 0.5)


def test_slopes_of_several_made_features_add_up_and_given_ones_count_nothing():
    real = examples()
    real["sound"] = jnp.ones((8, 5))

    def both(x):
        given = x["label"].astype(jnp.float32) ** 2  # of a whole number there is no slope
        return 3 * x["image"][:, 0] + 2 * x["sound"][:, 1] + given

    made = ("image", "sound")
    assert value_of(r1(1.0), both, real, real, made=made) == pytest.approx((9 + 4) / 2)
    assert value_of(r1(1.0), both, real, real) == pytest.approx(9 / 2)
    assert value_of(r1(1.0), both, real, real, made=(*made, "label")) == pytest.approx(13 / 2)
    with pytest.raises(UserError, match=r"'r1' needs made features .* makes 'label' of int32"):
        value_of(r1(1.0), both, real, real, made=("label",))


def packed(x):
    """Three neighbours in a logit: <(1, 2), x_0> + <(0, 1), x_1> + <(3, 0), x_2>."""
    v = jnp.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
    return jnp.sum(x["image"].reshape(-1, 3, 2) * v[None], axis=(1, 2))


def test_a_pack_has_one_slope():
    real = examples(6)
    assert value_of(r1(1.0), packed, real) == pytest.approx((5 + 1 + 9) / 2)
    assert value_of(gradient_penalty(1.0), packed, real) == pytest.approx((15**0.5 - 1) ** 2)
    many = examples(60_000)
    estimate = value_of(r1(1.0, method="finite_difference"), packed, many)
    assert estimate == pytest.approx(7.5, rel=4 * (2 / 20_000) ** 0.5)  # 20,000 packs


def test_a_pack_is_mixed_as_one():
    real, fake = examples(6), examples(6, seed=1)

    def square(x):
        return jnp.sum(x["image"].reshape(-1, 3, 2) ** 2, axis=(1, 2)) / 2

    t = jnp.repeat(drawn(jax.random.uniform, a_play(real).keys[::3], "gradient_penalty"), 3)
    mixed = t[:, None] * real["image"] + (1 - t[:, None]) * fake["image"]
    expected = jnp.sum(mixed**2) / 2  # of two packs
    found = value_of(gradient_penalty(1.0, "zero_centred"), square, real, fake)
    np.testing.assert_allclose(found, expected, rtol=FLOAT32)


def judged(seed=0):
    """A discriminator of two features, its parameters, and params -> (examples -> logits)."""
    module = Judge()
    params = module.init(jax.random.key(seed), jnp.zeros((1, 2)))
    return params, lambda params: lambda x: module.apply(params, x["image"])


@pytest.mark.parametrize("kind", ["r1", "r2", "zero_centred"])
def test_finite_differences_estimate_the_exact_penalty(kind):
    def made(method):
        makes = {"r1": r1, "r2": r2}.get(kind)
        return makes(1.0, method=method) if makes else gradient_penalty(1.0, kind, method=method)

    params, logits = judged()
    real, fake = examples(4000), examples(4000, seed=1)
    exact, estimate = (
        value_of(made(method), logits(params), real, fake) for method in slopes.METHODS
    )
    at = {"r1": real, "r2": fake}.get(kind, fake)["image"]
    squares = jnp.sum(jax.grad(lambda x: logits(params)({"image": x}).sum())(at) ** 2, axis=1)
    # An estimate s (n^2) of each square s has deviation sqrt(2) s; its bias is of eps^2 = 1e-4.
    error = (2 * jnp.mean(squares**2) / 4000) ** 0.5 / jnp.mean(squares)
    assert error < 0.04
    assert estimate / exact == pytest.approx(1.0, abs=4 * float(error))
    assert estimate != exact


def test_what_has_no_finite_differences_or_no_such_kind_is_refused():
    for kind in ("one_centred", "dragan"):
        with pytest.raises(UserError, match="use method 'exact' or kind 'zero_centred'"):
            gradient_penalty(1.0, kind, method="finite_difference")
    with pytest.raises(UserError, match="no kind 'two'; use one_centred, zero_centred, dragan"):
        gradient_penalty(1.0, "two")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="r1 has no method 'exakt'; use exact, finite_difference"):
        r1(1.0, method="exakt")  # type: ignore[arg-type]


ALL = {
    "r1": r1(1.0),
    "r2": r2(1.0),
    "r1 by differences": r1(1.0, method="finite_difference"),
    "one-centred": gradient_penalty(1.0),
    "zero-centred": gradient_penalty(1.0, "zero_centred"),
    "zero-centred by differences": gradient_penalty(
        1.0, "zero_centred", method="finite_difference"
    ),
    "dragan": gradient_penalty(1.0, "dragan"),
}


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_in_the_parameters_is_that_of_numeric_differences(name):
    params, logits = judged()
    flat, rebuilt = ravel_pytree(params)

    @jax.jit
    def loss(flat):
        return value_of(ALL[name], logits(rebuilt(flat)))

    slope = jax.jit(jax.grad(loss))(flat)
    direction = slope / jnp.linalg.norm(slope)
    width = 2.0**-6
    numeric = (loss(flat + width * direction) - loss(flat - width * direction)) / (2 * width)
    # The square of the width, and float32 rounding of 1e-7 over it; by differences 1e-5 over it.
    np.testing.assert_allclose(numeric, jnp.linalg.norm(slope), rtol=5e-3)


def test_a_subset_is_every_nth_example_or_pack_and_a_remainder_is_refused():
    real = examples(12)

    def half_square(x):
        return jnp.sum(x["image"] ** 2, axis=1) / 2

    found = value_of(r1(1.0, subset=3), half_square, real)
    expected = jnp.mean(jnp.sum(real["image"][::3] ** 2, axis=1)) / 2
    np.testing.assert_allclose(found, expected, rtol=FLOAT32)

    def square_of_packs(x):
        return jnp.sum(x["image"].reshape(-1, 2, 2) ** 2, axis=(1, 2)) / 2

    found = value_of(r1(1.0, subset=2), square_of_packs, real)
    expected = jnp.sum(real["image"].reshape(-1, 2, 2)[::2] ** 2) / 3 / 2
    np.testing.assert_allclose(found, expected, rtol=FLOAT32)
    with pytest.raises(
        UserError, match="penalty 'r1' has subset=5, which does not divide the 12 examples"
    ):
        value_of(r1(1.0, subset=5), half_square, real)


def test_a_discriminator_that_looks_across_the_batch_is_refused_or_taken_as_a_sum():
    def spread(x):
        return x["image"][:, 0] * jnp.mean(x["image"])

    with pytest.raises(UserError, match=r"'r2' takes slopes by example.*independent=False"):
        value_of(r2(1.0), spread, across_batch=True)
    found = value_of(r1(1.0, independent=False), spread, across_batch=True)
    x = examples()["image"]
    slope = jax.grad(lambda x: spread({"image": x}).sum())(x)
    np.testing.assert_allclose(found, jnp.mean(jnp.sum(slope**2, 1)) / 2, rtol=FLOAT32)


def a_game(**options):
    """A game of small networks with labels given, trained by gradient descent."""
    sgd = optax.sgd(0.1)
    return gan(
        Player(options.pop("generator", Maker()), sgd),
        Player(options.pop("discriminator", Judge()), sgd),
        objectives.nonsaturating(),
        latents.normal(3),
        **options,
    )


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Judge()(nn.BatchNorm(use_running_average=False)(x))


@pytest.mark.parametrize("discriminator", [Normed(), Judge(across_batch=True)])
def test_the_step_refuses_slopes_across_the_batch(discriminator):
    batch = batches()[0]
    game = a_game(discriminator=discriminator, penalties=(r1(1.0),))
    with pytest.raises(UserError, match="the discriminator no batch statistics"):
        init(game, jax.random.key(0), batch)
    game = a_game(discriminator=discriminator, penalties=(r1(1.0, independent=False),))
    _, metrics = trained(game, [batch])
    assert metrics["penalty_r1"] > 0


def test_the_step_adds_the_weighted_gradient_and_nothing_else():
    batch = batches()[0]
    plain = a_game()
    with_r1 = a_game(penalties=(r1(optax.linear_schedule(3.0, 1.0, 2), subset=2),))
    state = init(plain, jax.random.key(0), batch).replace(step=jnp.int32(1))
    without, on_without = jax.jit(make_step(plain))(state, batch)
    after, on_after = jax.jit(make_step(with_r1))(state, batch)
    assert on_without["loss_discriminator"] == on_after["loss_discriminator"]

    def penalty(params):
        def logits(image):
            return jnp.sum(Judge().apply({"params": params}, image))

        return jnp.mean(jnp.sum(jax.grad(logits)(batch["image"][::2]) ** 2, axis=(1, 2, 3))) / 2

    value, slope = jax.value_and_grad(penalty)(state.players["discriminator"].params)
    np.testing.assert_allclose(on_after["penalty_r1"], value, rtol=10 * FLOAT32)
    before, later = (s.players["discriminator"].params for s in (without, after))
    for a, b, s in zip(*map(jax.tree.leaves, (before, later, slope))):
        # The weight is 2 at step 1, the rate 0.1; p - (p - g) rounds at the size of p.
        np.testing.assert_allclose(a - b, 0.2 * s, rtol=1e-4, atol=3e-7)
    assert np.abs(slope["Dense_0"]["kernel"]).max() > 1e-2


def counting():
    """A penalty of value 3 that counts how often it is taken, in what a moving mean of decay 0 was
    given."""

    def value(play, given):
        taken, _ = play.apply("count", jnp.zeros(()))
        _, state = play.apply("count", play.states["count"]["moving"]["mean"] + 1.0)
        return 3.0 + 0.0 * taken, {"count": state}

    return Penalty("three", 0.5, value, every=4)


def test_a_lazy_penalty_is_taken_every_nth_step_and_keeps_its_state_in_between():
    variables = {"moving": {"mean": jnp.zeros(())}}
    losses, counts = [], []
    for step in range(9):
        play = a_play(examples(), step, count=(MovingMean(0.0), variables))
        loss, metrics, states = added((counting(),), play, None)
        variables = states["count"]
        losses.append(float(loss))
        counts.append(float(variables["moving"]["mean"]))
        assert metrics["penalty_three"] == 2 * loss
    assert losses == [6.0, 0, 0, 0, 6.0, 0, 0, 0, 6.0]
    assert counts == [1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_two_penalties_of_one_name_are_refused_and_can_be_renamed():
    both = gradient_penalty(1.0), gradient_penalty(1.0, "zero_centred")
    real = examples()
    looks = critique(linear(jnp.ones(2)), real, real)
    with pytest.raises(UserError, match="two penalties are named 'gradient_penalty'"):
        added(both, a_play(real), looks, real, real)
    renamed = both[0], both[1]._replace(name="zero")
    _, metrics, _ = added(renamed, a_play(real), looks, real, real)
    assert metrics.keys() == {"penalty_gradient_penalty", "penalty_zero"}


def test_lecam_is_its_recursion():
    penalty, decay = lecam(1.0, decay=0.7), 0.7
    means = {"real": 0.0, "fake": 0.0}
    variables = {"moving": {"mean": {"real": jnp.zeros(()), "fake": jnp.zeros(())}}}
    for step in range(4):
        real, fake = (np.random.default_rng(step).normal(size=(2, 8)) + 2.0).astype(np.float32)
        play = a_play(examples(), step, lecam=(MovingMean(decay), variables))
        looks = Critique(lambda x: x, ("image",), jnp.asarray(real), jnp.asarray(fake))
        found, states = penalty.value(play, looks, {}, {})
        means["real"] = decay * means["real"] + (1 - decay) * real.mean()
        means["fake"] = decay * means["fake"] + (1 - decay) * fake.mean()
        expected = ((real - means["fake"]) ** 2).mean() + ((fake - means["real"]) ** 2).mean()
        np.testing.assert_allclose(found, expected, rtol=10 * FLOAT32)
        variables = states["lecam"]


def test_the_averages_of_lecam_are_not_differentiated():
    variables = {"moving": {"mean": {"real": jnp.ones(()), "fake": jnp.ones(())}}}
    play = a_play(examples(), lecam=(MovingMean(0.0), variables))

    def loss(shift):
        looks = Critique(lambda x: x, ("image",), jnp.zeros(4) + shift, jnp.ones(4))
        return lecam(1.0, decay=0.0).value(play, looks, {}, {})[0]

    # (s - 1)^2 + (1 - a)^2, where a equals s but is held.
    assert loss(0.0) == 2.0 and jax.grad(loss)(0.0) == -2.0


def test_a_moving_mean_of_bfloat16_is_kept_in_float32():
    module, values = MovingMean(0.999), jnp.ones(8, jnp.bfloat16)
    variables = module.init(jax.random.key(0), 0.0 * values)
    for _ in range(1000):
        mean, variables = module.apply(variables, values, mutable=["moving"])
    # bfloat16 would stop at 0.25, where a thousandth of the rest is below half of its spacing.
    assert mean == pytest.approx(1 - 0.999**1000, rel=1e-4) and mean.dtype == jnp.float32


class Linear(nn.Module):
    """Styles [B, layers, W], or latents [B, W], times one matrix -> pictures [B, 2, 3, 1]."""

    @nn.compact
    def __call__(self, w):
        w = w.reshape(len(w), -1)
        kernel = self.param("kernel", nn.initializers.normal(1.0), (w.shape[1], 6))
        return (w @ kernel).reshape(-1, 2, 3, 1)


def style_play(layers, count=8):
    w = jax.random.normal(jax.random.key(5), (count, layers, 4))
    variables = Linear().init(jax.random.key(6), w)
    kept = {"moving": {"mean": jnp.float32(1.5)}}
    play = a_play(
        examples(count), synthesis=(Linear(), variables), path_length=(MovingMean(0.99), kept)
    )
    return w, play, variables["params"]["kernel"].reshape(layers, 4, 6)


def of_styles(play, latents):
    return latents, lambda w: play.apply("synthesis", w)[0]


@pytest.mark.parametrize("layers", [1, 3])
def test_path_length_of_a_linear_generator(layers):
    w, play, matrix = style_play(layers)
    found, states = path_length(2.0, of_styles).value(play, w, {})
    y = drawn(lambda key: jax.random.normal(key, (2, 3, 1)), play.keys, "path_length")
    y = y.reshape(-1, 6) / np.float32(6**0.5)
    slopes_of_w = jnp.einsum("lwp,bp->blw", matrix, y)
    lengths = jnp.sqrt(jnp.mean(jnp.sum(slopes_of_w**2, axis=2), axis=1))
    mean = 0.99 * 1.5 + 0.01 * lengths.mean()
    np.testing.assert_allclose(found, jnp.mean((lengths - mean) ** 2), rtol=20 * FLOAT32)
    np.testing.assert_allclose(states["path_length"]["moving"]["mean"], mean, rtol=FLOAT32)


def test_path_lengths_have_the_mean_square_of_the_matrix():
    w, play, matrix = style_play(1, count=4000)
    penalty = path_length(1.0, of_styles, decay=0.0)  # with the mean at 1.5
    found, _ = penalty.value(play, w, {})
    y = np.random.default_rng(0).normal(size=(200_000, 6)) / 6**0.5
    lengths = np.linalg.norm(y @ np.asarray(matrix[0]).T, axis=1)
    np.testing.assert_allclose((lengths**2).mean(), np.sum(matrix**2) / 6, rtol=0.02)
    squares = (lengths - 1.5) ** 2
    assert abs(found - squares.mean()) < 4 * squares.std() / 4000**0.5


def test_path_length_in_a_latent_of_a_subset_and_through_batch_statistics():
    w, play, _ = style_play(1)

    def generate(apply, latents, batch):
        assert len(batch["label"]) == len(jax.tree.leaves(latents)[0])
        z = latents["z"] if isinstance(latents, dict) else latents
        return {"image": apply("synthesis", z)[0]}, {}

    expected, _ = path_length(1.0, of_styles).value(play, w, {})
    found, _ = path_length(1.0, in_latent(generate)).value(play, w, {})
    assert found == expected
    named = path_length(1.0, in_latent(generate, name="z"))
    found, _ = named.value(play, {"z": w, "noise": w}, {})
    assert found == expected
    half, _ = path_length(1.0, of_styles, subset=2).value(play, w, {})
    few = play._replace(keys=play.keys[::2])
    expected, _ = path_length(1.0, of_styles).value(few, w[::2], {})
    assert half == expected
    module = nn.BatchNorm(use_running_average=False)
    play = a_play(examples(), synthesis=(module, module.init(jax.random.key(0), w)))
    with pytest.raises(UserError, match=r"'path_length'.*the generator no batch statistics"):
        path_length(1.0, of_styles).value(play, w, {})


def test_mode_seeking_of_a_linear_generator_is_one_over_its_slope():
    draw = latents.joined(z=latents.normal(6), noise=latents.normal(2))
    real = examples(8, (3, 2))
    play = a_play(real)

    def generate(apply, latents, batch):
        return {"image": 2.5 * latents["z"].reshape(-1, 3, 2)}, {}

    z = drawn(draw, play.keys, "latent")
    fake = real | generate(None, z, real)[0]
    found = mode_seeking(1.0, draw, generate, name="z").value(play, z, fake)
    np.testing.assert_allclose(found, 1 / (2.5 + 1e-5), rtol=FLOAT32)
    assert mode_seeking(1.0, draw, generate).value(play, z, fake) != found  # noise is in |z - z'|

    def collapsed(apply, latents, batch):
        return {"image": 0.0 * latents["z"].reshape(-1, 3, 2)}, {}

    fake = real | collapsed(None, z, real)[0]
    found = mode_seeking(1.0, draw, collapsed, name="z").value(play, z, fake)
    np.testing.assert_allclose(found, 1e5, rtol=1e-4)  # 1e-12 is added below


def test_reconstruction_is_the_mean_distance_to_a_feature():
    play = a_play({"target": jnp.array([[1.0, 2.0], [3.0, 5.0]])})
    fake = play.batch | {"image": jnp.array([[1.0, 0.0], [4.0, 5.0]])}
    found = [
        reconstruction(1.0, "target", made="image", norm=norm).value(play, (), fake)
        for norm in ("l1", "l2")
    ]
    assert found == [3 / 4, 5 / 4]
    same = {"target": jnp.zeros((2, 2))}  # a made feature of the same name does not hide the data
    assert reconstruction(1.0, "target").value(play, (), same) == 11 / 4
    with pytest.raises(UserError, match=r"of 'target' \(2, 2\) by 'image' \(2, 1\)"):
        wrong = {"image": jnp.zeros((2, 1))}
        reconstruction(1.0, "target", made="image").value(play, (), wrong)
    with pytest.raises(UserError, match="no norm 'l3'; use l1, l2"):
        reconstruction(1.0, "target", norm="l3")  # type: ignore[arg-type]


def test_one_device_equals_four_with_every_penalty():
    generate = maker("image")
    game = a_game(
        penalties=(
            r1(0.1, subset=2),
            r2(0.1, method="finite_difference"),
            gradient_penalty(0.1),
            gradient_penalty(0.1, "dragan"),
            lecam(0.1, every=2),
        ),
        generator_penalties=(
            path_length(0.1, in_latent(generate), every=2, subset=2),
            mode_seeking(0.1, latents.normal(3), generate),
            reconstruction(0.1, "image"),
        ),
    )
    game = game._replace(
        players={
            name: player._replace(tx=optax.sgd(0.02)) if player.tx else player
            for name, player in game.players.items()
        }
    )
    assert_one_device_equals_four(game, batches())


def test_a_packed_discriminator_on_four_devices():
    game = a_game(discriminator=Judge(pack=2), penalties=(r1(0.1, subset=2), gradient_penalty(0.1)))
    assert_one_device_equals_four(game, batches(count=16))
    with pytest.raises(UserError, match="subset=2, which does not divide the 2 examples in packs"):
        state = init(game, jax.random.key(0), batches(count=8)[0])
        on_four_devices(game)(state, batches(count=8)[0])


@pytest.mark.parametrize("every", [0, -1, 2.5, "2"])
def test_an_odd_interval_is_named(every):
    game = a_game(penalties=(r1(0.1)._replace(every=every),))
    with pytest.raises(UserError, match=f"penalty 'r1' has every={every!r}; use a whole number"):
        init(game, jax.random.key(0), batches()[0])
