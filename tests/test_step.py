"""The step: what it updates, and that it is the same step under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import assert_equal_trees
from jax.sharding import AxisType, PartitionSpec

from jaxgan import parallel
from jaxgan.config import replace
from jaxgan.game import init, make_game, normal_latent
from jaxgan.step import draw_latent, make_step, per_example, scaled

# Sums in another order, in float32, over three steps of gradient descent.
ROUNDING = dict(rtol=1e-4, atol=2e-6)


def plain(config):
    """The game with gradient descent: Adam divides by the root of second moments, which turns rounding of zero gradients (such as
    that of a relativistic logit's bias) into full steps."""
    return make_game(config)._replace(generator_tx=optax.sgd(0.1), discriminator_tx=optax.sgd(0.1))


@pytest.fixture
def game(small):
    return plain(small)


def batch(seed=0, count=8):
    return {
        "image": np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), np.uint8),
        "label": np.zeros(count, np.int32),
    }


def fresh(game, seed=0):
    return init(game, jax.random.key(seed))


def train(step, state, steps=3, prepare=lambda b: b):
    history = []
    for i in range(steps):
        state, metrics = step(state, prepare(batch(i)))
        history.append(metrics)
    return state, jax.tree.map(lambda *xs: np.stack(xs), *history)


def assert_close(first, second):
    np.testing.assert_array_equal(*[jax.random.key_data(s.key) for s in (first, second)])
    strip = lambda s: s.replace(key=0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), strip(first), strip(second)
    )


@pytest.mark.parametrize("model", ["dcgan", "seed"])
@pytest.mark.parametrize("objective", ["nonsaturating", "relativistic"])
def test_one_device_equals_four(small, model, objective):
    game = plain(
        replace(
            small,
            {"model.name": model, "objective.name": objective, "objective.instance_noise": 0.1},
        )
    )
    one, on_one = train(jax.jit(make_step(game)), fresh(game))
    share = lambda b: jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), b)
    four, on_four = train(
        parallel.data_parallel(make_step(game, parallel.AXIS)), fresh(game), prepare=share
    )
    assert_close(one, four)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), on_one, on_four)


def test_pmap_equals_shard_map(game):
    step = make_step(game, parallel.AXIS)
    mesh = jax.make_mesh((4,), (parallel.AXIS,), axis_types=(AxisType.Auto,))
    specs = PartitionSpec(), PartitionSpec(parallel.AXIS)
    mapped = jax.jit(
        jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)
    )
    share = lambda b: jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), b)
    with_pmap, _ = train(parallel.data_parallel(step), fresh(game), prepare=share)
    with_shard_map, _ = train(mapped, fresh(game))
    assert_equal_trees(with_pmap, with_shard_map)


def test_the_second_call_does_not_compile(game):
    devices = jax.devices()[:4]
    program = parallel.make_program(game, lambda resident, item: item, devices)
    state = parallel.replicate(fresh(game), devices)
    items = parallel.split(jax.tree.map(lambda x: x[None], batch()), 4)
    state, _ = program(state, ({}, items))
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event)
    )
    try:
        program(state, ({}, items))
        jax.jit(lambda x: x + 1)(0)  # shows that a compilation would be heard of
    finally:
        jax.monitoring.clear_event_listeners()
    assert len([name for name in compiled if "jaxpr_trace" in name]) == 1
    assert len([name for name in compiled if "backend_compile" in name]) == 1


def test_replicas_draw_different_noise(game):
    state = fresh(game)
    draw = lambda: draw_latent(game, state, jax.lax.axis_index("i") * 2, 2)
    z = jax.vmap(lambda _: draw(), axis_name="i")(jnp.arange(4)).reshape(8, -1)
    assert len(np.unique(np.asarray(z), axis=0)) == 8
    # Together they draw what one device draws; the inverse error function may round otherwise for another batch.
    np.testing.assert_allclose(z, draw_latent(game, state, 0, 8), rtol=1e-6)


def test_steps_draw_different_noise(game):
    state = fresh(game)
    later = state.replace(step=state.step + 1)
    assert not np.intersect1d(draw_latent(game, state, 0, 8), draw_latent(game, later, 0, 8)).size


def test_latents_are_standard_normal():
    z = per_example(lambda k: normal_latent(50)(k, 1)[0], jax.random.key(0), 0, 2000)
    # 100,000 numbers: the mean's standard error is 0.003, the variance's 0.0045; five of them.
    assert abs(float(z.mean())) < 0.016 and abs(float(z.var()) - 1) < 0.023


def test_the_discriminator_update_leaves_the_generator_alone(game):
    frozen = game._replace(generator_tx=optax.set_to_zero())
    state = fresh(frozen)
    after, _ = jax.jit(make_step(frozen))(state, batch())
    assert_equal_trees(after.generator.params, state.generator.params)
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), after.discriminator.params, state.discriminator.params
    )
    assert all(jax.tree.leaves(moved))


def test_the_generator_update_leaves_the_discriminator_alone_and_is_against_the_updated_one(game):
    state = fresh(game)
    both, _ = jax.jit(make_step(game))(state, batch())
    alone, _ = jax.jit(make_step(game._replace(generator_tx=optax.set_to_zero())))(state, batch())
    assert_equal_trees(both.discriminator, alone.discriminator)

    # The generator's gradient by the formula, at the updated discriminator.
    z = draw_latent(game, state, 0, 8)

    def loss(params):
        images, _ = game.generator.apply(
            {"params": params, **state.generator.model_state},
            z,
            train=True,
            mutable=["batch_stats"],
        )
        logits = game.discriminator.apply({"params": both.discriminator.params}, images, train=True)
        return jnp.mean(jax.nn.softplus(-logits))

    value, grads = jax.value_and_grad(loss)(state.generator.params)
    after, metrics = jax.jit(make_step(game._replace(generator_tx=optax.sgd(1.0))))(state, batch())
    np.testing.assert_allclose(
        metrics["loss_generator"], value, rtol=1e-5
    )  # float32 sums in another order
    taken = jax.tree.map(lambda a, b: a - b, state.generator.params, after.generator.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), taken, grads
    )  # p - (p - g) rounds at p's size


def test_the_discriminator_loss_and_scores_are_those_of_the_formula(game):
    state = fresh(game)
    _, metrics = jax.jit(make_step(game))(state, batch())
    z = draw_latent(game, state, 0, 8)
    fake, _ = game.generator.apply(
        {"params": state.generator.params, **state.generator.model_state},
        z,
        train=True,
        mutable=True,
    )
    judge = lambda x: game.discriminator.apply(
        {"params": state.discriminator.params}, x, train=True
    )
    real, fake = judge(scaled(jnp.asarray(batch()["image"]))), judge(fake)
    d = jax.nn.sigmoid
    expected = (
        -jnp.log(d(real)).mean() - jnp.log(1 - d(fake)).mean(),
        d(real).mean(),
        d(fake).mean(),
    )
    found = metrics["loss_discriminator"], metrics["score_real"], metrics["score_fake"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32 sums in another order


def test_ema_is_the_weighted_sum_of_the_generators(game):
    game = game._replace(ema_decay=0.5)
    step, state = jax.jit(make_step(game)), fresh(game)
    generators, decays = [state.generator.params], []
    for i in range(6):
        state, _ = step(state, batch(i))
        generators.append(state.generator.params)
        decays.append(min(0.5, (1 + i) / (10 + i)))
    # ema_n = sum_i (1 - d_i) p_i prod_{j > i} d_j, with the initial weights as p_0, d_0 = 0.
    weights = [(1 - d) * np.prod(decays[i:]) for i, d in enumerate([0.0, *decays])]
    assert abs(sum(weights) - 1) < 1e-12
    expected = jax.tree.map(
        lambda *ps: sum(w * np.float64(p) for w, p in zip(weights, ps)), *generators
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.ema, expected
    )  # six float32 roundings


def test_vmap_over_seeds_equals_separate_runs(game):
    keys = [jax.random.key(seed) for seed in range(3)]
    step = make_step(game)
    together = jax.vmap(lambda key: init(game, key))(jnp.stack(keys))
    together, _ = train(jax.jit(jax.vmap(step, in_axes=(0, None))), together)
    for i, key in enumerate(keys):
        alone, _ = train(jax.jit(step), init(game, key))
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), alone)


def test_scan_over_steps_equals_single_steps(game):
    step = make_step(game)
    single, single_metrics = train(jax.jit(step), fresh(game))
    items = jax.tree.map(lambda *xs: np.stack(xs), *[batch(i) for i in range(3)])
    many, metrics = jax.jit(parallel.many_steps(step, lambda resident, item: item))(
        fresh(game), ({}, items)
    )
    assert_close(single, many)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), metrics, single_metrics)


@pytest.mark.parametrize("model", ["dcgan", "seed"])
def test_bfloat16_trains_as_float32_does_up_to_its_rounding(small, model):
    losses = {}
    for dtype in ("float32", "bfloat16"):
        game = plain(
            replace(
                small,
                {
                    "model.name": model,
                    "dtype": dtype,
                    "objective.r1_weight": 0.1,
                    "objective.instance_noise": 0.1,
                },
            )
        )
        after, history = train(jax.jit(make_step(game)), fresh(game), steps=10)
        losses[dtype] = np.stack([history["loss_discriminator"], history["loss_generator"]])
        assert all(
            leaf.dtype == jnp.float32
            for leaf in jax.tree.leaves((after.generator.params, after.discriminator.params))
        )
    assert np.any(losses["float32"] != losses["bfloat16"])
    # bfloat16 keeps 8 bits: 0.4 percent of each logit, of about 1, through three layers and ten steps.
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.02)


def test_the_state_is_donated(game):
    devices = jax.devices()[:1]
    program = parallel.make_program(game, lambda resident, item: item, devices)
    state = parallel.replicate(fresh(game), devices)
    program(state, ({}, parallel.split(jax.tree.map(lambda x: x[None], batch()), 1)))
    assert all(
        x.is_deleted()
        for x in jax.tree.leaves(state.generator) + jax.tree.leaves(state.discriminator)
    )


def test_a_discriminator_with_batch_norm_sees_real_and_fake_apart(game):
    import flax.linen as nn

    from jaxgan.models.layers import BatchNormAct, Conv

    class Normed(nn.Module):
        axis_name: str | None = None
        momentum: float = 0.0

        @nn.compact
        def __call__(self, images, train):
            x = BatchNormAct(self.axis_name, self.momentum)(images, train)
            return nn.Dense(1)(Conv(2)(x).reshape(images.shape[0], -1))

    game = game._replace(discriminator=Normed())
    state = fresh(game)
    after, _ = jax.jit(make_step(game))(state, batch())
    z = draw_latent(game, state, 0, 8)
    fake, _ = game.generator.apply(
        {"params": state.generator.params, **state.generator.model_state},
        z,
        train=True,
        mutable=True,
    )
    (stats,) = after.discriminator.model_state["batch_stats"].values()
    # The fakes were seen last and momentum is 0, so their statistics alone are left.
    np.testing.assert_allclose(
        stats["mean"], fake.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )  # a float32 mean in another order


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (
            np.zeros((8, 12, 12, 1), np.uint8),
            r"images \(8, 12, 12, 1\), the generator makes \(8, 8, 8, 1\)",
        ),
        (np.zeros((0, 8, 8, 1), np.uint8), "not empty"),
        (np.zeros((8, 8, 8, 1), np.int32), "images are int32; give uint8"),
    ],
)
def test_batches_that_do_not_fit_are_named(game, images, text):
    with pytest.raises(ValueError, match=text):
        jax.eval_shape(make_step(game), fresh(game), {"image": images})


def test_r1_sees_the_same_images_on_four_devices(small):
    game = plain(replace(small, {"objective.r1_weight": 100.0, "objective.r1_every": 2}))
    one, _ = train(jax.jit(make_step(game)), fresh(game))
    share = lambda b: jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), b)
    four, _ = train(
        parallel.data_parallel(make_step(game, parallel.AXIS)), fresh(game), prepare=share
    )
    assert_close(one, four)


def test_instance_noise_decays_to_nothing(small):
    noisy = make_game(
        replace(small, {"objective.instance_noise": 0.5, "objective.instance_noise_steps": 10})
    )
    clean = make_game(small)
    assert noisy.instance_noise is not None
    np.testing.assert_allclose(
        [noisy.instance_noise(t) for t in (0, 5, 10, 99)], [0.5, 0.25, 0.0, 0.0]
    )
    at = lambda game, step: jax.jit(make_step(game))(
        fresh(game).replace(step=jnp.int32(step)), batch()
    )[1]["loss_discriminator"]
    assert at(noisy, 0) != at(clean, 0)
    np.testing.assert_allclose(
        at(noisy, 10), at(clean, 10), rtol=1e-6
    )  # adding 0 * noise may change fusion, so rounding


def test_gradient_clipping_bounds_the_update(small):
    game = make_game(replace(small, {"optimizer.clip_norm": 1e-3}))
    grads = jax.tree.map(lambda p: 100.0 * jnp.ones_like(p), fresh(game).generator.params)
    clipped, _ = optax.clip_by_global_norm(1e-3).update(grads, optax.EmptyState())
    tx = game.generator_tx
    _, state = tx.update(grads, tx.init(grads), grads)
    first_moment = optax.tree_utils.tree_get(state, "mu")
    jax.tree.map(
        lambda m, g: np.testing.assert_allclose(m, 0.5 * g, rtol=1e-5), first_moment, clipped
    )  # (1 - beta1) * clipped


@pytest.mark.parametrize("model", ["dcgan", "seed"])
def test_fused_and_plain_operations_train_the_same_for_200_steps(small, model):
    """`xla` runs the references that the Triton kernels are checked against in the interpreter; `plain` is jax.nn."""
    losses = {}
    changes = {"model.name": model, "objective.r1_weight": 0.1, "objective.r1_every": 2}
    changes |= {"optimizer.generator_rate": 3e-3, "optimizer.discriminator_rate": 3e-3}
    for kind in ("xla", "plain"):
        game = make_game(replace(small, {**changes, "kernels": kind}))
        step = jax.jit(make_step(game))
        _, history = train(step, fresh(game), steps=200)
        losses[kind] = np.stack([history["loss_discriminator"], history["loss_generator"]])
    assert np.ptp(losses["plain"]) > 0.8  # it does train
    np.testing.assert_allclose(
        losses["xla"], losses["plain"], rtol=1e-4
    )  # rounding, which 200 steps of Adam enlarge
