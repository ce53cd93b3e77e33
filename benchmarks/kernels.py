"""The operations of `jaxgan.kernels`, each by every implementation, beside PyTorch.

For each cell - operation, shape, dtype, mode, provider - the floor comes first: the least bytes
that the operation must move, divided by the bandwidth of a copy that is measured in the same run.
Then the time of a call, as median with 20th and 80th percentile. Calls go round over several sets
of operands that together exceed the GPU's cache, inside one compiled function, so that neither the
cache nor Python is measured. Providers: plain is the JAX that one writes first, xla the tuned
references, triton the kernels; torch-eager and torch-compile.

Whole steps by each implementation are timed by `benchmarks.train_step mnist --kernels triton`.
"""

import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from benchmarks.kernel_ops import MODES, OPS, Op, Shape
from benchmarks.launches import launches

PROVIDERS = ("plain", "xla", "triton", "torch-eager", "torch-compile")
DTYPES = ("bfloat16", "float32", "float16")
CACHE_BYTES = 120 << 20  # more than twice the second-level cache of an H100
_SHOWN = ("share_of_copy", "launches")
Run = Callable[[], Any]


def seconds_per_call(run: Run, calls: int, repeats: int) -> list[float]:
    """Wall time of a call, of each repeat; two are not counted."""
    samples = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        run()
        samples.append((time.perf_counter() - start) / calls)
    return samples[2:]


def jax_operands(op: Op, shape: Shape, dtype: str, seed: int) -> tuple[Any, ...]:
    """Operands [B,H,W,C] in `dtype`, the second of them in (0, 1); vectors in float32."""
    shapes = op.operands(shape)
    made = []
    for i, (key, size) in enumerate(zip(jax.random.split(jax.random.key(seed), 4), shapes)):
        random = jax.random.uniform if i and len(size) == 4 else jax.random.normal
        made.append(random(key, size, dtype if len(size) == 4 else "float32"))
    return tuple(made)


def jax_cell(function: Callable, mode: str, sets: list[Any]) -> tuple[Run, dict[str, Any]]:
    """(a round that calls a function once with each set of operands, facts about the compiled
    round).
    """

    def both(*operands: Any) -> Any:
        result, pull_back = jax.vjp(function, *operands)
        return result, pull_back(result)  # the result stands for its gradient

    called = function if mode == "forward" else both

    @jax.jit
    def calls(sets: list[Any]) -> list[Any]:
        results: list[Any] = []
        for operands in sets:
            if results:  # without the barrier XLA would fuse calls that do not need each other
                results[-1], operands = jax.lax.optimization_barrier((results[-1], operands))
            results.append(called(*operands))
        return results

    compiled = calls.lower(sets).compile()
    facts: dict[str, Any] = {"launches": len(launches(compiled.as_text() or "")) / len(sets)}

    def run() -> None:
        jax.block_until_ready(compiled(sets))

    return run, facts


def torch_cell(name: str, shape: Shape, dtype: str, mode: str, count: int, compiled: bool) -> Run:
    """The round in PyTorch."""
    import torch

    from benchmarks import torch_ops

    on_gpu = torch.cuda.is_available()
    function = getattr(torch_ops, name)
    function = torch.compile(function) if compiled else function
    place, shapes = "cuda" if on_gpu else "cpu", OPS[name].operands(shape)
    sets = [torch_ops.operands(shapes, dtype, place, seed) for seed in range(count)]

    def run() -> None:
        for operands in sets:
            result = function(*operands)
            if mode == "both":
                torch.autograd.grad(result, operands, result.detach())
        if on_gpu:
            torch.cuda.synchronize()

    return run


def measured_cell(cell: dict[str, Any], provider: str, calls: int) -> tuple[Run, dict[str, Any]]:
    """(a round of `calls` calls, facts about it) of a cell by a provider."""
    name, shape, dtype, mode = (cell[key] for key in ("op", "shape", "dtype", "mode"))
    if provider.startswith("torch"):
        return torch_cell(name, shape, dtype, mode, calls, provider == "torch-compile"), {}
    op = OPS[name]

    def function(*operands: Any) -> Any:
        return op.call(provider, *operands)

    sets = [jax_operands(op, shape, dtype, seed) for seed in range(calls)]
    return jax_cell(function, mode, sets)


def copy_bandwidth(size: int, repeats: int) -> float:
    """Bytes a second that a copy of `size` float32 numbers reads and writes, by its median."""
    x = jnp.ones(size, jnp.float32)
    copy = jax.jit(lambda x: x * 1.5)
    samples = seconds_per_call(lambda: jax.block_until_ready(copy(x)), 1, repeats)
    return 8 * size / statistics.median(samples)


def reasons_against(on_gpu: bool) -> dict[str, str]:
    """Provider -> why it cannot run here."""
    reasons = {}
    if not on_gpu:
        reasons["triton"] = "Triton kernels need a CUDA GPU"
    elif importlib.util.find_spec("triton") is None:
        reasons["triton"] = "triton is not installed"
    if importlib.util.find_spec("torch") is None:
        reasons["torch-eager"] = reasons["torch-compile"] = "PyTorch is not installed (extra bench)"
    return reasons


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.kernels", __doc__)
    parser.add_argument("--ops", default=",".join(OPS), help="with commas between (default: all)")
    parser.add_argument(
        "--modes", default=",".join(MODES), help="forward, both (default: both of these)"
    )
    parser.add_argument("--dtypes", default="bfloat16,float32", help="(default: bfloat16,float32)")
    parser.add_argument("--providers", help="(default: all that can run here)")
    parser.add_argument("--repeats", type=int, default=20, help="of a round (default: 20)")
    given, _ = record.parsed(parser, argv)
    on_gpu = jax.devices()[0].platform == "gpu"
    reasons = reasons_against(on_gpu)
    can = ",".join(p for p in PROVIDERS if p not in reasons)
    providers = record.chosen(parser, "provider", given.providers or can, PROVIDERS)
    for provider in providers:
        if provider in reasons:
            parser.error(f"{provider} cannot run here: {reasons[provider]}")
    ops = record.chosen(parser, "operation", given.ops, OPS)
    dtypes = record.chosen(parser, "dtype", given.dtypes, DTYPES)
    modes = record.chosen(parser, "mode", given.modes, MODES)
    about = record.machine(given.quick)
    record.show_machine(about)
    for provider, reason in reasons.items():
        print(f"{provider} is left out: {reason}")
    if not on_gpu:
        print("NO GPU: these figures show that the command runs, they say nothing about kernels")
    repeats = 2 if given.quick else given.repeats
    bandwidth = copy_bandwidth(1 << (16 if given.quick else 27 if on_gpu else 24), repeats)
    print(f"copy: {bandwidth / 1e9:.1f} GB/s; us a call: median (20 to 80 %)")
    cells: list[dict[str, Any]] = [
        dict(op=op, shape=shape, dtype=dtype, mode=mode)
        for op in ops
        for shape in ([(2, 8, 8, 4)] if given.quick else OPS[op].shapes)
        for dtype in dtypes
        for mode in modes
    ]
    for cell in cells:
        least = OPS[cell["op"]].least_bytes(cell["shape"], cell["dtype"], cell["mode"])
        calls = 2 if given.quick else min(64, max(4, math.ceil(CACHE_BYTES / least)))
        floor, sizes = least / bandwidth * 1e6, "x".join(map(str, cell["shape"]))
        known = {"minimal_bytes": least, "copy_bytes_per_s": bandwidth, "floor_us": floor}
        what = f"{cell['op']} {sizes} {cell['dtype']} {cell['mode']}"
        print(f"{what}, floor {floor:.2f} us", flush=True)
        for provider in providers:
            made = {"benchmark": "kernels", **cell, "provider": provider, **about}
            try:
                run, facts = measured_cell(cell, provider, calls)
                samples = seconds_per_call(run, calls, repeats)
            except Exception as error:  # one provider's must not take the others' figures with it
                print(f"    {provider:13s} failed: {' '.join(repr(error).split())[:200]}")
                record.append(given.json, {**made, "error": repr(error)[:500]})
                continue
            low, us, high = (float(p) for p in np.percentile(samples, [20, 50, 80]) * 1e6)
            facts |= {"us": us, "us_20": low, "us_80": high, "calls": calls, **known}
            facts["share_of_copy"] = floor / us
            rest = "".join(f", {n} {facts[n]:.3g}" for n in _SHOWN if n in facts)
            print(f"    {provider:13s} {us:9.2f} ({low:.2f} to {high:.2f}){rest}", flush=True)
            record.append(given.json, {**made, **facts})


if __name__ == "__main__":
    main()
