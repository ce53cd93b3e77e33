"""A training step compiled for an H100, with no GPU present: `python -m benchmarks.compiled mnist`.

XLA compiles for a description of the device; what it makes is counted: kernels to launch, cuDNN calls by kind, Triton calls,
transposes and copies, scratch memory. Nothing is run, so no time is measured. Needs the CUDA plugin of jaxlib's version, without the
CUDA libraries: pip install 'jax[cuda12-local]'.

`results/compiled.json` holds the counts of today's steps. With --check, a step that needs more of anything than it says is an error:
a broken fusion, a layout transpose or a pass over memory that came back. --update writes it anew, for `git diff` to show.
"""

import argparse
import collections
import importlib.util
import json
import os
import pathlib
import re
import sys
from typing import Any

from benchmarks import report
from jaxgan.config import KERNELS, PRESETS

H100 = """
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
"""

_CUDNN = {"convForward": "forward", "convBiasActivationForward": "forward", "convBackwardInput": "backward_input"}
_CUDNN |= {"convBackwardFilter": "backward_filter"}
_NO_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all"}


def compile_for_h100(function: Any, *arguments: Any) -> Any:
    """`jax.jit(function).lower(*arguments).compile()` for an H100; arguments may be shapes."""
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # read when the topology is first asked for
    if "xla_gpu_autotune_level" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_autotune_level=0"
    import jax
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    mesh = topologies.make_mesh(topo=topology, mesh_shape=(1,), axis_names=("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), arguments)
    return jax.jit(function).lower(*shapes).compile()


def counted(compiled: Any) -> dict[str, Any]:
    """What a compiled program launches, from its optimised HLO, and its scratch memory in bytes."""
    operations: collections.Counter[str] = collections.Counter()
    cudnn: dict[str, int] = {"forward": 0, "backward_input": 0, "backward_filter": 0}
    triton = transposes = copies = 0
    text = compiled.as_text()
    # Computations that a fusion or a reduction is made of launch nothing of their own.
    inner = set(re.findall(r"(?:calls|to_apply|comparator|select|scatter)=%?([\w.-]+)", text))
    for block in re.split(r"\n\n", text):
        header = re.match(r"\s*(?:ENTRY )?%?([\w.-]+) ", block)
        if header is None or header[1] in inner:
            continue
        for line in block.splitlines()[1:]:
            if not (found := re.match(r"\s+(?:ROOT )?%?([\w.-]+) = .*? ([\w-]+)\(", line)) or found[2] in _NO_KERNEL:
                continue
            name, operation = found[1], found[2]
            target = (re.search(r'custom_call_target="([^"]+)"', line) or ["", ""])[1]
            if kind := _CUDNN.get(target.removeprefix("__cudnn$")):
                cudnn[kind] += 1
            triton += target.startswith("triton_kernel_call")
            transposes += "transpose" in name
            copies += operation == "copy" or name.startswith(("copy", "loop_copy", "wrapped_copy"))
            operations[target or operation] += 1
    return {
        "kernels": sum(operations.values()),
        "cudnn_calls": cudnn,
        "triton_calls": triton,
        "transposes": transposes,
        "copies": copies,
        "scratch_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "operations": dict(operations),
    }


def step_for_h100(preset_name: str, kernels: str = "auto", **changes: Any) -> dict[str, Any]:
    """The counts of a preset's training step."""
    import jax

    from jaxgan import init, make_game, make_step
    from jaxgan.config import preset, replace

    config = replace(preset(preset_name), {"kernels": kernels, **changes})
    game, data = make_game(config), config.data
    image = jax.ShapeDtypeStruct((config.batch_size, data.image_size, data.image_size, config.model.channels), "uint8")
    state = jax.eval_shape(lambda: init(game, jax.random.key(0)))
    return counted(compile_for_h100(make_step(game), state, {"image": image}))


BASELINE = pathlib.Path(__file__).parent / "results" / "compiled.json"


def exceeded(name: str, found: dict[str, Any], allowed: dict[str, Any]) -> list[str]:
    """The counts that are larger than allowed, each as one line."""
    lines = []
    for field, limit in allowed.items():
        if isinstance(limit, dict):
            lines += exceeded(f"{name}: {field}", found[field], limit)
        elif found[field] > limit:
            lines.append(f"{name}: {field} is {found[field]}, the baseline {limit}; mend the step, or run with --update and say why")
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__, allow_abbrev=False)
    parser.add_argument("presets", nargs="+", metavar="PRESET", help="one or more presets, such as mnist")
    parser.add_argument("--kernels", default="plain,xla,triton", help="kinds of fused operations to compare (default: plain,xla,triton)")
    parser.add_argument("--json", metavar="FILE", help="append a JSON line for each")
    parser.add_argument("--check", action="store_true", help=f"fail where a count is larger than in {BASELINE.name}")
    parser.add_argument("--update", action="store_true", help=f"write the counts to {BASELINE.name}")
    given = parser.parse_args(argv)
    for kind, names, known in (("preset", given.presets, PRESETS), ("kind", given.kernels.split(","), KERNELS)):
        if wrong := [name for name in names if name not in known]:
            parser.error(f"unknown {kind} {wrong[0]!r}; use {', '.join(known)}")
    report.check_writable(parser, given.json)
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        parser.error("compiling for a GPU needs the CUDA plugin of JAX; install jaxgan with the extra test, cuda12 or cuda13")
    about = report.machine()
    report.print_machine(about)
    print("compiled for an H100, not run")
    print(f"{'preset':12s} {'operations':10s} kernels  cudnn fwd/input/filter  triton  transposes  copies  scratch MiB")
    wrong: list[str] = []
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    for name in given.presets:
        for kind in given.kernels.split(","):
            c = step_for_h100(name, kind)
            calls = "/".join(str(n) for n in c["cudnn_calls"].values())
            print(
                f"{name:12s} {kind:10s} {c['kernels']:7d}  {calls:>22s}  {c['triton_calls']:6d}  {c['transposes']:10d}  "
                f"{c['copies']:6d}  {c['scratch_bytes'] / 2**20:11.1f}"
            )
            record = {"preset": name, "implementation": kind, "target": "NVIDIA H100 80GB HBM3", **c}
            report.append(given.json, record | {"versions": about["versions"], "commit": about["commit"]})
            key = f"{name} {kind}"
            if given.update:
                baseline[key] = {field: value for field, value in c.items() if field != "operations"}
            elif given.check:
                wrong += exceeded(key, c, baseline[key]) if key in baseline else [f"{key} is not in {BASELINE.name}; run with --update"]
    if given.update:
        BASELINE.write_text(json.dumps(baseline, indent=1) + "\n")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
