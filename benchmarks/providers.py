"""What `benchmarks.train_step` times: a preset's training step by jaxgan and by PyTorch, each in a process of its own.

What is timed is what trains: jaxgan's program is the one that `jaxgan train` runs, its batches gathered on the device from images of
random pixels (the time of a step does not depend on what they show); PyTorch's step is `benchmarks.torch_dcgan`, its batches sliced
from the same number of images on the device and scaled there.
"""

import importlib.util
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxgan.config import Config

PEERS = ("torch-eager", "torch-eager+malloc", "torch-compile")
_TRACED = 10  # dispatches, for the host gap


class Provider(NamedTuple):
    """One way to run the step, warm.

    Attributes:
      run: n -> m; runs n steps, or the next multiple m of the steps in a dispatch, and waits for the last.
      facts: () -> what else is known of it, see `serve`; to be asked last, because it traces.
    """

    run: Callable[[int], int]
    facts: Callable[[], dict[str, Any]]


def examples(config: Config) -> int:
    """How many random images a provider draws its batches from: MNIST's 60,000, or as many as fill 256 MiB."""
    size = config.data.image_size**2 * config.model.channels
    return max(2 * config.batch_size, min(60_000, (256 << 20) // size))


def reason_against(peer: str, on_gpu: bool) -> str | None:
    """Why a peer cannot run here; None where it can."""
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed; install jaxgan with the extra bench"
    if peer == "torch-eager+malloc" and on_gpu:
        return "it differs from torch-eager on a CPU only"
    return None


# --------------------------------------------------------------------------------------------------------------------- jaxgan
def jaxgan_provider(config: Config) -> Provider:
    """The program of a training run."""
    import jax

    from benchmarks.flops import model_flops
    from jaxgan import make_step, parallel, profile, runtime
    from jaxgan.data.feeds import batch_indices
    from jaxgan.game import init, make_game

    runtime.keep_freed_memory()
    devices = jax.devices()[:1]
    count, size = examples(config), config.data.image_size
    game = make_game(config)
    program = parallel.make_program(
        game, lambda arrays, item: jax.tree.map(lambda x: x[item], arrays), devices
    )
    images = np.random.default_rng(config.seed).integers(
        0, 256, (count, size, size, config.model.channels), np.uint8
    )
    state, resident = parallel.replicate(
        (init(game, jax.random.key(config.seed)), {"image": images}), devices
    )
    per_call = parallel.default_steps_per_call(config.log, devices[0].platform)
    at = 0

    def next_items() -> Any:
        steps = range(at, at + per_call)
        return parallel.split(
            np.stack([batch_indices(config.seed, t, config.batch_size, count) for t in steps]), 1
        )

    def run(steps: int) -> int:
        nonlocal state, at
        calls = -(-steps // per_call)
        for _ in range(calls):
            state, _ = program(state, (resident, next_items()))
            at += per_call
        jax.block_until_ready(state)
        return calls * per_call

    def host_gap() -> float | None:
        hlo = program.lower(state, (resident, next_items())).compile().as_text()
        with tempfile.TemporaryDirectory() as folder:
            profile.start(pathlib.Path(folder))
            wall = _seconds(lambda: run(_TRACED * per_call))
            jax.profiler.stop_trace()
            _, events = profile.written(pathlib.Path(folder))
        phases = profile.milliseconds(profile.operations(events, hlo), _TRACED * per_call, wall)
        return phases[profile.IDLE] / sum(phases.values())

    first = _seconds(lambda: run(per_call))
    steady = _seconds(lambda: run(per_call))
    batch = {
        "image": jax.ShapeDtypeStruct(
            (config.batch_size, size, size, config.model.channels), np.uint8
        )
    }
    known = {
        "compile_s": max(0.0, first - steady),
        "steps_per_call": per_call,
        "model_flops": model_flops(
            make_step(game), jax.eval_shape(lambda: init(game, jax.random.key(0))), batch
        ),
        "matrix_flops_per_s": _matrix_rate_of_jax(config.dtype, devices[0].platform),
    }

    def facts() -> dict[str, Any]:
        stats = devices[0].memory_stats() if devices[0].platform != "cpu" else None
        memory = _memory(stats and stats.get("peak_bytes_in_use"))
        return {**known, **memory, "host_gap": host_gap()}

    return Provider(run, facts)


def _matrix_rate_of_jax(dtype: str, platform: str) -> float:
    """FLOP/s of a large matrix product."""
    import jax

    n = 1024 if platform == "cpu" else 8192
    a = jax.random.normal(jax.random.key(0), (n, n)).astype(dtype)
    product = jax.jit(lambda a: a @ a)
    return 2 * n**3 / min(_seconds(lambda: jax.block_until_ready(product(a))) for _ in range(10))


# -------------------------------------------------------------------------------------------------------------------- PyTorch
def torch_provider(config: Config, peer: str) -> Provider:
    """The step of `benchmarks.torch_dcgan`. The losses are read after each run of steps, as a script prints them."""
    import torch

    from benchmarks.torch_dcgan import Trainer

    if peer.endswith("+malloc"):
        from jaxgan import runtime

        runtime.keep_freed_memory()
    torch.manual_seed(config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = Trainer(config, device, config.dtype, tuned=peer == "torch-compile")
    count, size, batch = examples(config), config.data.image_size, config.batch_size
    images = torch.randint(
        0, 256, (count, config.model.channels, size, size), dtype=torch.uint8, device=device
    )
    images = images.contiguous(memory_format=trainer.layout)
    at = 0

    def run(steps: int) -> int:
        nonlocal at
        losses = None
        for _ in range(steps):
            first = at * batch % (count - batch)
            real = images[first : first + batch].float() / 127.5 - 1.0
            losses = trainer.step(real, torch.randn(batch, config.model.latent_size, device=device))
            at += 1
        if losses is not None:
            losses[0].item()
        return steps

    def host_gap() -> float | None:
        if device == "cpu":
            return None  # the host is the device
        kinds = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as traced:
            wall = _seconds(lambda: run(_TRACED))
        recorded: Any = traced.events()
        on_device = [e.time_range for e in recorded if str(e.device_type).endswith("CUDA")]
        return 1.0 - covered((t.start / 1e6, t.end / 1e6) for t in on_device) / wall

    first = _seconds(lambda: run(3))  # CUDA graphs are recorded in the first calls
    steady = _seconds(lambda: run(3))

    def facts() -> dict[str, Any]:
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
        return {
            "compile_s": max(0.0, first - steady),
            "steps_per_call": 1,
            **_memory(peak),
            "host_gap": host_gap(),
        }

    return Provider(run, facts)


# --------------------------------------------------------------------------------------------------------------------- shared
def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals (start, end)."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def _memory(on_device: int | None) -> dict[str, Any]:
    """The most memory that was in use: of the device, or of the whole process where the device is the host."""
    if on_device is not None:
        return {"peak_bytes": on_device, "peak_bytes_of": "device"}
    return {
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "peak_bytes_of": "process",
    }


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def serve(name: str, config: Config, pipe: Any) -> None:
    """Builds a provider and answers through a pipe until it is sent None.

    Answers None when it is warm, or the one line of an error. A number n: runs n steps, or as few more as its dispatches allow, and
    answers the steps that one second has. "facts": answers compile_s, steps_per_call, peak_bytes, peak_bytes_of, host_gap (the share of
    time in which the device waited for the host; None where that cannot be told) and, of jaxgan, model_flops and matrix_flops_per_s.
    """
    try:
        provider = jaxgan_provider(config) if name == "jaxgan" else torch_provider(config, name)
    except Exception as error:  # whatever a framework cannot do is for the command to report
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return
    pipe.send(None)
    while (asked := pipe.recv()) is not None:
        try:
            if asked == "facts":
                pipe.send(provider.facts())
            else:
                start = time.perf_counter()
                pipe.send(provider.run(asked) / (time.perf_counter() - start))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            return
