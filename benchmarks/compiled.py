"""A training step compiled for an H100, with no GPU present: what it launches, moves and computes.

XLA compiles for a description of the device, and its optimised program is read: kernels to launch,
cuDNN calls by kind, Triton calls, convolutions of images stuffed with zeros, transposes and copies,
scratch memory, the bytes that the kernels must move and the FLOPs of their products and
convolutions. What is compiled is what trains on a GPU: 25 steps in a dispatch, the state donated,
batches gathered from resident data. The counts are of one step; what is launched once a dispatch,
such as the weights' way into cuDNN's layout and back, is counted apart. The program has the
options that make all of a dispatch one CUDA graph (`jaxgan.run.runtime.compiler_options`); graphs
and launches outside of any are counted of a whole dispatch, and for comparison of the same program
with XLA's default. Nothing is run, so no time is measured; two bounds are computed:

  roofline  the sum over kernels of max(bytes / bandwidth, FLOPs / peak), TF32 for float32 launches
  kernels x 2.5 us, an assumption: what a small kernel costs where CUDA graphs do not hide it

results/compiled.json holds the budgets: the counts of today's steps. --check fails where a step
needs more of anything than its budget: a broken fusion, a layout transpose or a pass over memory
that came back. Calls, transposes and copies are compared exactly; a kernel more is allowed, 5
percent of scratch memory and 2 of bytes, since versions of XLA differ by that. Without presets it
checks all budgets. XLA's default is left out there. --update sets the budgets anew, for `git diff`
to show.

Needs the CUDA plugin of jaxlib's version, without the CUDA libraries: pip install
'jax[cuda12-local]'.
"""

import collections
import contextlib
import importlib.util
import json
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks import graphs, record
from benchmarks.flops import PEAKS, peak_flops
from benchmarks.launches import Launch, launches
from jaxgan.config import IMPLEMENTATIONS, Config
from jaxgan.errors import UserError
from jaxgan.run.hlo import phase_of

# What XLA must know of an H100: the limits of `cudaGetDeviceProperties`, and the versions of driver
# and runtime. Without these it assumes old ones, which cannot put loops or libraries into graphs.
DEVICE = "NVIDIA H100 80GB HBM3"
TARGET = f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  core_count: 132 fpus_per_core: 128 shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 memory_bandwidth: 3352320000000
  l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84942979072
  cuda_compute_capability {{ major: 9 minor: 0 }}
  driver_version: "13.0.0" runtime_version: "12.9.0" compile_time_toolkit_version: "12.9.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 patch: 0 }}
device_description_str: "{DEVICE}"
"""
LAUNCH_US = 2.5
STEPS = 25  # in a dispatch, as on a GPU
EXAMPLES = 60_000
BUDGETS = pathlib.Path(__file__).parent / "results" / "compiled.json"
SLACK = {"scratch_bytes": (1.05, 0), "bytes": (1.02, 0), "kernels": (1.0, 1)}  # times, and more
NO_BUDGET = ("kinds", "by_phase", "launch_bound_us", "outside")
NOT_COMPARED = ("flops", "roofline_us", "xla_default")
AUTOTUNE = {"xla_gpu_autotune_level": 0}  # which would run kernels


def gpus(count: int, target: str = TARGET) -> Any:
    """A mesh of GPUs that are not there, with the axis "devices"."""
    from jax.experimental import topologies

    shape = dict(target_config=target, topology=f"1x1x{count}")
    topology = topologies.get_topology_desc(platform="cuda", **shape)
    return topologies.make_mesh(topo=topology, mesh_shape=(count,), axis_names=("devices",))


def lowered_for_gpu(
    function: Any, *arguments: Any, donate: tuple[int, ...] = (), mesh: Any = None
) -> Any:
    """`jax.jit(function, donate_argnums=donate)`, lowered for an H100, or for all of a mesh;
    arguments may be shapes."""
    import jax

    sharding = jax.sharding.NamedSharding(mesh or gpus(1), jax.sharding.PartitionSpec())

    def placed(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    shapes = jax.tree.map(placed, arguments)
    return jax.jit(function, donate_argnums=donate).lower(*shapes)


@contextlib.contextmanager
def compiled_for_gpu(lowered: Any, options: dict[str, Any] | None) -> Iterator[tuple[Any, str]]:
    """(the program, a folder with what XLA dumped of it) of what is lowered for a GPU."""
    with tempfile.TemporaryDirectory() as folder:
        dump = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True, "xla_dump_emitter_re": "ptx"}
        yield lowered.compile(compiler_options={**(options or {}), **AUTOTUNE, **dump}), folder


def lowered_step(config: Config) -> Any:
    """`STEPS` training steps of a config, lowered."""
    from benchmarks.workload import kernels_of, step_shapes

    run, shapes = step_shapes(config, EXAMPLES, STEPS)
    with kernels_of(config):
        return lowered_for_gpu(run, *shapes, donate=(0,))


def counts_of(
    config: Config, dtype: str, by_default: bool
) -> tuple[dict[str, Any], list[Launch], Any]:
    """The counts of a config's dispatch, what a step launches, and the compiled program.

    Args:
      config: of the run.
      dtype: that it computes in.
      by_default: count graphs with XLA's default, too.
    """
    from benchmarks.workload import features_of, game_of
    from jaxgan.run import runtime
    from jaxgan.run.profile import phases_of

    lowered = lowered_step(config)
    with compiled_for_gpu(lowered, runtime.compiler_options("gpu", one_graph=True)) as made:
        program, folder = made
        counts, found = counted(program, dtype)
        counts |= graphs.counted(graphs.dumped(folder), STEPS)
    counts["by_phase"] = by_phase(found, phases_of(game_of(config, features_of(config))))
    if by_default:
        with compiled_for_gpu(lowered, None) as (_, folder):
            counts["xla_default"] = graphs.counted(graphs.dumped(folder), STEPS)
    return counts, found, program


def counted(program: Any, dtype: str) -> tuple[dict[str, Any], list[Launch]]:
    """The counts of a dispatch's steps, the bounds on their time, and what is launched."""
    found = launches(program.as_text())
    times = collections.Counter(launch.name for launch in found)
    unique = {launch.name: launch for launch in found}.values()
    # Of a loop within a step, such as that over micro-batches, each round counts.
    of_step = [launch for launch in unique for _ in range(times[launch.name] // STEPS)]
    cudnn = collections.Counter(launch.convolution for launch in of_step)
    kinds = collections.Counter(launch.kind for launch in of_step)
    counts = {
        "kernels": len(of_step),
        "cudnn_calls": {n: cudnn[n] for n in ("forward", "backward_input", "backward_filter")},
        "triton_calls": kinds["triton"],
        "zero_dilated": sum(launch.zero_dilated for launch in of_step),
        "transposes": kinds["transpose"],
        "copies": kinds["copy"],
        "bytes": sum(launch.bytes for launch in of_step),
        "flops": sum(launch.flops for launch in of_step),
        "roofline_us": round(sum(roofline_us(launch, dtype) for launch in of_step), 1),
        "launch_bound_us": LAUNCH_US * len(of_step),
        "kinds": dict(kinds),
        "kernels_per_dispatch": sum(times[launch.name] < STEPS for launch in unique),
        "scratch_bytes": program.memory_analysis().temp_size_in_bytes,
    }
    return counts, of_step


def roofline_us(launch: Launch, dtype: str) -> float:
    """The least time that a kernel takes, in microseconds."""
    rate = peak_flops(DEVICE, dtype) or 0.0
    return 1e6 * max(launch.bytes / PEAKS[DEVICE].bandwidth, launch.flops / rate)


def exceeded(name: str, found: dict[str, Any], budget: dict[str, Any]) -> list[str]:
    """The counts that are larger than their budget, each as one line."""
    lines = []
    for field, limit in budget.items():
        if field in NOT_COMPARED:
            continue
        if isinstance(limit, dict):
            lines += exceeded(f"{name}: {field}", found[field], limit)
            continue
        factor, more = SLACK.get(field, (1.0, 0))
        if found[field] > limit * factor + more:
            lines.append(
                f"{name}: {field} is {found[field]}, the baseline {limit}; mend the step, or run "
                "with --update and say why"
            )
    return lines


# What a kernel is for, by where in the step it was made; the first that fits.
PURPOSES = (
    ("convolutions, products", r"^(?:convolution|product)$", ""),
    ("optimizers", "", r"/(?:optimizer|ema)(?=[/)]|$)"),
    ("draws", "", r"threefry|random_bits|_normal|_uniform|fold_in"),
    ("input", "", r"(?:^|[/(])input(?=[/)]|$)"),
    ("normalisation", "", r"BatchNorm|batch_norm|moments"),
    ("layers", "", r"(?:jvp|transpose)\("),
)
OTHERS = "losses, metrics, loop"


def by_phase(found: list[Launch], phases: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """How many kernels of a step are for what: phase -> purpose -> count.

    Args:
      found: of one step.
      phases: of the game's step, see `jaxgan.run.profile`.
    """
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for launch in found:
        phase = phase_of(launch.scope, phases) or "between"
        fits = (
            purpose
            for purpose, kind, scope in PURPOSES
            if re.search(kind, launch.kind) and re.search(scope, launch.scope)
        )
        table[phase][next(fits, OTHERS)] += 1
    return {phase: dict(counts) for phase, counts in table.items()}


def show_phases(table: dict[str, dict[str, int]]) -> None:
    """Prints how many kernels of each phase are for what."""
    purposes = [purpose for purpose, *_ in PURPOSES] + [OTHERS]
    purposes = [name for name in purposes if any(name in counts for counts in table.values())]
    print(f"  {'kernels':22s}" + "".join(f"{phase:>15s}" for phase in table) + f"{'all':>8s}")
    for purpose in purposes:
        row = [counts.get(purpose, 0) for counts in table.values()]
        print(f"  {purpose:22s}" + "".join(f"{n:15d}" for n in row) + f"{sum(row):8d}")


def explain(found: list[Launch], dtype: str) -> None:
    """Prints the kernels, the slowest by the roofline first."""
    print(f"  {'us':>7s} {'KiB':>9s} {'MFLOP':>8s}  {'kind':26s} from")
    for launch in sorted(found, key=lambda launch: -roofline_us(launch, dtype)):
        kind = f"{launch.convolution or launch.kind}{' zero-dilated' * launch.zero_dilated}"
        where = launch.scope.removeprefix("jit(run)/while/body/closed_call/") or launch.name
        numbers = f"{launch.bytes / 1024:9.1f} {launch.flops / 1e6:8.1f}"
        print(f"  {roofline_us(launch, dtype):7.2f} {numbers}  {kind:26s} {where}")


def row(counts: dict[str, Any]) -> dict[str, str]:
    """Counts by the heads of the columns that show them."""
    return {
        "kernels": str(counts["kernels"]),
        "a dispatch": str(counts["kernels_per_dispatch"]),
        "cuDNN": "/".join(map(str, counts["cudnn_calls"].values())),
        "Triton": str(counts["triton_calls"]),
        "zeros": str(counts["zero_dilated"]),
        "transp.": str(counts["transposes"]),
        "copies": str(counts["copies"]),
        "scratch MiB": f"{counts['scratch_bytes'] / 2**20:.1f}",
        "MB": f"{counts['bytes'] / 1e6:.1f}",
        "GFLOP": f"{counts['flops'] / 1e9:.2f}",
        "roofline us": f"{counts['roofline_us']:.1f}",
        "graphs+out": _graphs(counts),
        "by default": _graphs(counts["xla_default"]) if "xla_default" in counts else "",
    }


def _graphs(counts: dict[str, Any]) -> str:
    return f"{counts['graphs_per_dispatch']}+{counts['launches_outside_graphs']}"


def cells(presets: list[str], kinds: list[str], dtype: str | None) -> list[tuple[str, str, str]]:
    """(preset, kind, dtype or "") of what is asked for; of all budgets where no preset is named."""
    if presets:
        return [(preset, kind, dtype or "") for preset in presets for kind in kinds]
    keys = [*json.loads(BUDGETS.read_text())["now"]]
    found = [(*key.split(), "")[:3] for key in keys]
    return [(a, b, c) for a, b, c in found if b in kinds and c == (dtype or c)]


def main(argv: list[str] | None = None) -> None:
    parser = record.parser(
        "benchmarks.compiled", f"{__doc__}\nOptions of jaxgan train change the step."
    )
    parser.add_argument("presets", nargs="*", metavar="PRESET", help="such as mnist")
    parser.add_argument(
        "--kernels", default="plain,xla,triton", help="of operations (default: plain,xla,triton)"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="(default: the preset's)")
    parser.add_argument("--explain", action="store_true", help="list the kernels of each step")
    parser.add_argument("--check", action="store_true", help=f"compare with {BUDGETS.name}")
    parser.add_argument("--update", action="store_true", help=f"write {BUDGETS.name}")
    given, changes = record.parsed(parser, argv)
    kinds = ["xla"] if given.quick else given.kernels.split(",")
    if given.quick:
        changes = {"batch_size": "8", **changes}
    if wrong := [kind for kind in kinds if kind not in IMPLEMENTATIONS]:
        parser.error(f"unknown kind {wrong[0]!r}; use {', '.join(IMPLEMENTATIONS)}")
    if (given.check or given.update) and changes:
        parser.error("--check and --update are of the presets as they are")
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        parser.error("needs the CUDA plugin of JAX; install jaxgan with the extra test or cuda12")
    # Read when JAX first looks for devices: without a driver it would fail.
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    about = record.machine(given.quick)
    record.show_machine(about)
    print(f"compiled for an {DEVICE}, not run; a launch is assumed to take 2.5 us")
    budgets = json.loads(BUDGETS.read_text()) if BUDGETS.exists() else {}
    known, wrong, head = budgets.setdefault("now", {}), [], ""
    for preset, kind, dtype in cells(given.presets, kinds, given.dtype):
        more = {"kernels": kind, **({"dtype": dtype} if dtype else {})}
        config = record.config_of(parser, preset, changes, **more)
        computes_in, key = dtype or "float32", f"{preset} {kind} {dtype}".strip()
        try:
            counts, found, _ = counts_of(config, computes_in, not given.check)
        except UserError as error:
            parser.error(str(error))
        columns = row(counts)
        if not head:
            print(head := f"{'step':26s}{''.join(f'{name:>12s}' for name in columns)}")
        print(f"{key:26s}{''.join(f'{value:>12s}' for value in columns.values())}", flush=True)
        if given.explain:
            show_phases(counts["by_phase"])
            explain(found, computes_in)
        subject = record.subject("compiled", preset, config, computes_in)
        made = {"implementation": kind, "target": DEVICE, **counts, **about}
        record.append(given.json, {**subject, **made})
        if given.update:
            known[key] = {f: value for f, value in counts.items() if f not in NO_BUDGET}
        elif given.check and key in known:
            wrong += exceeded(key, counts, known[key])
        elif given.check:
            wrong.append(f"{key} is not in {BUDGETS.name}; run with --update")
    if given.update:
        BUDGETS.write_text(json.dumps(budgets, indent=1) + "\n")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
