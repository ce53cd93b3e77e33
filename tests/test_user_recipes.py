"""Recipes in a user's own file, from the command line: trained, resumed, sampled, and blamed."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest
from helpers import assert_equal_trees
from runs import RECIPE, RUN, centre_game, flags, metrics_of

import jaxgan
from jaxgan.cli import main
from jaxgan.data import DataOptions
from jaxgan.run import checkpoint

FLAGS = flags({**RUN, "steps": 10})


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of the user's own, with nothing in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:  # what lies beside one file is not beside the next
        if name.startswith(("_recipe_", "beside")):
            del sys.modules[name]


def test_a_file_is_trained_resumed_and_sampled_from_the_runs_own_copy(here, capsys):
    (here / "mine.py").write_text(RECIPE)
    assert main(["train", "mine.py:centre", *FLAGS, "--rate", "0.02"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("training runs/centre at step 0 of 10: 100000 examples of ring")
    workdir = here / "runs" / "centre"
    about = json.loads((workdir / "config.json").read_text())
    assert (about["recipe"], about["rate"], about["data.name"]) == ("mine.py:centre", 0.02, "ring")
    assert (workdir / "recipe.py").read_text() == RECIPE

    # Resumed from elsewhere, where the file lies in another folder.
    (here / "moved").mkdir()
    shutil.move(here / "mine.py", here / "moved" / "mine.py")
    again = [str(here / "moved" / "mine.py:centre"), "--workdir", str(workdir), "--rate", "0.02"]
    assert main(["train", *again, *FLAGS, "--steps", "20", "--resume"]) == 0
    assert "resuming" in capsys.readouterr().out
    assert [record["step"] for record in metrics_of(workdir)] == [5, 10, 15, 20]

    # The file is gone, and what it imports is what it was trained with.
    (here / "moved" / "mine.py").unlink()
    assert main(["sample", "--workdir", str(workdir), "--out", "a.npz", "--num", "5"]) == 0
    assert "wrote a.npz: 5 examples from step 20" in capsys.readouterr().out
    with np.load("a.npz") as content:
        assert content["point"].shape == (5, 2) and content["point"].dtype == np.float32
    assert main(["sample", "--workdir", str(workdir), "--out", "a.png"]) == 0

    # From Python, by its copy or by the game.
    state = jaxgan.restore(workdir).state
    assert int(state.step) == 20


def test_a_changed_file_is_refused_and_can_be_accepted(here, capsys):
    (here / "mine.py").write_text(RECIPE)
    assert main(["train", "mine.py:centre", *FLAGS]) == 0
    changed = RECIPE.replace("0.1 * noise", "0.2 * noise").replace(
        "rate: float = 1e-2", "rate: float = 1e-2, more: int = 3"
    )
    (here / "mine.py").write_text(changed)
    before = {p: p.read_bytes() for p in (here / "runs").rglob("*") if p.is_file()}
    capsys.readouterr()
    more = ["train", "mine.py:centre", *FLAGS, "--steps", "20"]
    assert main(more) == 2
    line = "jaxgan: workdir=runs/centre was trained with another text of mine.py:centre, kept there"
    assert capsys.readouterr().err.startswith(line)
    assert before == {p: p.read_bytes() for p in (here / "runs").rglob("*") if p.is_file()}
    assert main([*more, "--accept-changed-recipe"]) == 0
    assert (here / "runs" / "centre" / "recipe.py").read_text() == changed
    assert main([*more]) == 0  # it is this run's now
    assert main([*more, "--rate", "0.5", "--accept-changed-recipe"]) == 2
    assert "rate was 0.01, now 0.5" in capsys.readouterr().err


def test_help_shows_the_options_of_the_file(here, capsys):
    (here / "mine.py").write_text(RECIPE)
    with pytest.raises(SystemExit) as stop:
        main(["train", "mine.py:centre", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--rate VALUE Adam's learning rate, a number above 0. (default: 0.01)" in text
    assert "are those of mine.py:centre: Learns the centre of points." in text
    assert "(default: ring)" in text and "--model." not in text


def test_a_run_of_a_file_is_the_run_of_the_same_game_from_python(here):
    (here / "mine.py").write_text(RECIPE)
    assert main(["train", "mine.py:centre", *FLAGS]) == 0
    found = jaxgan.restore(here / "runs" / "centre")
    state = jaxgan.train(found.game, DataOptions(name="ring"), "other", steps=10, **REST)
    assert_equal_trees(found.state, state)


REST = {name: value for name, value in RUN.items() if name != "steps"}


def line_of(text, part):
    """The number of the first line with this part."""
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


CALL = RECIPE.replace("+ 0.1 * noise", "+ jnp.ones((1, 3)) * noise")
LOSS = RECIPE.replace("made, states = make(", "made, states = mkae(")
NO_GAME = RECIPE.replace("return Game(", "return dict(a=1) or Game(")
RAISING = RECIPE.replace(
    "    player = Player", '    raise ValueError("rate is odd\\n or so")\n    player = Player'
)
SYNTAX = RECIPE.replace("def centre(", "def centre((")
MISSING = RECIPE.replace("import optax\n", "import optaxx\n")
DIVIDING = RECIPE + "\nhalf = 1 / 0\n"
REQUIRED = RECIPE.replace("rate: float = 1e-2", "rate: float")
STRANGE = RECIPE.replace("rate: float = 1e-2", "rate: list[float] = [1e-2]")
CLASH = RECIPE.replace("rate: float = 1e-2", "rate: float = 1e-2, resume: bool = False")
NAMED = RECIPE.replace("steps=20", "stepz=20")
BARE = RECIPE.replace(
    '@recipe(steps=20, batch_size=8, data={"name": "ring"}, log={"samples": 4})', "@recipe"
)
BESIDE = RECIPE.replace("import jaxgan\n", "import jaxgan\nimport beside\n").replace(
    "0.1 * noise", "beside.scaled(noise)"
)

MISTAKES = {
    "syntax": (SYNTAX, [], "SyntaxError: ", "def centre(("),
    "import": (MISSING, [], "ModuleNotFoundError: No module named 'optaxx'", "optaxx"),
    "dividing": (DIVIDING, [], "ZeroDivisionError: division by zero", "1 / 0"),
    "bare": (BARE, [], "TypeError: recipe() takes 0 positional arguments", "@recipe"),
    "call": (CALL, [], "TypeError: mul got incompatible shapes", "jnp.ones((1, 3))"),
    "loss": (LOSS, [], "NameError: name 'mkae' is not defined", "mkae("),
    "raising": (RAISING, [], "ValueError: rate is odd or so", "is odd"),
    "beside": (BESIDE, [], "beside.py line 2: AttributeError: ", None),
    "no game": (NO_GAME, [], "recipe mine.py:centre returns dict, not a jaxgan.Game", None),
    "option": (RECIPE, ["--rat", "3"], "unknown option '--rat'; did you mean --rate", None),
    "value": (RECIPE, ["--rate", "x"], "rate='x' is not a number; use a number such as", None),
    "required": (REQUIRED, [], "recipe mine.py:centre needs --rate; it has no default", None),
    "required, dry": (REQUIRED, ["--dry-run"], "recipe mine.py:centre needs --rate; it", None),
    "type": (STRANGE, [], "option 'rate' of recipe mine.py:centre is of type list[float]", None),
    "clash": (CLASH, [], "mine.py:centre has an option --resume, as the command has", None),
    "default": (NAMED, [], "unknown field 'stepz'; did you mean steps", None),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_file_is_one_line_with_its_number_and_leaves_nothing(
    name, here, capsys, monkeypatch
):
    text, words, line, part = MISTAKES[name]
    line = line if part is None else f"mine.py line {line_of(text, part)}: {line}"
    (here / "mine.py").write_text(text)
    (here / "beside.py").write_text("def scaled(x):\n    return x.scaled()\n")
    monkeypatch.setattr(jax, "jit", lambda *a, **k: pytest.fail("compiled"))
    assert main(["train", "mine.py:centre", *FLAGS, *words]) == 2
    out, err = capsys.readouterr()
    assert line in err and err.startswith("jaxgan: ") and err.count("\n") == 1 and out == ""
    assert sorted(p.name for p in here.iterdir()) == ["beside.py", "mine.py"]


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("mine.py:cetnre", "mine.py: unknown function 'cetnre'; did you mean centre"),
        ("mine.py:jnp", "mine.py: unknown function 'jnp'; use centre, normal"),
        ("mine.py:", "mine.py: unknown function ''; use centre, normal"),
        ("mine.py", "recipe 'mine.py' names no function; use mine.py:FUNCTION"),
        ("other.py:centre", "other.py cannot be read: No such file or directory; give FILE.py"),
        ("folder.py:centre", "folder.py cannot be read: it is no plain file"),
        ("bytes.py:centre", "bytes.py cannot be read: "),
        ("zero.py:centre", "zero.py cannot be read: it holds a zero byte"),
    ],
)
def test_a_file_or_function_that_is_not_there_is_named(place, line, here, capsys):
    (here / "mine.py").write_text(RECIPE)
    (here / "folder.py").mkdir()
    (here / "bytes.py").write_bytes(b"\xff\xfe")
    (here / "zero.py").write_bytes(b"a = 1\0")
    for command in (["train", place], ["train", place, "--dry-run"]):
        assert main(command) == 2
        out, err = capsys.readouterr()
        assert line in err and err.count("\n") == 1 and out == ""
    assert not (here / "runs").exists()


def test_a_copy_that_lacks_what_lay_beside_the_file_is_one_line(here, capsys):
    (here / "beside.py").write_text("def scaled(x):\n    return 0.1 * x\n")
    (here / "mine.py").write_text(BESIDE)
    assert main(["train", "mine.py:centre", *FLAGS]) == 0
    del sys.modules["beside"]
    assert main(["sample", "--workdir", "runs/centre", "--out", "a.npz"]) == 0
    del sys.modules["beside"]
    (here / "beside.py").unlink()
    capsys.readouterr()
    assert main(["sample", "--workdir", "runs/centre", "--out", "a.npz"]) == 2
    line = line_of(BESIDE, "import beside")
    error = f"runs/centre/recipe.py line {line}: ModuleNotFoundError: No module named 'beside'\n"
    assert capsys.readouterr().err == f"jaxgan: {error}"


def test_an_error_of_the_librarys_own_is_not_blamed_on_the_file(here, monkeypatch):
    """A bug of ours wants its traceback."""
    (here / "mine.py").write_text(RECIPE)

    def fail(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(checkpoint, "open_checkpoints", fail)
    with pytest.raises(ZeroDivisionError, match="ours"):
        main(["train", "mine.py:centre", *FLAGS])


def test_a_recipes_game_can_be_made_in_python_too(here):
    (here / "mine.py").write_text(RECIPE)
    from jaxgan.recipes import find

    found = find("mine.py:centre")
    assert found.make({}, found.options).players.keys() == centre_game().players.keys()


def test_a_file_is_read_in_its_own_encoding(here):
    (here / "mine.py").write_bytes(b"\xef\xbb\xbf" + RECIPE.encode())
    assert main(["train", "mine.py:centre", *FLAGS]) == 0


def test_a_recipe_may_import_when_it_is_called(here):
    (here / "beside_late.py").write_text("RATE = 0.5\n")
    text = RECIPE.replace(
        "    def fit(", "    import beside_late\n\n    rate = beside_late.RATE\n\n    def fit(", 1
    )
    assert text != RECIPE
    (here / "mine.py").write_text(text)
    assert main(["train", "mine.py:centre", *FLAGS]) == 0


@pytest.mark.parametrize("code", ["", "0", "'bye'"])
@pytest.mark.parametrize("place", ["at import", "in the function"])
def test_a_file_that_ends_itself_has_not_trained(here, capsys, code, place):
    """Whoever called the command would take status 0 for a trained run."""
    leave = f"import sys; sys.exit({code})\n"
    text = f"{RECIPE}\n{leave}"
    if place == "in the function":
        text = RECIPE.replace("    player = ", f"    {leave}    player = ")
    (here / "mine.py").write_text(text)
    assert main(["train", "mine.py:centre", "--workdir", "run", *FLAGS]) == 2
    said = capsys.readouterr().err
    assert "mine.py line " in said and "it ends itself by sys.exit(" in said
    assert not (here / "run").exists()


def test_a_file_that_changes_the_folder_leaves_the_workdir_where_it_is(here):
    (here / "elsewhere").mkdir()
    (here / "mine.py").write_text(f"{RECIPE}\nimport os; os.chdir('elsewhere')\n")
    assert main(["train", "mine.py:centre", "--workdir", "run", *FLAGS]) == 0
    assert checkpoint.steps_in(here / "run" / "checkpoints") == [10]
    assert not list((here / "elsewhere").iterdir())


def test_another_text_of_what_a_file_imports_is_another_run(here, capsys):
    (here / "beside_it.py").write_text("rate = 0.01\n")
    text = RECIPE.replace("import jaxgan\n", "import beside_it\nimport jaxgan\n")
    (here / "mine.py").write_text(text.replace("optax.adam(rate)", "optax.adam(beside_it.rate)"))
    words = ["train", "mine.py:centre", "--workdir", "run"]
    assert main([*words, *FLAGS]) == 0
    del sys.modules["beside_it"]
    (here / "beside_it.py").write_text("rate = 0.5\n")
    assert main([*words, *FLAGS, "--steps", "20"]) == 2
    assert "was trained with another game" in capsys.readouterr().err
    assert main([*words, *FLAGS, "--steps", "20", "--accept-changed-recipe"]) == 0


def test_a_copy_that_was_edited_is_not_sampled(here, capsys):
    (here / "mine.py").write_text(RECIPE)
    assert main(["train", "mine.py:centre", "--workdir", "run", *FLAGS]) == 0
    copy = here / "run" / "recipe.py"
    copy.write_text(copy.read_text() + "\n# edited\n")
    assert main(["sample", "--workdir", "run", "--out", "o.npz"]) == 2
    assert "is another text than the run was trained with" in capsys.readouterr().err


def test_a_recipe_file_that_was_there_is_kept(here):
    (here / "recipe.py").write_text("# another recipe\n")
    (here / "mine.py").write_text(RECIPE)
    assert main(["train", "mine.py:centre", *FLAGS, "--workdir", "."]) == 0
    assert (here / "recipe.py").read_text() == RECIPE
    assert (here / "recipe.py.old").read_text() == "# another recipe\n"
