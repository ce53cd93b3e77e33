"""The Triton kernels themselves, run by Triton's interpreter on the host.

`test_triton.py` runs this file in a process of its own, because the interpreter must be chosen
before Triton is imported: JAXGAN_KERNELS=interpret python -m pytest tests/interpreted.py

The launcher fills outputs with NaN, puts NaN after the inputs, and checks what lies after the
outputs: an element that a kernel leaves out, reads too far or writes too far shows.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import game_of
from test_kernels import OBJECTIVES, squared

from jaxgan import init, kernels, make_step, objectives
from jaxgan.kernels.arrays import like
from jaxgan.kernels.launch import call

# A half-precision operand differs in its casts, an odd size in its masks: each dtype meets one odd
# size, float32 all.
DTYPES = ["float32", "bfloat16", "float16"]
SIZES = [
    *((size, "float32") for size in (1, 1023, 5_003)),
    (1025, "bfloat16"),
    (1025, "float16"),
]
PLAYERS = ("discriminator", "generator")


def shapes_and_dtypes(*shapes):
    return [
        *((shape, "float32") for shape in shapes),
        *((shape, dtype) for shape in shapes[:2] for dtype in DTYPES[1:]),
    ]


def normal(seed, shape, dtype="float32"):
    return (2 * jax.random.normal(jax.random.key(seed), shape)).astype(dtype)


def weighed(results):
    """A number to which each element of each result contributes by another weight."""
    weights = (jnp.cos(jnp.arange(r.size, dtype=jnp.float32)).reshape(r.shape) for r in results)
    return sum(jnp.sum(r.astype(jnp.float32) * w) for r, w in zip(results, weights))


def assert_equal_to_the_reference(operation, *operands, gradients=(), roundings=1):
    """operation(*operands): results, and gradients where asked for, against the reference.

    The interpreter truncates where a GPU rounds to bfloat16, so one unit in the last place for each
    rounding on the way; what is summed may cancel, so sums and what was rounded twice are off by
    such a unit of the largest.
    """

    def run(implementation, *values):
        def number(*values):
            results = jax.tree.leaves(operation(*values))
            return weighed(results), results

        with kernels.using(implementation):  # None: what JAXGAN_KERNELS says
            if not gradients:
                return number(*values)
            return jax.grad(number, gradients, has_aux=True)(*values)

    found, expected = (jax.jit(run, static_argnums=0)(i, *operands) for i in (None, "xla"))
    unit = float(jnp.finfo(operands[0].dtype).eps)
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        assert f.dtype == e.dtype and f.shape == e.shape
        f, e = np.asarray(f, np.float64), np.asarray(e, np.float64)
        summed = f.ndim < operands[0].ndim or roundings > 1
        atol = (max(unit, 4e-6) if summed else 2e-6) * np.abs(e).max(initial=0.0) + 2e-7
        np.testing.assert_allclose(f, e, rtol=max(roundings * unit, 4e-6), atol=atol)


@pytest.mark.parametrize(("size", "dtype"), SIZES)
def test_leaky_relu(size, dtype):
    operation = functools.partial(kernels.leaky_relu, slope=0.2, gain=1.5)
    assert_equal_to_the_reference(operation, normal(0, (size,), dtype), gradients=(0,))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    shapes_and_dtypes((341, 3), (130, 96), (1, 1), (7, 1), (5, 205), (4_003, 5)),
)
def test_bias_leaky_relu(shape, dtype):
    operation = functools.partial(kernels.bias_leaky_relu, slope=0.2, gain=1.5)
    x, b = normal(0, shape, dtype), normal(1, shape[1:], dtype)
    assert_equal_to_the_reference(operation, x, b, gradients=(0, 1))


@pytest.mark.parametrize(("size", "dtype"), SIZES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_sigmoid_bce(size, dtype, reduction):
    logits, targets = 5 * normal(0, (size,), dtype), jax.random.uniform(jax.random.key(1), (size,))
    check = functools.partial(
        assert_equal_to_the_reference,
        # The slope, and its product with the cotangent.
        roundings=2 if reduction == "none" else 1,
    )
    of_each = functools.partial(kernels.sigmoid_bce, reduction=reduction)
    check(of_each, logits, targets, gradients=(0, 1))
    if size == 1025:
        check(functools.partial(of_each, target=0.9), logits, gradients=(0,))


@pytest.mark.parametrize(
    ("name", "size", "dtype"),
    [("nonsaturating, smoothed", *size) for size in SIZES]
    + [
        (name, 1025, dtype)
        for name in OBJECTIVES
        if name != "nonsaturating, smoothed"
        for dtype in DTYPES[: 1 + (name == "relativistic")]  # which has a kernel of its own
    ],
)
def test_gan_losses(size, dtype, name):
    fakes = size if name == "relativistic" else size + 1024
    real, fake = 5 * normal(0, (size,), dtype), 5 * normal(1, (fakes,), dtype)
    twin = kernels.fused(OBJECTIVES[name])
    for player in PLAYERS:
        assert_equal_to_the_reference(getattr(twin, player), real, fake, gradients=(0, 1))


def test_a_logit_that_is_not_a_number_shows_in_every_loss():
    broken, zeros = jnp.array([0.0, jnp.nan]), jnp.zeros(2)
    for objective in OBJECTIVES.values():
        twin = kernels.fused(objective)
        assert jnp.isnan(twin.discriminator(broken, zeros))
        assert jnp.isnan(twin.discriminator(zeros, broken))
        assert jnp.isnan(twin.generator(zeros, broken))
    assert jnp.isnan(kernels.sigmoid_bce(broken, 1.0))


def test_small_slopes_of_sure_logits_are_kept():
    logits = jnp.array([16.0, 20.0, 30.0, 80.0])
    judge = kernels.fused(objectives.nonsaturating()).discriminator
    of_real = jax.grad(lambda l: judge(l, -l))(logits) * 4
    np.testing.assert_allclose(of_real, -2 * jax.nn.sigmoid(-logits), rtol=1e-5)


def test_losses_of_extreme_logits():
    logits = jnp.array([-1e4, -100.0, -20.0, -1e-4, 0.0, 1e-4, 20.0, 100.0, 1e4])
    of_each = functools.partial(kernels.sigmoid_bce, target=0.3, reduction="none")
    assert_equal_to_the_reference(of_each, logits, gradients=(0,))
    for objective in OBJECTIVES.values():
        judge = kernels.fused(objective).discriminator
        assert_equal_to_the_reference(lambda r, j=judge: j(r, -r), logits, gradients=(0,))


@pytest.mark.parametrize(
    ("shape", "dtype"), shapes_and_dtypes((341, 3), (130, 96), (7, 1), (5, 205), (4_003, 5))
)
def test_batch_norm_leaky_relu(shape, dtype):
    x, scale, bias = normal(0, shape, dtype), 1 + 0.1 * normal(1, shape[1:]), normal(2, shape[1:])

    def operation(x, s, b):
        return kernels.batch_norm_leaky_relu(x, s, b, 0 * s, 0 * s, epsilon=0.1)

    assert_equal_to_the_reference(operation, x, scale, bias, gradients=(0, 1, 2))


SCALES = [(1, 1), (2, 1), (1, 2)]
FILTERS = [
    *[(scale, (1, 3, 3, 1), "float32") for scale in SCALES],
    *[(scale, (1, 2, 3, 4, 4, 3, 2, -1), "float32") for scale in SCALES[1:]],
    (SCALES[0], (1, 2, 1), "float32"),
    *[(SCALES[1], (1, 3, 3, 1), dtype) for dtype in DTYPES[1:]],
]


@pytest.mark.parametrize(("scale", "taps", "dtype"), FILTERS)
def test_blur_resample(scale, taps, dtype):
    up, down = scale
    x, b = normal(0, (2, 9, 7, 5), dtype), normal(1, (5,))
    blur = functools.partial(kernels.blur_resample, taps=taps, up=up, down=down)
    assert_equal_to_the_reference(blur, x, gradients=(0,))

    def with_act(x, b):
        return blur(x, padding=(3, 3), bias=b, slope=0.2)

    assert_equal_to_the_reference(with_act, x, b, gradients=(0, 1), roundings=2)


def norm(x, b):
    return kernels.batch_norm_leaky_relu(x, 1 + b, b, b, b, epsilon=0.1)[0]


def test_many_channels_take_several_columns_of_programs():
    x, b = normal(0, (1, 3, 4, 300)), normal(1, (300,))

    def blur(x, b):
        return kernels.blur_resample(x, bias=b, slope=0.2)

    for operation in (blur, norm):
        assert_equal_to_the_reference(operation, x, b, gradients=(0, 1))


def test_members_of_an_ensemble_are_lanes_of_one_launch():
    x, b, logits = normal(0, (3, 2, 4, 4, 5)), normal(1, (3, 5)), normal(2, (3, 1500))
    judge = kernels.fused(objectives.nonsaturating()).discriminator
    deceive = kernels.fused(objectives.relativistic()).generator
    for operation, operands in [
        (kernels.bias_leaky_relu, (x, b)),
        (norm, (x, b)),
        (lambda x, b: kernels.blur_resample(x, down=2, bias=b, slope=0.2), (x, b)),
        (lambda l: kernels.sigmoid_bce(l, 0.3), (logits,)),
        (lambda l: judge(l, 2 * l), (logits,)),
        (lambda l: deceive(l, 2 * l), (logits,)),
    ]:
        every = tuple(range(len(operands)))
        assert_equal_to_the_reference(jax.vmap(operation), *operands, gradients=every)


def test_r1_goes_through_the_kernels():
    x, w, b = normal(0, (6, 5)), normal(1, (5, 4)), normal(2, (4,))

    def r1(x, w, b):
        return squared(jax.grad(lambda x: jnp.sum(kernels.bias_leaky_relu(x @ w, b)))(x)) / 3

    assert_equal_to_the_reference(r1, x, w, b, gradients=(0, 1, 2))


def test_three_steps_of_training_equal_those_of_the_reference():
    options = dict(
        model__latent_size=4,
        model__generator_width=4,
        model__discriminator_width=2,
        objective__r1_weight=1.0,
        objective__r1_every=2,
    )
    game = game_of("dcgan", (8, 8, 1), **options)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 8, 1), np.uint8)
    losses = {}
    for kind in (None, "xla"):  # None stands for the interpreter here
        state, losses[kind] = init(game, jax.random.key(0), {"image": images[0]}), []
        step = jax.jit(make_step(game))
        with kernels.using(kind):
            for batch in images:
                state, metrics = step(state, {"image": batch})
                names = ("loss_discriminator", "loss_generator")
                losses[kind].append([float(metrics[name]) for name in names])
    # Rounding of three steps of Adam.
    np.testing.assert_allclose(losses[None], losses["xla"], rtol=1e-4)


def test_the_launcher_notices_stray_writes_and_reads():
    kernels.leaky_relu(jnp.ones(3))  # imports Triton for the interpreter
    from stray_triton import one_too_far, one_too_many

    x = jnp.arange(5.0)
    with pytest.raises(Exception, match="one_too_many wrote past the end"):
        jax.block_until_ready(call(one_too_many, (x,), (like(x),), (1,), n=5, BLOCK=8))
    (y,) = call(one_too_far, (x,), (like(x),), (1,), n=5, BLOCK=8)
    np.testing.assert_array_equal(y, [1, 2, 3, 4, np.nan])
