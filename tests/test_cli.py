"""The command line: every option is shown, a mistake is one line and status 2."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import tomllib

import jax
import numpy as np
import pytest
from PIL import Image
from runs import RECIPE, ROOT, RUN, command, flags, holding, run, small_flags

from jaxgan import config, recipes
from jaxgan.cli import main
from jaxgan.options import fields, to_dict


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir of the preset digits, small, and what training it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["train", "--workdir", str(workdir), *small_flags(steps=10)]) == 0
    return workdir, said.getvalue()


def shown(value):
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


# Flags of `train` that are no options.
OWN = {
    *("--help", "--workdir", "--resume", "--accept-changed-recipe", "--dry-run", "--profile"),
    *("--coordinator-address", "--num-processes", "--process-id", "--initialization-timeout"),
    "--distributed",
}


@pytest.mark.parametrize("name", [*recipes.RECIPES, "mnist"])
def test_help_shows_each_option_of_the_recipe_with_its_default_and_only_those(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", name, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    made = config.configured(name, {})
    options = {**to_dict(made.run), **to_dict(made.options)}
    for option, value in options.items():
        flag = re.escape("--" + option.replace("_", "-"))
        assert re.search(rf" {flag} VALUE .*?\(default: {re.escape(shown(value))}\)", text), option
    flagged = set(re.findall(r" (--[\w.-]+)(?: [A-Z]+)? ", text.partition("RECIPE a preset")[2]))
    assert flagged == {"--" + option.replace("_", "-") for option in options} | OWN
    assert "%%" not in text


def test_recipes_and_presets_are_listed(capsys):
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipes.PRESETS)
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if line]
    assert names == [*recipes.RECIPES, "presets:", *recipes.PRESETS]
    assert main([]) == 0 and "train a recipe" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*recipes.RECIPES, *recipes.PRESETS])
def test_a_dry_run_prints_all_options_and_writes_nothing(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--steps", "7", "--data.name=fashion_mnist", "--batch_size", "32", "--devices", "1"]
    assert main(["train", name, *words, "--dry-run"]) == 0
    told, _, _ = capsys.readouterr().out.partition("\n\n")
    printed = dict(line.split(" = ") for line in told.splitlines())
    made = config.configured(
        name, {"steps": 7, "data.name": "fashion_mnist", "batch_size": 32, "devices": 1}
    )
    options = {**to_dict(made.run), **to_dict(made.options)}
    named = {"workdir": f"runs/{name}", "recipe": name}
    assert printed == {**named, **{option: shown(value) for option, value in options.items()}}
    assert not list(tmp_path.iterdir())


def test_a_dry_run_refuses_what_the_run_would_find_in_its_workdir(trained, capsys):
    workdir, _ = trained
    before = holding(workdir)
    words = ["train", "digits", "--workdir", str(workdir), *small_flags(), "--dry-run"]
    assert main([*words, "--seed", "7"]) == 2
    assert "holds another run: seed was 0, now 7" in capsys.readouterr().err
    assert holding(workdir) == before


def test_options_may_come_before_the_recipe_and_be_written_with_underscores(capsys):
    for words in (
        ["train", "--steps", "7", "dcgan", "--dry-run", "--devices=1"],
        ["train", "--dry-run", "--batch_size", "8", "--devices", "1", "listing"],
        ["train", "--optimizer.decay_steps=none", "--devices", "1", "mnist", "--dry-run"],
    ):
        assert main(words) == 0, words
        printed = capsys.readouterr().out
        (name,) = {"dcgan", "listing", "mnist"} & set(words)
        assert f"recipe = {name}\n" in printed


def test_a_run_prints_plain_lines_where_there_is_no_terminal(trained):
    _, out = trained
    start, first, second, last = out.splitlines()
    assert start.endswith(
        "at step 0 of 10: 1797 examples of digits, 8 examples a step on 1 cpu device"
    )
    number = r"\d[\d.e-]*"
    names = ["loss_discriminator", "loss_generator", "penalty_r1", "score_fake", "score_real"]
    metrics = " ".join(f"{name}: {number}" for name in names)
    for step, line in ((5, first), (10, second)):
        assert re.fullmatch(rf"\[1/1\]\[{step}/224\] {metrics} \d+ examples/s", line), line
    assert last.startswith("step 10 of 10: samples in ")


@pytest.mark.parametrize("place", ["runs [lr=1e-3]/a*b?"])
def test_a_workdir_that_looks_like_a_pattern_is_trained_resumed_and_sampled(
    tmp_path, capsys, place
):
    workdir, out = str(tmp_path / place), str(tmp_path / "grid.png")
    small = flags({**RUN, "data.name": "ring", "data.features": "point"})
    recipe = tmp_path / "mine.py"
    recipe.write_text(RECIPE)
    for steps, said in [(10, "training"), (20, "at step 10 of 20")]:
        words = [f"{recipe}:centre", "--workdir", workdir, *small, "--steps", str(steps)]
        assert main(["train", *words]) == 0
        assert said in capsys.readouterr().out
    assert main(["sample", "--workdir", workdir, "--out", out, "--num", "4"]) == 0
    assert "4 examples from step 20" in capsys.readouterr().out


# Whatever is wrong: one line, status 2, with the words that count; nothing compiled or left behind.
SAMPLE = ["sample", "--workdir", "nothing", "--out"]
MISTAKES = [
    (["train", "mnits"], "unknown recipe 'mnits'; did you mean mnist"),
    (["train", "--stepz", "3"], "unknown option '--stepz'; did you mean --steps"),
    (["train", "--data.nme", "x"], "unknown option '--data.nme'; did you mean --data.name"),
    (["train", "listing", "--model.doublings", "3"], "unknown option '--model.doublings'"),
    (["train", "digits", "mnist"], "unexpected word 'mnist'; see jaxgan train --help"),
    (["train", "--steps"], "--steps: expected one argument"),
    (["train", "--steps", "0"], "steps=0 is too small"),
    (["train", "--batch-size", "1.5"], "batch_size='1.5' is not a whole number"),
    (["train", "--optimizer.generator-rate", "-1"], "optimizer.generator_rate=-1.0 is too small"),
    (["train", "--optimizer.decay-from", "99999999999"], "is too large; use less than 2147483648"),
    (["train", "--log.tensorboard", "maybe"], "log.tensorboard='maybe' is neither true nor false"),
    (["train", "--data.name", "minst"], "unknown data set 'minst'; did you mean mnist"),
    (["train", "--data.name", "digits/nope:9.9.9"], "digits comes in one version here"),
    (["train", "--objective.name", "hing"], "objective.name: unknown value 'hing'; did you mean"),
    (["train", "--data.image-size", "27"], "data.image_size=27 cannot be made by doublings"),
    (["train", "--batch-size", "2000"], "batch_size=2000 exceeds the 1797 examples of digits"),
    (["train", "--devices", "3", "--batch-size", "64"], "64 is not divisible by 3 devices"),
    (["train", "--devices", "5"], "devices=5 but this machine has 4"),
    (["train", "--resume"], "holds no checkpoint to resume from; leave out --resume"),
    (["train", "--workdir", "/proc/run"], "workdir=/proc/run cannot be written"),
    (
        ["train", "--workdir", "a\nb", "--resume"],
        r"workdir=a\nb holds no checkpoint to",
    ),
    (["train", "--workdir", ""], "workdir is empty; give a path"),
    (["train", "--workdir", "gs://bucket/run"], "is an address (gs:), and only folders"),
    (["train", "--kernels", "tritn"], "kernels: unknown value 'tritn'; did you mean triton"),
    (["train", "--process-id", "0"], "--process-id without --coordinator-address"),
    (["train", "--process-id", "-1"], "process_id=-1 is too small; use 0 or more"),
    (["train", "--num-processes", "x"], "num_processes='x' is not a whole number"),
    (["train", "--distributed", "--num-processes", "2"], "--distributed asks the cluster for what"),
    (["train", "--proces-id", "0"], "unknown option '--proces-id'; did you mean --process-id"),
    ([*SAMPLE, "a.png"], "workdir=nothing holds no checkpoint; train there first"),
    ([*SAMPLE, "a.png", "--num", "0"], "num=0 is too small; use 1 or more"),
    ([*SAMPLE, "a.png", "--num", "x"], "num='x' is not a whole number"),
    ([*SAMPLE, "a.png", "--num=--5"], "num='--5' is not a whole number"),
    ([*SAMPLE, "a.png", "--num", "9" * 5000], "is not a whole number"),
    ([*SAMPLE, "a.png", "--num", "4294967295"], "num=4294967295 is too large; use less than"),
    ([*SAMPLE, "a.png", "--seed", "-1"], "seed=-1 is too small; use 0 or more"),
    ([*SAMPLE, "a.gif"], "out=a.gif ends neither in .png nor in .npz nor, for a folder, in /"),
    ([*SAMPLE, "a"], "out=a ends neither in .png nor in .npz nor, for a folder, in /"),
    ([*SAMPLE, "/proc/"], "out=/proc is not empty, it holds "),
    (
        [*SAMPLE, "a.png", "--checkpoint", "last"],
        "checkpoint='last' is none of newest, best and a step",
    ),
    ([*SAMPLE, "a.png", "--interpolate", "--num", "12"], "num=12 does not fill rows of 8"),
    ([*SAMPLE, "a.png", "--lable", "3"], "unknown option '--lable'; did you mean --label"),
    (["sample", "--out", "a.png"], "the following arguments are required: --workdir"),
    (["recipes", "--all"], "unexpected '--all'; jaxgan recipes has no options"),
    (["--stepz"], "unexpected '--stepz' before a command"),
    (["smaple"], "invalid choice: 'smaple'"),
]


@pytest.mark.parametrize(("words", "text"), MISTAKES, ids=[" ".join(m[0])[:40] for m in MISTAKES])
def test_a_mistake_is_one_line_and_status_2_before_anything_is_compiled(
    words, text, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax, "jit", lambda *a, **k: pytest.fail("compiled"))
    devices = ["--devices", "1"] if words[0] == "train" else []
    assert main([*words[:1], *devices, *words[1:]]) == 2
    out, err = capsys.readouterr()
    assert text in err and err.count("\n") == 1 and err.startswith("jaxgan: ") and out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("variable", "words", "line"),
    [
        (
            "",
            ["--kernels", "triton"],
            "kernels=triton needs a CUDA GPU, but this machine trains on",
        ),
        ("triton", [], "JAXGAN_KERNELS=triton needs a CUDA GPU, but this machine trains on cpu"),
        ("foo", [], "JAXGAN_KERNELS=foo: implementation='foo' is unknown; use auto, xla, triton"),
    ],
)
def test_operations_that_cannot_run_are_refused_with_one_line(
    monkeypatch, capsys, tmp_path, variable, words, line
):
    monkeypatch.setenv("JAXGAN_KERNELS", variable)
    for more in ([], ["--dry-run"]):
        command_ = ["train", "--workdir", str(tmp_path / "run"), *small_flags(), *words, *more]
        assert main(command_) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"jaxgan: {line}") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_ends_with_one_line(tmp_path, capsys):
    rate = {"optimizer.generator_rate": "1e30"}
    assert main(["train", "--workdir", str(tmp_path), *small_flags(**rate)]) == 2
    shape = (
        r"jaxgan: \w+ became (nan|inf|-inf) at step \d+, within steps 1 to 5; no checkpoint .*\n"
    )
    assert re.fullmatch(shape, capsys.readouterr().err)


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
    assert process.returncode == 0 and "loss_generator" not in out
    assert "10/10" in bar and "loss_generator:" in bar and "examples/s" in bar
    end = "step 10 of 10: samples in "
    assert any(said.rstrip().splitlines()[-1].startswith(end) for said in (bar, out) if said)


def arrays(path):
    with np.load(path) as file:
        return file["image"]


def size(path):
    with Image.open(path) as image:
        return image.size


def test_samples_are_written_and_depend_on_the_seed(trained, tmp_path, capsys):
    workdir, _ = trained
    for name, words in [
        ("a.npz", []),
        ("b.npz", ["--seed", "0", "--num", "5"]),
        ("c.npz", ["--seed", "1", "--num", "5"]),
        ("d.png", ["--num", "9"]),
    ]:
        out = str(tmp_path / name)
        assert main(["sample", "--workdir", str(workdir), "--out", out, *words]) == 0
    a, b, c = (arrays(tmp_path / f"{name}.npz") for name in "abc")
    assert a.shape == (64, 8, 8, 1) and a.dtype == np.uint8 and b.shape == (5, 8, 8, 1)
    assert np.abs(a[:5].astype(int) - b).max() <= 1  # rounding where a value is near a half
    assert (b != c).any()
    assert size(tmp_path / "d.png") == (18 * (3 * 9 - 1),) * 2  # enlarged, to be seen
    said = f"wrote {tmp_path}/d.png: 9 examples from step 10 of {workdir}"
    assert said in capsys.readouterr().out


def test_a_walk_is_written_and_a_replaced_file_is_told(trained, tmp_path, capsys):
    walk = str(tmp_path / "walk.png")
    words = ["--workdir", str(trained[0]), "--out", walk, "--interpolate", "--num", "16"]
    assert main(["sample", *words]) == 0 and main(["sample", *words]) == 0
    assert size(walk) == (27 * (8 * 9 - 1), 27 * (2 * 9 - 1))
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert said == ["wrote", "replaced"]


def test_what_cannot_be_sampled_is_one_line(trained, tmp_path, capsys):
    workdir = str(trained[0])
    (tmp_path / "file").write_text("")
    for words, text in [
        (["--out", str(tmp_path / "a.npz"), "--label", "3"], "not conditioned on labels"),
        (["--out", str(tmp_path / "file" / "a.npz")], "a.npz cannot be written: "),
    ]:
        assert main(["sample", "--workdir", workdir, "--num", "4", *words]) == 2
        err = capsys.readouterr().err
        assert text in err and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_sample_tells_of_a_damaged_checkpoint_that_it_passes_over(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(RECIPE)
    workdir = tmp_path / "run"
    assert (
        main(["train", f"{tmp_path}/mine.py:centre", "--workdir", str(workdir), *flags(RUN)]) == 0
    )
    (workdir / "checkpoints" / "20" / "manifest.json").write_text("")
    before = sorted(p.name for p in (workdir / "checkpoints").iterdir())
    out = str(tmp_path / "grid.png")
    assert main(["sample", "--workdir", str(workdir), "--out", out, "--num", "4"]) == 0
    text = capsys.readouterr()
    assert text.err.startswith("jaxgan: checkpoint 20 is damaged") and "from step 10" in text.out
    # A run may be training there: nothing is set aside.
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == before


def test_a_folder_of_pictures_holds_what_the_arrays_hold(trained, tmp_path, capsys):
    words, folder = ["sample", "--workdir", str(trained[0]), "--num", "300"], tmp_path / "each.d"
    assert main([*words, "--out", f"{folder}/"]) == 0
    assert main([*words, "--out", f"{tmp_path}/a.NPZ"]) == 0
    assert f"wrote {folder}: 300 examples from step 10" in capsys.readouterr().out
    paths = sorted(folder.iterdir())
    assert [path.name for path in paths] == [f"{i:06d}.png" for i in range(300)]
    found = []
    for path in paths:
        with Image.open(path) as image:
            found.append(np.asarray(image))
    np.testing.assert_array_equal(np.stack(found), arrays(tmp_path / "a.NPZ")[..., 0])
    assert main([*words, "--out", f"{folder}/"]) == 2
    assert "is not empty, it holds 000000.png" in capsys.readouterr().err


def test_rows_of_a_walk_can_be_a_folder_of_pictures(trained, tmp_path):
    words = ["sample", "--workdir", str(trained[0]), "--interpolate", "--num", "16"]
    assert main([*words, "--out", f"{tmp_path}/walk/"]) == 0
    assert main([*words, "--out", f"{tmp_path}/walk.npz"]) == 0
    for i, image in enumerate(arrays(tmp_path / "walk.npz")):
        with Image.open(tmp_path / "walk" / f"{i:06d}.png") as page:
            np.testing.assert_array_equal(page, image[..., 0])


def test_what_is_sampled_can_be_an_older_checkpoint_and_the_parameters_of_training(
    tmp_path, capsys
):
    (tmp_path / "mine.py").write_text(RECIPE)
    workdir = str(tmp_path / "run")
    often = {**RUN, "log.checkpoint_every": 5, "rate": 0.1}
    assert main(["train", f"{tmp_path}/mine.py:centre", "--workdir", workdir, *flags(often)]) == 0
    capsys.readouterr()
    found = {}
    for name, words, step in [
        ("newest", [], 20),
        ("same", ["--checkpoint", "20"], 20),
        ("old", ["--checkpoint", "10"], 10),
        ("raw", ["--raw"], 20),
    ]:
        out = str(tmp_path / f"{name}.npz")
        assert main(["sample", "--workdir", workdir, "--out", out, "--num", "4", *words]) == 0
        assert f"from step {step} of" in capsys.readouterr().out
        with np.load(out) as content:
            found[name] = content["point"]
    np.testing.assert_array_equal(found["newest"], found["same"])
    for name in ("old", "raw"):
        assert (found[name] != found["newest"]).any(), name
    words = ["sample", "--workdir", workdir, "--out", str(tmp_path / "no.npz"), "--checkpoint"]
    assert main([*words, "7"]) == 2
    err = capsys.readouterr().err
    assert (
        f"there is no checkpoint of step 7 in {workdir}/checkpoints; there are: 10, 15, 20" in err
    )
    (tmp_path / "run" / "checkpoints" / "15" / "manifest.json").write_text("")
    assert main([*words, "15"]) == 2  # and no other is taken in its place
    err = capsys.readouterr().err
    assert "the checkpoint of step 15 in" in err and "the others: 10, 20" in err
    assert err.count("\n") == 1 and not (tmp_path / "no.npz").exists()


def test_arrays_that_memory_does_not_hold_are_told_before_any_is_made(
    trained, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("jaxgan.memory.most", lambda: 20_000)
    words = ["sample", "--workdir", str(trained[0]), "--num", "400"]
    assert main([*words, "--out", f"{tmp_path}/a.npz"]) == 2
    # 400 of 8 x 8 pixels
    said = "num=400 examples take 0.0 GB, this machine has 0.0 GB of memory; use 156 or less"
    assert said in capsys.readouterr().err
    assert main([*words, "--out", f"{tmp_path}/a/"]) == 0  # writes as it goes
    assert len(list((tmp_path / "a").iterdir())) == 400


def test_a_preset_is_the_run_of_its_recipe_with_its_options(trained):
    about = json.loads((trained[0] / "config.json").read_text())
    assert about["recipe"] == "digits" and about["objective.r1_weight"] == 0.5
    assert about["example"]["image"] == {"shape": [8, 8, 1], "dtype": "uint8", "classes": None}
    assert {name for name, _, _ in fields(config.RunOptions())} < about.keys()


def test_every_package_is_installed():
    """An editable install finds those too that the list leaves out."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {file.parent.relative_to(ROOT) for file in (ROOT / "jaxgan").glob("*/*.py")}
    assert set(listed) == {"jaxgan", *(".".join(folder.parts) for folder in found)}


def test_importing_jaxgan_brings_in_none_of_the_heavy_packages():
    code = (
        "import sys, jax, flax, optax, flax.linen; before = set(sys.modules)\n"
        "import jaxgan, jaxgan.cli\n"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    words = [sys.executable, "-W", "error::DeprecationWarning:jaxgan", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "['PIL', 'jaxgan']", done.stdout + done.stderr


def test_a_command_in_a_process_of_its_own_ends_with_its_status_and_nothing_else(tmp_path):
    flags_ = "--xla_force_host_platform_device_count=4"
    done = run("train", "--workdir", str(tmp_path), "--batch-size", "30", XLA_FLAGS=flags_)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "jaxgan: batch_size=30 is not divisible by 4 devices; use 28 or 32\n"
