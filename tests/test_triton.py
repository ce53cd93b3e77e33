"""The Triton kernels without a GPU: interpreted, compiled by XLA, lowered from JAX, in steps."""

import collections
import functools
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from conftest import ROOT
from helpers import game_of, toy
from jax.sharding import AxisType, PartitionSpec
from test_kernels import OBJECTIVES

from benchmarks import compiled, flops, graphs
from benchmarks.workload import gathered
from jaxgan import init, kernels, make_step
from jaxgan.kernels import probe, xla_call
from jaxgan.run import parallel, runtime

triton = pytest.importorskip("triton", reason="Triton is not installed")
pytest.importorskip("jax_plugins.xla_cuda12", reason="no CUDA plugin to compile with")

activations, norms, blurs, bces, losses, ttir_triton = (
    importlib.import_module(f"jaxgan.kernels.{name}_triton")
    for name in (
        "bias_leaky_relu",
        "batch_norm_leaky_relu",
        "blur_resample",
        "sigmoid_bce",
        "gan_loss",
        "ttir",
    )
)
# Of `bce_kernel`, for targets in memory.
BCE = (("n", 64), ("target", 0.0), ("MEAN", True), ("BLOCK", 1024))


def total(y):
    return jnp.sum(y.astype(jnp.float32) ** 2)


def square_of(operation, **options):
    """The sum of the squares of what an operation gives."""

    def of(*operands):
        return total(operation(*operands, **options))

    return of


def as_given(resident, item):
    return item


def norm(x, scale, bias):
    return kernels.batch_norm_leaky_relu(x, scale, bias, scale, scale)[0]


def blur_act(x, bias, **options):
    return kernels.blur_resample(x, bias=bias, slope=0.2, **options)


def calls(dtype: str) -> dict[str, Any]:
    """Launches of every kernel, as (launch, shapes of its operands, its parameters): of maps of
    features and of logits."""
    one_of, three_of = (
        functools.partial(jax.ShapeDtypeStruct, dtype=kind) for kind in (dtype, "float32")
    )
    x, narrow, l = one_of((1, 64, 32, 32, 128)), one_of((1, 64, 64, 64, 3)), one_of((1, 57_600))
    c, three = three_of((1, 128)), three_of((1, 3))
    act = dict(slope=0.2, gain=1.5)
    blur = dict(taps=(1 / 8, 3 / 8, 3 / 8, 1 / 8), pads=((2, 1), (2, 1)), up=1, down=1, **act)
    found = {
        "act": (activations.launch_act, (x,), act),
        "bias and act": (activations.launch_act, (x, c), act),
        "bias and act of 3 channels": (activations.launch_act, (narrow, three), act),
        "gate": (activations.launch_gate, (x, x), act),
        "pull": (activations.launch_pull, (x, x), act),
        "pull of 3 channels": (activations.launch_pull, (narrow, narrow), act),
        "moments": (norms.launch_moments, (x,), {}),
        "forward": (norms.launch_forward, (x, c, c, c, c), act),
        "reduce": (norms.launch_reduce, (x, x, c, c, c, c), act),
        "distribute": (norms.launch_distribute, (x, c, c, x, c, c, c, c), act),
        "blur and act": (blurs.launch_resample, (x, c), blur),
        "double": (blurs.launch_resample, (x,), {**blur, "up": 2}),
        "halve": (blurs.launch_resample, (x,), {**blur, "down": 2}),
        "bce": (bces.launch_bce, (l, l), dict(target=None, mean=True)),
        "bce of each": (bces.launch_bce, (l,), dict(target=0.9, mean=False)),
    }
    for name, objective in OBJECTIVES.items():
        if "smoothed" in name:  # the same code with another constant
            continue
        for player, count in (("discriminator", 2), ("generator", 1 + (name == "relativistic"))):
            options = dict(objective=objective, player=player)
            found[f"{name} {player}"] = (losses.launch_loss, (l,) * count, options)
    return found


# Interpreted.
def test_the_kernels_equal_their_references_in_the_interpreter():
    environment = {**os.environ, "JAXGAN_KERNELS": "interpret"}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--numprocesses=0"]
    words.append(str(ROOT / "tests" / "interpreted.py"))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"\b(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= 60, done.stdout[-500:]


# Compiled by XLA.
class Code(NamedTuple):
    """What became of a kernel: registers of a thread, bytes spilled, and accesses of memory by
    width in bytes."""

    registers: int
    spilled: int
    accesses: collections.Counter


def code_of(ptx: str, arch: str) -> Code:
    ptxas = pathlib.Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    words = [str(ptxas), "-v", f"-arch={arch}", "-o", os.devnull, "/dev/stdin"]
    # The assemblers of Triton 3.6 and 3.7 refuse the version that XLA writes.
    readable = re.sub(r"\.version \S+", ".version 8.6", ptx)
    done = subprocess.run(words, input=readable, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spilled = sum(map(int, re.findall(r"(\d+) bytes (?:stack frame|spill)", done.stderr)))
    accesses = collections.Counter(
        (kind, int(many or 1) * int(bits) // 8)
        for kind, many, bits in re.findall(
            r"\b(ld|st)\.global(?:\.[a-z]\w*(?:::\w+)*)*?(?:\.v(\d))?\.[bfsu](\d+)", ptx
        )
    )
    return Code(int(re.search(r"Used (\d+) registers", done.stderr)[1]), spilled, accesses)


def compiled_by_xla(dtype: str, target: str) -> dict[str, str]:
    """The PTX of every kernel, by a name that XLA made different from the others."""
    launched = calls(dtype)

    def run(arrays):
        return [call(*arrays[name], **more) for name, (call, _, more) in launched.items()]

    shapes = {name: shapes for name, (_, shapes, _) in launched.items()}
    lowered = compiled.lowered_for_gpu(run, shapes, mesh=compiled.gpus(1, target))
    found, as_in_runs = {}, {"xla_backend_optimization_level": 3}  # see conftest.py
    with compiled.compiled_for_gpu(lowered, as_in_runs) as (_, folder):
        for path in pathlib.Path(folder).glob("*.ptx"):
            if name := re.search(r"\.entry (\w+_kernel(__\d+)?)\(", text := path.read_text()):
                found[name[1]] = text
    return found


@pytest.mark.parametrize(
    ("dtype", "capability"), [("float32", 90), ("bfloat16", 90), ("float16", 80)]
)
def test_xla_compiles_every_kernel_without_spills_and_with_wide_accesses(
    monkeypatch, dtype, capability
):
    asked, of_triton = {}, ttir_triton.ttir

    def remembered(kernel, *arguments):
        asked[kernel] = arguments
        return of_triton(kernel, *arguments)

    monkeypatch.setattr(ttir_triton, "ttir", remembered)
    older = compiled.TARGET.replace("major: 9", "major: 8")
    found = compiled_by_xla(dtype, compiled.TARGET if capability == 90 else older)
    assert {name.partition("__")[0] for name in found} == {kernel.__name__ for kernel in asked}
    assert len(asked) == 13
    arch = f"sm_{capability}{'a' * (capability == 90)}"
    for name, ptx in found.items():
        code = code_of(ptx, arch)
        about = f"{name}: {code}"
        assert code.spilled == 0, about
        # 4 warps of up to 128 registers leave 4 programs to a multiprocessor.
        assert code.registers <= 128, about
        assert code.accesses["ld", 16], about
        if not name.startswith(("moments_kernel", "reduce_kernel")):  # they store sums only
            assert code.accesses["st", 16], about
    if dtype == "bfloat16":  # half as many bytes an element, so the first to become narrow
        for kernel in (norms.reduce_kernel, norms.distribute_kernel, losses.relativistic_kernel):
            dtypes, constants, warps = asked[kernel]
            source = ttir_triton.ast_source(kernel, dtypes, constants)
            target = ttir_triton.GPUTarget("cuda", capability, 32)
            options = {"num_warps": warps, "enable_fp_fusion": True}
            alone = triton.compile(source, target=target, options=options).asm["ptx"]
            by_xla, by_itself = (code_of(ptx, arch) for ptx in (found[kernel.__name__], alone))
            assert by_xla.accesses == by_itself.accesses, kernel.__name__


def test_kernels_lie_in_the_graph_under_every_transformation():
    """An ensemble in lanes, rematerialised, in a loop, with a donated state."""

    def loss(weights, x, bias):
        y = jax.vmap(kernels.bias_leaky_relu)(x @ weights, bias)
        return kernels.sigmoid_bce(norm(y, jnp.ones(16), jnp.zeros(16)), 0.9)

    def steps(average, weights, x, bias):
        def step(weights, _):
            slopes = jax.grad(jax.checkpoint(loss))(weights, x, bias)
            return weights - 0.1 * average(slopes), ()

        return jax.lax.scan(step, weights, None, length=5)[0]

    shapes = [jax.ShapeDtypeStruct(s, "float32") for s in ((16, 16), (3, 8, 16), (3, 16))]
    mesh, everywhere = compiled.gpus(2), PartitionSpec()
    many = jax.shard_map(
        functools.partial(steps, functools.partial(jax.lax.pmean, axis_name="devices")),
        mesh=mesh,
        in_specs=(everywhere, PartitionSpec(None, "devices"), everywhere),
        out_specs=everywhere,
        check_vma=False,
    )
    options = runtime.compiler_options("gpu", one_graph=True)
    assert options
    one = functools.partial(steps, lambda slopes: slopes)
    for function, place in ((one, None), (many, mesh)):
        with kernels.using("triton"):
            lowered = compiled.lowered_for_gpu(function, *shapes, donate=(0,), mesh=place)
        with compiled.compiled_for_gpu(lowered, options) as (program, folder):
            counts = graphs.counted(graphs.dumped(folder), rounds=5)
        assert program.as_text().count(f'custom_call_target="{xla_call.TARGET}"') >= 6
        assert (counts["graphs_per_dispatch"], counts["launches_outside_graphs"]) == (1, 0), counts


def test_xla_says_what_it_does_not_understand(monkeypatch):
    monkeypatch.setattr(ttir_triton, "ttir", lambda *asked: "nonsense")
    act = functools.partial(kernels.leaky_relu, implementation="triton")
    lowered = compiled.lowered_for_gpu(act, X)
    refused = pytest.raises(jax.errors.JaxRuntimeError, match="Failed to parse Triton module")
    with refused, compiled.compiled_for_gpu(lowered, None):
        pass


def test_the_text_of_a_kernel_names_no_files_and_is_made_once():
    arguments = bces.bce_kernel, ("float32",) * 4, BCE, 4
    text = ttir_triton.ttir(*arguments)
    assert "loc" not in text and ".py" not in text and "tt.func public @bce_kernel" in text
    assert ttir_triton.ttir(*arguments) is text
    with pytest.raises(TypeError, match="bce_kernel takes 4 arrays, not 3"):
        ttir_triton.ttir(bces.bce_kernel, ("float32",) * 3, BCE, 4)


# Lowered from JAX.
def triton_calls(function, *operands, implementation="triton") -> int:
    with kernels.using(implementation):
        traced = jax.jit(lambda *v: function(*v)).trace(*operands)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    return text.count(f"custom_call @{xla_call.TARGET}(")


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


def test_auto_leaves_all_to_xla():
    assert triton_calls(kernels.leaky_relu, X, implementation="auto") == 0


def test_many_devices_launch_on_their_own_shares():
    mesh, part = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,)), PartitionSpec("i")
    act = functools.partial(kernels.leaky_relu, implementation="triton")
    shared = jax.jit(jax.shard_map(act, mesh=mesh, in_specs=part, out_specs=part, check_vma=False))
    text = shared.trace(jnp.ones((32, 16))).lower(lowering_platforms=("cuda",)).as_text()
    assert re.search(
        rf"custom_call @{re.escape(xla_call.TARGET)}\(.*: \(tensor<1x8x16xf32>\)", text
    )


def test_kernels_that_do_not_run_give_way_to_their_references_with_a_line(monkeypatch):
    monkeypatch.setattr(probe, "refusal", lambda: "custom op 'tt.x' is unknown")
    said = "training with xla, as the kernels do not run here: custom op 'tt.x' is unknown"
    assert runtime.check_kernels("triton", "gpu") == ("xla", [f"kernels=triton: {said}"])
    monkeypatch.setenv("JAXGAN_KERNELS", "triton")
    assert runtime.check_kernels("auto", "gpu") == ("xla", [f"JAXGAN_KERNELS=triton: {said}"])
    monkeypatch.setattr(probe, "refusal", lambda: "")
    assert runtime.check_kernels("auto", "gpu") == ("triton", [])
    assert runtime.check_kernels("triton", "gpu") == ("triton", [])


# Whole steps, for an H100.
def test_options_that_xla_refuses_are_left_out_and_told(monkeypatch):
    runtime.options_refused.cache_clear()
    assert runtime.compiler_options("gpu") is None
    assert runtime.compiler_options("tpu", one_graph=True) is None
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_command_buffer=")
    assert runtime.compiler_options("gpu", one_graph=True) is None
    said = runtime.options_refused("gpu", one_graph=True)
    assert said == "XLA_FLAGS says what xla_gpu_enable_command_buffer is"
    monkeypatch.delenv("XLA_FLAGS")
    runtime.options_refused.cache_clear()
    monkeypatch.setattr(runtime, "_ONE_GRAPH", {"xla_gpu_of_tomorrow": 1})
    assert runtime.compiler_options("gpu", one_graph=True) is None
    said = runtime.options_refused("gpu", one_graph=True)
    assert "No such compile option: 'xla_gpu_of_tomorrow'" in said and "\n" not in said
    runtime.options_refused.cache_clear()


def test_whole_steps_for_an_h100_keep_their_budget(tmp_path, capsys):
    file = tmp_path / "counts.jsonl"
    for preset, kind in (("mnist", "triton"), ("seed-mnist", "xla")):
        compiled.main([preset, "--kernels", kind, "--check", "--json", str(file)])
    records = [json.loads(line) for line in file.read_text().splitlines()]
    batch, needed = {"image": jax.ShapeDtypeStruct((128, 28, 28, 1), "uint8")}, {}
    for name in ("mnist", "seed-mnist"):
        game = game_of(name, (28, 28, 1))
        state = jax.eval_shape(functools.partial(init, game), jax.random.key(0), batch)
        needed[name] = flops.model_flops(make_step(game), state, batch)
    for r in records:
        assert (r["triton_calls"] > 0) == (r["implementation"] == "triton")
        assert r["cudnn_calls"]["backward_input"] and r["cudnn_calls"]["backward_filter"]
        assert r["zero_dilated"] == 0
        # All 25 steps, with their input and their metrics.
        assert (r["graphs_per_dispatch"], r["launches_outside_graphs"]) == (1, 0), r["outside"]
        model = needed[r["preset"]]
        # cuDNN's calls do the model's work and no more: products that became sums are not counted,
        # no zeros are convolved.
        assert 0.98 < r["flops"] / model < 1.01, (r["preset"], r["flops"], model)
    assert "compiled for an NVIDIA H100 80GB HBM3, not run" in capsys.readouterr().out


@pytest.mark.parametrize(("fetch", "count"), [(gathered, 2), (as_given, 1)])
def test_a_dispatch_of_a_run_is_one_graph_with_its_input_and_its_metrics(fetch, count):
    game, devices = toy(tx=optax.adam(1e-3)), list(compiled.gpus(count).devices)
    batch = {"point": jax.ShapeDtypeStruct((8, 2), "float32")}
    state = jax.eval_shape(functools.partial(init, game), jax.random.key(0), batch)
    resident, item = {}, batch
    if fetch is gathered:
        resident = {"point": jax.ShapeDtypeStruct((100, 2), "float32")}
        item = jax.ShapeDtypeStruct((8,), "int32")
    program = parallel.make_program(game, fetch, devices, parallel.Way(one_graph=True)).of(5)
    lowered = program.lower(*parallel.shapes(state, resident, item, 5, devices))
    with compiled.compiled_for_gpu(lowered, None) as (_, folder):
        counts = graphs.counted(graphs.dumped(folder), rounds=5)
    assert (counts["graphs_per_dispatch"], counts["launches_outside_graphs"]) == (1, 0), counts


def test_budgets_say_what_the_references_save_and_that_each_dispatch_is_one_graph():
    budgets = json.loads(compiled.BUDGETS.read_text())["now"]
    for name in ("mnist", "seed-mnist", "dcgan-64", "digits"):
        for field in ("kernels", "scratch_bytes"):
            assert budgets[f"{name} xla"][field] < budgets[f"{name} plain"][field]
    for name, counts in budgets.items():
        assert (counts["graphs_per_dispatch"], counts["launches_outside_graphs"]) == (1, 0), name
        assert counts["xla_default"]["graphs_per_dispatch"] > 1


def test_a_step_over_its_budget_is_named_with_both_numbers():
    found = {"kernels": 105, "cudnn_calls": {"forward": 10}, "scratch_bytes": 90}
    allowed = {"kernels": 103, "cudnn_calls": {"forward": 9}, "scratch_bytes": 90}
    lines = compiled.exceeded("mnist xla", found, allowed)
    assert [line.split(";")[0] for line in lines] == [
        "mnist xla: kernels is 105, the baseline 103",
        "mnist xla: cudnn_calls: forward is 10, the baseline 9",
    ]
