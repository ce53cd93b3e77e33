"""The fused operations beside plain JAX and PyTorch: `python -m benchmarks.kernels`.

For each cell - operation, shape, dtype, mode, provider - the floor comes first: the least bytes that the operation must move,
divided by the bandwidth of a copy that is measured in the same run. Then the time of a call, as median with 20th and 80th percentile.
Calls go round over several sets of operands that together exceed the GPU's cache, inside one compiled function, so that neither the
cache nor Python is measured. Providers: `natural` is the JAX that one writes first; `xla` the tuned references of `jaxgan.kernels`;
`triton` its kernels; `torch-eager` and `torch-compile`.

`step` times whole training steps of the preset `mnist` with plain, xla and triton operations: what decides whether `auto` may choose
a kernel. --table prints the table of sizes for `kernels/launch.py` that a file of records supports, --plot draws it.
"""

import importlib.util
import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import output
from benchmarks.kernel_ops import CHOICE, MODES, OPS, Op, Shape
from benchmarks.timing import (
    copy_bandwidth,
    jax_cell,
    jax_operands,
    kernel_seconds,
    percentiles,
    seconds_per_call,
    torch_cell,
)

PROVIDERS = ("natural", "xla", "triton", "torch-eager", "torch-compile")
CACHE_BYTES = 120 << 20  # more than twice the second-level cache of an H100


def steps_cell(kind: str, batch_size: int, steps: int, repeats: int) -> list[float]:
    """Seconds of a training step of the preset mnist."""
    from jaxgan import init, make_game, parallel
    from jaxgan.config import preset, replace

    config = replace(preset("mnist"), {"kernels": kind, "batch_size": batch_size})
    game, device = make_game(config), jax.devices()[:1]
    program = parallel.make_program(game, lambda resident, item: {"image": resident[item]}, device)
    images = np.random.default_rng(0).integers(0, 256, (1024, 28, 28, 1), np.uint8)
    items = parallel.split(np.random.default_rng(1).integers(0, 1024, (steps, batch_size)), 1)
    state, resident = parallel.replicate((init(game, jax.random.key(0)), images), device)

    def run() -> None:
        nonlocal state
        state, _ = program(state, (resident, items))
        jax.block_until_ready(state)

    return seconds_per_call(run, steps, repeats)


# ------------------------------------------------------------------------------------------------------------ the file of records
def faster_from(records: list[dict[str, Any]]) -> dict[str, int]:
    """Operation -> fewest elements from which, at every measured size, Triton was at least as fast as `xla` and `natural` in each
    mode and dtype; nothing at all where the step with Triton's kernels was slower than with the references."""
    times = {
        (r["op"], tuple(r["shape"]), r["dtype"], r["mode"], r["provider"]): r["us"] for r in records
    }
    step = {provider: us for (op, _, _, _, provider), us in times.items() if op == "step"}
    if "triton" not in step or step["triton"] > min(
        us for provider, us in step.items() if provider != "triton"
    ):
        return {}
    verdicts: dict[str, dict[int, bool]] = {}
    for (op, shape, dtype, mode, provider), us in times.items():
        if provider == "triton" and op != "step":
            others = [times.get((op, shape, dtype, mode, other)) for other in ("xla", "natural")]
            wins = all(other is not None and us <= other for other in others)
            sizes = verdicts.setdefault(CHOICE[op], {})
            sizes[math.prod(shape)] = sizes.get(math.prod(shape), True) and wins
    table = {}
    for op, sizes in verdicts.items():
        best = None
        for size in sorted(sizes, reverse=True):
            if not sizes[size]:
                break
            best = size
        if best is not None:
            table[op] = best
    return table


def plot(records: list[dict[str, Any]], path: str) -> None:
    """The share of the copy's bandwidth against the size, a panel for each operation."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [name for name in OPS if any(r["op"] == name for r in records)]
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.2 * len(names), 3.2), squeeze=False, sharey=True
    )
    for axis, name in zip(axes[0], names):
        for provider in PROVIDERS:
            points = sorted(
                (math.prod(r["shape"]), r["share_of_copy"])
                for r in records
                if (r["op"], r["provider"], r["mode"]) == (name, provider, "both")
                and r["dtype"] == records[0]["dtype"]
            )
            if points:
                axis.plot(*zip(*points), marker="o", label=provider)
        axis.set(title=name, xscale="log", xlabel="elements", ylim=(0, 1.1))
        axis.axhline(1.0, color="grey", linewidth=0.5)
    axes[0][0].set_ylabel("share of a copy's bandwidth,\nforward and backward")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(labels))
    device = records[0]["device"]
    figure.suptitle(f"{device}, {records[0]['dtype']}")
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=110)


# -------------------------------------------------------------------------------------------------------------------- command
def main(argv: list[str] | None = None) -> None:
    parser = output.parser("kernels", __doc__, "cell")
    parser.add_argument(
        "--ops", default=",".join([*OPS, "step"]), help="which, with commas between (default: all)"
    )
    parser.add_argument(
        "--modes", default=",".join(MODES), help="forward, backward, both (default: all)"
    )
    parser.add_argument("--dtypes", default="bfloat16,float32", help="(default: bfloat16,float32)")
    parser.add_argument("--providers", default=None, help="(default: all that can run here)")
    parser.add_argument(
        "--repeats", type=int, default=20, help="rounds of calls that are counted (default: 20)"
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print the table for kernels/launch.py that the records of --json support",
    )
    given = parser.parse_args(argv)
    on_gpu = jax.devices()[0].platform == "gpu"
    reasons = _cannot_run(on_gpu)
    providers = (
        given.providers.split(",")
        if given.providers
        else [p for p in PROVIDERS if p not in reasons]
    )
    for kind, names, known in (
        ("operation", given.ops, [*OPS, "step"]),
        ("mode", given.modes, MODES),
        ("provider", ",".join(providers), PROVIDERS),
        ("dtype", given.dtypes, ("bfloat16", "float32", "float16")),
    ):
        if wrong := [name for name in names.split(",") if name not in known]:
            parser.error(f"unknown {kind} {wrong[0]!r}; use {', '.join(known)}")
    if (given.plot or given.table) and not given.json:
        parser.error("--plot and --table read the records of --json; give it too")
    for provider in providers:
        if provider in reasons:
            parser.error(f"{provider} cannot run here: {reasons[provider]}")

    if given.repeats < 1:
        parser.error(f"--repeats {given.repeats} is too small; use 1 or more")
    output.check(parser, given)
    about = output.machine(given.quick)
    output.print_machine(about)
    for provider, reason in reasons.items():
        if not given.providers:
            print(f"{provider} is left out: {reason}")
    repeats = 2 if given.quick else given.repeats
    if given.quick or not on_gpu:
        print(
            "these figures show that the command runs: tiny shapes or no GPU say nothing about kernels"
        )
    bandwidth = copy_bandwidth(1 << (16 if given.quick else 27 if on_gpu else 24), repeats)
    print(f"copy: {bandwidth / 1e9:.1f} GB/s")
    print(
        f"{'operation, shape, dtype, mode':66s} {'floor us':>9s}   provider: us (20 to 80 %), share of the copy's bandwidth, launches"
    )
    for name in [n for n in given.ops.split(",") if n != "step"]:
        op = OPS[name]
        for shape in [(2, 8, 8, 4)] if given.quick else op.shapes:
            for dtype in given.dtypes.split(","):
                for mode in given.modes.split(","):
                    _cell(given, op, name, shape, dtype, mode, providers, bandwidth, repeats, about)
    if "step" in given.ops.split(","):
        for kind in ["plain", "xla", *(["triton"] if "triton" in providers else [])]:
            batch, steps = (8, 1) if given.quick else (128, 25 if on_gpu else 1)
            times = percentiles(steps_cell(kind, batch, steps, repeats))
            print(
                f"step of mnist, batch {batch}, {kind}: {times['us']:.0f} us ({times['us_20']:.0f} to {times['us_80']:.0f})"
            )
            provider = "natural" if kind == "plain" else kind
            cell = {
                "benchmark": "kernels",
                "op": "step",
                "shape": [batch, 28, 28, 1],
                "dtype": "float32",
                "mode": "both",
                "provider": provider,
            }
            output.append(given.json, cell | times | about)
    if given.plot or given.table:
        records = [json.loads(line) for line in pathlib.Path(given.json).read_text().splitlines()]
        records = [r for r in records if "error" not in r]
        if given.plot:
            plot([r for r in records if r["op"] != "step"], given.plot)
        if given.table:
            print("FASTER_FROM =", faster_from(records))


def _cannot_run(on_gpu: bool) -> dict[str, str]:
    """Provider -> why it cannot run here."""
    reasons = {}
    if not on_gpu:
        reasons["triton"] = "Triton kernels need a CUDA GPU"
    elif missing := [m for m in ("triton", "jax_triton") if importlib.util.find_spec(m) is None]:
        reasons["triton"] = f"{missing[0]} is not installed"
    if importlib.util.find_spec("torch") is None:
        reasons |= {
            "torch-eager": "PyTorch is not installed (extra bench)",
            "torch-compile": "PyTorch is not installed (extra bench)",
        }
    return reasons


def _cell(
    given: Any,
    op: Op,
    name: str,
    shape: Shape,
    dtype: str,
    mode: str,
    providers: list[str],
    bandwidth: float,
    repeats: int,
    about: Any,
) -> None:
    """Times one operation in one mode with all providers, in turn."""
    minimal = op.traffic(shape, jnp.dtype(dtype).itemsize)[MODES.index(mode)]
    floor = minimal / bandwidth
    print(
        f"{name + ' ' + 'x'.join(map(str, shape)) + ' ' + dtype + ' ' + mode:66s} {floor * 1e6:9.2f}",
        flush=True,
    )
    count = 2 if given.quick else min(64, max(4, math.ceil(CACHE_BYTES / minimal)))
    for provider in providers:
        cell = {"op": name, "shape": shape, "dtype": dtype, "mode": mode, "provider": provider}
        try:
            if provider.startswith("torch"):
                run, facts = torch_cell(
                    op, name, shape, dtype, mode, count, provider == "torch-compile"
                )
            else:
                function = op.natural if provider == "natural" else op.fused(provider)
                sets = [jax_operands(op, name, shape, dtype, i) for i in range(count)]
                run, facts = jax_cell(function, mode, sets)
                if (
                    jax.devices()[0].platform == "gpu"
                    and (inside := kernel_seconds(run)) is not None
                ):
                    facts["kernel_us"] = inside / count * 1e6
            samples = seconds_per_call(run, count, repeats)
        except (
            Exception
        ) as error:  # one provider that fails must not take the others' figures with it
            print(
                f"    {provider:13s} failed: {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
            )
            output.append(
                given.json,
                about | {"benchmark": "kernels", "error": repr(error)[:500]} | cell,
            )
            continue
        times = percentiles(samples)
        share = minimal / (facts.get("kernel_us", times["us"]) * 1e-6) / bandwidth
        inside = f", {facts['kernel_us']:.2f} us in kernels" if "kernel_us" in facts else ""
        print(
            f"    {provider:13s} {times['us']:9.2f} ({times['us_20']:.2f} to {times['us_80']:.2f}){inside}, {share:.2f}, "
            f"{facts.get('launches', 'unknown')} launches",
            flush=True,
        )
        record = {"benchmark": "kernels", **cell, "minimal_bytes": minimal}
        record |= {
            "copy_bytes_per_s": bandwidth,
            "floor_us": floor * 1e6,
            "share_of_copy": share,
            "calls": count,
            **times,
            **facts,
        }
        record["gb_per_s"] = share * bandwidth / 1e9
        output.append(given.json, record | {"samples_us": [s * 1e6 for s in samples], **about})


if __name__ == "__main__":
    main()
