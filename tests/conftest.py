"""Four fake CPU devices, caches of the session's own, no network, and a small config that trains in a moment."""

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
import numpy as np
import pytest

from jaxgan import runtime
from jaxgan.config import Config, replace

runtime.keep_compiled_programs()

SMALL = {
    "steps": 20,
    "batch_size": 8,
    "devices": 1,
    "data.image_size": 8,
    "model.latent_size": 4,
    "model.generator_width": 4,
    "model.discriminator_width": 2,
    "log.every": 5,
    "log.sample_every": 1000,
    "log.checkpoint_every": 10,
    "log.samples": 4,
    "log.tensorboard": False,
}
ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def small() -> Config:
    return replace(Config(), SMALL)


def small_flags(**changes) -> list[str]:
    """The small config as words of the command line."""
    return [
        w
        for n, v in {**SMALL, **changes}.items()
        for w in ("--" + n.replace("_", "-"), str(v).lower())
    ]


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


def assert_equal_trees(first, second) -> None:
    """The same structure and the same bits."""
    as_data = lambda tree: jax.tree.map(
        lambda x: np.asarray(
            jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        ),
        tree,
    )
    jax.tree.map(np.testing.assert_array_equal, as_data(first), as_data(second))
