"""Four fake CPU devices, strict arithmetic, caches of the session's own and no network."""

import os
import subprocess
import sys
import tempfile


def _faster_to_compile() -> str:
    """Flags with which the many small programs of the tests compile twice as fast, of those that
    this jaxlib knows."""
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

from jaxgan.run import runtime

runtime.keep_compiled_programs()
# [B] + [B, 1] and integers among floats are mistakes that broadcasting hides.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def _of_optax(function):
    """A function of Optax that multiplies floats by counts, with promotion."""

    def promoting(*args, **kwargs):
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return promoting


optax.tree.bias_correction = _of_optax(optax.tree.bias_correction)
