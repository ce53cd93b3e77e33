"""Four fake CPU devices, caches of the session's own, no network, a JAX that promotes nothing."""

import os
import subprocess
import sys
import tempfile


def _faster_to_compile() -> str:
    """Flags with which many small programs compile twice as fast, as far as jaxlib knows them."""
    effort, emitters = "--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false"
    # An unknown flag ends the process.
    environment = {**os.environ, "XLA_FLAGS": emitters, "JAX_PLATFORMS": "cpu"}
    words = [sys.executable, "-c", "import jax; jax.devices()"]
    known = subprocess.run(words, env=environment, capture_output=True).returncode == 0
    return f"{effort} {emitters}" if known else effort


if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share what the session has compiled
    _CACHE = tempfile.TemporaryDirectory(prefix="jaxgan-tests-")
    os.environ["XDG_CACHE_HOME"] = _CACHE.name
    os.environ["JAXGAN_TESTS_XLA_FLAGS"] = _faster_to_compile()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        os.environ["JAXGAN_TESTS_XLA_FLAGS"],
    ]
)
os.environ["TFDS_DATA_DIR"] = os.environ["XDG_CACHE_HOME"] + "/tfds"
os.environ["TRITON_CACHE_DIR"] = os.environ["XDG_CACHE_HOME"] + "/triton"
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
# Whoever runs the tests may have set these; `interpreted.py` needs its own.
os.environ.pop("JAX_DEFAULT_PRNG_IMPL", None)
if os.environ.get("JAXGAN_KERNELS") != "interpret":
    os.environ.pop("JAXGAN_KERNELS", None)

import jax
import optax
import pytest
from runs import ROOT as ROOT
from runs import end_started

from jaxgan.run import compiled

compiled.keep_compiled_programs()
# [B] + [B, 1], and integers among floats, are mistakes that broadcasting hides.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def _promoting(function):
    """A function of Optax's that multiplies floats by counts."""

    def called(*arguments, **options):
        with jax.numpy_dtype_promotion("standard"):
            return function(*arguments, **options)

    return called


optax.tree.bias_correction = _promoting(optax.tree.bias_correction)


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test():
    yield
    end_started()
