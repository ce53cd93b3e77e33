"""One round of calls of an operation, in JAX and in PyTorch, and how long they take."""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.hlo import launches
from benchmarks.kernel_ops import Op, Shape


# --------------------------------------------------------------------------------------------------------------------- in JAX
def jax_operands(op: Op, name: str, shape: Shape, dtype: str, seed: int) -> tuple[Any, ...]:
    keys = jax.random.split(jax.random.key(seed), len(op.operands(shape)))
    random = [
        jax.random.uniform if name == "sigmoid_bce" and i else jax.random.normal
        for i in range(len(keys))
    ]
    return tuple(
        r(k, s).astype(dtype if len(s) == 4 else "float32")
        for r, k, s in zip(random, keys, op.operands(shape))
    )


def round_of_calls(function: Callable, sets: list[Any]) -> Any:
    """A compiled function that calls `function` once with each set of operands, one after the other."""

    def run(sets: list[Any]) -> list[Any]:
        results: list[Any] = []
        for i in range(len(sets)):
            if i:  # without the barrier XLA would fuse calls that do not need each other
                results[-1], sets[i] = jax.lax.optimization_barrier((results[-1], sets[i]))
            results.append(function(*sets[i]))
        return results

    return jax.jit(lambda sets: run(list(sets))).lower(sets).compile()


def jax_cell(
    function: Callable, mode: str, sets: list[Any]
) -> tuple[Callable[[], None], dict[str, Any]]:
    """(one round of calls, facts about the compiled round)."""
    if mode == "forward":
        called = function
    elif mode == "both":
        called = lambda *operands: _pulled(*jax.vjp(function, *operands))
    else:
        forward = jax.jit(lambda *operands: jax.vjp(function, *operands))
        sets = [forward(*operands) for operands in sets]  # the result stands for its gradient
        called = lambda result, pull_back: pull_back(result)
    compiled = round_of_calls(called, sets)
    memory = compiled.memory_analysis()
    facts = {"launches": round(len(launches(compiled.as_text())) / len(sets), 2)}
    if memory is not None:
        facts["peak_bytes"] = (memory.temp_size_in_bytes + memory.output_size_in_bytes) // len(sets)
    return lambda: jax.block_until_ready(compiled(sets)), facts


def _pulled(result: Any, pull_back: Callable) -> Any:
    return result, pull_back(result)


def kernel_seconds(run: Callable[[], None]) -> float | None:
    """Seconds in kernels of one round, by CUPTI, where this JAX has its profiler and runs on a GPU."""
    try:
        from jax.experimental.mosaic.gpu import profiler

        _, found = profiler.Cupti(finalize=False).measure(lambda: run(), aggregate=False)()
        return sum(milliseconds for _, milliseconds in found) / 1e3 if found else None
    except (
        Exception
    ) as error:  # an experimental interface: without it the column is empty, and says why
        print(
            f"  kernel time not measured: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            file=sys.stderr,
        )
        return None


# ----------------------------------------------------------------------------------------------------------------- in PyTorch
def torch_cell(
    op: Op, name: str, shape: Shape, dtype: str, mode: str, count: int, compiled: bool
) -> tuple[Callable[[], None], dict]:
    import torch

    from benchmarks import torch_ops

    device = "cuda" if torch.cuda.is_available() else "cpu"
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    function = getattr(torch_ops, op.torch)
    function = torch.compile(function) if compiled else function
    sets = [
        torch_ops.operands(op.operands(shape), dtype, device, i, name == "sigmoid_bce")
        for i in range(count)
    ]
    kept = [function(*operands) for operands in sets] if mode == "backward" else []
    gradients = [torch.ones_like(result) for result in kept]

    def run() -> None:
        for i, operands in enumerate(sets):
            if mode == "backward":
                torch.autograd.grad(kept[i], operands, gradients[i], retain_graph=True)
            elif mode == "both":
                result = function(*operands)
                torch.autograd.grad(result, operands, torch.ones_like(result))
            else:
                function(*operands)
        wait()

    run()
    facts: dict[str, Any] = {}
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        facts["peak_bytes"] = torch.cuda.max_memory_allocated() - before
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            run()
        events: Any = profile.events()
        on_device = [e for e in events if str(e.device_type).endswith("CUDA")]
        facts["launches"] = round(len(on_device) / count, 2)
        facts["kernel_us"] = sum(e.device_time for e in on_device) / count
    return run, facts


# --------------------------------------------------------------------------------------------------------------------- timing
def seconds_per_call(run: Callable[[], None], calls: int, repeats: int) -> list[float]:
    """Wall time of a call, of each repeat; two are not counted."""
    samples = []
    for i in range(repeats + 2):
        start = time.perf_counter()
        run()
        if i > 1:
            samples.append((time.perf_counter() - start) / calls)
    return samples


def copy_bandwidth(size: int, repeats: int) -> float:
    """Bytes a second that a copy of `size` float32 numbers reads and writes, by its median."""
    x = jnp.ones(size, jnp.float32)
    copy = jax.jit(lambda x: x * 1.5).lower(x).compile()
    return (
        8
        * size
        / statistics.median(seconds_per_call(lambda: jax.block_until_ready(copy(x)), 1, repeats))
    )


def percentiles(samples: list[float]) -> dict[str, float]:
    p20, p50, p80 = np.percentile(samples, [20, 50, 80]) * 1e6
    return {"us": float(p50), "us_20": float(p20), "us_80": float(p80)}
