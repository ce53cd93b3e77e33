"""What compiled programs are read for, what `record` runs and skips, and what `report` makes of the records."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from benchmarks import __main__ as listing
from benchmarks import compiled, hlo, record, report

# Three cuDNN calls and what surrounds them, as XLA writes them for a GPU.
PROGRAM = """HloModule jit_step, entry_computation_layout={()->f32[]}

%fused_transpose (p.1: f32[4,4,32,1]) -> f32[1,4,4,32] {
  %p.1 = f32[4,4,32,1]{3,2,1,0} parameter(0)
  ROOT %t.1 = f32[1,4,4,32]{3,2,1,0} transpose(%p.1), dimensions={3,0,1,2}
}

%fused_pad (p.2: f32[8,3,3,1]) -> (f32[1,5,5,8], f32[8,3,3,1]) {
  %p.2 = f32[8,3,3,1]{3,2,1,0} parameter(0)
  %zero = f32[] constant(0)
  %pad.1 = f32[8,5,5,1]{3,2,1,0} pad(%p.2, %zero), padding=0_0_0x0_0_1x0_0_1x0_0_0
  %b.1 = f32[1,5,5,8]{3,2,1,0} bitcast(%pad.1)
  ROOT %both = (f32[1,5,5,8]{3,2,1,0}, f32[8,3,3,1]{3,2,1,0}) tuple(%b.1, %p.2)
}

%fused_slice (p.3: f32[100,8], p.4: s32[]) -> f32[2,8] {
  %p.3 = f32[100,8]{1,0} parameter(0)
  %p.4 = s32[] parameter(1)
  ROOT %cut = f32[2,8]{1,0} dynamic-slice(%p.3, %p.4, %p.4), dynamic_slice_sizes={2,8}
}

%gemm (p.5: f32[16,10], p.6: f32[10,3]) -> f32[16,3] {
  %p.5 = f32[16,10]{1,0} parameter(0)
  %p.6 = f32[10,3]{1,0} parameter(1)
  ROOT %dot.1 = f32[16,3]{1,0} dot(%p.5, %p.6), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (state: (s32[], f32[7])) -> (s32[], f32[7]) {
  %state = (s32[], f32[7]{0}) parameter(0)
  %value = f32[7]{0} get-tuple-element(%state), index=1
  %i = s32[] get-tuple-element(%state), index=0
  %twice = f32[7]{0} add(%value, %value)
  ROOT %next = (s32[], f32[7]{0}) tuple(%i, %twice)
}

%condition (state.1: (s32[], f32[7])) -> pred[] {
  %state.1 = (s32[], f32[7]{0}) parameter(0)
  ROOT %true = pred[] constant(true)
}

ENTRY %main (x: f32[8,7,7,32], w: f32[4,4,32,1], table: f32[100,8], at: s32[], a: f32[16,10], loop: (s32[], f32[7])) -> f32[] {
  %x = f32[8,7,7,32]{3,2,1,0} parameter(0)
  %w = f32[4,4,32,1]{3,2,1,0} parameter(1)
  %table = f32[100,8]{1,0} parameter(2)
  %at = s32[] parameter(3)
  %a = f32[16,10]{1,0} parameter(4)
  %b = f32[10,3]{1,0} parameter(5)
  %loop = (s32[], f32[7]{0}) parameter(6)
  %wrapped_transpose = f32[1,4,4,32]{3,2,1,0} fusion(%w), kind=kInput, calls=%fused_transpose
  %cudnn-conv.1 = (f32[8,3,3,1]{3,2,1,0}, u8[4096]{0}) custom-call(%x, %wrapped_transpose), window={size=4x4 stride=2x2 pad=1_1x1_1}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="jit(step)/generate/Conv_2/conv_general_dilated"}
  %y = f32[8,3,3,1]{3,2,1,0} get-tuple-element(%cudnn-conv.1), index=0
  %pads = (f32[1,5,5,8]{3,2,1,0}, f32[8,3,3,1]{3,2,1,0}) fusion(%y), kind=kLoop, calls=%fused_pad
  %filled = f32[1,5,5,8]{3,2,1,0} get-tuple-element(%pads), index=0
  %whole = f32[8,3,3,1]{3,2,1,0} get-tuple-element(%pads), index=1
  %cudnn-conv.2 = (f32[8,7,7,32]{3,2,1,0}, u8[0]{0}) custom-call(%whole, %wrapped_transpose), window={size=4x4 stride=2x2 pad=1_1x1_1}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %cudnn-conv.3 = (f32[1,2,2,1]{3,2,1,0}, u8[0]{0}) custom-call(%filled, %w), window={size=4x4}, dim_labels=b01f_01io->b01f, \
custom_call_target="__cudnn$convForward"
  %cut.1 = f32[2,8]{1,0} fusion(%table, %at), kind=kLoop, calls=%fused_slice
  %gemm_fusion = f32[16,3]{1,0} fusion(%a, %b), kind=kCustom, calls=%gemm
  %rounds = (s32[], f32[7]{0}) while(%loop), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %copy.1 = f32[8,3,3,1]{3,2,1,0} copy(%whole)
}
"""


# ------------------------------------------------------------------------------------------------------------------- programs
def test_the_kernels_of_a_program_are_found_with_their_bytes_and_flops():
    found = hlo.launches(PROGRAM)
    assert [l.name for l in found].count("twice") == 5  # the loop goes round five times
    by_name = {l.name: l for l in found}
    assert len(found) == 8 + 5 and sum(l.kind == "convolution" for l in found) == 3
    x, w, y = 8 * 7 * 7 * 32, 4 * 4 * 32, 8 * 3 * 3
    first, second = by_name["cudnn-conv.1"], by_name["cudnn-conv.2"]
    assert (first.convolution, second.convolution) == ("forward", "backward_input")
    assert first.bytes == 4 * (x + w + y)  # cuDNN's workspace of 4,096 bytes is not the step's
    assert first.flops == second.flops == 2 * y * w
    assert first.scope.startswith("jit(step)/generate/")
    assert by_name["cut.1"].bytes == 2 * 4 * 2 * 8 + 4  # two rows of a hundred
    assert (by_name["gemm_fusion"].kind, by_name["gemm_fusion"].flops) == (
        "product",
        2 * 16 * 10 * 3,
    )
    assert by_name["wrapped_transpose"].kind == "transpose" and by_name["copy.1"].kind == "copy"


def test_zeros_between_pixels_are_seen_through_fusions_and_layouts_and_nowhere_else():
    assert [l.name for l in hlo.launches(PROGRAM) if l.zero_dilated] == ["cudnn-conv.3"]
    dilated = PROGRAM.replace(
        'size=4x4 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"',
        'size=4x4 lhs_dilate=2x2}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"',
    )
    assert [l.name for l in hlo.launches(dilated) if l.zero_dilated] == [
        "cudnn-conv.1",
        "cudnn-conv.3",
    ]


def test_the_counts_and_bounds_of_a_program():
    found = hlo.launches(PROGRAM)
    c = compiled.counted(found, "h100")
    assert c["cudnn_calls"] == {"forward": 2, "backward_input": 1, "backward_filter": 0}
    assert (c["kernels"], c["transposes"], c["copies"], c["zero_dilated"], c["triton_calls"]) == (
        13,
        1,
        1,
        1,
        0,
    )
    assert c["launch_bound_us"] == 13 * 2.5
    # All of these kernels are bound by the memory: 3.35 TB/s.
    assert c["roofline_us"] == pytest.approx(c["bytes"] / 3.35e12 * 1e6)
    heavy = [found[0]._replace(bytes=0, flops=10**9)]
    assert compiled.counted(heavy, "h100", "bfloat16")["roofline_us"] == pytest.approx(
        1e9 / 989.4e12 * 1e6
    )


def test_a_budget_has_the_stated_slack_and_no_more():
    allowed = {"kernels": 10, "scratch_bytes": 100, "bytes": 100, "flops": 5, "roofline_us": 1.0}
    fits = {"kernels": 11, "scratch_bytes": 105, "bytes": 102, "flops": 50, "roofline_us": 9.0}
    assert compiled.exceeded("mnist", fits, allowed) == []
    lines = compiled.exceeded(
        "mnist",
        {"kernels": 12, "scratch_bytes": 106, "bytes": 103, "flops": 5, "roofline_us": 1.0},
        allowed,
    )
    assert [line.split(" is ")[0] for line in lines] == [
        "mnist: kernels",
        "mnist: scratch_bytes",
        "mnist: bytes",
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["mnits"], "unknown preset 'mnits'"),
        (["mnist", "--kernels", "fast"], "unknown kind 'fast'"),
        (["mnist", "--check", "--batch-size", "8"], "leave out --batch-size"),
        (["mnist", "--json", "/nowhere/x.jsonl"], "its folder does not exist"),
    ],
)
def test_a_mistake_is_told_before_anything_is_compiled(words, text, capsys, monkeypatch):
    monkeypatch.setattr(compiled, "compile_for", lambda *a, **k: pytest.fail("compiled"))
    with pytest.raises(SystemExit):
        compiled.main(words)
    assert text in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------------- the list
def test_all_commands_are_listed_and_an_unknown_one_is_one_line(capsys):
    listing.main([])
    lines = capsys.readouterr().out.splitlines()
    for name in ("compiled", "kernels", "quality", "record", "report", "startup", "train_step"):
        assert any(re.match(rf"python -m benchmarks\.{name} +\w.*", line) for line in lines), name
    with pytest.raises(SystemExit) as error:
        listing.main(["trian_step"])
    assert "\n" not in str(error.value) and "train_step" in str(error.value)


# --------------------------------------------------------------------------------------------------------------------- record
def test_the_source_tree_imports_as_if_installed_in_a_python_that_knows_it_not(tmp_path):
    installed = {path for path in sys.path if path.endswith("site-packages")}
    code = (
        "import sys; sys.path += sys.argv[1:]\n"
        "import importlib.metadata, jaxgan.kernels, benchmarks.hlo\n"
        "print(jaxgan.kernels.__file__, importlib.metadata.version('jaxgan'))"
    )
    with record.source_tree() as tree:
        # -S leaves out the hook of an editable installation; the working directory holds a jaxgan without kernels.
        words = [sys.executable, "-S", "-c", code, *installed]
        done = subprocess.run(
            words, env=record.environment(tree), cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        file, version = done.stdout.split()
        assert file.startswith(str(tree)) and os.path.samefile(
            ROOT / "kernels", tree / "jaxgan" / "kernels"
        )
    assert version == importlib.metadata.version("jaxgan") and not tree.exists()


def part(name, code, seconds=60.0, **options):
    return record.Part(name, [["-c", code]], seconds, **options)


def test_a_part_is_skipped_by_name_with_its_reason():
    assert record.why_not(part("x", "", needs=("json", "nothing_such|json")), "cpu", 100.0) is None
    assert (
        record.why_not(part("x", "", needs=("nothing_such.inner",)), "cpu", 100.0)
        == "nothing_such.inner is not installed"
    )
    assert "needs a GPU" in (record.why_not(part("x", "", on_gpu=True), "cpu", 100.0) or "")
    assert record.why_not(part("x", "", on_gpu=True), "gpu", 100.0) is None
    assert (
        record.why_not(part("x", ""), "cpu", 10.0) == "no time left: 10 s remain, it may need 60 s"
    )


def test_a_part_that_fails_or_never_ends_is_told_with_its_last_lines(tmp_path):
    failed = record.run(
        part("fails", "print('on the way'); raise SystemExit(3)"),
        tmp_path / "a",
        dict(os.environ),
        60.0,
    )
    assert (failed["status"], failed["reason"], failed["last_lines"][-1]) == (
        "failed",
        "exit status 3",
        "on the way",
    )
    endless = "import signal; print('begun', flush=True); signal.pause()"
    ended = record.run(
        part("endless", endless, seconds=1.0), tmp_path / "b", dict(os.environ), 60.0
    )
    assert (ended["status"], ended["reason"], ended["last_lines"][-1]) == (
        "failed",
        "ended after its 1 s",
        "begun",
    )
    stops = "import signal, sys; signal.signal(signal.SIGTERM, lambda *a: sys.exit(0)); print('on', flush=True); signal.pause()"
    stopped = record.run(
        part("stops", stops, stop_after=2.0), tmp_path / "c", dict(os.environ), 60.0
    )
    assert stopped["status"] == "passed"  # as a training run that is asked to


def test_record_brings_back_a_file_for_each_benchmark_and_says_what_became_of_all(
    tmp_path, monkeypatch, capsys
):
    def parts(out, work, quick, plots, number=1):
        write = f"open({str(out / 'good.jsonl')!r}, 'a').write('{{}}' + chr(10))"
        return [
            part("bad", "raise SystemExit(1)"),
            part("good", write),
            part("for a GPU", "", on_gpu=True),
        ]

    monkeypatch.setattr(record, "parts", parts)
    with pytest.raises(SystemExit) as ended:
        record.main(["--out", str(tmp_path / "out")])
    assert ended.value.code == 1
    [run] = json.loads((tmp_path / "out" / "record.json").read_text())["runs"]
    assert [(p["name"], p["status"]) for p in run["parts"]][:3] == [
        ("bad", "failed"),
        ("good", "passed"),
        ("for a GPU", "skipped"),
    ]
    assert run["versions"]["jax"] and run["device"] and (tmp_path / "out" / "good.jsonl").exists()
    assert "1 passed, 1 failed" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        record.main(["--out", str(tmp_path / "out")])
    assert "already holds records" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        record.main(["--out", str(tmp_path / "out"), "--add", "--only", "good"])
    assert ended.value.code == 0
    assert len(json.loads((tmp_path / "out" / "record.json").read_text())["runs"]) == 2
    assert (
        tmp_path / "out" / "good.jsonl"
    ).read_text() == "{}\n{}\n"  # the earlier line is still there


def test_a_second_run_in_a_folder_replaces_no_picture_and_no_trace(tmp_path):
    written = lambda number: {
        word
        for part in record.parts(tmp_path, tmp_path, True, True, number)
        for words in part.commands
        for word in words
        if ".png" in word
    }
    assert len(written(1)) >= 2 and not written(1) & written(2)
    assert (
        record.numbered("trace.tar.gz", 1) == "trace.tar.gz"
        and record.numbered("trace.tar.gz", 2) == "trace-2.tar.gz"
    )


@pytest.mark.parametrize("name", ["trace.tar.gz", "training.png", "record.json"])
def test_a_folder_with_anything_in_it_is_no_place_for_a_record(tmp_path, capsys, name):
    (tmp_path / name).write_text('{"runs": 5}')
    with pytest.raises(SystemExit):
        record.main(["--out", str(tmp_path)])
    assert (
        "already holds records or other files" in capsys.readouterr().err
        and len(list(tmp_path.iterdir())) == 1
    )
    if name == "record.json":
        with pytest.raises(SystemExit):
            record.main(["--out", str(tmp_path), "--add"])
        assert "cannot be read (runs is no list)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        record.main(["--out", "/dev/null/out"])
    assert (
        "--out /dev/null/out cannot be written: Not a directory; name another folder"
        in capsys.readouterr().err
    )


def test_the_parts_of_a_record_are_commands_that_exist(tmp_path):
    for quick in (True, False):
        for item in record.parts(tmp_path, tmp_path, quick, plots=True):
            for flag, module, *_ in item.commands:
                assert flag == "-m" and (
                    module in ("pytest", "jaxgan")
                    or (ROOT / f"{module.replace('.', '/')}.py").exists()
                ), module


# --------------------------------------------------------------------------------------------------------------------- report
def step(provider, rate, preset="seed-mnist", device="cpu", **more):
    ratios = [] if provider == "jaxgan" else [2.0, 3.0, 4.0]
    record = {
        "benchmark": "train_step",
        "preset": preset,
        "provider": provider,
        "batch_size": 128,
        "steps_per_s": rate,
    }
    return {
        **record,
        "samples": [rate - 1, rate, rate + 1],
        "ratios": ratios,
        "device": device,
        "cores": 2,
        **more,
    }


def rows(table):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]


def test_old_and_new_records_of_steps_become_a_table_for_each_device():
    gpu = dict(
        device="H100",
        driver="580",
        dtype="bfloat16",
        utilisation=0.25,
        host_gap=None,
        peak_bytes=2**30,
        s_per_kimg=0.5,
    )
    records = [
        step("jaxgan", 11.0),
        step("jaxgan", 30.0),
        step("torch-eager", 10.0),
        step("jaxgan", 50.0, preset="dcgan-64", **gpu),
    ]
    table = report.train_step(records)
    cpu, on_gpu = table.split("\n\nH100")
    first = rows(cpu)[2]
    assert first[:3] == [
        "`seed-mnist`, 128, float32",
        "30.0 (29.0 to 31.0)",
        "10.0 (9.0 to 11.0); **3.00 (2.00 to 4.00) x**",
    ]  # the last counts
    assert rows(cpu)[3][:2] == ["`mnist`", "not measured"]
    assert rows(on_gpu)[2] == [
        "`dcgan-64`, 128, bfloat16",
        "50.0 (49.0 to 51.0)",
        *["not measured"] * 2,
        "0.500",
        "not measured",
        "1024",
        "25.0 %",
        "not measured",
    ]
    assert (
        "GPU: not measured" in report.train_step(records[:3]) and "GPU: not measured" not in table
    )


def test_counts_stand_beside_those_before_where_they_differ():
    now = dict(
        kernels=54,
        cudnn_calls=dict(f=6, i=5, w=4),
        zero_dilated=0,
        transposes=0,
        copies=1,
        scratch_bytes=2**20,
        bytes=10**8,
        roofline_us=40.2,
    )
    table = report.compiled(
        {
            "before": {"seed-mnist xla": now | {"kernels": 83}},
            "now": {"seed-mnist xla": now, "mnist xla": now},
        }
    )
    assert rows(table)[2:] == [
        ["`seed-mnist xla`", "83 -> 54", "6/5/4", "0", "0", "1", "1.0", "100", "40"],
        ["`mnist xla`", "54", *rows(table)[2][2:]],
    ]


def test_every_table_says_what_is_not_measured(tmp_path):
    for name, made in report.all_tables(tmp_path).items():
        assert "not measured" in made(), name


def test_records_that_only_tried_a_command_and_errors_are_left_out(tmp_path):
    lines = [{"seed": 0, "quick": True}, {"seed": 1, "error": "no memory"}, {"seed": 2}]
    (tmp_path / "quality.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert report.load(tmp_path) == [{"benchmark": "quality", "seed": 2}]


def test_only_what_stands_between_markers_changes():
    text = "before\n<!-- results: a -->\nold\n<!-- end -->\nbetween <!-- results: b --><!-- end --> after"
    new = report.fill(text, {"a": lambda: "| x |", "b": lambda: "| y |"})
    assert (
        new
        == "before\n<!-- results: a -->\n| x |\n<!-- end -->\nbetween <!-- results: b -->\n| y |\n<!-- end --> after"
    )
    assert report.fill(new, {"a": lambda: "| x |", "b": lambda: "| y |"}) == new
    for wrong in (
        "<!-- results: c --><!-- end -->",
        "<!-- results: a -->",
        "<!-- results: a --> <!-- results: b --> <!-- end -->",
    ):
        with pytest.raises(ValueError, match=r"unknown table 'c'|is not closed"):
            report.fill(wrong, {"a": str, "b": str})


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.jsonl", '{"benchmark": "train_step", "preset": "mni', "a.jsonl line 1 is no record"),
        (
            "a.jsonl",
            '{"benchmark": "startup", "quick": true}\n[1]\n',
            "a.jsonl line 2 is no record",
        ),
        (
            "a.jsonl",
            '{"benchmark": "train_step"}\n',
            "the table 'train_step' cannot be made from the records in",
        ),
        ("compiled.json", "{", "compiled.json cannot be read"),
    ],
)
def test_a_damaged_record_is_named_in_one_line(name, content, text, tmp_path):
    (tmp_path / name).write_text(content)
    (tmp_path / "README.md").write_text("unchanged\n")
    with pytest.raises(SystemExit) as stop:
        report.main(
            ["--results", str(tmp_path), "--readme", str(tmp_path / "README.md"), "--print"]
        )
    assert text in str(stop.value) and "\n" not in str(stop.value)
    assert (tmp_path / "README.md").read_text() == "unchanged\n"


def test_the_readme_says_what_the_records_say(tmp_path):
    report.main(["--check"])
    stale = tmp_path / "README.md"
    stale.write_text("<!-- results: quality -->\n| mnist | 0.1 |\n<!-- end -->\n")
    with pytest.raises(SystemExit, match="is not what the records"):
        report.main(["--check", "--readme", str(stale)])
    assert "0.1" in stale.read_text()
