"""What `benchmarks.train_step` times: a preset's step by jaxgan and by PyTorch, each in a process
of its own.

jaxgan's program is the one that `jaxgan train` runs; PyTorch's step is `benchmarks.torch_dcgan`.
Both gather their batches from as many random examples on the device: the time of a step does not
depend on what they show.
"""

import importlib.util
import resource
import time
from collections.abc import Callable
from typing import Any, NamedTuple

PEERS = ("torch-eager", "torch-eager+malloc", "torch-compile")


class Provider(NamedTuple):
    """One way to run the step, warm.

    Attributes:
      run: n -> m; runs n steps, or the next multiple m of those in a dispatch, and waits for the
        last.
      facts: () -> what else is known of it, see `serve`.
    """

    run: Callable[[int], int]
    facts: Callable[[], dict[str, Any]]


def reason_against(peer: str, on_gpu: bool) -> str | None:
    """Why a peer cannot run here; None where it can."""
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed; install jaxgan with the extra bench"
    if peer == "torch-eager+malloc" and on_gpu:
        return "it differs from torch-eager on a CPU only"
    return None


def jaxgan_provider(preset: str, changes: dict[str, Any]) -> Provider:
    """The program of a training run, with the settings of `jaxgan train`."""
    from benchmarks.flops import model_flops
    from benchmarks.workload import Workload, dtype_of, kernels_of, step_shapes
    from jaxgan.config import configured
    from jaxgan.run import runtime

    runtime.keep_freed_memory()
    config = configured(preset, changes)
    workload = Workload(config)
    device, per_call = workload.devices[0], workload.steps_per_call

    compile_s = _first_beside_second(lambda: workload.run(per_call))
    run, shapes = step_shapes(config, 1, 1)
    with kernels_of(config):
        flops = model_flops(run, *shapes)
    known = {
        "compile_s": compile_s,
        "steps_per_call": per_call,
        "model_flops": flops,
        "matrix_flops_per_s": _matrix_rate(dtype_of(workload.game), device.platform),
    }

    def facts() -> dict[str, Any]:
        stats = device.memory_stats() if device.platform != "cpu" else None
        peak = _memory(stats and stats.get("peak_bytes_in_use"))
        return {**known, **peak, **workload.program_bytes()}  # which compiles anew

    return Provider(workload.run, facts)


def _matrix_rate(dtype: str, platform: str) -> float:
    """FLOP/s of a large matrix product."""
    import jax

    n = 1024 if platform == "cpu" else 8192
    a = jax.random.normal(jax.random.key(0), (n, n)).astype(dtype)
    product = jax.jit(lambda a: a @ a)
    return 2 * n**3 / min(_seconds(lambda: jax.block_until_ready(product(a))) for _ in range(10))


def torch_provider(preset: str, changes: dict[str, Any], peer: str) -> Provider:
    """The step of `benchmarks.torch_dcgan`. The losses are read after each run of steps, as a
    script prints them.
    """
    import torch

    from benchmarks import workload
    from benchmarks.torch_dcgan import Trainer
    from jaxgan.config import configured

    if peer.endswith("+malloc"):
        from jaxgan.run import runtime

        runtime.keep_freed_memory()
    config = configured(preset, changes)
    features, batch = workload.features_of(config), config.run.batch_size
    game = workload.game_of(config, features)
    torch.manual_seed(config.run.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tuned, dtype = peer == "torch-compile", workload.dtype_of(game)
    trainer = Trainer(game, config.options, device, dtype, tuned)
    height, width, channels = features["image"].shape
    shape = workload.examples_of(features, batch), channels, height, width
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    pixels = pixels.contiguous(memory_format=trainer.layout)
    latent, at = config.options.model.latent_size, 0

    def run(steps: int) -> int:
        nonlocal at
        losses = None
        for _ in range(steps):
            first = at * batch % (len(pixels) - batch)
            real = pixels[first : first + batch].float() / 127.5 - 1.0
            losses = trainer.step(real, torch.randn(batch, latent, device=device))
            at += 1
        if losses is not None:
            losses[0].item()
        return steps

    compile_s = _first_beside_second(lambda: run(3))  # the first calls record CUDA graphs

    def facts() -> dict[str, Any]:
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
        return {"compile_s": compile_s, "steps_per_call": 1, **_memory(peak)}

    return Provider(run, facts)


def _memory(on_device: int | None) -> dict[str, Any]:
    """The most memory that was in use: of the device, or of the whole process where that is the
    host.
    """
    if on_device is not None:
        return {"peak_bytes": on_device, "peak_bytes_of": "device"}
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_bytes": kib << 10, "peak_bytes_of": "process"}


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _first_beside_second(function: Callable[[], Any]) -> float:
    """The seconds that a first call takes longer than a second: those of compiling."""
    return max(0.0, _seconds(function) - _seconds(function))


def serve(name: str, preset: str, changes: dict[str, Any], pipe: Any) -> None:
    """Builds a provider and answers through a pipe until it is sent None.

    Answers None when it is warm, or the one line of an error. A number n: runs n steps, or as few
      more as its
    dispatches allow, and answers the steps that one second has. "facts": answers compile_s,
    steps_per_call, peak_bytes, peak_bytes_of and, of jaxgan, model_flops, matrix_flops_per_s,
    scratch_bytes and argument_bytes.
    """

    try:
        if name.startswith("jaxgan"):
            provider = jaxgan_provider(preset, changes)
        else:
            provider = torch_provider(preset, changes, name)
        pipe.send(None)
        while (what := pipe.recv()) is not None:
            if what == "facts":
                pipe.send(provider.facts())
            else:
                start = time.perf_counter()
                pipe.send(provider.run(what) / (time.perf_counter() - start))
    except Exception as error:  # whatever a framework cannot do is for the command to report
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
