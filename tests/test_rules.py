"""Update rules against closed forms of the Dirac-GAN and quadratic games; one device as four."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Judge, Maker, assert_one_device_equals_four, batches, sgd_game
from jax.flatten_util import ravel_pytree

from jaxgan import dynamics, latents, objectives, rules, spectra
from jaxgan.errors import UserError
from jaxgan.game import Game, Move, Outcome, Player, init
from jaxgan.gan_moves import adversarial
from jaxgan.judging import critic
from jaxgan.penalties import r1
from jaxgan.recipes.dirac import Line, Point
from jaxgan.step import make_step
from jaxgan.two_players import gan, maker

ETA = 0.2
E = ETA / 2.0  # eta times the slope of log sigmoid at 0


def dirac(objective=None, tx=None, penalties=()):
    """The Dirac-GAN (Mescheder et al., 2018), from theta = psi = 1: all real examples are 0."""
    tx = tx or optax.sgd(ETA)
    return gan(
        Player(Point(), tx),
        Player(Line(), tx),
        objective or objectives.minimax(),
        latents.normal(1),
        made="point",
        penalties=penalties,
    )


BATCH = {"point": np.zeros((1, 1), np.float32)}


def looking_ahead(steps, stopped=False):
    """The Dirac-GAN whose generator looks through so many steps of the discriminator."""
    generate = maker("point")
    options = dict(judge=critic("point"))
    judges, makes = adversarial(objectives.minimax(), latents.normal(1), generate, **options)

    def generate_stopped(apply, latents, batch):
        made, states = generate(apply, latents, batch)
        return jax.lax.stop_gradient(made), states

    through = judges
    if stopped:
        through, _ = adversarial(
            objectives.minimax(), latents.normal(1), generate_stopped, **options
        )
    return dirac()._replace(moves=(judges, makes._replace(lookahead=(through,) * steps)))


def local_radius(game, rule, by_differences=False):
    """The spectral radius of the step at the equilibrium, as a map of all that it changes.

    By differences where a gradient that the step stops is a part of this map's. At 0, which stays,
    their rounding is relative to them, 1e-7, and what is not linear of their square.
    """
    game = game._replace(rule=rule)
    state = init(game, jax.random.key(0), BATCH)
    if jax.tree.leaves(state.players["generator"].opt_state):
        state, _ = make_step(game)(state, BATCH)  # optimistic descent begins otherwise
    zeros = {
        name: player.replace(
            params=jax.tree.map(jnp.zeros_like, player.params),
            opt_state=jax.tree.map(
                lambda x: x if jnp.issubdtype(x.dtype, jnp.integer) else jnp.zeros_like(x),
                player.opt_state,
            ),
        )
        for name, player in state.players.items()
    }
    flow = dynamics.update_map(game, state.replace(players=zeros), BATCH)
    if not by_differences:
        return np.abs(spectra.eigenvalues(flow).values).max()
    width = 2.0**-12
    columns = jax.jit(jax.vmap(flow.function))(width * jnp.eye(flow.point.size))
    return np.abs(np.linalg.eigvals(np.float64(columns.T) / width)).max()


def optimistic_radius():
    """Of x' = x - 2 eta J x + eta J x_before, where J has the eigenvalues +-i/2."""
    return np.abs(np.roots([1.0, -1.0 + 2j * E, -1j * E])).max()


def optimistic():
    return optax.optimistic_gradient_descent(ETA)


ROOT = np.sqrt(
    (1 - ETA / 4) ** 2 + E**2
)  # of consensus and symplectic: xi + J^T xi, with J^T J = I / 4
LOCAL = {
    "simultaneous": (dirac, rules.simultaneous, np.sqrt(1 + E**2)),
    "alternating": (dirac, rules.alternating, 1.0),
    "extragradient": (dirac, rules.extragradient, np.sqrt((1 - E**2) ** 2 + E**2)),
    "optimistic": (lambda: dirac(tx=optimistic()), rules.simultaneous, optimistic_radius()),
    "competitive": (dirac, rules.competitive(ETA), 1 / np.sqrt(1 + E**2)),
    "consensus": (dirac, rules.consensus(1.0), ROOT),
    "symplectic": (dirac, rules.symplectic(1.0), ROOT),
    "aligned": (dirac, rules.symplectic(1.0, align=True), ROOT),
}
for k in (1, 5, 10):
    ahead = functools.partial(looking_ahead, k)
    LOCAL[f"unrolled {k}"] = ahead, rules.simultaneous, np.sqrt(1 - (2 * k - 1) * E**2)
    in_turn = np.roots([1, -2 + (2 * k + 1) * E**2, 1 - 2 * k * E**2])
    LOCAL[f"unrolled {k}, in turn"] = ahead, rules.alternating, np.abs(in_turn).max()
    stopped = functools.partial(looking_ahead, k, stopped=True)
    LOCAL[f"stopped {k}"] = stopped, rules.simultaneous, np.sqrt(1 - (k - 1) * E**2)


@pytest.mark.parametrize("name", LOCAL)
def test_near_its_equilibrium_the_dirac_gan_contracts_as_the_formula_says(name):
    make, rule, expected = LOCAL[name]
    with jax.numpy_dtype_promotion("standard"):  # for optax's optimistic descent
        found = local_radius(make(), rule, by_differences=name.startswith("stopped"))
    # Float32 rounding; at unrolled 10 both eigenvalues meet, and the root of 1e-8 shows.
    np.testing.assert_allclose(found, expected, atol=2e-4 if name == "unrolled 10" else 1e-6)


def test_the_closed_forms_are_those_of_the_literature():
    found = [LOCAL[name][2] for name in ("simultaneous", "extragradient", "competitive")]
    np.testing.assert_allclose(found, [1.004988, 0.995038, 0.995037], atol=1e-6)
    np.testing.assert_allclose([LOCAL["optimistic"][2], ROOT], [0.994936, 0.955249], atol=1e-6)
    unrolled = [LOCAL[f"unrolled {k}"][2] for k in (1, 5, 10)]
    np.testing.assert_allclose(unrolled, [0.994987, 0.953939, 0.9], atol=1e-6)


def radius_after(game, rule, steps):
    """The distance from the equilibrium after so many steps, as a share of the first."""
    step = make_step(game._replace(rule=rule))

    def once(state, _):
        return step(state, BATCH)[0], None

    state = init(game, jax.random.key(0), BATCH)
    with jax.numpy_dtype_promotion("standard"):  # for optax's optimistic descent
        state, _ = jax.jit(lambda state: jax.lax.scan(once, state, length=steps))(state)
    return (
        float(np.linalg.norm(ravel_pytree([p.params for p in state.players.values()])[0])) / 2**0.5
    )


FAR = {  # game, rule, share of the first radius after 300 steps
    "simultaneous": (dirac, rules.simultaneous, 2.0268),
    "nonsaturating": (lambda: dirac(objectives.nonsaturating()), rules.simultaneous, 0.452),
    "extragradient": (dirac, rules.extragradient, 0.231),
    "optimistic": (lambda: dirac(tx=optimistic()), rules.simultaneous, 0.226),
    "competitive": (dirac, rules.competitive(ETA), 0.230),
    "consensus": (dirac, rules.consensus(1.0), 9.7e-7),
    "r1 0.1": (lambda: dirac(penalties=(r1(0.1),)), rules.simultaneous, 0.204),
    "r1 0.3": (lambda: dirac(penalties=(r1(0.3),)), rules.simultaneous, 4.6e-4),
}


@pytest.mark.parametrize("name", FAR)
def test_the_dirac_gan_is_where_float64_has_it_after_300_steps(name):
    make, rule, expected = FAR[name]
    # The references, of programs of their own in float64, have three or four digits.
    np.testing.assert_allclose(radius_after(make(), rule, 300), expected, rtol=0.01)


@pytest.mark.parametrize(("first", "expected"), [("psi", 0.955), ("theta", 1.041)])
def test_in_turn_the_dirac_gan_stays_on_its_orbit(first, expected):
    game = dirac()
    if first == "theta":
        game = game._replace(moves=game.moves[::-1])
    psi = theta = 1.0
    radii = []
    for _ in range(300):
        for name in ("psi", "theta") if first == "psi" else ("theta", "psi"):
            if name == "psi":
                psi -= ETA * theta / (1 + np.exp(-psi * theta))
            else:
                theta += ETA * psi / (1 + np.exp(-psi * theta))
        radii.append(np.hypot(psi, theta) / 2**0.5)
    np.testing.assert_allclose(radii[-1], expected, atol=1e-3)
    # Rounding turns the orbit, of which one round takes about 60 steps.
    np.testing.assert_allclose(radius_after(game, rules.alternating, 300), radii[-1], rtol=1e-4)
    assert max(radii) < 1.2


def test_looking_ahead_contracts_faster_and_stopping_its_gradient_changes_the_run():
    through, stopped = (
        radius_after(looking_ahead(5, stopped), rules.alternating, 100) for stopped in (False, True)
    )
    alone = radius_after(looking_ahead(0), rules.alternating, 100)
    assert through < 0.5 * stopped < 0.5 * alone


class Numbers(nn.Module):
    size: int

    @nn.compact
    def __call__(self):
        return self.param("numbers", nn.initializers.normal(1.0), (self.size,))


def quadratic(tx, seed=0):
    """A general game of x [3] and y [2]: f = x'Ax/2 + x'By + a'x, g = y'Dy/2 + y'Cx + b'y."""
    draws = np.random.default_rng(seed)
    A, B, a, D, C, b = (
        draws.normal(size=shape).astype(np.float32)
        for shape in [(3, 3), (3, 2), (3,), (2, 2), (2, 3), (2,)]
    )
    A, D = A + A.T, D + D.T

    def of_x(play):
        x, y = (play.apply(name)[0] for name in "xy")
        return x @ A @ x / 2 + x @ B @ y + a @ x, Outcome()

    def of_y(play):
        x, y = (play.apply(name)[0] for name in "xy")
        return y @ D @ y / 2 + y @ C @ x + b @ y, Outcome()

    players = {"x": Player(Numbers(3), tx), "y": Player(Numbers(2), tx)}
    moves = Move("x", ("x",), of_x), Move("y", ("y",), of_y)
    game = Game(players, moves, latents.normal(1), lambda apply, latents, batch: ({}, {}))
    return game, np.block([[A, B], [C, D]]).astype(np.float64), np.concatenate([a, b])


def change(game, rule, seed):
    """What one step of gradient descent of rate 1 takes from (x, y), and (x, y)."""
    state = init(game, jax.random.key(seed), BATCH)
    after, _ = jax.jit(make_step(game._replace(rule=rule)))(state, BATCH)
    before, later = (
        np.concatenate([s.players[n].params["numbers"] for n in "xy"]) for s in (state, after)
    )
    return before - later, before


@pytest.mark.parametrize("seed", [0, 1])
def test_a_rule_of_a_quadratic_game_is_its_formula(seed):
    game, J, constant = quadratic(optax.sgd(1.0), seed)
    _, start = change(game, rules.simultaneous, seed)
    xi = J @ start + constant
    A = (J - J.T) / 2
    expected = {
        rules.simultaneous: xi,
        rules.extragradient: J @ (start - xi) + constant,
        rules.consensus(0.3): xi + 0.3 * J.T @ xi,
        rules.symplectic(0.3): xi + 0.3 * A.T @ xi,
    }
    for rule, formula in expected.items():
        found, _ = change(game, rule, seed)
        # Float32: p - (p - g) rounds at the size of the largest number in between.
        np.testing.assert_allclose(found, formula, rtol=1e-5, atol=2e-6 * np.abs(formula).max())


def test_the_dynamics_of_a_quadratic_game_are_those_of_its_matrix():
    game, J, _ = quadratic(optax.sgd(0.5))
    state = init(game, jax.random.key(0), BATCH)
    field = jax.jit(lambda: spectra.jacobian(dynamics.field(game, state, BATCH)))()
    np.testing.assert_allclose(field, -J, rtol=1e-5)
    game = game._replace(rule=rules.simultaneous)
    step = jax.jit(lambda: spectra.jacobian(dynamics.update_map(game, state, BATCH)))()
    np.testing.assert_allclose(step, np.eye(5) - 0.5 * J, rtol=1e-5, atol=1e-6)


def test_the_sign_of_the_adjustment_is_by_the_papers_criterion():
    signs = set()
    for seed in range(6):
        game, J, constant = quadratic(optax.sgd(1.0), seed)
        found, start = change(game, rules.symplectic(0.3, align=True), seed)
        xi, A = J @ start + constant, (J - J.T) / 2
        sign = np.sign((xi @ J.T @ xi) * (A.T @ xi @ J.T @ xi) / 5 + 0.1)
        np.testing.assert_allclose(found, xi + sign * 0.3 * A.T @ xi, rtol=1e-4, atol=1e-4)
        signs.add(sign)
    assert signs == {-1.0, 1.0}  # both are met


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_competitive_descent_of_a_general_game_is_the_dense_solution(seed):
    game, J, constant = quadratic(optax.sgd(1.0), seed)
    found, start = change(game, rules.competitive(0.2), seed)
    xi = J @ start + constant
    cross = J.copy()
    cross[:3, :3] = cross[3:, 3:] = 0.0
    # Both players' conditions at once: d_x = xi_x - rate D_xy f d_y, d_y = xi_y - rate D_yx g d_x.
    expected = np.linalg.solve(np.eye(5) + 0.2 * cross, xi)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)  # GMRES to 1e-6, p - (p - d)


RULES = {
    "alternating": rules.alternating,
    "simultaneous": rules.simultaneous,
    "extragradient": rules.extragradient,
    "consensus": rules.consensus(0.1),
    "symplectic": rules.symplectic(0.1),
    "aligned": rules.symplectic(0.1, align=True),
    "competitive": rules.competitive(0.1),
}


def small(objective=None, **players):
    generate = maker("image")
    moves = adversarial(
        objective or objectives.nonsaturating(), latents.normal(3), generate, critic("image")
    )
    networks = dict(generator=Maker(), discriminator=Judge()) | players
    return sgd_game(moves, latents.normal(3), generate, **networks)


@pytest.mark.parametrize("name", RULES)
def test_one_device_equals_four_under_each_rule(name):
    assert_one_device_equals_four(small(), batches(), RULES[name])


def test_one_device_equals_four_when_looking_ahead():
    game = small()
    judges, makes = game.moves
    game = game._replace(moves=(judges, makes._replace(lookahead=(judges, judges))))
    assert_one_device_equals_four(game, batches())


@pytest.mark.parametrize("name", [n for n in RULES if n != "alternating"])
def test_rules_of_the_joint_gradient_refuse_critic_steps(name):
    game = small()
    judges, makes = game.moves
    game = game._replace(moves=(judges._replace(times=2), makes))
    batch = batches()[0]
    with pytest.raises(UserError, match="'discriminator' is made 2 times"):
        jax.eval_shape(
            make_step(game._replace(rule=RULES[name])), init(game, jax.random.key(0), batch), batch
        )


def test_a_player_in_two_moves_and_three_moves_are_refused_where_they_have_no_meaning():
    game = small()
    batch = batches()[0]
    game = game._replace(moves=(*game.moves, game.moves[0]))
    state = init(game, jax.random.key(0), batch)
    with pytest.raises(UserError, match="player 'discriminator' is in two moves"):
        jax.eval_shape(make_step(game._replace(rule=rules.simultaneous)), state, batch)
    with pytest.raises(UserError, match="is for 2 moves, the game has 3"):
        jax.eval_shape(make_step(game._replace(rule=rules.competitive(0.1))), state, batch)


def test_vmap_over_seeds_equals_separate_runs_under_competitive():
    game, batch = small(), batches()[0]
    step = make_step(game._replace(rule=rules.competitive(0.1)))
    keys = jax.random.split(jax.random.key(1), 3)
    states = jax.vmap(lambda key: init(game, key, batch))(keys)
    together, _ = jax.jit(jax.vmap(step, in_axes=(0, None)))(states, batch)
    alone, _ = jax.jit(step)(init(game, keys[1], batch), batch)
    for a, b in zip(jax.tree.leaves(together.players), jax.tree.leaves(alone.players)):
        np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=2e-6)  # another order of sums
