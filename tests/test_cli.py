"""The command line: every option is shown, mistakes are one line and status 2, and imports stay light."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
from conftest import command, run, small_flags
from PIL import Image

from jaxgan.cli import main
from jaxgan.config import PRESETS, Config, fields


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    done = run("train", "--workdir", str(workdir), *small_flags(steps=10))
    assert done.returncode == 0 and done.stderr == ""
    return workdir, done.stdout


def test_help_shows_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "mnist", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, _, value in fields(PRESETS["mnist"][1]):
        shown = (
            "none"
            if value is None
            else str(value).lower()
            if isinstance(value, bool)
            else str(value)
        )
        assert re.search(
            rf"--{re.escape(name.replace('_', '-'))} VALUE .*?\(default: {re.escape(shown)}\)", text
        ), name


def test_presets_are_listed(capsys):
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)


@pytest.mark.parametrize("place", ["runs [lr=1e-3]/a*b?", "a*b?/runs [lr=1e-3]"])
def test_a_workdir_that_looks_like_a_pattern_is_trained_resumed_and_sampled(
    tmp_path, capsys, place
):
    workdir, out = str(tmp_path / place), str(tmp_path / "grid.png")
    for steps, said in [(10, "training"), (20, "at step 10 of 20")]:
        assert main(["train", "--workdir", workdir, *small_flags(steps=steps)]) == 0
        assert said in capsys.readouterr().out
    assert main(["sample", "--workdir", workdir, "--out", out, "--num", "4"]) == 0
    assert "4 images from step 20" in capsys.readouterr().out


def test_sample_tells_of_a_damaged_checkpoint_that_it_passes_over(tmp_path, capsys):
    workdir = tmp_path / "run"
    assert main(["train", "--workdir", str(workdir), *small_flags(steps=20)]) == 0
    (workdir / "checkpoints" / "20" / "manifest.json").write_text("")
    out = str(tmp_path / "grid.png")
    assert main(["sample", "--workdir", str(workdir), "--out", out, "--num", "4"]) == 0
    text = capsys.readouterr()
    assert text.err.startswith("jaxgan: checkpoint 20 is damaged") and "from step 10" in text.out


def test_a_dry_run_prints_the_config_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                "train",
                "mnist",
                "--steps",
                "7",
                "--data.name=fashion_mnist",
                "--batch_size",
                "64",
                "--dry-run",
            ]
        )
        == 0
    )
    printed = dict(line.split(" = ") for line in capsys.readouterr().out.splitlines())
    assert (
        printed["steps"] == "7"
        and printed["data.name"] == "fashion_mnist"
        and printed["batch_size"] == "64"
    )
    assert printed["workdir"] == "runs/mnist" and len(printed) == 1 + len(list(fields(Config())))
    assert not list(tmp_path.iterdir())


MISTAKES = [
    (["train", "mnits"], "unknown preset 'mnits'; did you mean mnist"),
    (["train", "--stepz", "3"], "unknown field '--stepz'; did you mean --steps"),
    (["train", "--data.nme", "x"], "unknown field '--data.nme'; did you mean --data.name"),
    (["train", "digits", "mnist"], "unexpected word 'mnist'; see jaxgan train --help"),
    (["train", "--steps"], "--steps: expected one argument"),
    (["train", "--steps", "0"], "steps=0 is too small; use 1 or more"),
    (["train", "--steps", "1.5"], "steps='1.5' is not a whole number"),
    (["train", "--batch-size", "0"], "batch_size=0 is too small"),
    (
        ["train", "--optimizer.generator-rate", "-1"],
        "optimizer.generator_rate=-1.0 is too small; use more than 0.0",
    ),
    (["train", "--data.name", "minst"], "data.name: unknown data set 'minst'; did you mean mnist"),
    (
        ["train", "--objective.name", "hing"],
        "objective.name: unknown objective 'hing'; did you mean hinge?",
    ),
    (
        ["train", "--data.image-size", "27"],
        "data.image_size=27 cannot be made by 2 doublings; use 24 or 28",
    ),
    (
        ["train", "--batch-size", "2000"],
        "batch_size=2000 exceeds the 1797 examples of digits; use 1797 or less",
    ),
    (
        ["train", "--model.channels", "3"],
        "model.channels=3 but the images of digits have 1; use --model.channels 1",
    ),
    (["train", "--resume"], "holds no checkpoint to resume from; leave out --resume"),
    (["train", "--workdir", "/proc/run"], "workdir='/proc/run' cannot be written"),
    (
        ["sample", "--workdir", "nothing", "--out", "a.png"],
        "workdir=nothing holds no checkpoint; train first",
    ),
    (
        ["sample", "--workdir", "nothing", "--out", "a.png", "--num", "0"],
        "num=0 is too small; use 1 or more",
    ),
    (
        ["sample", "--workdir", "nothing", "--out", "a.png", "--num", "x"],
        "num='x' is not a whole number",
    ),
    (
        ["sample", "--workdir", "nothing", "--out", "a.gif"],
        "out=a.gif ends neither in .png nor in .npz",
    ),
    (
        ["sample", "--workdir", "nothing", "--out", "a.png", "--interpolate", "--num", "12"],
        "num=12 does not fill rows of 8",
    ),
    (["sample", "--out", "a.png"], "the following arguments are required: --workdir"),
    (["--stepz"], "unexpected '--stepz' before a command"),
    (
        ["sample", "--workdir", "nothing", "--out", "a.png", "--num=--5"],
        "num='--5' is not a whole number",
    ),
    (
        ["sample", "--workdir", "nothing", "--out", "a.png", "--num", "9" * 5000],
        "is not a whole number",
    ),
    (
        ["sample", "--workdir", "nothing", "--out", "a.png", "--num", "4294967295"],
        "num=4294967295 is too large; use less than",
    ),
    (
        ["train", "--data.name", "digits/nope:9.9.9"],
        "digits comes in one version here; use --data.name digits",
    ),
    (
        ["train", "--optimizer.decay-from", "99999999999"],
        "optimizer.decay_from=99999999999 is too large; use less than 2147483648",
    ),
    (["train", "--workdir", "a\nb", "--resume"], "workdir=a b holds no checkpoint to resume from"),
    (["smaple"], "invalid choice: 'smaple'"),
    (
        ["train", "--process-id", "0"],
        "--process-id without --coordinator-address, --num-processes; several processes need all three",
    ),
    (["train", "--process-id", "-1"], "process_id=-1 is too small; use 0 or more"),
    (["train", "--num-processes", "x"], "num_processes='x' is not a whole number"),
    (
        ["train", "--distributed", "--num-processes", "2"],
        "--distributed asks the cluster for what --num-processes would say",
    ),
    (["train", "--proces-id", "0"], "unknown field '--proces-id'; did you mean --process-id"),
]


@pytest.mark.parametrize(("words", "text"), MISTAKES, ids=[" ".join(m[0])[:40] for m in MISTAKES])
def test_a_mistake_is_one_line_and_status_2_before_anything_is_compiled(
    words, text, capsys, tmp_path, monkeypatch
):
    import jax

    import jaxgan.train  # noqa: F401  (decorates functions with jit when imported)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax, "jit", lambda *a, **k: pytest.fail("compiled"))
    monkeypatch.setattr(jax, "pmap", lambda *a, **k: pytest.fail("compiled"))
    devices = ["--devices", "1"] if words[0] == "train" else []
    assert main([*words[:1], *devices, *words[1:]]) == 2
    out, err = capsys.readouterr()
    assert text in err and err.count("\n") == 1 and out == ""


def test_batches_that_do_not_divide_among_the_devices_are_refused(tmp_path):
    done = run(
        "train",
        "--workdir",
        str(tmp_path),
        "--batch-size",
        "30",
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )
    assert done.returncode == 2
    assert done.stderr == "jaxgan: batch_size=30 is not divisible by 4 devices; use 28 or 32\n"


def test_a_loss_that_is_not_finite_ends_with_one_line(tmp_path):
    done = run(
        "train", "--workdir", str(tmp_path), *small_flags(**{"optimizer.generator_rate": "1e30"})
    )
    assert done.returncode == 2
    assert re.fullmatch(
        r"jaxgan: \w+ became (nan|inf|-inf) at step \d+, within steps 1 to 5; no checkpoint was made yet; .*\n",
        done.stderr,
    )


def test_a_run_prints_plain_lines_where_there_is_no_terminal(trained):
    _, out = trained
    start, first, second, last = out.splitlines()
    assert start.endswith("at step 0 of 10: 1797 images of digits, 8 images a step on 1 cpu device")
    shape = r"\[1/1\]\[{}/224\] Loss_D: \d+\.\d{{4}} Loss_G: \d+\.\d{{4}} D\(x\): 0\.\d{{3}} D\(G\(z\)\): 0\.\d{{3}} \d+ images/s"
    assert re.fullmatch(shape.format(5), first) and re.fullmatch(shape.format(10), second)
    assert last.startswith("step 10 of 10: samples in ")


def test_a_terminal_gets_a_bar_with_the_losses(tmp_path):
    words, environment = command(
        "train", "--workdir", str(tmp_path), *small_flags(steps=10), COLUMNS="200"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    bar = ""
    with contextlib.suppress(OSError):  # which is how a terminal ends
        while part := os.read(ours, 1 << 16):
            bar += part.decode(errors="replace")
    os.close(ours)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "Loss_D" not in out
    assert "10/10" in bar and "Loss_D:" in bar and "D(G(z)):" in bar and "images/s" in bar
    assert bar.rstrip().splitlines()[-1].startswith(
        "step 10 of 10: samples in "
    ) or out.splitlines()[-1].startswith("step 10 of 10: samples in ")


def arrays(path):
    with np.load(path) as file:
        return file["images"]


def size(path):
    with Image.open(path) as image:
        return image.size


def test_samples_are_written_and_depend_on_the_seed(trained, tmp_path, capsys):
    workdir, _ = trained
    for name, words in [
        ("a.npz", []),
        ("b.npz", ["--seed", "0", "--num", "5"]),
        ("c.npz", ["--seed", "1"]),
        ("d.png", ["--num", "9"]),
    ]:
        assert (
            main(["sample", "--workdir", str(workdir), "--out", str(tmp_path / name), *words]) == 0
        )
    a, b, c = (arrays(tmp_path / f"{name}.npz") for name in "abc")
    assert a.shape == (64, 8, 8, 1) and a.dtype == np.uint8 and b.shape == (5, 8, 8, 1)
    assert np.abs(a[:5].astype(int) - b).max() <= 1  # rounding where a value is near a half
    assert (a != c).any()
    assert size(tmp_path / "d.png") == (3 * 9 - 1, 3 * 9 - 1)
    assert f"wrote {tmp_path}/d.png: 9 images from step 10 of {workdir}" in capsys.readouterr().out


def test_a_walk_is_written_and_a_replaced_file_is_told(trained, tmp_path, capsys):
    workdir, _ = trained
    words = [
        "sample",
        "--workdir",
        str(workdir),
        "--out",
        str(tmp_path / "walk.png"),
        "--interpolate",
        "--num",
        "16",
    ]
    assert main(words) == 0 and main(words) == 0
    assert size(tmp_path / "walk.png") == (8 * 9 - 1, 2 * 9 - 1)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "wrote",
        "replaced",
    ]


def test_importing_jaxgan_brings_in_none_of_the_heavy_packages():
    code = (
        "import sys, jax, flax, optax, flax.linen; before = set(sys.modules); import jaxgan, jaxgan.cli\n"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "print(sorted(new))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:jaxgan", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "['jaxgan']", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variable", "words", "line"),
    [
        (
            "",
            ["--kernels", "triton"],
            "kernels=triton needs a CUDA GPU, but this machine trains on cpu; use auto or xla",
        ),
        (
            "triton",
            [],
            "JAXGAN_KERNELS=triton needs a CUDA GPU, but this machine trains on cpu; use auto or xla",
        ),
        (
            "foo",
            [],
            "JAXGAN_KERNELS=foo: implementation='foo' is unknown; use auto, xla, triton, interpret",
        ),
        ("", ["--kernels", "tritn"], "kernels: unknown kind 'tritn'; did you mean triton?"),
    ],
)
def test_operations_that_cannot_run_are_refused_with_one_line(
    monkeypatch, capsys, tmp_path, variable, words, line
):
    monkeypatch.setenv("JAXGAN_KERNELS", variable)
    for more in ([], ["--dry-run"]):
        assert (
            main(["train", "--workdir", str(tmp_path / "run"), *small_flags(), *words, *more]) == 2
        )
        assert capsys.readouterr().err == f"jaxgan: {line}\n"
    assert not (tmp_path / "run").exists()
