"""Any network of the user's trains as it should: layers of Flax, state, draws, shapes and types."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx
from helpers import (
    Layers,
    assert_equal_trees,
    assert_one_device_equals_four,
    latents_of,
    on_four_devices,
    points,
    toy,
    train,
)

from jaxgan.calling import applier, begin
from jaxgan.errors import UserError
from jaxgan.game import Player, init
from jaxgan.objectives import hinge
from jaxgan.step import make_step
from jaxgan.traits import traits

BATCHES = [points(i, 16) for i in range(3)]


def trained(game, batches=BATCHES):
    state = init(game, jax.random.key(0), batches[0])
    return train(jax.jit(make_step(game)), state, batches)


def finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


class Block(nn.Module):
    """A dense layer and a norm; the norm is made in place."""

    width: int = 4
    norm: Callable = nn.BatchNorm

    @nn.compact
    def __call__(self, x, train):
        over_batch = isinstance(self.norm, type) and issubclass(self.norm, nn.BatchNorm)
        options = {"use_running_average": not train} if over_batch else {}
        return nn.relu(self.norm(**options)(nn.Dense(self.width)(x)))


class InSetup(nn.Module):
    """Blocks, a norm and a list of norms made in setup()."""

    def setup(self):
        self.blocks = [Block(), Block()]
        self.norm = nn.BatchNorm()

    def __call__(self, x, train):
        for block in self.blocks:
            x = block(x, train)
        return self.norm(x, use_running_average=not train)


class Given(nn.Module):
    """A block that is given as a field, and called twice."""

    block: nn.Module

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4)(x)
        return self.block(self.block(x, train), train)


class Scanned(nn.Module):
    """Two blocks in a scan over their parameters."""

    @nn.compact
    def __call__(self, x, train):
        class Body(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return Block()(x, train), None

        layers = nn.scan(
            Body,
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            length=2,
        )
        return layers()(nn.Dense(4)(x), None)[0]


class Rematerialised(nn.Module):
    """A block that is computed again in the backward pass."""

    @nn.compact
    def __call__(self, x, train):
        return nn.remat(Block, static_argnums=(2,))()(x, train)


class Headed(nn.Module):
    """A body, and a dense layer to `out` numbers."""

    body: nn.Module
    out: int = 2

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(self.out)(self.body(x, train))


@pytest.mark.parametrize(
    "bodies",
    [(Block(), InSetup()), (Given(Block()), Scanned()), (Rematerialised(), Block())],
    ids=["in place, in setup", "given, scanned", "rematerialised"],
)
def test_batch_norm_of_flax_at_any_depth_sees_all_devices(bodies):
    game = toy(Headed(bodies[0]), Headed(bodies[1], 1))
    after = assert_one_device_equals_four(game, BATCHES)
    for player in after.players.values():
        assert set(player.model_state) == {"batch_stats"}
    # The modules are those that they were.
    assert Headed(bodies[0]) == game.players["generator"].module
    assert getattr(bodies[0], "block", Block()) == Block() and nn.BatchNorm().axis_name is None


def test_batch_norm_of_one_device_of_four_would_be_another_run():
    """So that the test above can fail."""

    class Alone(nn.BatchNorm):
        across_batch = False

    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_one_device_equals_four(toy(Headed(Block(norm=Alone))), BATCHES)


def test_norms_of_single_examples_do_not_see_other_devices():
    groups = functools.partial(nn.GroupNorm, num_groups=2)
    game = toy(Headed(Block(8, nn.LayerNorm)), Headed(Block(8, groups), 1))
    assert_one_device_equals_four(game, BATCHES)


@pytest.mark.parametrize(
    ("norm", "across"),
    [(nn.BatchNorm, True), (nn.LayerNorm, False), (nn.RMSNorm, False), (nn.InstanceNorm, False)],
)
def test_norms_of_batches_are_told_from_those_of_examples(norm, across):
    module, x = Block(norm=norm), jnp.ones((4, 3, 2))
    variables = module.init(jax.random.key(0), x, train=True)

    def output(x):
        return module.apply(variables, x, train=True, mutable=["batch_stats"])

    assert traits(output, x) == (across, 1)


def test_a_discriminator_with_batch_norm_sees_real_and_made_examples_apart():
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dense(1)(nn.BatchNorm(not train, momentum=0.75)(x))

    game = toy(discriminator=Normed())
    state = init(game, jax.random.key(0), BATCHES[0])
    after, _ = jax.jit(make_step(game))(state, BATCHES[0])
    params = state.players["generator"].params
    made = game.players["generator"].module.apply({"params": params}, latents_of(state, 16))
    mean = after.players["discriminator"].model_state["batch_stats"]["BatchNorm_0"]["mean"]
    # From 0 a quarter of the way to the mean of the real points, then to that of the made ones.
    expected = 0.75 * 0.25 * BATCHES[0]["point"].mean(0) + 0.25 * made.mean(0)
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-6)  # sums in another order


class Drops(nn.Module):
    """Dropout, and draws under a name of its own."""

    out: int = 2

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(64)(x))
        x += jax.random.normal(self.make_rng("own"), x.shape) if train else 0.0
        return nn.Dense(self.out)(x)


def test_dropout_and_draws_under_any_name():
    game = toy(Drops(), Drops(1))
    state = init(game, jax.random.key(0), BATCHES[0])
    step = jax.jit(make_step(game))
    first, again = step(state, BATCHES[0]), step(state, BATCHES[0])
    assert_equal_trees(first, again)
    later = step(state.replace(step=state.step + 1), BATCHES[0])
    assert first[1]["loss_discriminator"] != later[1]["loss_discriminator"]


def test_what_is_not_trained_draws_nothing():
    module = Drops()
    variables = {"g": module.init(jax.random.key(0), np.ones((2, 3), np.float32), train=True)}
    apply = applier({"g": module}, variables, jnp.float32, train=False)
    assert_equal_trees(
        apply("g", np.ones((2, 3), np.float32)), apply("g", np.ones((2, 3), np.float32))
    )


class Counts(nn.Module):
    """Keeps state in a collection of its own, by variable and by sow; takes no `train`."""

    out: int = 1

    @nn.compact
    def __call__(self, x):
        y = nn.Dense(self.out)(x)
        calls = self.variable("kept", "calls", jnp.zeros, (), jnp.int32)
        if not self.is_initializing():
            calls.value += 1
        self.sow(
            "kept",
            "mean",
            jnp.mean(y),
            reduce_fn=lambda old, new: new,
            init_fn=lambda: jnp.zeros(()),
        )
        self.sow("intermediates", "forgotten", y)
        return y


def test_collections_of_any_name_are_kept_and_intermediates_are_not():
    after = assert_one_device_equals_four(toy(discriminator=Counts(), generator=Counts(2)), BATCHES)
    for player in after.players.values():
        assert set(player.model_state) == {"kept"}
        assert player.model_state["kept"]["calls"] == 3  # of three steps: other calls are forgotten
    assert after.players["discriminator"].model_state["kept"]["mean"] != 0.0


TRANSFORMS = {
    "plateau": optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=1)),
    "momo": optax.contrib.momo(0.1),
    "polyak": optax.polyak_sgd(0.1),
    "schedule free": optax.contrib.schedule_free_sgd(0.1),
    "hyperparameters": optax.inject_hyperparams(optax.sgd)(learning_rate=lambda count: 0.1),
    "several": optax.multi_transform(
        {"a": optax.sgd(0.1), "b": optax.set_to_zero()},
        lambda params: dict.fromkeys(params, "a"),
    ),
    "accumulated": optax.MultiSteps(optax.sgd(0.1), every_k_schedule=2),
    "finite": optax.apply_if_finite(optax.sgd(0.1), 3),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_optax_that_want_more_than_gradients(name):
    game = toy(tx=TRANSFORMS[name])
    with jax.numpy_dtype_promotion("standard"):
        state = init(game, jax.random.key(0), BATCHES[0])
        after, _ = train(jax.jit(make_step(game)), state, BATCHES)
    before, after = (s.players["generator"].params["Dense_0"]["kernel"] for s in (state, after))
    assert finite(after) and np.any(before != after)


def test_a_plateau_reduces_the_rate():
    tx = optax.chain(
        optax.sgd(0.0), optax.contrib.reduce_on_plateau(factor=0.5, patience=1, cooldown=0)
    )
    with jax.numpy_dtype_promotion("standard"):
        after, _ = trained(toy(tx=tx), BATCHES * 3)
    plateau = after.players["discriminator"].opt_state[-1]
    assert float(plateau.scale) < 1.0


class Shaped(nn.Module):
    """Latents of any structure -> examples of any shape."""

    shape: tuple

    @nn.compact
    def __call__(self, latents):
        flat = [x.reshape(x.shape[0], -1).astype(jnp.float32) for x in jax.tree.leaves(latents)]
        return Layers((8, int(np.prod(self.shape))))(jnp.concatenate(flat, -1)).reshape(
            -1, *self.shape
        )


@pytest.mark.parametrize("shape", [(2,), (12, 1), (6, 4, 3), (4, 2, 4, 3)], ids=str)
def test_examples_of_any_shape(shape):
    batches = [
        {"x": np.random.default_rng(i).normal(size=(8, *shape)).astype(np.float32)}
        for i in range(2)
    ]
    after, _ = trained(toy(Shaped(shape), made="x"), batches)
    assert finite(after.players)


def test_bytes_are_scaled_and_labels_are_not():
    shape = (4, 2, 3)
    seen = {}

    class Looks(nn.Module):
        @nn.compact
        def __call__(self, x, label):
            seen.update(x=x.dtype, label=label.dtype)
            return nn.Dense(1)(x.reshape(x.shape[0], -1)) + nn.Embed(300, 1)(label)

    class Conditioned(nn.Module):
        @nn.compact
        def __call__(self, z, label):
            return Shaped(shape)({"z": z, "label": nn.Embed(300, 2)(label)})

    batch = {
        "image": np.random.default_rng(0).integers(0, 256, (8, *shape), np.uint8),
        "label": np.arange(8, dtype=np.uint8),
    }
    after, _ = trained(toy(Conditioned(), Looks(), made="image", given=("label",)), [batch])
    assert finite(after.players)
    assert seen == {"x": jnp.dtype("float32"), "label": jnp.dtype("uint8")}


LATENTS = {
    "uniform": lambda key: jax.random.uniform(key, (3,), minval=-1.0),
    "one-hot": lambda key: jax.nn.one_hot(jax.random.randint(key, (), 0, 5), 5),
    "whole number": lambda key: jax.random.randint(key, (2,), 0, 5),
    "dict": lambda key: {"z": jax.random.normal(key, (3,)), "masks": (jnp.ones((2, 2)),)},
    "key": lambda key: {"z": jax.random.normal(key, (3,)), "key": key},
}


@pytest.mark.parametrize("name", LATENTS)
def test_latents_of_any_kind(name):
    class OfLatents(nn.Module):
        @nn.compact
        def __call__(self, latents):
            if name == "key":
                noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(latents["key"])
                latents = {"z": latents["z"], "noise": noise}
            return Shaped((2,))(latents)

    after, _ = trained(toy(OfLatents(), latent=LATENTS[name]))
    assert finite(after.players)


def test_a_generator_of_nothing_random():
    class Constant(nn.Module):
        @nn.compact
        def __call__(self, latents):
            points = self.param("points", nn.initializers.normal(1.0), (16, 2))
            return points

    after, _ = trained(toy(Constant(), latent=lambda key: ()))
    assert finite(after.players)


def test_players_without_parameters():
    class Shift(nn.Module):
        """Keeps how far the real points are from 0, and moves them there."""

        @nn.compact
        def __call__(self, x):
            mean = self.variable("kept", "mean", jnp.zeros, (2,))
            before = mean.value
            if not self.is_initializing():
                mean.value = 0.5 * mean.value + 0.5 * jnp.mean(x, axis=0)
            return x - before[None]

    game = toy()
    discriminate, deceive = game.moves

    def loss(play):
        centred, state = play.apply("shift", play.batch["point"])
        value, outcome = discriminate.loss(play._replace(batch={"point": centred}))
        return value, outcome._replace(states=outcome.states | {"shift": state})

    moves = discriminate._replace(loss=loss, players=("discriminator", "shift")), deceive
    game = game._replace(moves=moves, players=game.players | {"shift": Player(Shift())})
    shifted = [{"point": batch["point"] + 3.0} for batch in BATCHES]
    after = assert_one_device_equals_four(game, shifted)
    expected = sum(0.5 ** (3 - i) * batch["point"].mean(0) for i, batch in enumerate(shifted))
    mean = after.players["shift"].model_state["kept"]["mean"]
    np.testing.assert_allclose(mean, expected, rtol=1e-5)  # means in another order
    assert after.players["shift"].params == {}


def test_heads_of_any_structure_are_judged_each():
    class TwoHeads(nn.Module):
        @nn.compact
        def __call__(self, x):
            return {"near": nn.Dense(1)(x), "far": (nn.Dense(1)(x)[:, 0],)}

    game = toy(discriminator=TwoHeads(), objective=hinge())
    state = init(game, jax.random.key(0), BATCHES[0])
    _, metrics = jax.jit(make_step(game))(state, BATCHES[0])
    generator, discriminator = (state.players[n].params for n in ("generator", "discriminator"))
    made = Layers((8, 2)).apply({"params": generator}, latents_of(state, 16))
    loss = 0.0
    for head in ("Dense_0", "Dense_1"):
        real, fake = (
            nn.Dense(1).apply({"params": discriminator[head]}, x)
            for x in (BATCHES[0]["point"], made)
        )
        loss += nn.relu(1.0 - real).mean() + nn.relu(1.0 + fake).mean()
    np.testing.assert_allclose(metrics["loss_discriminator"], loss, rtol=1e-5)  # sums differ


def test_outputs_and_state_are_float32_whatever_is_computed_in():
    seen = []

    class Both(nn.Module):
        out: int

        @nn.compact
        def __call__(self, x):
            y = nn.Dense(self.out, dtype=x.dtype)(x)
            mean = self.variable("kept", "mean", jnp.zeros, (), jnp.float32)
            if not self.is_initializing():
                seen.append(x.dtype)
                mean.value = jnp.mean(y.astype(jnp.float32))
            return y

    game = toy(Both(2), Both(1), dtype=jnp.bfloat16)
    after, metrics = trained(game)
    assert set(seen) == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves((after.players, metrics))} == {
        jnp.dtype("float32")
    }
    variables = {
        "g": {"params": after.players["generator"].params, **after.players["generator"].model_state}
    }
    apply = applier({"g": Both(2)}, variables, jnp.bfloat16, train=False)
    assert apply("g", np.ones((4, 3), np.float32))[0].dtype == jnp.float32


def test_numbers_beside_arrays_may_come_out_of_a_network():
    class Told(nn.Module):
        @nn.compact
        def __call__(self, x):
            return {"y": nn.Dense(1)(x), "count": 3, "share": 0.5, "none": None}

    variables = {"d": Told().init(jax.random.key(0), np.ones((2, 3), np.float32))}
    output, _ = applier({"d": Told()}, variables, jnp.float32, train=True)(
        "d", np.ones((2, 3), np.float32)
    )
    assert output["count"] == 3 and output["none"] is None


def test_momentum_is_set_in_norms_over_the_batch_alone():
    class Bank(nn.Module):
        """A memory with a momentum of its own."""

        momentum: float = 0.9

        @nn.compact
        def __call__(self, x, train):
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            return x, self.momentum, jnp.mean(x)

    variables = {"g": Bank().init(jax.random.key(0), BATCHES[0]["point"], train=True)}
    apply = applier({"g": Bank()}, variables, jnp.float32, train=True, momentum=0.0)
    (_, momentum, _), state = apply("g", BATCHES[0]["point"])
    np.testing.assert_allclose(momentum, 0.9, rtol=1e-6)  # as float32
    mean = state["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, BATCHES[0]["point"].mean(0), rtol=1e-5, atol=1e-7)


class OfNNX(nnx.Module):
    """A network of nnx, with a layer between its dense ones."""

    def __init__(self, inputs: int, out: int, between: Callable, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(inputs, 8, rngs=rngs)
        self.between = between(rngs=rngs)
        self.last = nnx.Linear(8, out, rngs=rngs)

    def __call__(self, x):
        return self.last(self.between(nnx.relu(self.first(x))))


def of_nnx(between):
    """A generator and a discriminator."""
    return [nnx.bridge.to_linen(OfNNX, *sizes, between) for sizes in ((3, 2), (2, 1))]


def test_modules_of_nnx():
    networks = of_nnx(functools.partial(nnx.LayerNorm, 8))
    assert_one_device_equals_four(toy(*networks), BATCHES)


def test_dropout_of_nnx_draws_anew_in_each_step():
    game = toy(*of_nnx(functools.partial(nnx.Dropout, 0.5)), tx=optax.sgd(0.0))
    _, metrics = trained(game, [BATCHES[0]] * 3)
    assert len(set(metrics["loss_discriminator"].tolist())) == 3


def test_modules_of_nnx_are_told_whether_they_train():
    class Told(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs):
            self.last = nnx.Linear(2, 1, rngs=rngs)

        def __call__(self, x, train):
            return self.last(x) if train else jnp.zeros((len(x), 1))

    module, x = nnx.bridge.to_linen(Told), BATCHES[0]["point"]
    variables = {
        "d": begin(module, jax.random.key(0), (jax.ShapeDtypeStruct(x.shape, x.dtype),), {})
    }
    for trains in (True, False):
        output, _ = applier({"d": module}, variables, jnp.float32, train=trains)("d", x)
        assert bool(jnp.any(output != 0.0)) == trains


def test_batch_norm_of_nnx_trains_on_one_device_and_is_refused_on_several():
    norms = of_nnx(functools.partial(nnx.BatchNorm, 8))
    game = toy(*norms)
    state = init(game, jax.random.key(0), BATCHES[0])
    after, _ = train(jax.jit(make_step(game)), state, BATCHES)
    for player in after.players.values():
        assert np.any(player.model_state["batch_stats"]["between"]["mean"] != 0.0)
    module = norms[1]
    variables = {"params": state.players["discriminator"].params}
    variables |= state.players["discriminator"].model_state

    def output(x):
        return module.apply(variables, x, mutable=["batch_stats"])

    assert traits(output, BATCHES[0]["point"]).across_batch
    with pytest.raises(UserError, match=r"flax\.nnx does not see the other devices"):
        on_four_devices(game)(state, BATCHES[0])


def test_stock_layers_compute_in_the_dtype_of_the_game():
    game = toy(Layers((8, 2)), Layers((8, 1)), dtype=jnp.bfloat16)

    class Stock(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.Dense(8)(x))

    game = game._replace(players={**game.players, "discriminator": Player(Stock(), optax.sgd(0.1))})
    state = init(game, jax.random.key(0), points())
    step = str(jax.make_jaxpr(make_step(game))(state, points()))
    products = [line for line in step.splitlines() if "dot_general" in line]
    assert products and all(":bf16[" in line for line in products)
