"""What only a GPU can show: JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu --numprocesses=0"""

import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from test_kernels import CASES, gradient, operands

from jaxgan import init, kernels, make_game, make_step
from jaxgan.config import preset, replace

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        os.environ.get("JAX_PLATFORMS") == "cpu" or jax.default_backend() != "gpu", reason="no GPU"
    ),
]

SHAPES = [(64, 32, 32, 64), (7, 13, 11, 3), (3, 5, 7, 300)]
# Relative norms against float64: float32 sums, and one rounding of bfloat16 and float16, whose root mean square is a third of a unit.
LIMITS = {"float32": 1e-6, "bfloat16": 4e-3, "float16": 5e-4}


def run(name, implementation, values):
    """(result, gradients) of an operation."""
    x, *rest = values
    i = implementation
    functions = {
        "leaky_relu": lambda x, b: kernels.leaky_relu(x, implementation=i),
        "bias_leaky_relu": lambda x, b: kernels.bias_leaky_relu(x, b, implementation=i),
        "sigmoid_bce": lambda x, b: kernels.sigmoid_bce(x, 0.9, "none", i),
        "hinge": lambda x, b: kernels.gan_discriminator_loss(x, 2 * x, "hinge", implementation=i)[
            None
        ],
        "nonsaturating": lambda x, b: kernels.gan_discriminator_loss(
            x, 2 * x, "nonsaturating", 0.1, i
        )[None],
        "relativistic": lambda x, b: kernels.gan_generator_loss(x, x[::-1], "relativistic", i)[
            None
        ],
        "batch_norm": lambda x, b: kernels.batch_norm_leaky_relu(
            x, 1 + b, b, b, b, epsilon=0.1, implementation=i
        )[0],
        "blur_same": lambda x, b: kernels.blur_resample(x, bias=b, slope=0.2, implementation=i),
        "blur_double": lambda x, b: kernels.blur_resample(
            x, up=2, bias=b, slope=0.2, implementation=i
        ),
        "blur_halve": lambda x, b: kernels.blur_resample(
            x, down=2, bias=b, slope=0.2, implementation=i
        ),
    }
    function = functions[name]
    y, pull_back = jax.vjp(function, x, *rest)
    return y, pull_back(
        jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape).astype(y.dtype)
    )


NAMES = [
    "leaky_relu",
    "bias_leaky_relu",
    "sigmoid_bce",
    "hinge",
    "nonsaturating",
    "relativistic",
    "batch_norm",
]
NAMES += ["blur_same", "blur_double", "blur_halve"]


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_kernels_equal_float64(name, shape, dtype):
    values = (
        jax.random.normal(jax.random.key(0), shape).astype(dtype),
        jax.random.normal(jax.random.key(1), shape[-1:]),
    )
    found = jax.jit(lambda *v: run(name, "triton", v))(*values)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        expected = run(name, "xla", [jnp.asarray(np.asarray(v, np.float64)) for v in values])
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        f, e = np.asarray(f, np.float64), np.asarray(e)
        # Sums that cancel are measured by what was summed; a result that was rounded on the way to another counts twice.
        scale = max(np.linalg.norm(e), np.sqrt(e.size))
        assert np.linalg.norm(f - e) <= 2 * LIMITS[dtype] * scale, (
            name,
            np.linalg.norm(f - e) / scale,
        )


@pytest.mark.parametrize("name", CASES)
def test_two_runs_give_the_same_bits(monkeypatch, name):
    monkeypatch.setenv("JAXGAN_KERNELS", "triton")
    values = operands(CASES[name])
    first, second = (jax.jit(gradient(CASES[name].fused, CASES[name]))(*values) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("name", ["mnist", "seed-mnist"])
def test_twenty_steps_are_the_same_with_every_implementation(name):
    images = np.random.default_rng(0).integers(0, 256, (20, 64, 28, 28, 1), np.uint8)
    losses = {}
    for kind in ("xla", "triton"):
        game = make_game(replace(preset(name), {"kernels": kind}))
        state, step = init(game, jax.random.key(0)), jax.jit(make_step(game))
        losses[kind] = []
        for batch in images:
            state, metrics = step(state, {"image": batch})
            losses[kind].append(
                [float(metrics["loss_discriminator"]), float(metrics["loss_generator"])]
            )
    # Convolutions in TF32 differ between programs by some 1e-3, and Adam carries it on.
    np.testing.assert_allclose(losses["triton"], losses["xla"], rtol=2e-2)


def test_compute_sanitizer_finds_nothing():
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed")
    code = (
        "import jax, jax.numpy as jnp; from jaxgan import kernels as k; x = jnp.ones((3, 5, 7, 9)); b = jnp.ones(9); i = 'triton';"
        "f = lambda x, b: k.blur_resample(k.batch_norm_leaky_relu(k.bias_leaky_relu(x, b, implementation=i), b, b, b, b, "
        "implementation=i)[0], down=2, bias=b, slope=0.2, implementation=i);"
        "l = lambda x, b: k.gan_discriminator_loss(f(x, b), f(2 * x, b), 'nonsaturating', implementation=i);"
        "print(jax.jit(jax.grad(l, (0, 1)))(x, b))"
    )
    words = [sanitizer, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, "-c", code]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
    )
    assert done.returncode == 0, done.stdout[-3000:]
