"""Samples of images beside real ones: what is compared, what is told, and what is kept."""

import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
from PIL import Image

from jaxgan import evaluate, features, metrics
from jaxgan.cli import main
from jaxgan.config import RunOptions
from jaxgan.data import DataOptions, shapes
from jaxgan.data.order import evenly
from jaxgan.errors import UserError
from jaxgan.evaluate import Asked
from jaxgan.evaluation import kept, measures
from jaxgan.evaluation import real as real_images
from jaxgan.features import Described, Extractor
from jaxgan.game import GANState
from jaxgan.run import checkpoint
from jaxgan.run.restore import known_options, restore

RECIPE = '''
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan import Game, Move, Outcome, Player, drawn, recipe


class Picture(nn.Module):
    """The picture of each label, which is learnt, and noise."""

    @nn.compact
    def __call__(self, noise, label):
        pictures = self.param("pictures", nn.initializers.normal(0.1), (10, 8, 8, 1))
        return jnp.tanh(pictures[label] + 0.1 * noise)


def normal(key):
    return jax.random.normal(key, (8, 8, 1))


@recipe(steps=20, batch_size=8, data={"image_size": 8}, log={"samples": 4})
def pictures(rate: float = 0.1) -> Game:
    """Learns the mean picture of each digit."""

    def make(apply, latents, batch):
        made, state = apply("generator", latents, batch["label"])
        return {"image": made}, {"generator": state}

    def fit(play):
        made, states = make(play.apply, drawn(normal, play.keys, "latent"), play.batch)
        loss = jnp.mean((made["image"] - play.batch["image"]) ** 2)
        return loss, Outcome({"loss": loss}, states)

    player = Player(Picture(), optax.adam(rate), 0.5)
    return Game({"generator": player}, (Move("fit", ("generator",), fit),), normal, make)
'''
ABOUT = {
    "data.name": "digits",
    "data.image_size": 8,
    "data_version": "digits/1.0.0 train",
    "example": {"image": {"shape": [8, 8, 1], "dtype": "uint8", "classes": None}},
}


def describe(made):
    """Sixteen pixels, and a class by the brightest row and half, of ten that digits may have."""
    pixels = made.reshape(len(made), 8, 8)
    features = pixels[:, ::2, ::2].reshape(len(made), -1).astype(np.float32) / 64
    labels = pixels.sum(2).argmax(1) % 10
    return Described(features, np.eye(10, dtype=np.float32)[labels] * 0.91 + 0.009)


@pytest.fixture(scope="module", autouse=True)
def judged(tmp_path_factory):
    """A classifier of no training, and a folder of the module's own for features."""
    made = Extractor("classifier of digits", "0123456789abcdef", 0.97, describe, True)
    place = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "classifier", lambda options: made)
        patch.setattr(kept.caches, "features", lambda: str(place))
        yield place


def train_evaluated(folder, **changes):
    """A run of the recipe above that is measured each five steps."""
    (folder / "mine.py").write_text(RECIPE)
    options = {**runs.RUN, "evaluate_every": 5, "evaluate_num": 200, **changes}
    words = ["train", f"{folder / 'mine.py'}:pictures", "--workdir", str(folder / "run")]
    return main([*words, *runs.flags(options)]), folder / "run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, judged):
    """The workdir of such a run."""
    status, workdir = train_evaluated(tmp_path_factory.mktemp("evaluated"))
    assert status == 0
    return workdir


def evaluated(workdir):
    """The records of what was measured."""
    return [r for r in runs.metrics_of(workdir) if "evaluate/fd" in r]


def test_a_standard_error_is_about_the_spread_over_sets_of_their_own():
    rng = np.random.default_rng(0)
    real = Described(rng.normal(size=(400, 4)), None)
    chosen = measures.named(("fd", "precision_recall"), False)
    found = [
        measures.measured(chosen, real, Described(rng.normal(0.7, size=(400, 4)), None))
        for _ in range(12)
    ]
    for name in ("fd", "precision", "recall"):
        told = np.mean([each[f"{name}_error"] for each in found])
        spread = np.std([each[name] for each in found], ddof=1)
        # Eleven degrees of freedom give the spread to a fifth; the error also counts the chance
        # of the real examples, which are the same here.
        assert 0.5 < told / spread < 3.0, name
    few = measures.measured(chosen, real, Described(real.features[:99], None))
    assert few["fd_error"] is None and few["precision_error"] is None
    assert measures.measured(chosen, real, Described(real.features[:1], None))["fd"] is None


def test_samples_are_measured_beside_the_half_of_the_data_that_the_floor_is_not_of():
    kind = evaluate.kind_of(ABOUT, Asked(("fd",)))
    assert kind is not None and kind.most == 898 and "no split test" in kind.about["real"]
    real, floor = real_images.held_out(known_options(RunOptions(), ABOUT).data)
    assert not set(real.rows) & set(floor.rows)
    truth = kind.truth(898, 0)
    expected = metrics.frechet_distance(
        describe(real.source.read(real.rows[:898])["image"]).features,
        describe(kind.true(898, 0)).features,
    )
    assert truth["fd"] == pytest.approx(expected)
    assert kind.measured(kind.true(898, 0))["fd"] == pytest.approx(expected)
    assert kind.measured(np.zeros((898, 8, 8, 1), np.uint8))["fd"] > 100 * expected
    assert kind.conditions is not None
    labels = kind.conditions(("label",), 10)["label"]
    np.testing.assert_array_equal(labels, real_images.leaves(floor, ("label",), 10)["label"])


def test_of_data_with_a_split_test_the_real_images_are_of_it(monkeypatch):
    monkeypatch.setattr(shapes, "EXAMPLES", {"train": 40, "test": 20})
    options = DataOptions(name="shapes", image_size=8, channels=1, cache=None)
    real, floor = real_images.held_out(options)
    assert (real.words, len(real.rows), len(floor.rows)) == ("the split test", 20, 40)
    # A run on the split test has no other to be measured by.
    real, floor = real_images.held_out(replace(options, split="test"))
    assert "no split test" in real.words and len(real.rows) == len(floor.rows) == 10
    assert evenly(10, 4).tolist() == [0, 3, 6, 9] and evenly(3, 9).tolist() == [0, 1, 2]


def test_features_of_real_images_are_kept_and_made_again_where_damaged(judged, capsys):
    calls = []

    def counted(made):
        calls.append(len(made))
        return describe(made)

    judge = Extractor("mine", "abc", None, counted, True)
    pictures = np.random.default_rng(0).integers(0, 255, (30, 8, 8, 1), np.uint8)
    first = kept.described(judge, {"version": "1"}, lambda: pictures)
    (path,) = [
        p
        for p in judged.iterdir()
        if p.stat().st_mtime == max(q.stat().st_mtime for q in judged.iterdir())
    ]
    again = kept.described(judge, {"version": "1"}, lambda: pictures)
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)
    assert calls == [30]
    kept.described(judge, {"version": "2"}, lambda: pictures)
    kept.described(judge._replace(digest="abd"), {"version": "1"}, lambda: pictures)
    kept.described(judge._replace(is_whole=False), {"version": "1"}, lambda: pictures)
    assert calls == [30] * 4  # of others, and of what a file's text does not tell
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert capsys.readouterr().err == ""
    kept.described(judge, {"version": "1"}, lambda: pictures)
    assert "is of no use" in capsys.readouterr().err and len(calls) == 5
    kept.described(judge, {"version": "1"}, lambda: pictures)
    assert len(calls) == 5


def test_the_command_tells_numbers_errors_and_what_they_are_of(trained, capsys):
    words = ["evaluate", "--workdir", str(trained), "--per-class", "--num", "300"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["step"], told["num"], told["data"]) == (20, 300, "digits")
    assert told["extractor"]["digest"] == "0123456789abcdef" and "numpy" in told["versions"]
    samples, truth = told["samples"], told["truth"]
    assert samples["fd"] > truth["fd"] > 0 and truth["fd_error"] > 0
    assert 0 <= samples["as_asked"] <= 1 and set(samples["per_class"]) == set("0123456789")
    asked = sum(numbers["made"] for numbers in samples["per_class"].values())
    assert asked == 300
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "Frechet distance" in said and "jackknife over tenths" in said and " +- " in said
    assert "by classifier of digits 0123456789ab, 97.00% of held-out right" in said


def test_several_checkpoints_and_workdirs_make_one_table(trained, capsys):
    words = ["evaluate", "--workdir", str(trained), str(trained), "--metrics", "fd"]
    assert main([*words, "--checkpoint", "all", "--num", "5000"]) == 0
    out = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in out if line.startswith((str(trained), "truth"))]
    assert [row[1] for row in rows[:4]] == ["10", "20", "10", "20"] and rows[4][0] == "truth"
    assert rows[0] == rows[2] and rows[0][2] != rows[1][2]
    (line,) = [line for line in out if "898 real images" in line]
    assert line.startswith("num=5000 but there are 898")
    assert main([*words, "--checkpoint", "10,newest", "--num", "100", "--json"]) == 0
    assert [one["step"] for one in json.loads(capsys.readouterr().out)] == [10, 20, 10, 20]


@pytest.mark.parametrize(
    "words, told",
    [
        (["--metrics", "fid"], "unknown metric 'fid'; did you mean"),
        (["--checkpoint", "7"], "there is no checkpoint of step 7"),
        (["--checkpoint", "last"], "checkpoint='last' is none of newest, best and a step"),
        (["--extractor", "mine.txt"], "extractor='mine.txt' is neither a function nor weights"),
        (["--extractor", "no.py:f"], "no.py cannot be read"),
        (["--num", "0"], "num=0 is too small"),
    ],
)
def test_what_cannot_be_asked_is_one_line(words, told, trained, capsys):
    assert main(["evaluate", "--workdir", str(trained), *words]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_data_without_labels_need_an_extractor_which_the_line_names(
    trained, tmp_path, monkeypatch, capsys
):
    def none(options):
        raise UserError("digits has no labels")

    monkeypatch.setattr(features, "classifier", none)
    words = ["evaluate", "--workdir", str(trained), "--num", "60"]
    assert main(words) == 2
    assert "or describe images by a function of yours, --extractor" in capsys.readouterr().err
    (tmp_path / "mine.py").write_text("def means(images):\n    return images.mean((1, 3))\n")
    assert main([*words, "--extractor", f"{tmp_path / 'mine.py'}:means", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "score" not in told["samples"] and told["extractor"]["name"] == "mine.py:means"
    place = f"{tmp_path / 'mine.py'}:means"
    for more, line in (
        (["--metrics", "score"], "metric score needs probabilities of classes"),
        (["--per-class"], "per_class needs data with labels and an extractor that names classes"),
    ):
        assert main([*words, "--extractor", place, *more]) == 2
        assert line in capsys.readouterr().err


def test_what_is_asked_of_images_is_refused_for_mixtures():
    with pytest.raises(UserError, match="metrics=fd is for images in general, and ring is measur"):
        evaluate.kind_of({"data_version": "ring 1 train"}, Asked(("fd",)))


@pytest.fixture
def two_sets(tmp_path):
    """A folder of pictures, and a file of arrays of others that are darker."""
    rng = np.random.default_rng(0)
    (tmp_path / "real").mkdir()
    for i in range(40):
        picture = rng.integers(60, 255, (8, 8 + i % 2), np.uint8)  # of two sizes
        Image.fromarray(picture).save(tmp_path / "real" / f"{i:02d}.png")
    np.savez(tmp_path / "made.npz", image=rng.integers(0, 200, (50, 8, 8, 1), np.uint8))
    return tmp_path / "real", tmp_path / "made.npz"


def test_two_sets_from_anywhere_are_compared_in_named_features(two_sets, monkeypatch, capsys):
    real, made = map(str, two_sets)
    shaped = features.classifier(DataOptions())._replace(shape=(8, 8, 1))
    named = []

    def classifier(options):
        named.append(options.name)
        return shaped

    monkeypatch.setattr(features, "classifier", classifier)
    assert main(["evaluate", real, made, "--features-of", "mnist", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert named == ["mnist"] and told["num"] == 40 and told["real"].startswith("40 of 40 images")
    assert told["samples"]["fd"] > 2 * told["truth"]["fd"] > 0
    assert main(["evaluate", real, real, "--features-of", "mnist", "--num", "30"]) == 0
    out = capsys.readouterr().out
    assert "30 of 40 images" in out and "30 samples are few for 16" in out
    (line,) = [line for line in out.splitlines() if line.startswith("Frechet distance")]
    assert line.split()[2] == "0.000"


@pytest.mark.parametrize(
    "words, told",
    [
        ([], "describes images by --features-of DATASET, such as mnist, or by --extractor"),
        (["--features-of", "mnist", "--raw"], "--raw has no meaning for evaluate of folders"),
        (["--features-of", "mnist", "--metrics", "x"], "unknown metric 'x'"),
        (["--features-of", "mnist", "--workdir", "x"], "takes --workdir DIR, or two folders"),
        (["more", "--features-of", "mnist"], "two folders or files, here are 3"),
        (["--features-of", "mnist", "--image-size", "0"], "image-size=0 is too small"),
        (["--extractor", "FILE:wide"], "mixed sizes"),
    ],
)
def test_sets_that_cannot_be_compared_are_one_line(words, told, two_sets, tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def wide(images):\n    return images.mean((1, 3))\n")
    words = [word.replace("FILE", str(tmp_path / "mine.py")) for word in words]
    assert main(["evaluate", *map(str, two_sets), *words]) == 2
    error = capsys.readouterr().err
    expected = "give all one size by" if told == "mixed sizes" else told
    assert expected in error and error.count("\n") == 1
    assert main(["evaluate", str(tmp_path / "none"), str(two_sets[1]), *words]) == 2


def test_a_run_is_measured_and_its_best_checkpoint_is_sampled(trained, tmp_path, capsys):
    found = evaluated(trained)
    assert [r["step"] for r in found] == [5, 10, 15, 20]
    best = min(found, key=lambda r: r["evaluate/fd"])
    assert checkpoint.steps_in(trained / "best") == [best["step"]]
    words = ["evaluate", "--workdir", str(trained), "--checkpoint", "best", "--num", "200"]
    assert main([*words, "--metrics", "fd", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["step"] == best["step"]
    assert told["samples"]["fd"] == pytest.approx(best["evaluate/fd"])
    words = ["sample", "--workdir", str(trained), "--out", str(tmp_path / "a.npz")]
    assert main([*words, "--checkpoint", "best"]) == 0
    assert f"from step {best['step']} of " in capsys.readouterr().out


def test_a_run_that_was_killed_goes_on_with_the_same_numbers_and_the_same_best(
    trained, tmp_path, capsys
):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    before, best = evaluated(workdir), runs.holding(workdir / "best")
    (step,) = checkpoint.steps_in(workdir / "best")
    assert step > 10  # the pictures become better
    # As where it was killed after its last measure, and before that step was saved.
    shutil.rmtree(workdir / "checkpoints" / "20")
    assert train_evaluated(tmp_path, **{"log.tensorboard": True})[0] == 0
    said = capsys.readouterr().out
    assert "at step 10 of 20" in said and "true ones have fd" in said
    assert "evaluating took" in said and "the time since the run began or was resumed" in said
    assert evaluated(workdir) == before and runs.holding(workdir / "best") == best
    jax.tree.map(
        np.testing.assert_array_equal,
        *(restore(w, step=20).state.players["generator"].params for w in (trained, workdir)),
    )
    # By another metric, of which higher is better, the old best is kept aside.
    few = {"steps": 25, "log.keep": 1}
    assert train_evaluated(tmp_path, evaluate_metric="rarest", **few)[0] == 0
    assert "is of another metric; it is now called best.old" in capsys.readouterr().out
    assert runs.holding(workdir / "best.old") == best
    assert checkpoint.steps_in(workdir / "best") == checkpoint.steps_in(workdir / "checkpoints")


def test_of_the_best_checkpoints_the_last_written_stays_whatever_its_step(tmp_path):
    saver = checkpoint.open_checkpoints(tmp_path, 1)
    with checkpoint.closing(saver):
        key = jax.random.key(0)
        for step in (9, 4):
            saver.save(GANState(jnp.int32(step), key, {}), None)
            saver.wait()
            assert checkpoint.steps_in(tmp_path) == [step]


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"evaluate_metric": "fid"}, "unknown metric 'fid'; did you mean"),
        ({"evaluate_metric": "density"}, "unknown evaluate_metric 'density'"),
        ({"evaluate_every": 0}, "evaluate_every=0 is too small"),
        (
            {"evaluate_extractor": "x.txt"},
            "evaluate_extractor='x.txt' is neither a function nor weights",
        ),
    ],
)
def test_what_a_run_cannot_be_measured_by_is_one_line_before_it_begins(
    changes, told, tmp_path, capsys
):
    status, workdir = train_evaluated(tmp_path, **changes)
    error = capsys.readouterr().err
    assert status == 2 and told in error and error.count("\n") == 1
    assert not workdir.exists()
