"""A training step compiled for an H100 or A100, with no GPU present: what it launches, moves and computes.

`python -m benchmarks.compiled seed-mnist mnist`. XLA compiles for a description of the device, and its optimised program is read: kernels
to launch, cuDNN calls by kind, Triton calls, convolutions of images stuffed with zeros, transposes and copies, scratch memory, the bytes
that the kernels must move and the FLOPs that their products and convolutions take. What is compiled is what trains on a GPU: 25 steps in a
dispatch, the state donated, batches gathered from resident images. The counts are of one step; what is launched once a dispatch, such as
the weights' way into the layout of cuDNN and back, is counted apart. Nothing is run, so no time is measured; two bounds are computed:

    roofline  the sum over kernels of max(bytes / bandwidth, FLOPs / peak), peaks from `benchmarks.flops`, TF32 for float32
    launches  kernels x 2.5 us, an assumption: what a small kernel costs where CUDA graphs do not hide it

--explain lists the kernels, the slowest by the roofline first, with the part of the model that each comes from. Needs the CUDA plugin of
jaxlib's version, without the CUDA libraries: pip install 'jax[cuda12-local]'.

`results/compiled.json` holds the counts of today's steps and, for comparison, earlier ones. With --check, a step that needs more of
anything than it says is an error: a broken fusion, a layout transpose or a pass over memory that came back. Calls, transposes and copies
are compared exactly; a kernel more is allowed, 5 percent of scratch memory and 2 of bytes, since versions of XLA differ by that. --update
writes today's counts anew, for `git diff` to show.
"""

import collections
import importlib.util
import json
import os
import pathlib
import sys
from typing import Any

from benchmarks import output
from benchmarks.flops import PEAKS, peak_flops
from benchmarks.hlo import Launch, launches
from jaxgan.config import KERNELS, PRESETS, Config, preset, replace, validate

# Device -> what XLA must know of it: the limits of `cudaGetDeviceProperties`.
TARGETS = {
    "h100": """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
""",
    "a100": """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 167936
  threads_per_core_limit: 2048 core_count: 108 fpus_per_core: 64 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 2039000000000 l2_cache_size: 41943040 clock_rate_ghz: 1.41
  device_memory_size: 84987740160 shared_memory_per_block_optin: 166912 cuda_compute_capability { major: 8 minor: 0 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 patch: 0 }
device_description_str: "NVIDIA A100-SXM4-80GB"
""",
}
NAMES = {"h100": "NVIDIA H100 80GB HBM3", "a100": "NVIDIA A100-SXM4-80GB"}
LAUNCH_US = 2.5
STEPS = 25  # in a dispatch, as on a GPU
BASELINE = pathlib.Path(__file__).parent / "results" / "compiled.json"
SLACK = {
    "scratch_bytes": (1.05, 0),
    "bytes": (1.02, 0),
    "kernels": (1.0, 1),
}  # field -> (times, and so many more)
NOT_IN_BASELINE = ("operations", "kinds", "launch_bound_us")


def compile_for(target: str, function: Any, *arguments: Any, donate: tuple[int, ...] = ()) -> Any:
    """`jax.jit(function, donate_argnums=donate).lower(*arguments).compile()` for a target; arguments may be shapes."""
    if "xla_gpu_autotune_level" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_autotune_level=0"
    import jax
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(
        platform="cuda", target_config=TARGETS[target], topology="1x1x1"
    )
    mesh = topologies.make_mesh(topo=topology, mesh_shape=(1,), axis_names=("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    shapes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), arguments
    )
    return jax.jit(function, donate_argnums=donate).lower(*shapes).compile()


def counted(found: list[Launch], target: str, dtype: str = "float32") -> dict[str, Any]:
    """The counts of a program's kernels, and the bounds on its time on a target."""
    return {
        "kernels": len(found),
        "cudnn_calls": {
            kind: sum(l.convolution == kind for l in found)
            for kind in ("forward", "backward_input", "backward_filter")
        },
        "triton_calls": sum(l.kind == "triton" for l in found),
        "zero_dilated": sum(l.zero_dilated for l in found),
        "transposes": sum(l.kind == "transpose" for l in found),
        "copies": sum(l.kind == "copy" for l in found),
        "bytes": sum(l.bytes for l in found),
        "flops": sum(l.flops for l in found),
        "roofline_us": sum(roofline_us(l, target, dtype) for l in found),
        "launch_bound_us": LAUNCH_US * len(found),
        "kinds": dict(collections.Counter(l.kind for l in found)),
        "operations": dict(collections.Counter(l.operation for l in found)),
    }


def roofline_us(launch: Launch, target: str, dtype: str) -> float:
    """The least time that a kernel takes on a target, in microseconds."""
    rate = peak_flops(NAMES[target], dtype)
    assert rate is not None  # every target is in the table
    return 1e6 * max(launch.bytes / PEAKS[NAMES[target]].bandwidth, launch.flops / rate)


def compiled_step(preset_name: str, target: str = "h100", **changes: Any) -> tuple[Any, Config]:
    """`STEPS` training steps of a preset with fields changed, compiled, and the config."""
    import jax

    from jaxgan import init, make_game, make_step, parallel

    config = replace(preset(preset_name), changes)
    validate(config, 1)
    game, data = make_game(config), config.data
    run = parallel.many_steps(make_step(game), lambda resident, item: {"image": resident[item]})
    images = jax.ShapeDtypeStruct(
        (60_000, data.image_size, data.image_size, config.model.channels), "uint8"
    )
    items = jax.ShapeDtypeStruct((STEPS, config.batch_size), "int32")
    state = jax.eval_shape(lambda: init(game, jax.random.key(0)))
    program = compile_for(target, run, state, (images, items), donate=(0,))
    return program, config


def parted(found: list[Launch]) -> tuple[list[Launch], list[Launch]]:
    """(the launches of one step, those of one dispatch outside its steps) of a program of `STEPS` steps."""
    times = collections.Counter(launch.name for launch in found)
    unique = {launch.name: launch for launch in found}
    in_step = [launch for name, launch in unique.items() if times[name] == STEPS]
    return in_step, [launch for name, launch in unique.items() if times[name] != STEPS]


def exceeded(name: str, found: dict[str, Any], allowed: dict[str, Any]) -> list[str]:
    """The counts that are larger than allowed, each as one line; `SLACK` says by how much some may be."""
    lines = []
    for field, limit in allowed.items():
        if isinstance(limit, dict):
            lines += exceeded(f"{name}: {field}", found[field], limit)
            continue
        factor, more = SLACK.get(field, (1.0, 0))
        if field not in ("flops", "roofline_us") and found[field] > limit * factor + more:
            lines.append(
                f"{name}: {field} is {found[field]}, the baseline {limit}; mend the step, or run with --update and say why"
            )
    return lines


def explain(found: list[Launch], target: str, dtype: str) -> None:
    """Prints the kernels, the slowest by the roofline first."""
    print(f"  {'us':>7s} {'KiB':>9s} {'MFLOP':>8s}  kind         from")
    for launch in sorted(found, key=lambda l: -roofline_us(l, target, dtype)):
        kind = (launch.convolution or launch.kind) + (
            " zero-dilated" if launch.zero_dilated else ""
        )
        where = launch.scope.removeprefix("jit(run)/while/body/closed_call/") or launch.name
        print(
            f"  {roofline_us(launch, target, dtype):7.2f} {launch.bytes / 1024:9.1f} {launch.flops / 1e6:8.1f}  {kind:12s} {where}"
        )


def plot(records: list[dict[str, Any]], path: str) -> None:
    """Kernels by kind, and the two bounds on the time of a step."""
    labels = [f"{r['preset']}\n{r['implementation']}" for r in records]

    def draw(axes: list[Any]) -> None:
        below = [0] * len(records)
        for kind in sorted({kind for r in records for kind in r["kinds"]}):
            heights = [r["kinds"].get(kind, 0) for r in records]
            axes[0].bar(labels, heights, bottom=below, label=kind)
            below = [a + b for a, b in zip(below, heights)]
        axes[0].set(
            ylabel="kernels in a step",
            title=f"{records[0]['target']}, batch {records[0]['batch_size']}",
        )
        axes[0].margins(y=0.3)
        axes[1].margins(y=0.25)
        axes[0].legend(fontsize="x-small")
        at = range(len(records))
        axes[1].bar(
            [i - 0.2 for i in at], [r["roofline_us"] for r in records], 0.4, label="roofline"
        )
        axes[1].bar(
            [i + 0.2 for i in at],
            [r["launch_bound_us"] for r in records],
            0.4,
            label=f"launches, assumed {LAUNCH_US} us each",
        )
        axes[1].set_xticks(list(at), labels)
        axes[1].set(
            ylabel="us a step, computed", title="computed bounds, not measured", ylim=(0, None)
        )
        axes[1].legend(fontsize="x-small")

    output.figure(path, draw, columns=2, width=max(4.5, 0.9 * len(records)))


def main(argv: list[str] | None = None) -> None:
    parser = output.parser("compiled", __doc__, "step")
    parser.add_argument(
        "presets", nargs="+", metavar="PRESET", help="one or more presets, such as mnist"
    )
    parser.add_argument(
        "--target", default="h100", choices=TARGETS, help="what to compile for (default: h100)"
    )
    parser.add_argument(
        "--kernels", help="kinds of fused operations to compare (default: plain,xla,triton)"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="of the networks (default: the preset's)"
    )
    parser.add_argument("--batch-size", type=int, help="images per step (default: the preset's)")
    parser.add_argument("--explain", action="store_true", help="list the kernels of each step")
    parser.add_argument(
        "--check", action="store_true", help=f"fail where a count is larger than in {BASELINE.name}"
    )
    parser.add_argument(
        "--update", action="store_true", help=f"write the counts to {BASELINE.name}"
    )
    given = parser.parse_args(argv)
    kinds = (given.kernels or ("xla" if given.quick else "plain,xla,triton")).split(",")
    if given.quick:
        given.batch_size = given.batch_size or 8
    for what, names, known in (("preset", given.presets, PRESETS), ("kind", kinds, KERNELS)):
        if wrong := [name for name in names if name not in known]:
            parser.error(f"unknown {what} {wrong[0]!r}; use {', '.join(known)}")
    if (given.check or given.update) and (given.batch_size or given.target != "h100"):
        parser.error(
            "--check and --update are of the presets' own batch sizes and an H100; leave out --batch-size, --quick and --target"
        )
    output.check(parser, given)
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        parser.error(
            "compiling for a GPU needs the CUDA plugin of JAX; install jaxgan with the extra test, cuda12 or cuda13"
        )
    os.environ.setdefault(
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1"
    )  # read when JAX first looks for devices: without a driver it would fail
    about = output.machine(given.quick)
    output.print_machine(about)
    print(
        f"compiled for an {NAMES[given.target]}, not run; launches are assumed to take {LAUNCH_US} us each"
    )
    print(
        f"{'preset':12s} {'operations':10s} kernels  +a dispatch  cudnn fwd/input/filter  triton  zero-dilated  transposes",
        end="",
    )
    print("  copies  scratch MiB  moved MB   GFLOP  roofline us  launches us")
    wrong, records = [], []
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    options = {
        name: value
        for name, value in (("dtype", given.dtype), ("batch_size", given.batch_size))
        if value
    }
    for name in given.presets:
        for kind in kinds:
            try:
                program, config = compiled_step(name, given.target, kernels=kind, **options)
            except ValueError as error:  # a field that does not fit, in one line
                parser.error(str(error))
            found, once = parted(launches(program.as_text()))
            c = counted(found, given.target, config.dtype)
            c["kernels_per_dispatch"] = len(once)
            c["scratch_bytes"] = program.memory_analysis().temp_size_in_bytes
            calls = "/".join(str(n) for n in c["cudnn_calls"].values())
            print(
                f"{name:12s} {kind:10s} {c['kernels']:7d}  {c['kernels_per_dispatch']:11d}  {calls:>22s}  {c['triton_calls']:6d}  "
                f"{c['zero_dilated']:12d}  {c['transposes']:10d}  {c['copies']:6d}  "
                f"{c['scratch_bytes'] / 2**20:11.1f}  {c['bytes'] / 1e6:8.1f}  "
                f"{c['flops'] / 1e9:6.2f}  {c['roofline_us']:11.1f}  {c['launch_bound_us']:11.1f}",
                flush=True,
            )
            if given.explain:
                explain(found, given.target, config.dtype)
            record = output.subject("compiled", name, config) | {"implementation": kind}
            records.append(record | {"target": NAMES[given.target], **c, **about})
            output.append(given.json, records[-1])
            key = f"{name} {kind}" + (f" {given.dtype}" if given.dtype else "")
            known = baseline.get("now", {})
            if given.update:
                kept = {field: value for field, value in c.items() if field not in NOT_IN_BASELINE}
                baseline.setdefault("now", {})[key] = kept | {
                    "roofline_us": round(c["roofline_us"], 1)
                }
            elif given.check:
                wrong += (
                    exceeded(key, c, known[key])
                    if key in known
                    else [f"{key} is not in {BASELINE.name}; run with --update"]
                )
    if given.update:
        BASELINE.write_text(json.dumps(baseline, indent=1) + "\n")
    if given.plot:
        plot(records, given.plot)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
