"""The fused operations: their references against float64 and optax, and every derivative against plain jax.numpy.

CPUs run the references; what the Triton kernels compute is in test_triton.py.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

from jaxgan import kernels, objectives
from jaxgan.kernels import launch
from jaxgan.kernels.gan_loss import KINDS, SMOOTHED
from jaxgan.models.layers import plain_norm_act


class Case(NamedTuple):
    """An operation, the same in plain jax.numpy, and operands for both; the first is what a penalty differentiates."""

    fused: Callable[..., Any]
    plain: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


def plain_resample(x, taps, up, down, padding):
    """`blur_resample` by its definition: zeros between the pixels, and one multiplication a tap."""
    for axis in (1, 2):
        count = (x.shape[axis] * up + sum(padding) - len(taps)) // down + 1
        padded = np.zeros((x.shape[axis] * up + 20, x.shape[axis]))
        padded[10 + up * np.arange(x.shape[axis]), np.arange(x.shape[axis])] = 1.0
        padded = padded[10 - padding[0] : len(padded) - 10 + padding[1]]
        filters = np.zeros((count, len(padded)))
        for i in range(count):
            filters[i, i * down : i * down + len(taps)] = np.array(taps) * up / np.sum(taps)
        x = jnp.moveaxis(
            jnp.tensordot(jnp.asarray(filters @ padded, x.dtype), x, (1, axis)), 0, axis
        )
    return x


def leaky(z, slope=0.2, gain=1.0):
    return gain * jnp.where(z > 0, z, slope * z)


def bce(l, t):
    return jnp.logaddexp(l, 0.0) - t * l


CASES = {
    "leaky_relu": Case(
        lambda x: kernels.leaky_relu(x, 0.1, 1.5), lambda x: leaky(x, 0.1, 1.5), ((4, 3, 5),)
    ),
    "bias_leaky_relu": Case(
        lambda x, b: kernels.bias_leaky_relu(x, b, 0.3, 1.4),
        lambda x, b: leaky(x + b, 0.3, 1.4),
        ((4, 3, 5), (5,)),
    ),
    "sigmoid_bce": Case(
        lambda l, t: kernels.sigmoid_bce(l, jax.nn.sigmoid(t)),
        lambda l, t: bce(l, jax.nn.sigmoid(t)).mean(),
        ((4, 3), (4, 3)),
    ),
    "sigmoid_bce_each": Case(
        lambda l, t: kernels.sigmoid_bce(l, jax.nn.sigmoid(t), "none"),
        lambda l, t: bce(l, jax.nn.sigmoid(t)),
        ((4, 3), (3,)),
    ),
    "discriminator_loss": Case(
        lambda r, f: kernels.gan_discriminator_loss(r, f, "nonsaturating", 0.1),
        lambda r, f: bce(r, 0.9).mean() + bce(f, 0.0).mean(),
        ((4, 3), (4, 2, 2)),
    ),
    "generator_loss": Case(
        lambda f, r: kernels.gan_generator_loss(r, f, "relativistic"),
        lambda f, r: bce(f - r, 1.0).mean(),
        ((4, 3), (4, 3)),
    ),
    "batch_norm_leaky_relu": Case(
        lambda x, s, b: kernels.batch_norm_leaky_relu(x, s, b, 0 * s, 0 * s, epsilon=0.1)[0],
        lambda x, s, b: leaky((x - x.mean((0, 1))) / jnp.sqrt(x.var((0, 1)) + 0.1) * s + b),
        ((4, 5, 3), (3,), (3,)),
    ),
    "blur_half": Case(
        lambda x, b: kernels.blur_resample(x, (1, 3, 3, 1), down=2, bias=b, slope=0.2, gain=1.4),
        lambda x, b: leaky(plain_resample(x, (1, 3, 3, 1), 1, 2, (1, 1)) + b, 0.2, 1.4),
        ((4, 5, 4, 2), (2,)),
    ),
    "blur_double": Case(
        lambda x: kernels.blur_resample(x, (1, 2, 1), up=2),
        lambda x: plain_resample(x, (1, 2, 1), 2, 1, (1, 1)),
        ((4, 3, 2, 2),),
    ),
}


def operands(case: Case, seed: int = 0) -> tuple[jax.Array, ...]:
    return tuple(
        jax.random.normal(k, s)
        for k, s in zip(jax.random.split(jax.random.key(seed), len(case.shapes)), case.shapes)
    )


# A smooth number of all results, whose derivatives of any order are not zero.
def number(f):
    return lambda *values: jnp.sum(jnp.sin(f(*values) + 0.3))


def gradient(f, case):
    return jax.grad(number(f), tuple(range(len(case.shapes))))


def penalty(f, distance):
    """A penalty on the slopes in the first operand, as R1 and WGAN-GP take it."""
    return lambda x, *rest: distance(jax.grad(lambda x: number(f)(x, *rest))(x))


def squared(slopes):
    return 0.5 * jnp.sum(slopes**2)


def from_one(slopes):
    return jnp.mean(
        (jnp.sqrt(jnp.sum(slopes.reshape(slopes.shape[0], -1) ** 2, axis=1) + 1e-6) - 1.0) ** 2
    )


def by_example(f, case):
    """R1 from the gradient of each example by itself."""

    def r1(x, *rest):
        shared = [
            s[0] != 4 for s in case.shapes[1:]
        ]  # operands of the batch's length go by example too
        slopes = lambda xi, *r: jax.grad(
            lambda xi: number(f)(xi, *[v if s else v[None] for v, s in zip(r, shared)])
        )(xi[None])
        return squared(jax.vmap(slopes, (0, *[None if s else 0 for s in shared]))(x, *rest))

    return r1


def r1_in_scan(f):
    def total(x, *rest):
        def body(carry, scale):
            return carry + penalty(f, squared)(carry * 0 + scale * x, *rest).sum() * 1e-2, None

        return jax.lax.scan(body, jnp.zeros(()), jnp.array([0.5, 1.0, 1.5]))[0]

    return total


def third(f, case, values, moves):
    first = lambda *v: jax.jvp(number(f), v, moves)[1]
    second = lambda *v: jax.jvp(first, v, moves)[1]
    return jax.grad(second, tuple(range(len(values))))(*values)


TRANSFORMATIONS: dict[str, Callable[..., Any]] = {
    "jvp": lambda f, case, values, moves: jax.jvp(f, values, moves),
    "vjp": lambda f, case, values, moves: jax.vjp(f, *values)[1](jnp.cos(f(*values))),
    "transposed_linearisation": lambda f, case, values, moves: jax.linear_transpose(
        jax.linearize(f, *values)[1], *values
    )(f(*values)),
    "r1": lambda f, case, values, moves: gradient(penalty(f, squared), case)(*values),
    "wgan_gp": lambda f, case, values, moves: gradient(penalty(f, from_one), case)(*values),
    "r1_by_vmap_of_grad": lambda f, case, values, moves: gradient(by_example(f, case), case)(
        *values
    ),
    "hessian_vector_product": lambda f, case, values, moves: jax.jvp(
        gradient(f, case), values, moves
    ),
    "third_order": third,
    "remat": lambda f, case, values, moves: gradient(jax.checkpoint(f), case)(*values),
    "r1_in_scan": lambda f, case, values, moves: gradient(r1_in_scan(f), case)(*values),
    "ensemble": lambda f, case, values, moves: (
        jax.vmap(gradient(f, case), (None, *[0] * (len(values) - 1)))(
            values[0], *[jnp.stack([v, 2 * v, v - 1]) for v in values[1:]]
        )
        if len(values) > 1
        else jax.vmap(gradient(f, case))(jnp.stack([values[0], -values[0]]))
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_derivatives_equal_those_of_plain_numpy(transformation, name):
    case = CASES[name]
    values, moves = operands(case), operands(case, seed=1)
    transformed = TRANSFORMATIONS[transformation]
    both = jax.jit(
        lambda values, moves: [
            transformed(f, case, values, moves) for f in (case.fused, case.plain)
        ]
    )
    found, expected = both(values, moves)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-5), found, expected
    )  # up to third derivatives


@pytest.mark.parametrize("name", CASES)
def test_derivatives_equal_finite_differences(name):
    case = CASES[name]
    # Bounds for second differences in float32, of results of about 1.
    check_grads(
        jax.jit(number(case.fused)),
        operands(case, seed=2),
        order=2,
        modes=("fwd", "rev"),
        atol=5e-2,
        rtol=5e-2,
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("spread", ["pmap", "shard_map"])
def test_each_of_four_devices_computes_its_own_share(name, spread):
    case = CASES[name]
    shares = [jnp.stack([v * (i + 1) for i in range(4)]) for v in operands(case)]
    derivative = gradient(case.fused, case)
    if spread == "pmap":
        found = jax.pmap(derivative)(*shares)
    else:
        mesh, part = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,)), PartitionSpec("i")
        alone = lambda *values: jax.tree.map(lambda x: x[None], derivative(*[v[0] for v in values]))
        found = jax.jit(
            jax.shard_map(alone, mesh=mesh, in_specs=part, out_specs=part, check_vma=False)
        )(*shares)
    expected = jax.vmap(gradient(case.plain, case))(*shares)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, expected
    )  # E[x^2] - E[x]^2 cancels


def test_statistics_and_gradients_over_replicas_equal_those_of_one_device():
    x = jax.random.normal(jax.random.key(0), (8, 5, 3)) * 2 + 1
    scale, bias = jnp.array([1.0, 0.5, 2.0]), jnp.array([0.1, 0.0, -0.3])

    def loss(operation, axis_name):
        def of(x, scale, bias):
            y, mean, variance = operation(
                x, scale, bias, 0 * bias, 0 * bias, momentum=0.5, epsilon=1e-5, axis_name=axis_name
            )
            return jnp.sum(jnp.sin(y)), (mean, variance)

        return jax.value_and_grad(of, (0, 1, 2), has_aux=True)

    (total, stats), (dx, *of_vectors) = loss(plain_norm_act, None)(x, scale, bias)
    spread = jax.pmap(loss(kernels.batch_norm_leaky_relu, "i"), "i", in_axes=(0, None, None))
    (totals, apart), (dx_apart, *apart_vectors) = spread(x.reshape(4, 2, 5, 3), scale, bias)
    np.testing.assert_allclose(totals.sum(), total, rtol=1e-5)
    np.testing.assert_allclose(
        dx_apart.reshape(x.shape), dx, rtol=1e-4, atol=1e-5
    )  # E[x^2] - E[x]^2 cancels
    for found, expected in zip(apart, stats):
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-5)
    for found, expected in zip(apart_vectors, of_vectors):
        np.testing.assert_allclose(found.sum(0), expected, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ values and number formats
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_references_equal_float64_up_to_one_rounding(name, dtype):
    case = CASES[name]
    values = [v.astype(dtype) if i == 0 else v for i, v in enumerate(operands(case))]
    found = case.fused(*values)
    with jax.enable_x64(True):
        expected = np.asarray(case.plain(*[jnp.asarray(np.asarray(v, np.float64)) for v in values]))
    losses = name.startswith(("sigmoid", "disc", "gen"))
    assert found.dtype == (jnp.float32 if losses else dtype)
    # A result is rounded once, to within half a unit in the last place; float32 sums add some units.
    limit = 2e-6 if losses or dtype == "float32" else float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.float64(found), expected, rtol=limit, atol=limit)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_have_the_dtypes_of_the_operands(name, dtype):
    case = CASES[name]
    values = [v.astype(dtype) if i == 0 else v for i, v in enumerate(operands(case))]
    grads = jax.jit(gradient(lambda *v: case.fused(*v).astype(jnp.float32), case))(*values)
    assert [g.dtype for g in grads] == [v.dtype for v in values]


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3), (2, 2, 2, 3), (2, 1, 2, 2, 3), ()])
def test_ranks_up_to_five_and_scalars(shape):
    x = jnp.linspace(-1.0, 1.0, int(np.prod(shape))).reshape(shape)
    np.testing.assert_allclose(kernels.leaky_relu(x), leaky(x))
    if shape:
        b = jnp.array([0.5, 0.0, -0.5])
        found = jax.grad(lambda b: kernels.bias_leaky_relu(x, b).sum())(b)
        np.testing.assert_allclose(found, jax.grad(lambda b: leaky(x + b).sum())(b), rtol=1e-6)
        y, *_ = kernels.batch_norm_leaky_relu(x, b, b, b, b)
        assert y.shape == shape
    assert kernels.sigmoid_bce(x, 1.0, "none").shape == shape
    assert kernels.gan_discriminator_loss(x, x, "hinge").shape == ()


@pytest.mark.parametrize("name", [n for n in CASES if "loss" not in n and n != "sigmoid_bce"])
def test_an_empty_batch_gives_empty_results_and_zero_gradients(name):
    case = CASES[name]
    values = [jnp.zeros((0, *s[1:])) if s[0] == 4 else jnp.ones(s) for s in case.shapes]
    assert case.fused(*values).size == 0
    for g, v in zip(gradient(case.fused, case)(*values), values):
        assert g.shape == v.shape and not g.any()


def test_a_mean_over_no_logits_is_nan_as_in_numpy():
    assert np.isnan(kernels.sigmoid_bce(jnp.zeros(0), 1.0)) and np.isnan(
        kernels.gan_generator_loss(None, jnp.zeros(0), "hinge")
    )


def test_the_derivative_at_zero_is_that_of_the_negative_side():
    assert jax.grad(lambda x: kernels.leaky_relu(x, 0.2, 2.0))(0.0) == jnp.float32(0.4)
    hinge = lambda real, fake: kernels.gan_discriminator_loss(real, fake, "hinge")
    assert [float(g) for g in jax.grad(hinge, (0, 1))(1.0, -1.0)] == [0.0, 0.0]


def test_binary_cross_entropy_equals_optax_and_stays_finite():
    logits, targets = (
        jnp.array([-1e4, -30.0, -1.0, 0.0, 2.0, 30.0, 1e4]),
        jnp.array([0.0, 0.3, 1.0, 0.5, 0.9, 1.0, 0.0]),
    )
    found = kernels.sigmoid_bce(logits, targets, "none")
    np.testing.assert_allclose(
        found, optax.sigmoid_binary_cross_entropy(logits, targets), rtol=1e-6
    )
    slopes = jax.grad(lambda l: kernels.sigmoid_bce(l, targets, "none").sum())(logits)
    np.testing.assert_allclose(slopes, jax.nn.sigmoid(logits) - targets, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "smoothing"), [(name, 0.0) for name in KINDS] + [(name, 0.1) for name in SMOOTHED]
)
def test_fused_losses_equal_the_objectives(name, smoothing):
    plain = getattr(objectives, name)(**({"label_smoothing": smoothing} if smoothing else {}))
    fused = objectives.fused(name, smoothing)
    real, fake = (
        3 * jax.random.normal(jax.random.key(0), (5, 3, 3, 1)),
        3 * jax.random.normal(jax.random.key(1), (5, 3, 3, 1)),
    )
    for one, other in zip(fused, plain):
        found, expected = (jax.value_and_grad(loss, (0, 1))(real, fake) for loss in (one, other))
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), found, expected
        )
        at_extremes = jax.value_and_grad(one, (0, 1))(
            jnp.array([1e4, -1e4]), jnp.array([-1e4, 1e4])
        )
        assert all(bool(jnp.isfinite(v).all()) for v in jax.tree.leaves(at_extremes))


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("taps", [(1,), (1, 1), (1, 2, 1), (1, 3, 3, 1), (1, 2, 3, 4, 4, 3, 2, -1)])
@pytest.mark.parametrize("padding", [None, (2, -1)])
def test_blur_equals_its_definition(up, down, taps, padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    spare = len(taps) - down
    found = kernels.blur_resample(x, taps, up=up, down=down, padding=padding)
    if padding is None:
        assert found.shape == (2, 9 * up // down, 8 * up // down, 3)
    expected = plain_resample(x, taps, up, down, padding or ((spare + 1) // 2, spare // 2))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_constant_image_keeps_its_value_away_from_the_edges():
    for up, down in [(1, 1), (2, 1), (1, 2)]:
        y = kernels.blur_resample(jnp.full((1, 12, 12, 1), 5.0), up=up, down=down)
        np.testing.assert_allclose(
            y[:, 3:-3, 3:-3] if up == 2 else y[:, 2:-2, 2:-2], 5.0, rtol=1e-6
        )


def test_only_the_output_is_kept_for_the_backward_pass():
    x, b = jnp.ones((4, 8)), jnp.ones(8)
    pull_back = jax.vjp(lambda x, b: kernels.bias_leaky_relu(x, b), x, b)[1]
    kept = [leaf for leaf in jax.tree.leaves(pull_back) if getattr(leaf, "size", 0) > 1]
    assert [leaf.shape for leaf in kept if leaf.size == x.size] in ([(1, 4, 8)], [(4, 8)])


# ------------------------------------------------------------------------------------------------ the choice of an implementation
def test_an_implementation_that_cannot_run_says_where_and_why():
    pytest.importorskip("triton")
    for call in (
        lambda i: kernels.leaky_relu(jnp.ones(3), implementation=i),
        lambda i: kernels.blur_resample(jnp.ones((1, 4, 4, 1)), implementation=i),
    ):
        with pytest.raises(
            ValueError,
            match=r"implementation='triton'\) cannot run on cpu: .*CUDA GPU; use implementation=None or 'xla'",
        ):
            call("triton")
        with pytest.raises(
            ValueError, match="implementation='tritn' is unknown; use auto, xla, triton, interpret"
        ):
            call("tritn")


def test_a_missing_triton_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    launch._imported.cache_clear()
    with pytest.raises(
        ValueError,
        match=r"implementation='triton' cannot run: importing triton failed .*extra cuda12",
    ):
        kernels.leaky_relu(jnp.ones(3), implementation="triton")
    np.testing.assert_allclose(
        kernels.leaky_relu(jnp.array([-1.0, 1.0])), [-0.2, 1.0]
    )  # the reference is always there


def test_the_environment_variable_stands_for_no_argument(monkeypatch):
    monkeypatch.setenv("JAXGAN_KERNELS", "tritn")
    with pytest.raises(ValueError, match="JAXGAN_KERNELS='tritn' is unknown"):
        kernels.leaky_relu(jnp.ones(3))
    np.testing.assert_allclose(kernels.leaky_relu(jnp.ones(3), implementation="xla"), 1.0)


def chosen(operation, implementation, platform, shape, dtype="float32"):
    return launch.uses_triton(
        operation, implementation, platform, [jax.ShapeDtypeStruct(shape, dtype)]
    )


def test_the_table_of_measured_sizes_steers_the_choice(monkeypatch):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(launch.FASTER_FROM, "bias_leaky_relu", 100)
    assert not chosen("bias_leaky_relu", "auto", "cuda", (1, 99)) and chosen(
        "bias_leaky_relu", "auto", "cuda", (1, 10, 10)
    )
    assert not chosen("bias_leaky_relu", "auto", "cpu", (1, 100)) and not chosen(
        "sigmoid_bce", "auto", "cuda", (1, 100)
    )
    assert chosen("sigmoid_bce", "triton", "cuda", (1, 2)) and not chosen(
        "sigmoid_bce", "xla", "cuda", (1, 100)
    )
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    assert not chosen("bias_leaky_relu", "auto", "cuda", (1, 100))


def test_what_cannot_be_launched_goes_to_the_reference():
    assert not chosen("sigmoid_bce", "triton", "cuda", (1, 0)) and not chosen(
        "sigmoid_bce", "triton", "cuda", (70_000, 2)
    )
    with pytest.raises(
        ValueError, match=r"sigmoid_bce\(implementation='triton'\) was given float64; use float32"
    ):
        chosen("sigmoid_bce", "triton", "cuda", (1, 2), "float64")


@pytest.mark.parametrize(
    "operation",
    [
        kernels.bias_leaky_relu,
        lambda x, b: kernels.convolution(x[None, ..., None], b[:1, None, None, None]),
    ],
)
def test_automatic_sums_of_shard_map_are_refused_because_gradients_would_lack_them(operation):
    mesh, part = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,)), PartitionSpec("i")
    checked = jax.shard_map(
        operation, mesh=mesh, in_specs=(part, PartitionSpec()), out_specs=part, check_vma=True
    )
    with pytest.raises(
        ValueError,
        match=r"does not run under shard_map\(check_vma=True\); use shard_map\(..., check_vma=False\)",
    ):
        jax.jit(checked)(jnp.ones((8, 3)), jnp.ones(3))


def test_small_slopes_of_sure_logits_are_kept():
    logits = jnp.array([16.0, 20.0, 30.0, 80.0])
    of_each = jax.grad(lambda l: kernels.sigmoid_bce(l, 1.0, "none").sum())(logits)
    np.testing.assert_allclose(of_each, -jax.nn.sigmoid(-logits), rtol=1e-6)
    of_real = jax.grad(lambda l: kernels.gan_discriminator_loss(l, -l, "nonsaturating"))(logits) * 4
    np.testing.assert_allclose(of_real, -2 * jax.nn.sigmoid(-logits), rtol=1e-6)


def test_operations_run_with_compilation_disabled_and_over_an_axis_of_no_members():
    x, b = jnp.array([[-1.0, 2.0]]), jnp.array([0.5, 0.5])
    with jax.disable_jit():
        np.testing.assert_allclose(kernels.bias_leaky_relu(x, b), [[-0.1, 2.5]], rtol=1e-6)
        assert kernels.convolution(jnp.ones((1, 4, 4, 1)), jnp.ones((4, 4, 1, 1))).shape == (
            1,
            2,
            2,
            1,
        )
    assert jax.vmap(lambda x: kernels.bias_leaky_relu(x, b))(jnp.zeros((0, 4, 2))).shape == (
        0,
        4,
        2,
    )


X, B = jnp.ones((2, 4, 4, 3)), jnp.ones(3)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: kernels.bias_leaky_relu(X, B, slope=0.0),
            "slope=0.0 and gain=1.0 must be greater than 0",
        ),
        (lambda: kernels.bias_leaky_relu(X, jnp.ones(4)), r"x is \(2, 4, 4, 3\) and bias \(4,\)"),
        (lambda: kernels.leaky_relu(jnp.ones(3, jnp.int32)), "x is int32; use float32"),
        (lambda: kernels.sigmoid_bce(X, 1.5), "target=1.5 is not a probability"),
        (
            lambda: kernels.sigmoid_bce(X, jnp.ones(4)),
            r"shape \(4,\) does not broadcast to the logits' \(2, 4, 4, 3\)|[Ii]ncompatible",
        ),
        (lambda: kernels.sigmoid_bce(X, 1.0, "sum"), "reduction='sum' is unknown"),
        (
            lambda: kernels.gan_discriminator_loss(X, X, "wgan"),
            "kind='wgan' is unknown; use nonsaturating",
        ),
        (
            lambda: kernels.gan_discriminator_loss(X, X, "hinge", 0.1),
            "label_smoothing=0.1 has no meaning for hinge",
        ),
        (
            lambda: kernels.gan_discriminator_loss(X, X, "minimax", 1.0),
            r"label_smoothing=1.0 is not in \[0, 1\)",
        ),
        (lambda: kernels.gan_discriminator_loss(X, B, "relativistic"), "pair 96 real with 3 fake"),
        (lambda: kernels.gan_generator_loss(None, X, "relativistic"), "give real_logits"),
        (
            lambda: kernels.batch_norm_leaky_relu(X, B, jnp.ones(4), B, B),
            r"bias \(4,\); use x \[..., C\] and bias \[C\]",
        ),
        (lambda: kernels.blur_resample(X, up=2, down=2), r"up=2 and down=2: use one of \(1, 1\)"),
        (lambda: kernels.blur_resample(X, (1,) * 9), "taps has 9 numbers"),
        (
            lambda: kernels.blur_resample(X, padding=(-2, -2)),
            r"images of \(4, 4\) pixels padded by \(-2, -2\) are smaller than 4 taps",
        ),
        (
            lambda: kernels.blur_resample(X, padding=(1.0, 1.0)),
            r"padding=\(1.0, 1.0\) is not a pair of whole numbers",
        ),
        (lambda: kernels.blur_resample(X, (0.1, 0.2, -0.3)), "whose sum is not 0"),
        (
            lambda: kernels.batch_norm_leaky_relu(X, B, B, B, B, epsilon=-1.0),
            "epsilon=-1.0 must be at least 0",
        ),
        (
            lambda: kernels.leaky_relu(X, gain=float("inf")),
            "gain=inf must be greater than 0, and finite",
        ),
        (
            lambda: kernels.blur_resample(X, bias=B),
            "bias and gain=1.0 belong to the LeakyReLU; give its slope too",
        ),
    ],
)
def test_wrong_arguments_are_named_with_both_numbers(call, text):
    with pytest.raises(ValueError, match=text):
        call()
