"""What compiled programs are read for: kernels with bytes and FLOPs, collectives, and budgets."""

import pytest

from benchmarks import compiled, graphs
from benchmarks.launches import collectives, launches

CONVOLVES = "dim_labels=b01f_o01i->b01f"
STRIDED = "window={size=4x4 stride=2x2 pad=1_1x1_1}"
FIRST = f'{STRIDED}, {CONVOLVES}, custom_call_target="__cudnn$convForward"'
# Three cuDNN calls and what surrounds them, as XLA writes them for a GPU.
PROGRAM = f"""HloModule jit_step, entry_computation_layout={{()->f32[]}}

%fused_transpose (p.1: f32[4,4,32,1]) -> f32[1,4,4,32] {{
  %p.1 = f32[4,4,32,1]{{3,2,1,0}} parameter(0)
  ROOT %t.1 = f32[1,4,4,32]{{3,2,1,0}} transpose(%p.1), dimensions={{3,0,1,2}}
}}

%fused_pad (p.2: f32[8,3,3,1]) -> (f32[1,5,5,8], f32[8,3,3,1]) {{
  %p.2 = f32[8,3,3,1]{{3,2,1,0}} parameter(0)
  %zero = f32[] constant(0)
  %pad.1 = f32[8,5,5,1]{{3,2,1,0}} pad(%p.2, %zero), padding=0_0_0x0_0_1x0_0_1x0_0_0
  %b.1 = f32[1,5,5,8]{{3,2,1,0}} bitcast(%pad.1)
  ROOT %both = (f32[1,5,5,8]{{3,2,1,0}}, f32[8,3,3,1]{{3,2,1,0}}) tuple(%b.1, %p.2)
}}

%fused_slice (p.3: f32[100,8], p.4: s32[]) -> f32[2,8] {{
  %p.3 = f32[100,8]{{1,0}} parameter(0)
  %p.4 = s32[] parameter(1)
  ROOT %cut = f32[2,8]{{1,0}} dynamic-slice(%p.3, %p.4, %p.4), dynamic_slice_sizes={{2,8}}
}}

%gemm (p.5: f32[16,10], p.6: f32[10,3]) -> f32[16,3] {{
  %p.5 = f32[16,10]{{1,0}} parameter(0)
  %p.6 = f32[10,3]{{1,0}} parameter(1)
  ROOT %dot.1 = f32[16,3]{{1,0}} dot(%p.5, %p.6), lhs_contracting_dims={{1}}, \
rhs_contracting_dims={{0}}
}}

%body (state: (s32[], f32[7])) -> (s32[], f32[7]) {{
  %state = (s32[], f32[7]{{0}}) parameter(0)
  %value = f32[7]{{0}} get-tuple-element(%state), index=1
  %i = s32[] get-tuple-element(%state), index=0
  %twice = f32[7]{{0}} add(%value, %value)
  ROOT %next = (s32[], f32[7]{{0}}) tuple(%i, %twice)
}}

%condition (state.1: (s32[], f32[7])) -> pred[] {{
  %state.1 = (s32[], f32[7]{{0}}) parameter(0)
  ROOT %true = pred[] constant(true)
}}

ENTRY %main (x: f32[8,7,7,32], w: f32[4,4,32,1], table: f32[100,8], at: s32[]) -> f32[] {{
  %x = f32[8,7,7,32]{{3,2,1,0}} parameter(0)
  %w = f32[4,4,32,1]{{3,2,1,0}} parameter(1)
  %table = f32[100,8]{{1,0}} parameter(2)
  %at = s32[] parameter(3)
  %a = f32[16,10]{{1,0}} parameter(4)
  %b = f32[10,3]{{1,0}} parameter(5)
  %loop = (s32[], f32[7]{{0}}) parameter(6)
  %wrapped_transpose = f32[1,4,4,32]{{3,2,1,0}} fusion(%w), kind=kInput, calls=%fused_transpose
  %cudnn-conv.1 = (f32[8,3,3,1]{{3,2,1,0}}, u8[4096]{{0}}) custom-call(%x, %wrapped_transpose), \
{FIRST}, metadata={{op_name="jit(step)/generator/Halve_2/conv_general_dilated"}}
  %y = f32[8,3,3,1]{{3,2,1,0}} get-tuple-element(%cudnn-conv.1), index=0
  %pads = (f32[1,5,5,8]{{3,2,1,0}}, f32[8,3,3,1]{{3,2,1,0}}) fusion(%y), kind=kLoop, \
calls=%fused_pad
  %filled = f32[1,5,5,8]{{3,2,1,0}} get-tuple-element(%pads), index=0
  %whole = f32[8,3,3,1]{{3,2,1,0}} get-tuple-element(%pads), index=1
  %cudnn-conv.2 = (f32[8,7,7,32]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%whole, %wrapped_transpose), \
{STRIDED}, {CONVOLVES}, custom_call_target="__cudnn$convBackwardInput"
  %cudnn-conv.3 = (f32[1,2,2,1]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%filled, %w), \
window={{size=4x4}}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward"
  %cut.1 = f32[2,8]{{1,0}} fusion(%table, %at), kind=kLoop, calls=%fused_slice
  %gemm_fusion = f32[16,3]{{1,0}} fusion(%a, %b), kind=kCustom, calls=%gemm
  %rounds = (s32[], f32[7]{{0}}) while(%loop), condition=%condition, body=%body, \
backend_config={{"known_trip_count":{{"n":"25"}}}}
  ROOT %copy.1 = f32[8,3,3,1]{{3,2,1,0}} copy(%whole)
}}
""".replace("window={{", "window={")


class Compiled:
    """A program with its text."""

    temp_size_in_bytes = 100

    def as_text(self):
        return PROGRAM

    def memory_analysis(self):
        return self


def test_the_kernels_of_a_program_are_found_with_their_bytes_and_flops():
    found = launches(PROGRAM)
    assert [launch.name for launch in found].count("twice") == 25  # as often as the loop goes round
    assert len(found) == 8 + 25 and sum(launch.kind == "convolution" for launch in found) == 3
    by_name = {launch.name: launch for launch in found}
    x, w, y = 8 * 7 * 7 * 32, 4 * 4 * 32, 8 * 3 * 3
    first, second = by_name["cudnn-conv.1"], by_name["cudnn-conv.2"]
    assert (first.convolution, second.convolution) == ("forward", "backward_input")
    assert first.bytes == 4 * (x + w + y)  # cuDNN's workspace of 4,096 bytes is not the step's
    assert first.flops == second.flops == 2 * y * w
    assert first.scope.startswith("jit(step)/generator/")
    assert by_name["cut.1"].bytes == 2 * 4 * 2 * 8 + 4  # two rows of a hundred
    product = by_name["gemm_fusion"]
    assert (product.kind, product.flops) == ("product", 2 * 16 * 10 * 3)
    assert by_name["wrapped_transpose"].kind == "transpose" and by_name["copy.1"].kind == "copy"


def test_zeros_between_pixels_are_seen_through_fusions_and_layouts_and_nowhere_else():
    assert [launch.name for launch in launches(PROGRAM) if launch.zero_dilated] == ["cudnn-conv.3"]
    dilated = PROGRAM.replace(FIRST, FIRST.replace("stride=2x2 pad=1_1x1_1", "lhs_dilate=2x2"))
    found = [launch.name for launch in launches(dilated) if launch.zero_dilated]
    assert found == ["cudnn-conv.1", "cudnn-conv.3"]


def test_what_a_step_launches_is_counted_apart_from_what_a_dispatch_does():
    counts, of_step = compiled.counted(Compiled(), "float32")
    assert [launch.name for launch in of_step] == ["twice"]
    assert (counts["kernels"], counts["kernels_per_dispatch"]) == (1, 8)
    assert (counts["bytes"], counts["scratch_bytes"]) == (2 * 7 * 4, 100)
    # Bound by the memory, or by the arithmetic.
    assert compiled.roofline_us(of_step[0], "float32") == pytest.approx(56 / 3.35e12 * 1e6)
    heavy = of_step[0]._replace(bytes=0, flops=10**9)
    assert compiled.roofline_us(heavy, "bfloat16") == pytest.approx(1e9 / 989.4e12 * 1e6)


def test_a_budget_has_the_stated_slack_and_no_more():
    budget = {"kernels": 10, "scratch_bytes": 100, "bytes": 100, "flops": 5, "roofline_us": 1.0}
    fits = {"kernels": 11, "scratch_bytes": 105, "bytes": 102, "flops": 50, "roofline_us": 9.0}
    assert compiled.exceeded("mnist", fits, budget) == []
    larger = {**fits, "kernels": 12, "scratch_bytes": 106, "bytes": 103}
    told = [line.split(" is ")[0] for line in compiled.exceeded("mnist", larger, budget)]
    assert told == ["mnist: kernels", "mnist: scratch_bytes", "mnist: bytes"]


def test_all_budgets_are_checked_where_no_preset_is_named():
    every = compiled.cells([], ["plain", "xla", "triton"], None)
    assert ("seed-mnist", "xla", "") in every and ("dcgan-64", "triton", "bfloat16") in every
    assert all(kind == "xla" for _, kind, _ in compiled.cells([], ["xla"], None))
    assert compiled.cells(["mnist"], ["xla"], "bfloat16") == [("mnist", "xla", "bfloat16")]


def test_collectives_are_read_from_the_text_of_a_program():
    text = """
ENTRY %main (a: f32[4,4], b: bf16[3], c: f32[]) -> f32[4] {
  %all-reduce.1 = (f32[4,4]{1,0}, /*index=1*/bf16[3]{0}, f32[]) all-reduce(%a, %b, %c)
  %start = f32[10]{0} all-reduce-start(%d), channel_id=1
  %done = f32[10]{0} all-reduce-done(%start)
  ROOT %fusion = f32[4] fusion(%all-reduce.1), metadata={op_name="all-reduce"}
}
"""
    expected = [{"kind": "all-reduce", "bytes": 4 * 16 + 2 * 3 + 4}]
    assert collectives(text) == [*expected, {"kind": "all-reduce", "bytes": 40}]


THUNKS = """\
000: kCommandBuffer [source | next=017 (1)]
    001: kCopy         [source | sink] kCopy
    002: kCustomKernel [source | sink] loop_broadcast_fusion grid: [1, 1, 1]
017: kWhile         [prev=000 (1) | next=000 (1)]
condition:
    018: kCustomKernel [source | sink] loop_compare_fusion grid: [1, 1, 1]
  body:
    000: kCommandBuffer [source | next=025 (1)]
        019: kCustomKernel [source | next=024 (5)] loop_add_fusion_3 grid: [1, 1, 1]
    025: kConvolution   [prev=000 (1) | next=026 (1)] kConvolution
    027: kAsyncStart    [prev=025 (1) | next=029 (1)] stream=communication_stream[0]
        026: kAllReduce [source | sink] kAllReduce
    028: kAsyncDone     [source | sink] async_id=27
029: kCopy          [prev=017 (1) | sink] kCopy
"""


def test_what_the_host_starts_is_counted_as_often_as_the_loop_goes_round():
    outside = {"kConvolution": 25, "kAllReduce": 25, "kCopy": 1}
    expected = {"graphs_per_dispatch": 26, "launches_outside_graphs": 51, "outside": outside}
    assert graphs.counted(THUNKS, 25) == expected


def test_a_loop_inside_of_a_graph_is_started_once():
    lines = THUNKS.replace("000: kCommandBuffer", "000: kSequential").splitlines()
    inside = [line if line.strip().endswith(":") else f"    {line}" for line in lines]
    whole = "\n".join(["000: kCommandBuffer [source | sink]", *inside])
    expected = {"graphs_per_dispatch": 1, "launches_outside_graphs": 0, "outside": {}}
    assert graphs.counted(whole, 25) == expected


def test_the_thunks_of_a_program_are_those_after_graphs_were_made(tmp_path):
    with pytest.raises(ValueError, match="holds the thunks of no program, or of several"):
        graphs.dumped(tmp_path)
    (tmp_path / "module_1.jit_f.thunk_sequence.txt").write_text("before")
    assert graphs.dumped(tmp_path) == "before"
    (tmp_path / "module_1.jit_f.thunk_sequence_after_thunk_passes.txt").write_text("after")
    assert graphs.dumped(tmp_path) == "after"
