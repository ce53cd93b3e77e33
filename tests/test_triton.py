"""The Triton kernels where there is no GPU: interpreted, compiled for two GPUs, lowered from JAX, and inside whole steps.

On two cores these take about 80, 80, 8 and 30 seconds.
"""

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from conftest import ROOT
from jax.sharding import AxisType, PartitionSpec

from jaxgan import init, kernels, make_game, make_step
from jaxgan.config import preset
from jaxgan.kernels import launch
from jaxgan.kernels.gan_loss import KINDS

triton = pytest.importorskip("triton", reason="Triton is not installed")
pytest.importorskip("jax_plugins.xla_cuda12", reason="no CUDA plugin to compile with")

TYPES = {"float32": "*fp32", "bfloat16": "*bf16", "float16": "*fp16"}


def total(y):
    return jnp.sum(y.astype(jnp.float32) ** 2)


def programs(dtype: str) -> dict[str, Any]:
    """Every operation with its gradients, as (function, shapes): feature maps and logit maps of common sizes."""
    maps, logits = (
        jax.ShapeDtypeStruct((64, 32, 32, 128), dtype),
        jax.ShapeDtypeStruct((64, 30, 30), dtype),
    )
    narrow, channels = (
        jax.ShapeDtypeStruct((64, 64, 64, 3), dtype),
        jax.ShapeDtypeStruct((128,), "float32"),
    )
    i = "triton"
    act = lambda x, b: total(kernels.bias_leaky_relu(x, b, implementation=i))
    found = {
        "leaky_relu": (jax.grad(lambda x: total(kernels.leaky_relu(x, implementation=i))), (maps,)),
        "bias_leaky_relu": (jax.grad(act, (0, 1)), (maps, channels)),
        "bias_leaky_relu of 3 channels": (
            jax.grad(act, (0, 1)),
            (narrow, jax.ShapeDtypeStruct((3,), "float32")),
        ),
        "sigmoid_bce": (
            jax.grad(lambda l, t: kernels.sigmoid_bce(l, t, implementation=i)),
            (logits, logits),
        ),
        "sigmoid_bce of each": (
            jax.grad(lambda l: kernels.sigmoid_bce(l, 0.9, "none", i).sum()),
            (logits,),
        ),
        "batch_norm_leaky_relu": (
            jax.grad(
                lambda x, s, b: total(
                    kernels.batch_norm_leaky_relu(x, s, b, s, s, implementation=i)[0]
                ),
                (0, 1, 2),
            ),
            (maps, channels, channels),
        ),
    }
    for kind in [
        k for k in KINDS if k != "minimax"
    ]:  # its kernels are among the nonsaturating ones
        d = lambda r, f, kind=kind: kernels.gan_discriminator_loss(r, f, kind, implementation=i)
        g = lambda r, f, kind=kind: kernels.gan_generator_loss(r, f, kind, implementation=i)
        found |= {
            f"{kind} discriminator": (jax.grad(d, (0, 1)), (logits,) * 2),
            f"{kind} generator": (jax.grad(g, 1), (logits,) * 2),
        }
    for up, down in ((2, 1), (1, 2)):
        blur = lambda x, up=up, down=down: total(
            kernels.blur_resample(x, up=up, down=down, implementation=i)
        )
        found[f"blur up {up} down {down}"] = (jax.grad(blur), (maps,))
    blur_act = lambda x, b: total(kernels.blur_resample(x, bias=b, slope=0.2, implementation=i))
    return found | {"blur_act": (jax.grad(blur_act, (0, 1)), (maps, channels))}


# ------------------------------------------------------------------------------------------------------------------ interpreted
def test_the_kernels_equal_their_references_in_the_interpreter():
    environment = {**os.environ, "JAXGAN_KERNELS": "interpret"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--numprocesses=0",
        str(ROOT / "tests" / "interpreted.py"),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\b[5-9]\d passed", done.stdout), done.stdout[-500:]


# --------------------------------------------------------------------------------------------------------- compiled to machine code
class Launch(NamedTuple):
    kernel: Any
    dtypes: tuple[str, ...]
    warps: int
    constants: tuple[tuple[str, Any], ...]


def launches(monkeypatch, dtype: str) -> list[Launch]:
    """What the operations launch, recorded in place of launching it."""
    found: dict[Launch, None] = {}
    bridge = launch._jax_triton()

    def record(*inputs, kernel, grid, num_warps, compute_capability, **rest):
        outputs = rest.pop(bridge.outputs)
        assert compute_capability == 90 and all(
            1 <= g < (2**31 if i == 0 else 2**16) for i, g in enumerate(grid)
        )
        found[
            Launch(
                kernel,
                tuple(str(a.dtype) for a in (*inputs, *outputs)),
                num_warps,
                tuple(rest.items()),
            )
        ] = None
        return [jnp.zeros(o.shape, o.dtype) for o in outputs]

    monkeypatch.setattr(bridge, "triton_call", staticmethod(record))
    for function, shapes in programs(dtype).values():
        jax.jit(function).trace(*shapes).lower(lowering_platforms=("cuda",))
    return list(found)


def machine_code(item: Launch, capability: int) -> tuple[dict[str, int], collections.Counter, str]:
    """Registers, stack and spills; loads and stores by width; the version of PTX."""
    import triton.backends.nvidia
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = dict(item.constants)
    names = item.kernel.arg_names
    pointers = [n for n in names if n not in constants]
    signature = {n: "constexpr" for n in names} | {
        n: TYPES[d] for n, d in zip(pointers, item.dtypes)
    }
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n in pointers}
    source = ASTSource(fn=item.kernel, signature=signature, constexprs=constants, attrs=aligned)
    compiled = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": item.warps}
    )
    tools = os.path.join(os.path.dirname(triton.backends.nvidia.__file__), "bin")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        shown = lambda *words: (
            subprocess.run([*words, file.name], capture_output=True, text=True, check=True).stdout
        )
        usage = shown(f"{tools}/cuobjdump", "--dump-resource-usage")
        code = shown(f"{tools}/nvdisasm")
    use = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    accesses = collections.Counter(
        (kind, int(width or 32))
        for kind, width in re.findall(r"\b(LDG|STG)\.E(?:\.(64|128|U8|U16))?", code)
    )
    return use, accesses, re.search(r"\.version (\S+)", compiled.asm["ptx"])[1]


@pytest.mark.parametrize(
    ("dtype", "capability"), [("float32", 90), ("bfloat16", 90), ("float16", 80)]
)
def test_every_kernel_compiles_without_spills_and_with_wide_accesses(
    monkeypatch, dtype, capability
):
    items = launches(monkeypatch, dtype)
    assert len({item.kernel.__name__ for item in items}) == 13
    for item in items:
        name, constants = item.kernel.__name__, dict(item.constants)
        use, accesses, ptx = machine_code(item, capability)
        about = f"{name} {constants}: {use}, {dict(accesses)}, PTX {ptx}"
        assert use["STACK"] == use["LOCAL"] == 0, about
        # 4 warps of up to 128 registers leave 4 programs to a multiprocessor.
        assert use["REG"] <= 128, about
        # Drivers of CUDA 13.0 read PTX up to 9.0.
        assert tuple(map(int, ptx.split("."))) <= (9, 0), about
        assert accesses["LDG", 128], about
        if name != "moments_kernel" and name != "reduce_kernel":  # they store sums only
            assert accesses["STG", 128], about


# ---------------------------------------------------------------------------------------------------------- lowered from JAX
def triton_calls(function, *operands) -> int:
    text = jax.jit(function).trace(*operands).lower(lowering_platforms=("cuda",)).as_text()
    return text.count("custom_call @triton_kernel_call(")


def test_each_operation_launches_as_few_kernels_as_it_says():
    x, w, b, v = jnp.ones((8, 16)), jnp.ones((16, 16)), jnp.ones(16), jnp.ones((8, 4, 4, 16))
    i = "triton"
    act = lambda x, b: kernels.bias_leaky_relu(x, b, implementation=i)
    r1 = lambda x, w, b: jnp.sum(
        jax.grad(lambda x: jnp.sum(act(x @ w, b) @ w))(x) ** 2
    )  # w is the head too
    norm = lambda x, s, b: kernels.batch_norm_leaky_relu(x, s, b, s, s, implementation=i)[0]
    blur = lambda v, b: kernels.blur_resample(v, down=2, bias=b, slope=0.2, implementation=i)
    assert triton_calls(act, x, b) == 1
    assert triton_calls(jax.grad(lambda w: total(act(x @ w, b))), w) == 1 + 1  # act; gate
    assert (
        triton_calls(jax.grad(lambda b: total(act(x @ w, b))), b) == 1 + 1
    )  # act; gate and sum at once
    assert (
        triton_calls(jax.grad(r1, 1), x, w, b) == 1 + 2
    )  # act; gate of the slopes; gate of their gradient
    for loss in (kernels.gan_discriminator_loss, kernels.gan_generator_loss):
        for kind in KINDS:
            assert (
                triton_calls(
                    jax.value_and_grad(
                        lambda r, f, loss=loss, kind=kind: loss(r, f, kind, implementation=i),
                        (0, 1),
                    ),
                    x,
                    2 * x,
                )
                == 1
            )
    assert (
        triton_calls(jax.value_and_grad(lambda l: kernels.sigmoid_bce(l, 0.9, implementation=i)), x)
        == 1
    )
    assert triton_calls(norm, x, b, b) == 2  # moments; normalise
    assert triton_calls(jax.grad(lambda x, s, b: total(norm(x, s, b)), (0, 1, 2)), x, b, b) == 2 + 2
    assert triton_calls(blur, v, b) == 1
    assert (
        triton_calls(jax.grad(lambda v, b: total(blur(v, b)), (0, 1)), v, b) == 1 + 2
    )  # gate and sum at once; the transpose
    assert (
        triton_calls(jax.vmap(act), jnp.ones((3, 8, 16)), jnp.ones((3, 16))) == 1
    )  # an ensemble is one launch


def test_auto_leaves_unmeasured_operations_to_xla():
    x = jnp.ones((8, 16))
    assert not launch.FASTER_FROM
    assert triton_calls(lambda x: kernels.leaky_relu(x), x) == 0


def test_many_devices_launch_on_their_own_shares():
    mesh, part = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,)), PartitionSpec("i")
    act = lambda x: kernels.leaky_relu(x, implementation="triton")
    spread = jax.jit(jax.shard_map(act, mesh=mesh, in_specs=part, out_specs=part, check_vma=False))
    text = spread.trace(jnp.ones((32, 16))).lower(lowering_platforms=("cuda",)).as_text()
    assert re.search(r"custom_call @triton_kernel_call\(.*: \(tensor<1x8x16xf32>\)", text)


# ------------------------------------------------------------------------------------------------------- whole steps, for an H100
def test_whole_steps_for_an_h100_keep_their_budget(tmp_path, capsys):
    from benchmarks import compiled, flops

    compiled.main(["mnist", "--check", "--json", str(tmp_path / "counts.jsonl")])
    compiled.main(
        ["seed-mnist", "--kernels", "xla", "--check", "--json", str(tmp_path / "counts.jsonl")]
    )
    records = [json.loads(line) for line in (tmp_path / "counts.jsonl").read_text().splitlines()]
    cells = [(r["preset"], r["implementation"]) for r in records]
    assert cells == [
        ("mnist", "plain"),
        ("mnist", "xla"),
        ("mnist", "triton"),
        ("seed-mnist", "xla"),
    ]
    needed = {}
    for name in ("mnist", "seed-mnist"):
        game = make_game(preset(name))
        state = jax.eval_shape(lambda game=game: init(game, jax.random.key(0)))
        needed[name] = flops.model_flops(
            make_step(game), state, {"image": jax.ShapeDtypeStruct((128, 28, 28, 1), "uint8")}
        )
    for r in records:
        assert (r["triton_calls"] > 0) == (r["implementation"] == "triton")
        assert (
            r["cudnn_calls"]["backward_input"]
            and r["cudnn_calls"]["backward_filter"]
            and r["zero_dilated"] == 0
        )
        model = needed[r["preset"]]
        # cuDNN's calls do the model's work and no more: products that became sums are not counted, no zeros are convolved.
        assert 0.98 < r["flops"] / model < 1.01, (r["preset"], r["flops"], model)
    by_kind = {r["implementation"]: r for r in records if r["preset"] == "mnist"}
    assert (
        by_kind["xla"]["kernels"] < by_kind["plain"]["kernels"]
        and by_kind["xla"]["scratch_bytes"] < by_kind["plain"]["scratch_bytes"]
    )
    assert "compiled for an NVIDIA H100 80GB HBM3, not run" in capsys.readouterr().out


def test_a_step_over_its_budget_is_named_with_both_numbers():
    from benchmarks.compiled import exceeded

    found = {"kernels": 105, "cudnn_calls": {"forward": 10}, "scratch_bytes": 90}
    lines = exceeded(
        "mnist xla", found, {"kernels": 103, "cudnn_calls": {"forward": 9}, "scratch_bytes": 90}
    )
    assert [line.split(";")[0] for line in lines] == [
        "mnist xla: kernels is 105, the baseline 103",
        "mnist xla: cudnn_calls: forward is 10, the baseline 9",
    ]
