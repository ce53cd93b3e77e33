"""The Triton kernels without a GPU: interpreted, compiled, lowered from JAX, and in whole steps.

On two cores these take about 80, 80, 8 and 30 seconds.
"""

import collections
import functools
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
from helpers import game_of
from jax.sharding import AxisType, PartitionSpec
from test_kernels import OBJECTIVES

from jaxgan import init, kernels, make_step
from jaxgan.kernels import launch

triton = pytest.importorskip("triton", reason="Triton is not installed")
pytest.importorskip("jax_plugins.xla_cuda12", reason="no CUDA plugin to compile with")

TYPES = {"float32": "*fp32", "bfloat16": "*bf16", "float16": "*fp16"}


def total(y):
    return jnp.sum(y.astype(jnp.float32) ** 2)


def square_of(operation, **options):
    """The sum of the squares of what an operation gives."""

    def of(*operands):
        return total(operation(*operands, **options))

    return of


def norm(x, scale, bias):
    return kernels.batch_norm_leaky_relu(x, scale, bias, scale, scale)[0]


def blur_act(x, bias, **options):
    return kernels.blur_resample(x, bias=bias, slope=0.2, **options)


def bce_of_each(l):
    return kernels.sigmoid_bce(l, 0.9, "none").sum()


def programs(dtype: str) -> dict[str, Any]:
    """Every operation's gradients, as (function, shapes): maps of features and logits."""
    maps, logits, narrow = (
        jax.ShapeDtypeStruct(shape, dtype)
        for shape in ((64, 32, 32, 128), (64, 30, 30), (64, 64, 64, 3))
    )
    channels, three = (jax.ShapeDtypeStruct((n,), "float32") for n in (128, 3))
    act = jax.grad(square_of(kernels.bias_leaky_relu), (0, 1))
    found = {
        "leaky_relu": (jax.grad(square_of(kernels.leaky_relu)), (maps,)),
        "bias_leaky_relu": (act, (maps, channels)),
        "bias_leaky_relu of 3 channels": (act, (narrow, three)),
        "sigmoid_bce": (jax.grad(kernels.sigmoid_bce), (logits, logits)),
        "sigmoid_bce of each": (jax.grad(bce_of_each), (logits,)),
        "norm": (jax.grad(square_of(norm), (0, 1, 2)), (maps, channels, channels)),
        "blur_act": (jax.grad(square_of(blur_act), (0, 1)), (maps, channels)),
    }
    for up, down in ((2, 1), (1, 2)):
        blur = square_of(kernels.blur_resample, up=up, down=down)
        found[f"blur up {up} down {down}"] = (jax.grad(blur), (maps,))
    for name, objective in OBJECTIVES.items():
        if "smoothed" in name:  # the same code with another constant
            continue
        twin = kernels.fused(objective)
        found |= {
            f"{name} discriminator": (jax.grad(twin.discriminator, (0, 1)), (logits,) * 2),
            f"{name} generator": (jax.grad(twin.generator, 1), (logits,) * 2),
        }
    return found


# Interpreted.
def test_the_kernels_equal_their_references_in_the_interpreter():
    environment = {**os.environ, "JAXGAN_KERNELS": "interpret"}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--numprocesses=0"]
    words.append(str(ROOT / "tests" / "interpreted.py"))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"\b(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= 80, done.stdout[-500:]


# Compiled to machine code.
class Launch(NamedTuple):
    kernel: Any
    dtypes: tuple[str, ...]
    warps: int
    constants: tuple[tuple[str, Any], ...]


def launches(monkeypatch, dtype: str) -> list[Launch]:
    """What the operations launch, recorded in place of launching it."""
    found: dict[Launch, None] = {}

    def record(*inputs, kernel, grid, num_warps, compute_capability, outputs, **constants):
        assert compute_capability == 90
        assert 1 <= grid[0] < 2**31 and all(1 <= axis < 2**16 for axis in grid[1:])
        dtypes = tuple(str(a.dtype) for a in (*inputs, *outputs))
        found[Launch(kernel, dtypes, num_warps, tuple(constants.items()))] = None
        return [jnp.zeros(o.shape, o.dtype) for o in outputs]

    bridge = launch._JaxTriton(record, "outputs")
    monkeypatch.setattr(launch, "_jax_triton", lambda: bridge)
    with kernels.using("triton"):
        for function, shapes in programs(dtype).values():
            jax.jit(function).trace(*shapes).lower(lowering_platforms=("cuda",))
    return list(found)


def machine_code(item: Launch, capability: int) -> tuple[dict[str, int], collections.Counter, str]:
    """Registers, stack and spills; loads and stores by width; the version of PTX."""
    import triton.backends.nvidia
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants, names = dict(item.constants), item.kernel.arg_names
    pointers = [n for n in names if n not in constants]
    signature = {n: "constexpr" for n in names}
    signature |= {n: TYPES[d] for n, d in zip(pointers, item.dtypes)}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n in pointers}
    source = ASTSource(fn=item.kernel, signature=signature, constexprs=constants, attrs=aligned)
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(source, target=target, options={"num_warps": item.warps})
    tools = os.path.join(os.path.dirname(triton.backends.nvidia.__file__), "bin")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run([*words, file.name], capture_output=True, text=True, check=True).stdout
            for words in ([f"{tools}/cuobjdump", "--dump-resource-usage"], [f"{tools}/nvdisasm"])
        )
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


# Lowered from JAX.
def triton_calls(function, *operands, implementation="triton") -> int:
    with kernels.using(implementation):
        traced = jax.jit(lambda *v: function(*v)).trace(*operands)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    return text.count("custom_call @triton_kernel_call(")


X, W, B, V = jnp.ones((8, 16)), jnp.ones((16, 16)), jnp.ones(16), jnp.ones((8, 4, 4, 16))


def through_act(w, b):
    return total(kernels.bias_leaky_relu(X @ w, b))


def r1_of_act(w, b):
    def critique(x):
        return jnp.sum(kernels.bias_leaky_relu(x @ w, b) @ w)  # w is the head too

    return jnp.sum(jax.grad(critique)(X) ** 2)


def halved(v, b):
    return blur_act(v, b, down=2)


def bce(l):
    return kernels.sigmoid_bce(l, 0.9)


def by_grad(operation, count):
    return jax.grad(square_of(operation), tuple(range(count)))


@pytest.mark.parametrize(
    ("function", "operands", "count"),
    [
        (kernels.bias_leaky_relu, (X, B), 1),
        (jax.grad(through_act), (W, B), 1 + 1),  # act; gate
        (jax.grad(through_act, 1), (W, B), 1 + 1),  # act; gate and sum at once
        (jax.grad(r1_of_act), (W, B), 1 + 2),  # act; gate of the slopes; gate of their gradient
        (jax.value_and_grad(bce), (X,), 1),
        (norm, (X, B, B), 2),  # moments; normalise
        (by_grad(norm, 3), (X, B, B), 2 + 2),
        (halved, (V, B), 1),
        (by_grad(halved, 2), (V, B), 1 + 2),  # gate and sum at once; the transpose
        # An ensemble is one launch.
        (jax.vmap(kernels.bias_leaky_relu), (jnp.ones((3, 8, 16)), jnp.ones((3, 16))), 1),
        # Convolutions have no kernels.
        (kernels.convolution, (V, jnp.ones((4, 4, 16, 2))), 0),
    ],
)
def test_each_operation_launches_as_few_kernels_as_it_says(function, operands, count):
    assert triton_calls(function, *operands) == count


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_a_loss_and_its_gradients_are_one_launch(name, player):
    loss = jax.value_and_grad(getattr(kernels.fused(OBJECTIVES[name]), player), (0, 1))
    assert triton_calls(loss, X, 2 * X) == 1


def test_auto_leaves_unmeasured_operations_to_xla():
    assert not launch.FASTER_FROM
    assert triton_calls(kernels.leaky_relu, X, implementation="auto") == 0


def test_many_devices_launch_on_their_own_shares():
    mesh, part = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,)), PartitionSpec("i")
    act = functools.partial(kernels.leaky_relu, implementation="triton")
    shared = jax.jit(jax.shard_map(act, mesh=mesh, in_specs=part, out_specs=part, check_vma=False))
    text = shared.trace(jnp.ones((32, 16))).lower(lowering_platforms=("cuda",)).as_text()
    assert re.search(r"custom_call @triton_kernel_call\(.*: \(tensor<1x8x16xf32>\)", text)


# Whole steps, for an H100.
def test_whole_steps_for_an_h100_keep_their_budget(tmp_path, capsys):
    from benchmarks import compiled, flops

    file = tmp_path / "counts.jsonl"
    compiled.main(["mnist", "--check", "--json", str(file)])
    compiled.main(["seed-mnist", "--kernels", "xla", "--check", "--json", str(file)])
    records = [json.loads(line) for line in file.read_text().splitlines()]
    cells = [(r["preset"], r["implementation"]) for r in records]
    kinds = ("plain", "xla", "triton")
    assert cells == [*(("mnist", kind) for kind in kinds), ("seed-mnist", "xla")]
    batch, needed = {"image": jax.ShapeDtypeStruct((128, 28, 28, 1), "uint8")}, {}
    for name in ("mnist", "seed-mnist"):
        game = game_of(name, (28, 28, 1))
        state = jax.eval_shape(functools.partial(init, game), jax.random.key(0), batch)
        needed[name] = flops.model_flops(make_step(game), state, batch)
    for r in records:
        assert (r["triton_calls"] > 0) == (r["implementation"] == "triton")
        assert r["cudnn_calls"]["backward_input"] and r["cudnn_calls"]["backward_filter"]
        if r["implementation"] == "plain":  # JAX's own convolutions, of dilated maps
            continue
        assert r["zero_dilated"] == 0
        model = needed[r["preset"]]
        # cuDNN's calls do the model's work and no more: products that became sums are not counted,
        # no zeros are convolved.
        assert 0.98 < r["flops"] / model < 1.01, (r["preset"], r["flops"], model)
    by_kind = {r["implementation"]: r for r in records if r["preset"] == "mnist"}
    for field in ("kernels", "scratch_bytes"):
        assert by_kind["xla"][field] < by_kind["plain"][field]
    assert "compiled for an NVIDIA H100 80GB HBM3, not run" in capsys.readouterr().out


def test_a_step_over_its_budget_is_named_with_both_numbers():
    from benchmarks.compiled import exceeded

    found = {"kernels": 105, "cudnn_calls": {"forward": 10}, "scratch_bytes": 90}
    allowed = {"kernels": 103, "cudnn_calls": {"forward": 9}, "scratch_bytes": 90}
    lines = exceeded("mnist xla", found, allowed)
    assert [line.split(";")[0] for line in lines] == [
        "mnist xla: kernels is 105, the baseline 103",
        "mnist xla: cudnn_calls: forward is 10, the baseline 9",
    ]
