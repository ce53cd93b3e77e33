"""The step: what it updates, and that it is the same step under every transformation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    AXIS,
    Layers,
    assert_close,
    assert_equal_trees,
    assert_one_device_equals_four,
    keys_of,
    latents_of,
    normal,
    on_four_devices,
    points,
    toy,
    train,
)
from jax.sharding import AxisType, PartitionSpec

from jaxgan import objectives, penalties
from jaxgan.augment import instance_noise
from jaxgan.errors import UserError
from jaxgan.examples import drawn
from jaxgan.game import Game, Move, Outcome, Player, init
from jaxgan.gan_moves import adversarial
from jaxgan.models import MLPDiscriminator, MLPGenerator, Pack
from jaxgan.objectives import least_squares, nonsaturating, relativistic
from jaxgan.step import make_step
from jaxgan.two_players import gan

BATCHES = [points(i) for i in range(3)]


def fresh(game, batch=BATCHES[0], seed=0):
    return init(game, jax.random.key(seed), batch)


def made_from(game, state, z):
    params = state.players["generator"].params
    return game.players["generator"].module.apply({"params": params}, z)


def judged(game, params, examples):
    return game.players["discriminator"].module.apply({"params": params}, examples)


def with_tx(game, **txs):
    players = {n: p._replace(tx=txs.get(n, p.tx)) for n, p in game.players.items()}
    return game._replace(players=players)


class Normed(nn.Module):
    """A network with Flax's batch norm."""

    out: int = 2

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(8)(x)
        return nn.Dense(self.out)(nn.relu(nn.BatchNorm(use_running_average=not train)(x)))


class OfParts(nn.Module):
    """A generator of a latent of two parts."""

    @nn.compact
    def __call__(self, latents):
        shift = nn.Embed(3, 2)(latents["kind"])
        return Layers((8, 2))(latents["z"]) + shift


def of_parts(key):
    a, b = jax.random.split(key)
    return {"z": jax.random.normal(a, (3,)), "kind": jax.random.randint(b, (), 0, 3)}


def unrolled():
    game = toy()
    discriminate, deceive = game.moves
    return game._replace(moves=(discriminate, deceive._replace(lookahead=(discriminate,) * 2)))


def cycle_gan():
    """Points of two kinds, translated into each other by two players and judged by two."""
    tx, objective = optax.sgd(0.05), least_squares()

    def translated(apply, latents, batch):
        return {"a": apply("to_a", batch["b"])[0], "b": apply("to_b", batch["a"])[0]}, {}

    def judge(play):
        fake, _ = translated(play.apply, None, play.batch)
        losses = {}
        for side in "ab":
            on_real, on_fake = (
                play.apply(f"judge_{side}", examples[side])[0] for examples in (play.batch, fake)
            )
            losses[f"loss_judge_{side}"] = objective.discriminator(on_real, on_fake)
        return losses["loss_judge_a"] + losses["loss_judge_b"], Outcome(losses)

    def translate(play):
        fake, _ = translated(play.apply, None, play.batch)
        back, _ = translated(play.apply, None, fake)
        fooled = cycle = jnp.zeros(())
        for side in "ab":
            logits = play.apply(f"judge_{side}", fake[side])[0]
            fooled += objective.generator(logits, logits)
            cycle += jnp.mean(jnp.abs(back[side] - play.batch[side]))
        return fooled + 10.0 * cycle, Outcome({"loss_fooled": fooled, "loss_cycle": cycle})

    players = {f"to_{side}": Player(Layers((8, 2)), tx, 0.9) for side in "ab"}
    players |= {f"judge_{side}": Player(Layers((8, 1)), tx) for side in "ab"}
    moves = (
        Move("judges", ("judge_a", "judge_b"), judge),
        Move("translators", ("to_a", "to_b"), translate),
    )
    return Game(players, moves, lambda key: (), translated)


def bi_gan():
    """A discriminator of pairs of a point and its latents, which an encoder tells of real
    points."""
    tx, objective = optax.sgd(0.1), nonsaturating()

    def generate(apply, latents, batch):
        return {"point": apply("generator", latents)[0]}, {}

    def pairs(play):
        z = drawn(normal, play.keys, "latent")
        made = jnp.concatenate([play.apply("generator", z)[0], z], axis=-1)
        real = play.batch["point"]
        told = jnp.concatenate([real, play.apply("encoder", real)[0]], axis=-1)
        return [play.apply("discriminator", pair)[0] for pair in (told, made)]

    def discriminate(play):
        loss = objective.discriminator(*pairs(play))
        return loss, Outcome({"loss_discriminator": loss})

    def deceive(play):
        on_real, on_fake = pairs(play)
        loss = -objective.discriminator(on_real, on_fake)
        return loss, Outcome({"loss_generator": loss})

    players = {
        "generator": Player(Layers((8, 2)), tx),
        "encoder": Player(Layers((8, 3)), tx),
        "discriminator": Player(Layers((8, 1)), tx),
    }
    moves = (
        Move("discriminator", ("discriminator",), discriminate),
        Move("pair", ("generator", "encoder"), deceive),
    )
    return Game(players, moves, normal, generate)


def of_labels():
    networks = MLPGenerator((2,), (8,), classes=3), MLPDiscriminator((8,), classes=3)
    return toy(*networks, given=("label",))


GAMES = {
    "plain": toy,
    "relativistic with noise": lambda: toy(
        objective=relativistic(), augment=instance_noise(lambda step: jnp.float32(0.1))
    ),
    "labels": of_labels,
    "critic steps": lambda: toy(critic_steps=3),
    "lookahead": unrolled,
    "batch norm in both": lambda: toy(Normed(), Normed(1)),
    "packs": lambda: toy(discriminator=Pack(Layers((8, 1)))),
    "latents of parts": lambda: toy(OfParts(), latent=of_parts),
    "CycleGAN": cycle_gan,
    "BiGAN": bi_gan,
}


@pytest.mark.parametrize("name", GAMES)
def test_one_device_equals_four(name):
    game, count = GAMES[name](), 24

    def batch(seed):
        if name == "CycleGAN":
            return {"a": points(seed, count)["point"], "b": points(seed + 9, count)["point"] + 1}
        return points(seed, count, label=np.arange(count, dtype=np.int32) % 3)

    assert_one_device_equals_four(game, [batch(seed) for seed in range(3)])


def test_pmap_equals_shard_map():
    game = toy(Normed(), Normed(1))
    mesh = jax.make_mesh((4,), (AXIS,), axis_types=(AxisType.Auto,))
    specs = PartitionSpec(), PartitionSpec(AXIS)
    options = dict(mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)
    mapped = jax.jit(jax.shard_map(make_step(game, AXIS), **options))
    with_pmap, _ = train(on_four_devices(game), fresh(game), BATCHES)
    with_shard_map, _ = train(mapped, fresh(game), BATCHES)
    assert_equal_trees(with_pmap, with_shard_map)


def test_a_step_is_compiled_once_and_all_of_the_state_is_donated():
    game = toy(Normed(), Normed(1), tx=optax.adam(1e-3))
    step = jax.jit(make_step(game), donate_argnums=0)
    start = fresh(game)
    state, _ = train(step, jax.tree.map(jnp.copy, start), BATCHES)
    assert step._cache_size() == 1
    given = jax.tree.map(jnp.copy, start)
    step(given, BATCHES[0])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given.players))
    assert jax.tree.map(jax.typeof, start) == jax.tree.map(jax.typeof, state)


def test_steps_parts_and_uses_draw_differently():
    def loss(play):
        latent, noise = (drawn(jax.random.normal, play.keys, use)[0] for use in ("latent", "noise"))
        value = jnp.mean(play.apply("player", play.batch["point"])[0])
        return value, Outcome({"latent": latent, "noise": noise})

    players = {"player": Player(Layers((1,)), optax.sgd(0.0))}
    move = Move("move", ("player",), loss, times=2)
    game = Game(players, (move,), normal, lambda apply, latents, batch: ({}, {}))
    state, step, seen = fresh(game), jax.jit(make_step(game)), []
    for _ in range(3):
        seen += [float(x) for x in drawn(jax.random.normal, keys_of(state, 4, part=0), "latent")]
        state, metrics = step(state, BATCHES[0])
        seen += [float(x) for x in metrics.values()]  # of the second part
    assert len(set(seen)) == len(seen) == 3 * (4 + 2)


def test_the_discriminator_update_leaves_the_generator_alone():
    game = with_tx(toy(), generator=optax.set_to_zero())
    state = fresh(game)
    after, _ = jax.jit(make_step(game))(state, BATCHES[0])
    assert_equal_trees(after.players["generator"].params, state.players["generator"].params)
    before, moved = (s.players["discriminator"].params for s in (state, after))
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), before, moved)))


def test_the_generator_update_is_against_the_updated_discriminator_and_leaves_it_alone():
    game = with_tx(toy(), generator=optax.sgd(1.0))
    state = fresh(game)
    both, metrics = jax.jit(make_step(game))(state, BATCHES[0])
    alone, _ = jax.jit(make_step(with_tx(game, generator=optax.set_to_zero())))(state, BATCHES[0])
    updated = both.players["discriminator"]
    assert_equal_trees(updated, alone.players["discriminator"])

    z = latents_of(state)

    def loss(params):
        made = game.players["generator"].module.apply({"params": params}, z)
        return jnp.mean(jax.nn.softplus(-judged(game, updated.params, made)))

    value, grads = jax.value_and_grad(loss)(state.players["generator"].params)
    np.testing.assert_allclose(metrics["loss_generator"], value, rtol=1e-5)  # sums in another order
    before, after = (s.players["generator"].params for s in (state, both))
    taken = jax.tree.map(jnp.subtract, before, after)
    assert_close(taken, grads, rtol=1e-3, atol=1e-6)  # p - (p - g) rounds at p's size


def test_the_discriminator_loss_and_scores_are_those_of_the_formula():
    game = toy()
    state = fresh(game)
    _, metrics = jax.jit(make_step(game))(state, BATCHES[0])
    params = state.players["discriminator"].params
    fake = judged(game, params, made_from(game, state, latents_of(state)))
    real = judged(game, params, BATCHES[0]["point"])
    d = jax.nn.sigmoid
    expected = {
        "loss_discriminator": -jnp.log(d(real)).mean() - jnp.log(1 - d(fake)).mean(),
        "score_real": d(real).mean(),
        "score_fake": d(fake).mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)  # sums in another order


@pytest.mark.parametrize("scheduled", [False, True])
def test_the_average_is_the_weighted_sum_of_the_generators(scheduled):
    def schedule(step):
        return 0.5 + 0.01 * step.astype(jnp.float32)

    game = toy()
    generator = game.players["generator"]._replace(ema_decay=schedule if scheduled else 0.5)
    game = game._replace(players=game.players | {"generator": generator})
    step, state = jax.jit(make_step(game)), fresh(game)
    generators, decays = [state.players["generator"].params], []
    for i in range(6):
        state, _ = step(state, BATCHES[i % 3])
        generators.append(state.players["generator"].params)
        decays.append(0.5 + 0.01 * i if scheduled else min(0.5, (1 + i) / (10 + i)))
    # ema_n = sum_i (1 - d_i) p_i prod_{j > i} d_j, with the initial weights as p_0, d_0 = 0.
    weights = [(1 - d) * np.prod(decays[i:]) for i, d in enumerate([0.0, *decays])]
    assert abs(sum(weights) - 1) < 1e-12
    expected = jax.tree.map(
        lambda *ps: np.float32(sum(w * np.float64(p) for w, p in zip(weights, ps))), *generators
    )
    # Six float32 roundings.
    assert_close(state.players["generator"].ema, expected, rtol=1e-5, atol=1e-7)
    assert state.players["discriminator"].ema is None


def test_critic_steps_are_updates_on_the_parts_of_the_batch():
    game = with_tx(toy(critic_steps=2), generator=optax.set_to_zero())
    state = fresh(game)
    after, _ = jax.jit(make_step(game))(state, BATCHES[0])
    params = state.players["discriminator"].params
    for part in (0, 1):
        fake = made_from(game, state, latents_of(state, 4, part))
        real = BATCHES[0]["point"][part::2]

        def loss(params, real=real, fake=fake):
            on_real, on_fake = judged(game, params, real), judged(game, params, fake)
            return jnp.mean(jax.nn.softplus(-on_real)) + jnp.mean(jax.nn.softplus(on_fake))

        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))
    assert_close(after.players["discriminator"].params, params)


def test_lookahead_differentiates_through_the_moves_of_the_other():
    game = unrolled()
    state = fresh(game)
    step = make_step(with_tx(game, generator=optax.sgd(1.0)))
    after, _ = jax.jit(step)(state, BATCHES[0])
    start = after.players["discriminator"].params  # the discriminator's own update came first
    z = latents_of(state)
    module, real = game.players["generator"].module, BATCHES[0]["point"]

    def loss(params, through):
        fake = module.apply({"params": params}, z)

        def of_discriminator(d):
            shown = fake if through else jax.lax.stop_gradient(fake)
            on_real, on_fake = judged(game, d, real), judged(game, d, shown)
            return jnp.mean(jax.nn.softplus(-on_real)) + jnp.mean(jax.nn.softplus(on_fake))

        d = start
        for _ in range(2):
            d = jax.tree.map(lambda p, g: p - 0.1 * g, d, jax.grad(of_discriminator)(d))
        return jnp.mean(jax.nn.softplus(-judged(game, d, fake)))

    params = state.players["generator"].params
    taken = jax.tree.map(jnp.subtract, params, after.players["generator"].params)
    assert_close(taken, jax.grad(loss)(params, True), rtol=1e-3, atol=1e-6)
    stopped = jax.grad(loss)(params, False)
    apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), taken, stopped)
    assert max(jax.tree.leaves(apart)) > 1e-4


def test_vmap_over_seeds_equals_separate_runs():
    game = toy()
    keys = [jax.random.key(seed) for seed in range(3)]
    step = make_step(game)
    together = jax.vmap(lambda key: init(game, key, BATCHES[0]))(jnp.stack(keys))
    together, _ = train(jax.jit(jax.vmap(step, in_axes=(0, None))), together, BATCHES)
    single = jax.jit(step)
    for i, key in enumerate(keys):
        alone, _ = train(single, init(game, key, BATCHES[0]), BATCHES)
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), alone)


def test_scan_over_steps_equals_single_steps():
    game = toy(Normed(), Normed(1))
    step = make_step(game)
    single, single_metrics = train(jax.jit(step), fresh(game), BATCHES)
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *BATCHES)
    many, metrics = jax.jit(lambda s, b: jax.lax.scan(step, s, b))(fresh(game), stacked)
    assert_close(single, many)
    assert_close(metrics, single_metrics)


def test_bfloat16_trains_as_float32_does_up_to_its_rounding():
    losses = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        game = toy(dtype=dtype, augment=instance_noise(lambda step: jnp.float32(0.1)))
        after, history = train(jax.jit(make_step(game)), fresh(game), BATCHES * 3)
        losses[dtype] = np.stack([history["loss_discriminator"], history["loss_generator"]])
        leaves = jax.tree.leaves((after.players, history))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert np.any(losses[jnp.float32] != losses[jnp.bfloat16])
    # bfloat16 keeps 8 bits: 0.4 percent of each logit, of about 1, through two layers, nine steps.
    np.testing.assert_allclose(losses[jnp.bfloat16], losses[jnp.float32], rtol=0.02)


def test_instance_noise_of_deviation_zero_changes_nothing_and_of_a_half_does():
    def loss(deviation):
        game = toy(augment=instance_noise(lambda step: deviation))
        return jax.jit(make_step(game))(fresh(game), BATCHES[0])[1]["loss_discriminator"]

    plain = jax.jit(make_step(toy()))(fresh(toy()), BATCHES[0])[1]["loss_discriminator"]
    # Adding 0 * noise may change how operations are fused, and so the rounding.
    np.testing.assert_allclose(loss(jnp.float32(0.0)), plain, rtol=1e-6)
    assert abs(loss(jnp.float32(0.5)) - plain) > 1e-3


def test_two_equal_games_have_equal_steps_whatever_the_order_of_their_players():
    game = toy()
    turned = game._replace(players=dict(reversed(game.players.items())))
    first, _ = train(jax.jit(make_step(game)), fresh(game), BATCHES)
    second, _ = train(jax.jit(make_step(turned)), fresh(turned), BATCHES)
    assert_equal_trees(first, second)


def test_the_generator_may_make_and_the_discriminator_see_several_features():
    def generate(apply, latents, batch):
        made, state = apply("generator", latents)
        return {"point": made[:, :2], "mass": made[:, 2:]}, {"generator": state}

    def judge(apply, examples, state=None):
        both = jnp.concatenate([examples["point"], examples["mass"]], axis=-1)
        return apply("discriminator", both, state=state)

    players = {
        "generator": Player(Layers((8, 3)), optax.sgd(0.1)),
        "discriminator": Player(Layers((8, 1)), optax.sgd(0.1)),
    }
    moves = adversarial(nonsaturating(), normal, generate, judge)
    game = Game(players, moves, normal, generate)
    batches = [points(i, mass=np.ones((8, 1), np.float32)) for i in range(3)]
    assert_one_device_equals_four(game, batches)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"generator": Layers((8, 2))}, r"generator is Layers; give Player\(module, optimizer\)"),
        ({"latent": 16}, r"latent=16 is no function of a key; use latents\.normal\(16\)"),
        ({"given": "label"}, r"given='label' is text; give a tuple"),
        ({"penalties": penalties.r1(0.1)}, r"penalties holds what is no Penalty; give a tuple"),
        ({"penalties": (penalties.r1,)}, r"penalties holds what is no Penalty; give a tuple"),
        ({"generator_penalties": (penalties.r1(1.0),)}, "what is no GeneratorPenalty"),
    ],
)
def test_what_is_no_part_of_a_game_is_named(changes, text):
    tx = optax.sgd(0.1)
    parts = {
        "generator": Player(Layers((8, 2)), tx),
        "discriminator": Player(Layers((8, 1)), tx),
        "objective": objectives.hinge(),
        "latent": normal,
        "made": "point",
    }
    with pytest.raises(UserError, match=text):
        gan(**{**parts, **changes})


def test_an_objective_that_was_not_called_is_named():
    game = toy(objective=objectives.hinge)
    with pytest.raises(UserError, match=r"is no Objective; use one such as hinge\(\), called"):
        init(game, jax.random.key(0), points())
