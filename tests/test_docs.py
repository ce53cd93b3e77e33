"""What the pages say is so: their Python runs, as the notebook's does, their commands parse, and
options and links exist."""

import dataclasses
import json
import pathlib
import re
import shlex

import numpy as np
import pytest
from PIL import Image

import jaxgan
from jaxgan import config, game
from jaxgan.cli import main
from jaxgan.data import DataOptions
from jaxgan.options import fields
from jaxgan.run import plan

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md")),
        *sorted(ROOT.glob("docs/*.md")),
        *(ROOT / name / "README.md" for name in ("benchmarks", "kernels")),
    ]
}
NOTEBOOKS = sorted(ROOT.glob("docs/*.ipynb"))
COMMANDS = "train|sweep|sample|evaluate|diagnose|data|features|recipes|presets"
LONGEST = 25  # lines of code that a GAN may take
GANS = (
    "Conditional WGAN-GP",
    "Unrolled GAN",
    "PacGAN",
    "R3GAN's loss",
    "Spectral normalisation",
    "BiGAN",
    "CycleGAN",
)


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGES[page], re.S | re.M)


def shortened(code: str) -> str:
    """Two steps of two seeds on one device in place of thousands on all, looking one step ahead."""
    code = re.sub(r"\bn=10\b", "n=2", code)
    code = re.sub(r"(?<!\w)steps=\d+", "steps=2, devices=1", code)
    return re.sub(r"looks: int = \d+", "looks: int = 1", code)


def run_in_order(page: str, codes: list[str]) -> None:
    scope: dict = {"__name__": page}
    for number, code in enumerate(codes, 1):
        exec(compile(shortened(code), f"{page}, block {number}", "exec"), scope)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of the test's own, where the pages write."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said_to_be_printed(code: str) -> list[str]:
    """The comments behind or below a `print`."""
    lines = code.splitlines()
    said = []
    for line, after in zip(lines, [*lines[1:], ""]):
        if line.strip().startswith("print("):
            behind = line.partition("  # ")[2]
            said += [behind] if behind else [after[2:]] if after.startswith("# ") else []
    return said


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_the_python_of_a_page_runs_and_prints_what_it_says(page, here, capsys):
    codes = blocks(page, "python")
    run_in_order(page, codes)
    printed = capsys.readouterr().out.splitlines()
    for code in codes:
        for text in said_to_be_printed(code):
            assert text in printed


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_one_and_runs(notebook, here):
    content = json.loads(notebook.read_text())
    assert content["nbformat"] == 4 and content["nbformat_minor"] >= 5
    cells = content["cells"]
    names = [cell["id"] for cell in cells]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[\w-]{1,64}", n) for n in names)
    for cell in cells:
        assert cell["cell_type"] in ("markdown", "code") and cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    run_in_order(notebook.name, codes)


@pytest.mark.parametrize("name", GANS)
def test_a_gan_takes_few_lines(name):
    _, _, section = PAGES["docs/your_own_gan.md"].partition(f"\n### {name}\n")
    (code,) = re.findall(
        r"^```python\n(def .*?|class .*?)^```", section.partition("\n#")[0], re.S | re.M
    )
    assert sum(bool(line.strip()) for line in code.splitlines()) <= LONGEST


def recipe_files(page: str) -> dict[str, str]:
    """The files that a page shows, by the name in their first line."""
    shown = [re.match(r"# (\w+\.py)\n", code) for code in blocks(page, "python")]
    return {found[1]: found.string for found in shown if found}


def commands(page: str) -> list[str]:
    """Each `jaxgan ...` of a page's shell blocks and between backticks, without comments."""
    places = [line.partition("#")[0] for block in blocks(page, "sh") for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.S | re.M)
    places += [code for code in re.findall(r"`([^`]+)`", prose) if code.startswith("jaxgan ")]
    found = [re.search(rf"(?:^|[\s/])jaxgan ((?:{COMMANDS})\b.*)", place) for place in places]
    return [match[1].strip() for match in found if match]


def recipes_of(page: str) -> dict[str, str]:
    """Those of the page, or of another page where it only trains them."""
    others = [file for other in PAGES for file in recipe_files(other).items()]
    return {**dict(reversed(others)), **recipe_files(page)}


def lay_out_data(folder: pathlib.Path) -> None:
    """The pictures and the file that commands name."""
    images = np.random.default_rng(0).integers(0, 256, (128, 8, 8, 3), np.uint8)
    np.savez(folder / "images.npz", image=images)
    (folder / "pictures").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / "pictures" / f"{number}.png")


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p) and p != "CHANGELOG.md"])
def test_the_commands_of_a_page_parse(page, here, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    # A dry run compiles for this one number, and each command another program.
    monkeypatch.setattr(plan, "_scratch", lambda *_: None)
    lay_out_data(here)
    for name, text in recipes_of(page).items():
        (here / name).write_text(text)
    for command in commands(page):
        words = shlex.split(command)
        if words in (["sample"], ["diagnose"]) or any(
            re.fullmatch(r"[A-Z]+(\.py:[A-Z]+)?", w) for w in words
        ):
            continue  # the command is spoken of, and not given
        if "--help" in words:
            with pytest.raises(SystemExit) as stop:
                main(words)
            assert stop.value.code == 0
        elif "--resume" in words:
            assert main([*words, "--dry-run"]) == 2
            assert "no checkpoint to resume from" in capsys.readouterr().err
        elif "--table" in words:
            assert main(words) == 2
            assert "holds no sweep" in capsys.readouterr().err, command
        elif words[0] in ("train", "sweep"):
            assert main([*words, "--dry-run"] if "--dry-run" not in words else words) == 0, command
        elif words[0] in ("sample", "diagnose") or words[:2] == ["evaluate", "--workdir"]:
            assert main(words) == 2
            told = "holds no sweep" if "--member" in words else "holds no checkpoint"
            assert told in capsys.readouterr().err, command  # not: unknown option
        elif (
            "mnist" in words or words[:2] == ["features", "train"] or words[0] == "evaluate"
        ):  # not here, or takes long
            with pytest.raises(SystemExit):
                main([*words, "--help"])
        else:
            assert main(words) == 0, command


def flags_of(*words: str, capsys) -> set[str]:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    return set(re.findall(r"--[a-z][a-z0-9.-]*", capsys.readouterr().out))


def test_the_options_that_pages_name_exist(capsys, here):
    (here / "my_gan.py").write_text(recipe_files("README.md")["my_gan.py"])
    known = {"--ntasks-per-node", "--gpus-per-node", "--logdir"}  # of SLURM and TensorBoard
    others = (
        ("sample",),
        ("sweep", "dcgan"),
        ("evaluate",),
        ("diagnose",),
        ("train", "dirac"),
        ("train", "mixtures"),
        ("train", "stacked"),
        ("kernels",),
        ("doctor",),
        ("data", "remove"),
        ("features", "train"),
    )
    for words in (("train", "dcgan"), ("train", "my_gan.py:ring"), *others):
        known |= flags_of(*words, capsys=capsys)
    for page, text in PAGES.items():
        if page == "README.md" or page.startswith("docs/"):  # others name those of other commands
            text = re.sub(r"python -m benchmarks[^`\n]*", "", text)
            assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*\b", text)) <= known, page


def test_every_option_of_data_is_told():
    for name, _, _ in fields(DataOptions(), "data."):
        assert "`--" + name.replace("_", "-") + "`" in PAGES["docs/data.md"], name


def test_what_may_change_on_resuming_is_told():
    text = " ".join(PAGES["docs/running.md"].split())
    _, _, told = text.partition("On resuming, these may differ:")
    told, _, rest = told.partition("Any other change")
    assert rest
    for name in config._MAY_CHANGE:
        assert f"`{name.rpartition('.')[2]}`" in told, name


def test_the_tour_names_the_fields_of_the_types():
    for name in ("Player", "Move", "Game", "Play", "Outcome", "PlayerState", "GANState"):
        (row,) = re.findall(rf"^\| `{name}` \|.*\|(.*)\|$", PAGES["docs/tour.md"], re.M)
        kind = getattr(game, name)
        own = getattr(kind, "_fields", None) or [field.name for field in dataclasses.fields(kind)]
        assert re.findall(r"`(\w+)`", row) == list(own)


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in links(PAGES[page]):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert anchor in map(slug, headings), link


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_links_of_a_notebook_lead_somewhere(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    for link in links("\n".join("".join(cell["source"]) for cell in cells)):
        assert (notebook.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_what_pages_tell_to_run_exists(page):
    for module in re.findall(r"python -m (benchmarks[.\w]*)", PAGES[page]):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists() or module == "benchmarks", (
            module
        )
    for test in re.findall(r"\btests/\w+\.py", PAGES[page]):
        assert (ROOT / test).exists(), test


def test_what_the_pages_import_first_is_public():
    for text in PAGES.values():
        for names in re.findall(r"^from jaxgan import (.*)$", text, re.M):
            for name in names.split(", "):
                files = [ROOT / "jaxgan" / f"{name}.py", ROOT / "jaxgan" / name]
                assert name in jaxgan.__all__ or any(file.exists() for file in files), name
