"""Four fake CPU devices, caches of the session's own, no network, and a JAX that promotes nothing silently."""

import os
import pathlib
import subprocess
import sys
import tempfile


def _faster_to_compile() -> str:
    """Flags with which the many small programs of the tests compile twice as fast, of those that this jaxlib knows."""
    effort, emitters = "--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false"
    environment = {
        **os.environ,
        "XLA_FLAGS": emitters,
        "JAX_PLATFORMS": "cpu",
    }  # an unknown flag ends the process
    known = (
        subprocess.run(
            [sys.executable, "-c", "import jax; jax.devices()"],
            env=environment,
            capture_output=True,
        ).returncode
        == 0
    )
    return f"{effort} {emitters}" if known else effort


if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share what the session has compiled
    _CACHE = tempfile.TemporaryDirectory(prefix="jaxgan-tests-")
    os.environ["XDG_CACHE_HOME"] = _CACHE.name
    os.environ["JAXGAN_TESTS_XLA_FLAGS"] = _faster_to_compile()
FASTER_TO_COMPILE = os.environ["JAXGAN_TESTS_XLA_FLAGS"]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + f" --xla_force_host_platform_device_count=4 {FASTER_TO_COMPILE}"
)
os.environ["TFDS_DATA_DIR"] = os.environ["XDG_CACHE_HOME"] + "/tfds"
os.environ["TRITON_CACHE_DIR"] = os.environ["XDG_CACHE_HOME"] + "/triton"
# GPUs are compiled for with none present.
os.environ["XLA_FLAGS"] += " --xla_gpu_autotune_level=0"
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"

import jax
import optax
import pytest

from jaxgan.run import runtime

runtime.keep_compiled_programs()
# [B] beside [B, 1], or float32 beside bfloat16, is an error in the tests.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def _of_optax(function):
    """A function of Optax that multiplies floats by counts, with promotion."""

    def promoting(*args, **kwargs):
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return promoting


optax.tree.bias_correction = _of_optax(optax.tree.bias_correction)

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def kernels_promote():
    """The operations of `jaxgan.kernels` take [C] beside [..., C]."""
    with jax.numpy_rank_promotion("allow"):
        yield


def command(*words: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    """A `jaxgan` command for a process of its own, of one device."""
    path = os.pathsep.join(
        filter(None, [str(ROOT / "tests" / "quiet"), os.environ.get("PYTHONPATH")])
    )
    return [sys.executable, "-m", "jaxgan", *words], {
        **os.environ,
        "XLA_FLAGS": FASTER_TO_COMPILE,
        "PYTHONPATH": path,
        **environment,
    }


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `jaxgan` and gives its output."""
    words_, environment_ = command(*words, **environment)
    return subprocess.run(words_, env=environment_, capture_output=True, text=True, timeout=240)
