"""The Triton kernels themselves, run by Triton's interpreter on the host. `test_triton.py` runs this file in a process of its own,
because the interpreter must be chosen before Triton is imported: JAXGAN_KERNELS=interpret python -m pytest tests/interpreted.py

The launcher fills outputs with NaN, puts NaN after the inputs, and checks what lies after the outputs: an element that a kernel
leaves out, reads too far or writes too far shows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import kernels
from jaxgan.kernels.gan_loss import KINDS
from jaxgan.kernels.launch import call, jit, like, tl

# A half-precision operand differs in its casts, an odd size in its masks: each dtype meets one odd size, float32 all.
DTYPES = ["float32", "bfloat16", "float16"]
SIZES = [
    *((size, "float32") for size in (1, 7, 1023, 1025, 20_011)),
    (1025, "bfloat16"),
    (1025, "float16"),
]


def shapes_and_dtypes(*shapes):
    return [
        *((shape, "float32") for shape in shapes),
        *((shape, dtype) for shape in shapes[:2] for dtype in DTYPES[1:]),
    ]


def normal(seed, shape, dtype="float32"):
    return (2 * jax.random.normal(jax.random.key(seed), shape)).astype(dtype)


def assert_equal_to_the_reference(operation, *operands, gradients=(), roundings=1):
    """operation(implementation, *operands): results, and gradients where asked for, against the reference.

    The interpreter truncates where a GPU rounds to bfloat16, so one unit in the last place for each rounding on the way; what is
    summed may cancel, so sums and what was rounded twice are off by such a unit of the largest.
    """
    weigh = lambda results: sum(
        jnp.sum(jnp.asarray(r, jnp.float32) * jnp.cos(jnp.arange(r.size).reshape(r.shape)))
        for r in results
    )

    def run(implementation, *values):
        results = lambda *v: jax.tree.leaves(operation(implementation, *v))
        return results(*values), jax.grad(lambda *v: weigh(results(*v)), gradients)(*values)

    found, expected = (jax.jit(run, static_argnums=0)(i, *operands) for i in (None, "xla"))
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        assert f.dtype == e.dtype and f.shape == e.shape
        f, e = np.asarray(f, np.float64), np.asarray(e, np.float64)
        unit = float(jnp.finfo(operands[0].dtype).eps)
        summed = f.ndim < operands[0].ndim or roundings > 1
        atol = (max(unit, 4e-6) if summed else 2e-6) * np.abs(e).max(initial=0.0) + 2e-7
        np.testing.assert_allclose(f, e, rtol=max(roundings * unit, 4e-6), atol=atol)


@pytest.mark.parametrize(("size", "dtype"), SIZES)
def test_leaky_relu(size, dtype):
    assert_equal_to_the_reference(
        lambda i, x: kernels.leaky_relu(x, 0.2, 1.5, i), normal(0, (size,), dtype), gradients=(0,)
    )


@pytest.mark.parametrize(
    ("shape", "dtype"),
    shapes_and_dtypes((341, 3), (130, 96), (1, 1), (7, 1), (5, 205), (20_011, 5)),
)
def test_bias_leaky_relu(shape, dtype):
    operation = lambda i, x, b: kernels.bias_leaky_relu(x, b, 0.2, 1.5, i)
    assert_equal_to_the_reference(
        operation, normal(0, shape, dtype), normal(1, shape[1:], dtype), gradients=(0, 1)
    )


@pytest.mark.parametrize(("size", "dtype"), SIZES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_sigmoid_bce(size, dtype, reduction):
    logits, targets = 5 * normal(0, (size,), dtype), jax.random.uniform(jax.random.key(1), (size,))
    each_rounds = 2 if reduction == "none" else 1  # the slope, and its product with the cotangent
    assert_equal_to_the_reference(
        lambda i, l, t: kernels.sigmoid_bce(l, t, reduction, i),
        logits,
        targets,
        gradients=(0, 1),
        roundings=each_rounds,
    )
    if size == 1025:
        assert_equal_to_the_reference(
            lambda i, l: kernels.sigmoid_bce(l, 0.9, reduction, i),
            logits,
            gradients=(0,),
            roundings=each_rounds,
        )


@pytest.mark.parametrize(
    ("kind", "size", "dtype"),
    [("nonsaturating", *s) for s in SIZES]
    + [(kind, 1025, dtype) for kind in KINDS[1:] for dtype in DTYPES[:2]],
)
def test_gan_losses(size, dtype, kind):
    real, fake = (
        5 * normal(0, (size,), dtype),
        5 * normal(1, (size,) if kind == "relativistic" else (size + 1024,), dtype),
    )
    smoothing = 0.1 if kind in ("nonsaturating", "least_squares") else 0.0
    discriminator = lambda i, r, f: kernels.gan_discriminator_loss(r, f, kind, smoothing, i)
    assert_equal_to_the_reference(discriminator, real, fake, gradients=(0, 1))
    assert_equal_to_the_reference(
        lambda i, r, f: kernels.gan_generator_loss(r, f, kind, i), real, fake, gradients=(0, 1)
    )


def test_a_logit_that_is_not_a_number_shows_in_every_loss():
    broken = jnp.array([0.0, jnp.nan])
    for kind in KINDS:
        assert jnp.isnan(kernels.gan_discriminator_loss(broken, jnp.zeros(2), kind))
        assert jnp.isnan(kernels.gan_discriminator_loss(jnp.zeros(2), broken, kind))
        assert jnp.isnan(kernels.gan_generator_loss(jnp.zeros(2), broken, kind))
    assert jnp.isnan(kernels.sigmoid_bce(broken, 1.0))


def test_small_slopes_of_sure_logits_are_kept():
    logits = jnp.array([16.0, 20.0, 30.0, 80.0])
    of_real = jax.grad(lambda l: kernels.gan_discriminator_loss(l, -l, "nonsaturating"))(logits) * 4
    np.testing.assert_allclose(of_real, -2 * jax.nn.sigmoid(-logits), rtol=1e-5)


def test_losses_of_extreme_logits():
    logits = jnp.array([-1e4, -100.0, -20.0, -1e-4, 0.0, 1e-4, 20.0, 100.0, 1e4])
    assert_equal_to_the_reference(
        lambda i, l: kernels.sigmoid_bce(l, 0.3, "none", i), logits, gradients=(0,)
    )
    for kind in KINDS:
        assert_equal_to_the_reference(
            lambda i, r, kind=kind: kernels.gan_discriminator_loss(r, -r, kind, 0.0, i),
            logits,
            gradients=(0,),
        )


@pytest.mark.parametrize(
    ("shape", "dtype"), shapes_and_dtypes((341, 3), (130, 96), (7, 1), (5, 205), (4_003, 5))
)
def test_batch_norm_leaky_relu(shape, dtype):
    x, scale, bias = normal(0, shape, dtype), 1 + 0.1 * normal(1, shape[1:]), normal(2, shape[1:])
    operation = lambda i, x, s, b: kernels.batch_norm_leaky_relu(
        x, s, b, 0 * s, 0 * s, epsilon=0.1, implementation=i
    )
    assert_equal_to_the_reference(operation, x, scale, bias, gradients=(0, 1, 2))


FILTERS = [
    ((1, 2, 1), "float32"),
    ((1, 2, 3, 4, 4, 3, 2, -1), "float32"),
    *[((1, 3, 3, 1), dtype) for dtype in DTYPES],
]


@pytest.mark.parametrize(("taps", "dtype"), FILTERS)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_blur_resample(up, down, taps, dtype):
    x, b = normal(0, (2, 9, 7, 5), dtype), normal(1, (5,))
    assert_equal_to_the_reference(
        lambda i, x: kernels.blur_resample(x, taps, up=up, down=down, implementation=i),
        x,
        gradients=(0,),
    )
    act = lambda i, x, b: kernels.blur_resample(
        x, taps, up=up, down=down, padding=(3, 3), bias=b, slope=0.2, implementation=i
    )
    assert_equal_to_the_reference(act, x, b, gradients=(0, 1), roundings=2)


def test_many_channels_take_several_columns_of_programs():
    x, b = normal(0, (1, 3, 4, 300)), normal(1, (300,))
    assert_equal_to_the_reference(
        lambda i, x, b: kernels.blur_resample(x, bias=b, slope=0.2, implementation=i),
        x,
        b,
        gradients=(0, 1),
    )
    norm = lambda i, x, b: kernels.batch_norm_leaky_relu(x, b, b, b, b, implementation=i)[0]
    assert_equal_to_the_reference(norm, x, b, gradients=(0, 1))


def test_members_of_an_ensemble_are_lanes_of_one_launch():
    x, b, logits = normal(0, (3, 2, 4, 4, 5)), normal(1, (3, 5)), normal(2, (3, 1500))
    for operation, operands in [
        (lambda i, x, b: kernels.bias_leaky_relu(x, b, implementation=i), (x, b)),
        (
            lambda i, x, b: kernels.batch_norm_leaky_relu(
                x, 1 + b, b, b, b, epsilon=0.1, implementation=i
            )[0],
            (x, b),
        ),
        (
            lambda i, x, b: kernels.blur_resample(x, down=2, bias=b, slope=0.2, implementation=i),
            (x, b),
        ),
        (lambda i, l: kernels.sigmoid_bce(l, 0.3, implementation=i), (logits,)),
        (
            lambda i, l: kernels.gan_discriminator_loss(
                l, 2 * l, "nonsaturating", implementation=i
            ),
            (logits,),
        ),
        (
            lambda i, l: kernels.gan_generator_loss(l, 2 * l, "relativistic", implementation=i),
            (logits,),
        ),
    ]:
        mapped = lambda i, *v, operation=operation: jax.vmap(lambda *v: operation(i, *v))(*v)
        assert_equal_to_the_reference(mapped, *operands, gradients=tuple(range(len(operands))))


def test_r1_goes_through_the_kernels():
    x, w, b = normal(0, (6, 5)), normal(1, (5, 4)), normal(2, (4,))

    def r1(i, x, w, b):
        slopes = jax.grad(lambda x: jnp.sum(kernels.bias_leaky_relu(x @ w, b, implementation=i)))(x)
        return jnp.mean(jnp.sum(slopes**2, axis=1))

    assert_equal_to_the_reference(r1, x, w, b, gradients=(0, 1, 2))


def test_three_steps_of_training_equal_those_of_the_reference():
    from jaxgan import init, make_game, make_step
    from jaxgan.config import Config, replace

    changes = {
        "batch_size": 8,
        "data.image_size": 8,
        "model.latent_size": 4,
        "model.generator_width": 4,
        "model.discriminator_width": 2,
    }
    changes |= {"objective.r1_weight": 1.0, "objective.r1_every": 2}
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 8, 1), np.uint8)
    losses = {}
    for kind in ("auto", "xla"):  # auto stands for the interpreter here
        game = make_game(replace(Config(), {**changes, "kernels": kind}))
        state, step, losses[kind] = init(game, jax.random.key(0)), jax.jit(make_step(game)), []
        for batch in images:
            state, metrics = step(state, {"image": batch})
            losses[kind].append(
                [float(metrics["loss_discriminator"]), float(metrics["loss_generator"])]
            )
    np.testing.assert_allclose(
        losses["auto"], losses["xla"], rtol=1e-4
    )  # rounding of three steps of Adam


# -------------------------------------------------------------------------------------------------- the launcher's own checks
@jit
def one_too_many(x_ptr, y_ptr, n: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n, other=0.0), mask=at < n + 1)


@jit
def one_too_far(x_ptr, y_ptr, n: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at + 1, mask=at < n, other=0.0), mask=at < n - 1)


def test_the_launcher_notices_stray_writes_and_reads():
    x = jnp.arange(5.0)
    with pytest.raises(Exception, match="one_too_many wrote past the end"):
        jax.block_until_ready(call(one_too_many, (x,), (like(x),), (1,), n=5, BLOCK=8))
    (y,) = call(one_too_far, (x,), (like(x),), (1,), n=5, BLOCK=8)
    np.testing.assert_array_equal(y, [1, 2, 3, 4, np.nan])
