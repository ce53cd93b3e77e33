"""The operations: references against float64 and optax, every derivative against jax.numpy.

CPUs run the references; what the Triton kernels compute is in test_triton.py.
"""

import functools
import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

from jaxgan import kernels, objectives
from jaxgan.kernels import launch, probe
from jaxgan.kernels.gan_loss import KINDS, SMOOTHED, UNSMOOTHED
from jaxgan.objectives import Objective


class Case(NamedTuple):
    """An operation, its definition in jax.numpy, and shapes of operands for both.

    The first operand is what a penalty differentiates.
    """

    operation: Callable[..., Any]
    definition: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


def along(vector, x):
    """vector [C] as [1,...,1,C], of x's rank."""
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))


def leaky(z, slope=0.2, gain=1.0):
    return gain * jnp.where(z > 0, z, slope * z)


def bce(l, t):
    return jnp.logaddexp(l, 0.0) - t * l


def normalised(x, scale, bias, epsilon=0.1):
    rows = tuple(range(x.ndim - 1))
    centred = x - x.mean(rows, keepdims=True)
    normal = centred / jnp.sqrt(x.var(rows, keepdims=True) + epsilon)
    return leaky(normal * along(scale, x) + along(bias, x))


def resampled(x, taps, up, down, padding):
    """`blur_resample` by its definition: zeros between the pixels, one multiplication a tap."""
    for axis in (1, 2):
        count = (x.shape[axis] * up + sum(padding) - len(taps)) // down + 1
        padded = np.zeros((x.shape[axis] * up + 20, x.shape[axis]))
        padded[10 + up * np.arange(x.shape[axis]), np.arange(x.shape[axis])] = 1.0
        padded = padded[10 - padding[0] : len(padded) - 10 + padding[1]]
        filters = np.zeros((count, len(padded)))
        for i in range(count):
            filters[i, i * down : i * down + len(taps)] = np.array(taps) * up / np.sum(taps)
        along_axis = jnp.tensordot(jnp.asarray(filters @ padded, x.dtype), x, (1, axis))
        x = jnp.moveaxis(along_axis, 0, axis)
    return x


CASES = {
    "leaky_relu": Case(
        functools.partial(kernels.leaky_relu, slope=0.1, gain=1.5),
        functools.partial(leaky, slope=0.1, gain=1.5),
        ((4, 3, 5),),
    ),
    "bias_leaky_relu": Case(
        functools.partial(kernels.bias_leaky_relu, slope=0.3, gain=1.4),
        lambda x, b: leaky(x + along(b, x), 0.3, 1.4),
        ((4, 3, 5), (5,)),
    ),
    "sigmoid_bce": Case(
        lambda l, t: kernels.sigmoid_bce(l, jax.nn.sigmoid(t)),
        lambda l, t: bce(l, jax.nn.sigmoid(t)).mean(),
        ((4, 3), (4, 3)),
    ),
    "sigmoid_bce_each": Case(
        lambda l, t: kernels.sigmoid_bce(l, jax.nn.sigmoid(t), "none"),
        lambda l, t: bce(l, jax.nn.sigmoid(along(t, l))),
        ((4, 3), (3,)),
    ),
    "discriminator_loss": Case(
        kernels.fused(objectives.nonsaturating(0.1)).discriminator,
        lambda r, f: bce(r, 0.9).mean() + bce(f, 0.0).mean(),
        ((4, 3), (4, 2, 2)),
    ),
    "generator_loss": Case(
        lambda f, r: kernels.fused(objectives.relativistic()).generator(r, f),
        lambda f, r: bce(f - r, 1.0).mean(),
        ((4, 3), (4, 3)),
    ),
    "batch_norm_leaky_relu": Case(
        lambda x, s, b: kernels.batch_norm_leaky_relu(x, s, b, 0 * s, 0 * s, epsilon=0.1)[0],
        normalised,
        ((4, 5, 3), (3,), (3,)),
    ),
    "blur_half": Case(
        lambda x, b: kernels.blur_resample(x, (1, 3, 3, 1), down=2, bias=b, slope=0.2, gain=1.4),
        lambda x, b: leaky(resampled(x, (1, 3, 3, 1), 1, 2, (1, 1)) + along(b, x), 0.2, 1.4),
        ((4, 5, 4, 2), (2,)),
    ),
    "blur_double": Case(
        functools.partial(kernels.blur_resample, taps=(1, 2, 1), up=2),
        lambda x: resampled(x, (1, 2, 1), 2, 1, (1, 1)),
        ((4, 3, 2, 2),),
    ),
}


def operands(case: Case, seed: int = 0) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(seed), len(case.shapes))
    return tuple(jax.random.normal(k, s) for k, s in zip(keys, case.shapes))


def assert_close(found, expected, rtol, atol):
    check = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol)
    jax.tree.map(check, found, expected)


def number(f):
    """A smooth number of all results, whose derivatives of any order are not zero."""

    def of(*values):
        return jnp.sum(jnp.sin(f(*values) + 0.3))

    return of


def gradient(f, case):
    return jax.grad(number(f), tuple(range(len(case.shapes))))


def penalty(f, distance):
    """A penalty on the slopes in the first operand, as R1 and WGAN-GP take it."""

    def of(x, *rest):
        return distance(jax.grad(lambda x: number(f)(x, *rest))(x))

    return of


def squared(slopes):
    return 0.5 * jnp.sum(slopes**2)


def from_one(slopes):
    norms = jnp.sqrt(jnp.sum(slopes.reshape(slopes.shape[0], -1) ** 2, axis=1) + 1e-6)
    return jnp.mean((norms - 1.0) ** 2)


def r1(f):
    return penalty(f, squared)


def r1_by_example(f, case):
    """R1 from the gradient of each example by itself."""
    # Operands of the batch's length go by example too.
    shared = [s[0] != 4 for s in case.shapes[1:]]

    def slopes(example, *rest):
        def alone(example):
            return number(f)(example, *[v if s else v[None] for v, s in zip(rest, shared)])

        return jax.grad(alone)(example[None])

    def of(x, *rest):
        return squared(jax.vmap(slopes, (0, *[None if s else 0 for s in shared]))(x, *rest))

    return of


def r1_along_scan(f):
    def of(x, *rest):
        def body(carry, scale):
            return carry + r1(f)(carry * 0 + scale * x, *rest).sum() * 1e-2, None

        return jax.lax.scan(body, jnp.zeros(()), jnp.array([0.5, 1.0, 1.5]))[0]

    return of


TRANSFORMATIONS: dict[str, Callable[..., Any]] = {}


def transformation(function):
    """Lists (f, case, values, moves) -> results, by its name."""
    TRANSFORMATIONS[function.__name__] = function
    return function


@transformation
def jvp(f, case, values, moves):
    return jax.jvp(f, values, moves)


@transformation
def vjp(f, case, values, moves):
    return jax.vjp(f, *values)[1](jnp.cos(f(*values)))


@transformation
def transposed_linearisation(f, case, values, moves):
    linear = jax.linearize(f, *values)[1]
    return jax.linear_transpose(linear, *values)(f(*values))


@transformation
def r1_penalty(f, case, values, moves):
    return gradient(r1(f), case)(*values)


@transformation
def wgan_gp(f, case, values, moves):
    return gradient(penalty(f, from_one), case)(*values)


@transformation
def r1_by_vmap_of_grad(f, case, values, moves):
    return gradient(r1_by_example(f, case), case)(*values)


@transformation
def hessian_vector_product(f, case, values, moves):
    return jax.jvp(gradient(f, case), values, moves)


@transformation
def third_order(f, case, values, moves):
    def first(*v):
        return jax.jvp(number(f), v, moves)[1]

    def second(*v):
        return jax.jvp(first, v, moves)[1]

    return jax.grad(second, tuple(range(len(values))))(*values)


@transformation
def remat(f, case, values, moves):
    return gradient(jax.checkpoint(f), case)(*values)


@transformation
def r1_in_scan(f, case, values, moves):
    return gradient(r1_along_scan(f), case)(*values)


@transformation
def ensemble(f, case, values, moves):
    first, *rest = values
    if not rest:
        return jax.vmap(gradient(f, case))(jnp.stack([first, -first]))
    members = [jnp.stack([v, 2 * v, v - 1]) for v in rest]
    return jax.vmap(gradient(f, case), (None, *[0] * len(rest)))(first, *members)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_derivatives_equal_those_of_jax_numpy(transformation, name):
    case = CASES[name]
    transformed = TRANSFORMATIONS[transformation]

    @jax.jit
    def both(values, moves):
        return [transformed(f, case, values, moves) for f in (case.operation, case.definition)]

    found, expected = both(operands(case), operands(case, seed=1))
    assert_close(found, expected, rtol=2e-4, atol=1e-5)  # up to third derivatives


@pytest.mark.parametrize("name", CASES)
def test_derivatives_equal_finite_differences(name):
    case = CASES[name]
    # Bounds for second differences in float32, of results of about 1.
    bounds = dict(order=2, modes=("fwd", "rev"), atol=5e-2, rtol=5e-2)
    check_grads(jax.jit(number(case.operation)), operands(case, seed=2), **bounds)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mapping", ["pmap", "shard_map"])
def test_each_of_four_devices_computes_its_own_share(name, mapping):
    case = CASES[name]
    shares = [jnp.stack([v * (i + 1) for i in range(4)]) for v in operands(case)]
    derivative = gradient(case.operation, case)

    def of_share(*values):
        return jax.tree.map(lambda x: x[None], derivative(*[v[0] for v in values]))

    if mapping == "pmap":
        found = jax.pmap(derivative)(*shares)
    else:
        mesh, part = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,)), PartitionSpec("i")
        mapped = jax.shard_map(of_share, mesh=mesh, in_specs=part, out_specs=part, check_vma=False)
        found = jax.jit(mapped)(*shares)
    expected = jax.vmap(gradient(case.definition, case))(*shares)
    assert_close(found, expected, rtol=1e-4, atol=1e-5)  # E[x^2] - E[x]^2 cancels


def test_statistics_and_gradients_over_replicas_equal_those_of_one_device():
    x = jax.random.normal(jax.random.key(0), (8, 5, 3)) * 2 + 1
    scale, bias = jnp.array([1.0, 0.5, 2.0]), jnp.array([0.1, 0.0, -0.3])

    def loss(axis_name, implementation):
        options = dict(momentum=0.5, axis_name=axis_name, implementation=implementation)

        def of(x, scale, bias):
            y, *stats = kernels.batch_norm_leaky_relu(x, scale, bias, 0 * bias, 0 * bias, **options)
            return jnp.sum(jnp.sin(y)), stats

        return jax.value_and_grad(of, (0, 1, 2), has_aux=True)

    (total, stats), (dx, *of_vectors) = loss(None, "plain")(x, scale, bias)
    for implementation in ("xla", "plain"):
        mapped = jax.pmap(loss("i", implementation), "i", in_axes=(0, None, None))
        (totals, apart), (dx_apart, *vectors_apart) = mapped(x.reshape(4, 2, 5, 3), scale, bias)
        np.testing.assert_allclose(totals.sum(), total, rtol=1e-5)
        # E[x^2] - E[x]^2 cancels.
        np.testing.assert_allclose(dx_apart.reshape(x.shape), dx, rtol=1e-4, atol=1e-5)
        for found, expected in zip(apart, stats):
            np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-5)
        for found, expected in zip(vectors_apart, of_vectors):
            np.testing.assert_allclose(found.sum(0), expected, rtol=1e-4, atol=1e-5)


def test_the_forms_for_gpus_are_the_references_in_other_words():
    x, g = jax.random.normal(jax.random.key(0), (2, 6, 5, 3))
    vectors = jax.random.normal(jax.random.key(1), (6, 3))
    options = dict(slope=0.2, gain=1.5)
    norm = importlib.import_module("jaxgan.kernels.batch_norm_leaky_relu")
    a, b, *others = vectors
    # Sums in another order.
    assert_close(norm._moments_at_once(x), norm._moments(x), rtol=1e-5, atol=1e-5)
    at_once, apart = (f(g, x, *others, **options) for f in (norm._reduce_at_once, norm._reduce))
    assert_close(at_once, apart, rtol=1e-5, atol=1e-5)
    operands = g, a, b, x, *others
    written, again = (f(*operands, **options) for f in (norm._distribute, norm._distribute_apart))
    assert_close(written, again, rtol=1e-6, atol=1e-6)
    ways = importlib.import_module("jaxgan.kernels.convolution_ways")
    x, y = jnp.ones((2, 6, 6, 3)), jax.random.normal(jax.random.key(2), (2, 3, 3, 1))
    assert_close(ways.correlate_gathered(x, y), ways.correlate_gemm(x, y), rtol=1e-6, atol=1e-6)


# Values and number formats.
def in_dtype(case, dtype):
    """Operands, of which the first is of that dtype."""
    return [v.astype(dtype) if i == 0 else v for i, v in enumerate(operands(case))]


def is_loss(name):
    return name.startswith(("sigmoid", "disc", "gen"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_references_equal_float64_up_to_one_rounding(name, dtype):
    case = CASES[name]
    values = in_dtype(case, dtype)
    found = case.operation(*values)
    with jax.enable_x64(True):
        exact = [jnp.asarray(np.asarray(v, np.float64)) for v in values]
        expected = np.asarray(case.definition(*exact))
    assert found.dtype == (jnp.float32 if is_loss(name) else dtype)
    # A result is rounded once, to within half a unit in the last place; float32 sums add units.
    limit = 2e-6 if is_loss(name) or dtype == "float32" else float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.float64(found), expected, rtol=limit, atol=limit)


@pytest.mark.parametrize("implementation", ["xla", "plain"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_have_the_dtypes_of_the_operands(name, dtype, implementation):
    case = CASES[name]
    values = in_dtype(case, dtype)
    if "loss" in name:
        values = [v.astype(dtype) for v in values]

    def widened(*values):
        with kernels.using(implementation):
            return case.operation(*values).astype(jnp.float32)

    grads = jax.eval_shape(gradient(widened, case), *values)
    assert [g.dtype for g in grads] == [v.dtype for v in values]


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3), (2, 2, 2, 3), (2, 1, 2, 2, 3), ()])
def test_ranks_up_to_five_and_scalars(shape):
    x = jnp.linspace(-1.0, 1.0, int(np.prod(shape))).reshape(shape)
    np.testing.assert_allclose(kernels.leaky_relu(x), leaky(x))
    if shape:
        b = jnp.array([0.5, 0.0, -0.5])
        found = jax.grad(lambda b: kernels.bias_leaky_relu(x, b).sum())(b)
        expected = jax.grad(lambda b: leaky(x + along(b, x)).sum())(b)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        y, *_ = kernels.batch_norm_leaky_relu(x, b, b, b, b)
        assert y.shape == shape
    assert kernels.sigmoid_bce(x, 1.0, "none").shape == shape
    assert kernels.fused(objectives.hinge()).discriminator(x, x).shape == ()


@pytest.mark.parametrize("name", [n for n in CASES if not is_loss(n)])
def test_an_empty_batch_gives_empty_results_and_zero_gradients(name):
    case = CASES[name]
    values = [jnp.zeros((0, *s[1:])) if s[0] == 4 else jnp.ones(s) for s in case.shapes]
    assert case.operation(*values).size == 0
    for g, v in zip(gradient(case.operation, case)(*values), values):
        assert g.shape == v.shape and not g.any()


def test_a_mean_over_no_logits_is_nan_as_in_numpy():
    none = jnp.zeros(0)
    assert np.isnan(kernels.sigmoid_bce(none, 1.0))
    assert np.isnan(kernels.fused(objectives.hinge()).generator(none, none))


def test_the_derivative_at_zero_is_that_of_the_negative_side():
    assert jax.grad(lambda x: kernels.leaky_relu(x, 0.2, 2.0))(0.0) == jnp.float32(0.4)
    hinge = kernels.fused(objectives.hinge()).discriminator
    assert [float(g) for g in jax.grad(hinge, (0, 1))(1.0, -1.0)] == [0.0, 0.0]


def test_binary_cross_entropy_equals_optax_and_stays_finite():
    logits = jnp.array([-1e4, -30.0, -1.0, 0.0, 2.0, 30.0, 1e4])
    targets = jnp.array([0.0, 0.3, 1.0, 0.5, 0.9, 1.0, 0.0])
    expected = optax.sigmoid_binary_cross_entropy(logits, targets)
    for implementation in ("xla", "plain"):
        with kernels.using(implementation):
            found = kernels.sigmoid_bce(logits, targets, "none")
            slopes = jax.grad(lambda l: kernels.sigmoid_bce(l, targets, "none").sum())(logits)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_allclose(slopes, jax.nn.sigmoid(logits) - targets, rtol=1e-6, atol=1e-7)


def test_small_slopes_of_sure_logits_are_kept():
    logits = jnp.array([16.0, 20.0, 30.0, 80.0])
    of_each = jax.grad(lambda l: kernels.sigmoid_bce(l, 1.0, "none").sum())(logits)
    np.testing.assert_allclose(of_each, -jax.nn.sigmoid(-logits), rtol=1e-6)
    judge = kernels.fused(objectives.nonsaturating()).discriminator
    of_real = jax.grad(lambda l: judge(l, -l))(logits) * 4
    np.testing.assert_allclose(of_real, -2 * jax.nn.sigmoid(-logits), rtol=1e-6)


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("taps", [(1,), (1, 1), (1, 2, 1), (1, 3, 3, 1), (1, 2, 3, 4, 4, 3, 2, -1)])
@pytest.mark.parametrize("padding", [None, (2, -1)])
def test_blur_equals_its_definition(up, down, taps, padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    spare = len(taps) - down
    expected = resampled(x, taps, up, down, padding or ((spare + 1) // 2, spare // 2))
    for implementation in ("xla", "plain"):
        found = kernels.blur_resample(
            x, taps, up=up, down=down, padding=padding, implementation=implementation
        )
        if padding is None:
            assert found.shape == (2, 9 * up // down, 8 * up // down, 3)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_constant_image_keeps_its_value_away_from_the_edges():
    for up, down in [(1, 1), (2, 1), (1, 2)]:
        y = kernels.blur_resample(jnp.full((1, 12, 12, 1), 5.0), up=up, down=down)
        edge = 3 if up == 2 else 2
        np.testing.assert_allclose(y[:, edge:-edge, edge:-edge], 5.0, rtol=1e-6)


def test_only_the_output_is_kept_for_the_backward_pass():
    x, b = jnp.ones((4, 8)), jnp.ones(8)
    pull_back = jax.vjp(lambda x, b: kernels.bias_leaky_relu(x, b), x, b)[1]
    kept = [leaf for leaf in jax.tree.leaves(pull_back) if getattr(leaf, "size", 0) > 1]
    assert [leaf.shape for leaf in kept if leaf.size == x.size] in ([(1, 4, 8)], [(4, 8)])


def test_operations_run_with_compilation_disabled_and_over_an_axis_of_no_members():
    x, b = jnp.array([[-1.0, 2.0]]), jnp.array([0.5, 0.5])
    with jax.disable_jit():
        np.testing.assert_allclose(kernels.bias_leaky_relu(x, b), [[-0.1, 2.5]], rtol=1e-6)
        halved = kernels.convolution(jnp.ones((1, 4, 4, 1)), jnp.ones((4, 4, 1, 1)))
        assert halved.shape == (1, 2, 2, 1)
    no_members = jax.vmap(lambda x: kernels.bias_leaky_relu(x, b))(jnp.zeros((0, 4, 2)))
    assert no_members.shape == (0, 4, 2)


# Objectives and their twins.
OBJECTIVES = {
    **{kind: make() for kind, make in (SMOOTHED | UNSMOOTHED).items()},
    **{f"{kind}, smoothed": make(0.1) for kind, make in SMOOTHED.items()},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_fused_losses_equal_the_objectives(name):
    objective = OBJECTIVES[name]
    twin = kernels.fused(objective)
    real, fake = (3 * jax.random.normal(jax.random.key(i), (5, 3, 3, 1)) for i in range(2))
    for player in ("discriminator", "generator"):
        one, other = getattr(twin, player), getattr(objective, player)
        found, expected = (jax.value_and_grad(loss, (0, 1))(real, fake) for loss in (one, other))
        assert_close(found, expected, rtol=1e-5, atol=1e-7)
        extreme = jnp.array([1e4, -1e4]), jnp.array([-1e4, 1e4])
        at_extremes = jax.tree.leaves(jax.value_and_grad(one, (0, 1))(*extreme))
        assert all(bool(jnp.isfinite(v).all()) for v in at_extremes)


def test_every_known_objective_has_a_twin_and_equal_ones_have_the_same():
    assert len(KINDS) == 5
    for objective in OBJECTIVES.values():
        assert kernels.fused(objective) != objective
    made = [objectives.minimax(0.1), objectives.minimax(label_smoothing=0.1)]
    assert made[0] == made[1] and hash(made[0]) == hash(made[1])
    assert kernels.fused(made[0]) is kernels.fused(made[1])
    assert kernels.fused(made[0]) != kernels.fused(objectives.minimax())
    bounded = objectives.hinge()._replace(log_odds=True)
    assert kernels.fused(bounded).log_odds and kernels.fused(bounded) != bounded


class Unhashable:
    """A loss with state of its own."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, real, fake):
        return jnp.mean(real) - jnp.mean(fake)


def own_loss(real, fake, label_smoothing=0.0):
    return jnp.mean(fake - real) + label_smoothing


@pytest.mark.parametrize(
    "objective",
    [
        objectives.wasserstein(),
        Objective(own_loss, own_loss),
        Objective(functools.partial(own_loss, label_smoothing=0.1), own_loss),
        Objective(functools.partial(own_loss, label_smoothing=jnp.ones(2)), own_loss),
        Objective(Unhashable(), Unhashable()),
        Objective(objectives.hinge().discriminator, objectives.nonsaturating().generator),
        kernels.fused(objectives.hinge()),
    ],
)
def test_an_objective_that_no_kernel_knows_is_its_own_twin(objective):
    assert kernels.fused(objective) is objective


# The choice of an implementation.
def primitives(f, *values):
    """The primitives of this library that a function is made of."""
    # A new function each time, because JAX keeps what it has traced.
    text = str(jax.make_jaxpr(lambda *v: f(*v))(*values))
    return {word for word in text.replace("[", " ").split() if word.startswith("gan_")}


PLAIN_CASES = {
    **{name: (case.operation, case.shapes) for name, case in CASES.items()},
    "norm without slope": (
        lambda x, s: kernels.batch_norm_leaky_relu(x, s, s, 0 * s, 0 * s, slope=1.0, gain=2.0)[0],
        ((4, 5, 3), (3,)),
    ),
    "convolution": (kernels.convolution, ((2, 6, 6, 2), (4, 4, 2, 3))),
    "transposed_convolution": (kernels.transposed_convolution, ((2, 3, 3, 3), (4, 4, 2, 3))),
    **{
        f"{name} of {player}": (getattr(kernels.fused(objective), player), ((4, 3), (4, 3)))
        for name, objective in OBJECTIVES.items()
        for player in ("discriminator", "generator")
    },
}


@pytest.mark.parametrize("name", PLAIN_CASES)
def test_plain_equals_xla_to_rounding_up_to_second_derivatives(name):
    operation, shapes = PLAIN_CASES[name]
    case = Case(operation, operation, shapes)
    values = operands(case)

    def derivatives(implementation, *values):
        with kernels.using(implementation):
            first, second = gradient(operation, case), gradient(r1(operation), case)
            return operation(*values), first(*values), second(*values)

    plain, xla = (functools.partial(derivatives, i) for i in ("plain", "xla"))
    assert primitives(xla, *values) and not primitives(plain, *values)
    # Second derivatives of sums in another order; E[x^2] - E[x]^2 cancels.
    assert_close(jax.jit(plain)(*values), jax.jit(xla)(*values), rtol=2e-4, atol=2e-5)


def test_the_argument_goes_before_using_before_the_environment_before_auto(monkeypatch):
    monkeypatch.delenv("JAXGAN_KERNELS", raising=False)
    assert launch.resolve(None) == "auto"
    monkeypatch.setenv("JAXGAN_KERNELS", "xla")
    assert launch.resolve(None) == "xla"
    with kernels.using("plain"):
        assert launch.resolve(None) == "plain"
        assert launch.resolve("xla") == "xla"
        with kernels.using(None):
            assert launch.resolve(None) == "plain"
        with kernels.using("auto"):
            assert launch.resolve(None) == "auto"
        assert launch.resolve(None) == "plain"
    with pytest.raises(KeyError), kernels.using("plain"):
        raise KeyError
    assert launch.resolve(None) == "xla"


def test_a_scope_and_the_environment_reach_every_operation(monkeypatch):
    x, b, w = jnp.ones((2, 4, 4, 3)), jnp.ones(3), jnp.ones((4, 4, 3, 3))
    judge = kernels.fused(objectives.hinge()).discriminator

    def everything(implementation, x):
        x = kernels.bias_leaky_relu(x, b, implementation=implementation)
        x = kernels.batch_norm_leaky_relu(x, b, b, b, b, implementation=implementation)[0]
        x = kernels.blur_resample(x, implementation=implementation)
        x = kernels.convolution(x, w, implementation=implementation)
        x = kernels.transposed_convolution(x, w, implementation=implementation)
        loss = kernels.sigmoid_bce(x, 0.5, implementation=implementation)
        return loss + (judge(x, x) if implementation is None else 0.0)

    by_default = functools.partial(everything, None)
    assert len(primitives(by_default, x)) == 8  # the norm's statistics are one of their own
    assert not primitives(functools.partial(everything, "plain"), x)
    with kernels.using("plain"):
        assert not primitives(by_default, x)
        assert len(primitives(functools.partial(everything, "xla"), x)) == 7
    monkeypatch.setenv("JAXGAN_KERNELS", "plain")
    assert not primitives(by_default, x)


def test_the_twin_of_plain_is_the_objective_itself():
    objective = objectives.hinge()
    assert kernels.fused(objective, "plain") is objective


def test_an_implementation_that_cannot_run_says_where_and_why():
    pytest.importorskip("triton")
    image = jnp.ones((1, 4, 4, 1))
    where = (
        r"implementation='triton'\) cannot run on cpu: .*CUDA GPU; use implementation=None or 'xla'"
    )
    names = "implementation='tritn' is unknown; use auto, xla, triton, interpret, plain"
    for operation in (kernels.leaky_relu, kernels.blur_resample):
        with pytest.raises(ValueError, match=where):
            operation(image, implementation="triton")
        with pytest.raises(ValueError, match=names):
            operation(image, implementation="tritn")
    with pytest.raises(ValueError, match=names), kernels.using("tritn"):
        pass


def test_a_missing_triton_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    launch._interpreting.cache_clear()
    missing = r"implementation='triton' cannot run: importing triton failed .*extra cuda12"
    with pytest.raises(ValueError, match=missing):
        kernels.leaky_relu(jnp.ones(3), implementation="triton")
    # The reference is always there.
    np.testing.assert_allclose(kernels.leaky_relu(jnp.array([-1.0, 1.0])), [-0.2, 1.0])


def test_importing_and_running_without_kernels_imports_no_triton():
    code = (
        "import sys, jax.numpy as jnp, jaxgan, jaxgan.kernels as kernels\n"
        "kernels.leaky_relu(jnp.ones(3)).block_until_ready()\n"
        "assert 'triton' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_python_of_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "kernels/README.md").read_text(), re.S)
    scope: dict = {}
    exec(code, scope)
    np.testing.assert_allclose(scope["slopes"][0], 0.2)  # where x + bias is negative
    np.testing.assert_allclose(scope["same"][0], 0.2 * (scope["x"] + 1)[0], rtol=1e-6)


def test_the_environment_variable_stands_for_no_argument(monkeypatch):
    monkeypatch.setenv("JAXGAN_KERNELS", "tritn")
    with pytest.raises(ValueError, match="JAXGAN_KERNELS='tritn' is unknown"):
        kernels.leaky_relu(jnp.ones(3))
    np.testing.assert_allclose(kernels.leaky_relu(jnp.ones(3), implementation="xla"), 1.0)


def chosen(operation, implementation, platform, shape, dtype="float32"):
    operands = [jax.ShapeDtypeStruct(shape, dtype)]
    return launch.uses_triton(operation, implementation, platform, operands)


def test_the_platform_and_the_implementation_steer_the_choice():
    assert chosen("sigmoid_bce", "triton", "cuda", (1, 2))
    assert chosen("sigmoid_bce", "interpret", "cpu", (1, 2))
    for implementation in ("auto", "xla"):
        assert not chosen("sigmoid_bce", implementation, "cuda", (1, 100))


def test_a_launch_that_fails_or_differs_is_a_reason_to_do_without(monkeypatch):
    assert probe.refusal("plain") == ""
    assert "cannot run on cpu: Triton kernels need a CUDA GPU" in probe.refusal("triton")
    probe.refusal.cache_clear()
    wrong = functools.partial(kernels.bias_leaky_relu, slope=0.3)

    def operation(x, bias, implementation):
        return (wrong if implementation == "plain" else kernels.bias_leaky_relu)(x, bias)

    monkeypatch.setattr(probe, "bias_leaky_relu", operation)
    assert probe.refusal("plain") == "the results are not those of the reference"
    probe.refusal.cache_clear()


def test_what_cannot_be_launched_goes_to_the_reference():
    assert not chosen("sigmoid_bce", "triton", "cuda", (1, 0))
    assert not chosen("sigmoid_bce", "triton", "cuda", (70_000, 2))
    wide = r"sigmoid_bce\(implementation='triton'\) was given float64; use float32"
    with pytest.raises(ValueError, match=wide):
        chosen("sigmoid_bce", "triton", "cuda", (1, 2), "float64")


def convolved(x, b):
    return kernels.convolution(x[None, ..., None], b[:1, None, None, None])


@pytest.mark.parametrize("operation", [kernels.bias_leaky_relu, convolved])
def test_automatic_sums_of_shard_map_are_refused_because_gradients_would_lack_them(operation):
    mesh, part = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,)), PartitionSpec("i")
    specs = dict(in_specs=(part, PartitionSpec()), out_specs=part)
    checked = jax.shard_map(operation, mesh=mesh, check_vma=True, **specs)
    refused = (
        r"does not run under shard_map\(check_vma=True\); use shard_map\(..., check_vma=False\)"
    )
    with pytest.raises(ValueError, match=refused):
        jax.jit(checked)(jnp.ones((8, 3)), jnp.ones(3))


X, B = jnp.ones((2, 4, 4, 3)), jnp.ones(3)
act, norm, blur = kernels.bias_leaky_relu, kernels.batch_norm_leaky_relu, kernels.blur_resample
twin_of_relativistic = kernels.fused(objectives.relativistic())


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: act(X, B, slope=0.0), "slope=0.0 and gain=1.0 must be greater than 0"),
        (lambda: act(X, jnp.ones(4)), r"x is \(2, 4, 4, 3\) and bias \(4,\)"),
        (lambda: act(X, gain=float("inf")), "gain=inf must be greater than 0, and finite"),
        (lambda: act(jnp.ones(3, jnp.int32)), "x is int32; use float32"),
        (lambda: kernels.sigmoid_bce(X, 1.5), "target=1.5 is not a probability"),
        (
            lambda: kernels.sigmoid_bce(X, jnp.ones(4)),
            r"shape \(4,\) does not broadcast to the logits' \(2, 4, 4, 3\)",
        ),
        (lambda: kernels.sigmoid_bce(X, 1.0, "sum"), "reduction='sum' is unknown"),
        (lambda: objectives.minimax(1.0), r"label_smoothing=1.0 is not in \[0, 1\)"),
        (lambda: twin_of_relativistic.discriminator(X, B), r"pair real logits \(96,\) with .*3,"),
        (lambda: twin_of_relativistic.generator(X, jnp.ones(1)), "make their shapes equal"),
        (
            lambda: kernels.fused(objectives.hinge()).generator(X, jnp.ones(3, jnp.int32)),
            "logits is int32",
        ),
        (
            lambda: norm(X, B, jnp.ones(4), B, B),
            r"bias \(4,\); use x \[..., C\] and bias \[C\]",
        ),
        (lambda: norm(X, B, B, B, B, epsilon=-1.0), "epsilon=-1.0 must be at least 0"),
        (lambda: blur(X, up=2, down=2), r"up=2 and down=2: use one of \(1, 1\)"),
        (lambda: blur(X, (1,) * 9), "taps has 9 numbers"),
        (lambda: blur(X, (0.1, 0.2, -0.3)), "whose sum is not 0"),
        (
            lambda: blur(X, padding=(-2, -2)),
            r"images of \(4, 4\) pixels padded by \(-2, -2\) are smaller than 4 taps",
        ),
        (
            lambda: blur(X, padding=(1.0, 1.0)),
            r"padding=\(1.0, 1.0\) is not a pair of whole numbers",
        ),
        (
            lambda: blur(X, bias=B),
            "bias and gain=1.0 belong to the LeakyReLU; give its slope too",
        ),
    ],
)
def test_wrong_arguments_are_named_with_both_numbers(call, text):
    with pytest.raises(ValueError, match=text):
        call()
