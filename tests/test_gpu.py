"""What only a GPU can show: JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu --numprocesses=0"""

import functools
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from helpers import game_of
from runs import RUN
from test_kernels import CASES, OBJECTIVES, gradient, operands

from jaxgan import init, kernels, make_step, train
from jaxgan.kernels import probe
from jaxgan.run import remembered, runtime

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        os.environ.get("JAX_PLATFORMS") == "cpu" or jax.default_backend() != "gpu", reason="no GPU"
    ),
]

SHAPES = [(64, 32, 32, 64), (7, 13, 11, 3), (3, 5, 7, 300)]
# Relative norms against float64: float32 sums, and one rounding of bfloat16 and float16, whose root
# mean square is a third of a unit.
LIMITS = {"float32": 1e-6, "bfloat16": 4e-3, "float16": 5e-4}


def loss_of(name, player, other):
    """A fused loss of x and other(x), as an array."""
    loss = getattr(kernels.fused(OBJECTIVES[name]), player)

    def of(x, b):
        return loss(x, other(x))[None]

    return of


def norm(x, b):
    return kernels.batch_norm_leaky_relu(x, 1 + b, b, b, b, epsilon=0.1)[0]


def blur(x, b, **options):
    return kernels.blur_resample(x, bias=b, slope=0.2, **options)


OPERATIONS = {
    "leaky_relu": lambda x, b: kernels.leaky_relu(x),
    "bias_leaky_relu": kernels.bias_leaky_relu,
    "sigmoid_bce": lambda x, b: kernels.sigmoid_bce(x, 0.9, "none"),
    "hinge": loss_of("hinge", "discriminator", lambda x: 2 * x),
    "nonsaturating": loss_of("nonsaturating, smoothed", "discriminator", lambda x: 2 * x),
    "relativistic": loss_of("relativistic", "generator", lambda x: x[::-1]),
    "batch_norm": norm,
    "blur_same": blur,
    "blur_double": functools.partial(blur, up=2),
    "blur_halve": functools.partial(blur, down=2),
}


def run(name, implementation, x, b):
    """(result, gradients) of an operation."""
    with kernels.using(implementation):
        y, pull_back = jax.vjp(OPERATIONS[name], x, b)
    weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32))
    return y, pull_back(weights.reshape(y.shape).astype(y.dtype))


def test_the_gpu_takes_the_kernels_and_xla_the_options():
    assert probe.refusal() == ""
    assert runtime.compiler_options("gpu", one_graph=True)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_kernels_equal_float64(name, shape, dtype):
    values = (
        jax.random.normal(jax.random.key(0), shape).astype(dtype),
        jax.random.normal(jax.random.key(1), shape[-1:]),
    )
    found = jax.jit(functools.partial(run, name, "triton"))(*values)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        expected = run(name, "xla", *[jnp.asarray(np.asarray(v, np.float64)) for v in values])
    for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        f, e = np.asarray(f, np.float64), np.asarray(e)
        # Sums that cancel are measured by what was summed; a result that was rounded on the way to
        # another counts twice.
        error = np.linalg.norm(f - e) / max(np.linalg.norm(e), np.sqrt(e.size))
        assert error <= 2 * LIMITS[dtype], (name, error)


@pytest.mark.parametrize("name", CASES)
def test_two_runs_give_the_same_bits(monkeypatch, name):
    monkeypatch.setenv("JAXGAN_KERNELS", "triton")
    case = CASES[name]
    derivative = gradient(case.operation, case)
    first, second = (jax.jit(derivative)(*operands(case)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("name", ["mnist", "seed-mnist"])
def test_twenty_steps_are_the_same_with_every_implementation(name):
    images = np.random.default_rng(0).integers(0, 256, (20, 64, 28, 28, 1), np.uint8)
    losses = {}
    for kind in ("xla", "triton"):
        game = game_of(name, (28, 28, 1))
        state, step = init(game, jax.random.key(0), {"image": images[0]}), jax.jit(make_step(game))
        losses[kind] = []
        with kernels.using(kind):
            for batch in images:
                state, metrics = step(state, {"image": batch})
                names = ("loss_discriminator", "loss_generator")
                losses[kind].append([float(metrics[name]) for name in names])
    # Convolutions in TF32 differ between programs by some 1e-3, and Adam carries it on.
    np.testing.assert_allclose(losses["triton"], losses["xla"], rtol=2e-2)


def test_a_run_times_its_step_in_four_ways_and_keeps_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXGAN_KERNELS", raising=False)
    images = np.random.default_rng(0).integers(0, 256, (512, 28, 28, 1), np.uint8)
    changes = {**RUN, "batch_size": 64, "steps": 50, "log.every": 25, "log.checkpoint_every": 25}
    train(game_of("mnist", (28, 28, 1)), images, tmp_path / "run", **changes)
    lines = capsys.readouterr().out.splitlines()
    (told,) = [line for line in lines if line.startswith("kernels: ")]
    assert told.count("ms a step") == 4, told  # none failed, and none computes anything else
    kept = remembered.of_run(tmp_path / "run")
    assert kept and kept["line"] == told
    train(game_of("mnist", (28, 28, 1)), images, tmp_path / "run", **{**changes, "steps": 75})
    assert told in capsys.readouterr().out


CHAIN = """
import jax, jax.numpy as jnp
from jaxgan import kernels, objectives

def features(x, b):
    x = kernels.bias_leaky_relu(x, b)
    x = kernels.batch_norm_leaky_relu(x, b, b, b, b)[0]
    return kernels.blur_resample(x, down=2, bias=b, slope=0.2)

def loss(x, b):
    judge = kernels.fused(objectives.nonsaturating()).discriminator
    return judge(features(x, b), features(2 * x, b))

print(jax.jit(jax.grad(loss, (0, 1)))(jnp.ones((3, 5, 7, 9)), jnp.ones(9)))
"""


def test_compute_sanitizer_finds_nothing():
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed")
    words = [sanitizer, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, "-c", CHAIN]
    environment = {
        **os.environ,
        "JAXGAN_KERNELS": "triton",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout[-3000:]
