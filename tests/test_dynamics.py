"""Eigenvalues of games: closed forms of the Dirac-GAN, and products against whole matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Layers

from jaxgan import dynamics, latents, objectives, rules, spectra
from jaxgan.game import Player, init
from jaxgan.penalties import gradient_penalty, r1, r2
from jaxgan.recipes.dirac import Line, Point
from jaxgan.step import make_step
from jaxgan.two_players import gan

BATCH = {"point": np.zeros((1, 1), np.float32)}


def dirac(objective, rate=0.2, penalties=()):
    """The Dirac-GAN under simultaneous gradient descent."""
    players = (Player(module, optax.sgd(rate)) for module in (Point(), Line()))
    game = gan(*players, objective, latents.normal(1), made="point", penalties=penalties)
    return game._replace(rule=rules.simultaneous)


def placed(game, theta, psi):
    state = init(game, jax.random.key(0), BATCH)
    params = {"generator": {"theta": theta}, "discriminator": {"psi": psi}}
    return state.replace(players=rules.with_params(state.players, params))


def pairs(values):
    """Each row sorted by real and imaginary parts."""
    return np.sort_complex(np.array(values))


def test_a_gradient_penalty_damps_the_dirac_gan_and_the_critical_weight_is_1():
    def both(weights):
        on_real, on_fake = weights
        game = dirac(objectives.minimax(), 0.2, (r1(on_real), r2(on_fake)))
        state = placed(game, jnp.zeros(()), jnp.zeros(()))
        flows = (f(game, state, BATCH) for f in (dynamics.field, dynamics.update_map))
        return [spectra.jacobian(flow) for flow in flows]

    gammas = np.array([0.1, 0.3, 1.0, 2.0], np.float32)
    on_real = np.concatenate([gammas, 0 * gammas])
    weights = np.stack([on_real, on_real[::-1]], axis=1)
    gamma = np.float64(weights.sum(1))
    fields, steps = map(np.float64, jax.jit(jax.vmap(both))(weights))
    root = np.sqrt((gamma**2 / 4 - 1 / 4).astype(complex))
    expected = np.stack([-gamma / 2 + root, -gamma / 2 - root], axis=1)
    found = np.linalg.eigvals(fields)
    # Where both meet, at gamma = 1, the root of float32's rounding shows.
    precise = gamma != 1.0
    np.testing.assert_allclose(pairs(found), pairs(expected), atol=5e-4)
    np.testing.assert_allclose(pairs(found[precise]), pairs(expected[precise]), atol=1e-6)
    radius = np.abs(np.linalg.eigvals(steps)).max(1)
    np.testing.assert_allclose(radius[precise], np.abs(1 + 0.2 * expected).max(1)[precise], 1e-6)
    turning = np.abs(found.imag).max(1)
    assert (turning[gamma < 1] > 0.4).all() and (turning[gamma > 1] == 0).all()
    # The largest real part is least at the critical weight.
    assert gamma[expected.real.max(1).argmin()] == 1.0


def test_objectives_of_log_odds_have_one_jacobian_at_the_equilibrium():
    def found(theta, psi):
        makes = objectives.minimax, objectives.nonsaturating, objectives.relativistic
        games = [dirac(make()) for make in makes]
        flows = [dynamics.field(game, placed(game, theta, psi), BATCH) for game in games]
        return [spectra.jacobian(flow) for flow in flows]

    for jacobian in jax.jit(found)(jnp.zeros(()), jnp.zeros(())):
        np.testing.assert_allclose(jacobian, [[0, -0.5], [0.5, 0]], atol=1e-6)


def radii(make, starts, steps, last):
    """The distances from the equilibrium in the last steps, for each (rate, start) [N, 2]."""

    def run(rate_and_start):
        rate, start = rate_and_start
        game = make(rate)
        step = make_step(game)

        def once(state, _):
            state, _ = step(state, BATCH)
            numbers = jax.tree.leaves({n: p.params for n, p in state.players.items()})
            return state, jnp.sqrt(sum(x**2 for x in numbers))

        return jax.lax.scan(once, placed(game, start, start), length=steps)[1][-last:]

    return np.asarray(jax.jit(jax.vmap(run))(jnp.asarray(starts, jnp.float32)))


def test_the_nonsaturating_game_ends_on_its_limit_cycle_from_inside_and_from_outside():
    rates = np.array([0.05, 0.1, 0.2, 0.5])
    starts = [(r, share * r**0.5) for r in rates for share in (0.8, 1.2)]
    found = radii(lambda rate: dirac(objectives.nonsaturating(), rate), starts, 6000, 400)
    # The mean over the cycle, which is no circle, by a program of its own in float64. At the
    # slowest rate, 0.05, exp(-3.7) of the distance from it is left.
    means = np.repeat([0.31617, 0.44704, 0.63184, 0.99334], 2)
    np.testing.assert_allclose(found.mean(1)[2:], means[2:], rtol=1e-3)
    np.testing.assert_allclose(found.mean(1), means, rtol=0.01)
    np.testing.assert_allclose(means, np.repeat(np.sqrt(2 * rates), 2), rtol=0.01)


def test_wasserstein_does_not_converge_with_or_without_its_penalty():
    start = [(0.2, 0.01)]
    alone = radii(lambda rate: dirac(objectives.wasserstein(), rate), start, 100, 1)
    # A linear game: each step turns, and lengthens by sqrt(1 + rate^2).
    np.testing.assert_allclose(alone[0, 0], 0.01 * 2**0.5 * (1 + 0.2**2) ** 50, rtol=1e-5)
    penalties = (gradient_penalty(0.3),)
    held = radii(lambda rate: dirac(objectives.wasserstein(), rate, penalties), start, 2000, 1000)
    assert held.min() > 0.1 and held.max() < 10.0


@pytest.fixture(scope="module")
def trained():
    """A game of small networks that Adam trained a little, its state and its batch."""
    networks = Layers((8, 8, 2)), Layers((8, 1))
    players = (Player(network, optax.adam(1e-2)) for network in networks)
    game = gan(*players, objectives.nonsaturating(), latents.normal(3), made="point")
    batch = {"point": np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)}
    step = make_step(game)

    def once(state, _):
        return step(state, batch)[0], None

    state = init(game, jax.random.key(0), batch)
    return game, jax.jit(lambda state: jax.lax.scan(once, state, length=30)[0])(state), batch


def test_products_find_the_outermost_eigenvalues_of_the_whole_matrix(trained, monkeypatch):
    flow = dynamics.update_map(*trained)
    monkeypatch.setattr(spectra, "DENSE", 10_000)
    whole = spectra.eigenvalues(flow)
    monkeypatch.setattr(spectra, "DENSE", 10)
    some = spectra.eigenvalues(flow, 40)
    assert len(whole.values) == flow.point.size == some.size and len(some.values) == 40
    assert whole.converged.all() and whole.held == some.held
    size = np.abs(whole.values).max()
    known = some.values[some.converged]
    assert len(known) > 4
    # A hundred times the residual that counts as converged: eigenvalues of a matrix that is not
    # normal, as that of Adam's step, move by more.
    assert np.abs(whole.values[None] - known[:, None]).min(1).max() < 0.01 * size
    np.testing.assert_allclose(some.values[0].real, whole.values[0].real, atol=0.01 * size)
    np.testing.assert_allclose(np.abs(some.values).max(), size, rtol=0.01)


def test_numbers_without_derivative_are_told_and_held(trained):
    game, state, batch = trained
    unused = state.players["generator"]
    moments = unused.opt_state[0]
    nothing = jax.tree.map(jnp.zeros_like, moments.nu)
    # As of a network whose examples nobody judges: no gradient, and no moment.
    still = unused.replace(opt_state=(moments._replace(nu=nothing), *unused.opt_state[1:]))
    judges, makes = game.moves

    def flat(play):
        value, outcome = makes.loss(play)
        return 0.0 * value, outcome

    game = game._replace(moves=(judges, makes._replace(loss=flat)))
    state = state.replace(players={**state.players, "generator": still})
    found = spectra.eigenvalues(dynamics.update_map(game, state, batch), 8)
    assert found.held == sum(leaf.size for leaf in jax.tree.leaves(unused.params))
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize("rank", [3, 60])
def test_arnoldi_ends_where_nothing_new_comes_and_tells_what_is_not_known(rank):
    draws = np.random.default_rng(rank)
    factors = draws.normal(size=(2, 60, rank)) / 60**0.5
    matrix = jnp.asarray(factors[0] @ factors[1].T, jnp.float32)
    found = spectra.arnoldi(lambda x: matrix @ x, jnp.asarray(draws.normal(size=60)), 20)
    values, errors = spectra.ritz_values(np.float64(found))
    exact = np.linalg.eigvals(np.float64(matrix))
    distance = np.abs(values[:, None] - exact[None]).min(1)
    if rank == 3:
        assert len(values) <= 5 and (distance < 1e-3).all()
    else:
        assert len(values) == 20 and (errors > 1e-3).any()
        assert np.linalg.norm(matrix) > errors.max() > 0


def test_rotation_is_the_imaginary_part_by_the_real_one():
    found = spectra.rotation(np.array([3.0, -2.0 + 1.0j, 1.0j, 0.0]))
    np.testing.assert_array_equal(found, [0.0, 0.5, np.inf, 0.0])
