"""Stacked images: what they are made of, the recipe that learns them, and how it is measured."""

import hashlib
import json

import jax
import numpy as np
import pytest

from benchmarks import losses, report
from benchmarks import stacked as benchmark
from jaxgan import config, data, evaluate, features, init, make_step
from jaxgan.data import DataOptions, Feature, make_feed, stacked
from jaxgan.errors import UserError
from jaxgan.features import Described, Extractor
from jaxgan.metrics.stacked import labels_of, shares_of_data, stacked_coverage

OPTIONS = DataOptions(name="stacked-digits", image_size=8, cache=None)
IMAGE = {"image": Feature((8, 8, 3), np.dtype(np.uint8))}


@pytest.fixture(scope="module")
def digits():
    return data.open_source(DataOptions(image_size=8, channels=1, cache=None))


@pytest.fixture(scope="module")
def source(digits):
    return stacked.opened("stacked-digits", digits)


def test_an_example_is_three_images_as_channels_and_its_label_their_labels_digits(digits, source):
    assert source.features == {**IMAGE, "label": Feature((), np.dtype(np.int32), 1000)}
    some = np.array([127_999, 5, 5, 0])
    found, chosen = source.read(some), stacked.triples(digits.count)[some]
    for image, label, triple in zip(found["image"], found["label"], chosen, strict=True):
        one = digits.read(triple.astype(np.int64))
        np.testing.assert_array_equal(image, np.moveaxis(one["image"][..., 0], 0, -1))
        assert label == int("".join(map(str, one["label"])))


def test_the_triples_are_the_recorded_ones_and_equally_likely():
    drawn = stacked.triples(60_000)
    assert drawn.shape == (128_000, 3) and drawn.min() >= 0 and drawn.max() < 60_000
    digest = hashlib.sha256(drawn.astype("<i4").tobytes()).hexdigest()
    assert digest[:16] == "274ac1e6deeb4784"
    share = np.stack([np.bincount(column // 6000, minlength=10) for column in drawn.T]) / 128_000
    # Five standard deviations of a binomial share.
    assert np.abs(share - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / 128_000)
    pairs = np.bincount(drawn[:, 0] // 6000 * 10 + drawn[:, 2] // 6000, minlength=100) / 128_000
    assert np.abs(pairs - 0.01).max() < 5 * np.sqrt(0.01 / 128_000)


def test_the_name_opens_it_and_features_can_be_chosen(source):
    opened = data.open_source(OPTIONS)
    assert opened.version == source.version and opened.count == source.count
    alone = data.open_source(DataOptions(**{**vars(OPTIONS), "features": "image"}))
    assert alone.features == IMAGE
    assert not data.needs_preparing(OPTIONS)
    assert stacked.is_stacked(opened.version) and not stacked.is_stacked(None)


def test_resident_and_streamed_feeds_give_the_same_batches(source):
    feeds = [make_feed(source, 6, 3, resident_limit_mb=limit) for limit in (2048, 0)]
    assert feeds[0].resident and not feeds[1].resident
    for step in (0, 7):
        first, second = (feed.fetch(feed.resident, feed.item(step)) for feed in feeds)
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])
    for feed in feeds:
        feed.close()


def test_what_cannot_be_stacked_is_refused(digits):
    with pytest.raises(UserError, match=r"data\.channels=1 of stacked-digits: three grey images"):
        data.open_source(DataOptions(name="stacked-digits", channels=1))
    unlabelled = digits._replace(features={"image": digits.features["image"]})
    with pytest.raises(UserError, match="digits has no labels of a known number"):
        stacked.opened("stacked-digits", unlabelled)
    with pytest.raises(UserError, match=r"data\.name: unknown data set 'mnits'; did you mean"):
        data.open_source(DataOptions(name="stacked-mnits"))


def game_of(**changes):
    small = {"model.generator_width": 8, "model.doublings": 2, "model.latent_size": 2}
    made = config.configured("stacked", {**small, **changes})
    return made.recipe.make(IMAGE, made.options)


def test_the_recipe_is_each_variant_with_a_discriminator_of_its_share():
    game = game_of(
        **{"model.discriminator_share": 0.5, "model.pack": 2, "objective.looks": 1},
        **{"objective.dragan": 1.0, "objective.r1_weight": 0, "objective.r2_weight": 0},
    )
    batch = {"image": jax.ShapeDtypeStruct((4, 8, 8, 3), np.uint8)}
    state = jax.eval_shape(lambda: init(game, jax.random.key(0), batch))
    _, metrics = jax.eval_shape(make_step(game), state, batch)
    assert {name for name in metrics if name.startswith("penalty")} == {"penalty_dragan"}
    kernel = state.players["discriminator"].params["module"]["Halve_0"]["kernel"]
    assert kernel.shape == (4, 4, 6, 2)  # half of the generator's 4 channels, of packs of two
    assert len(game.moves[1].lookahead) == 1
    with pytest.raises(UserError, match=r"model\.generator_width=9 cannot be halved 1 times"):
        game_of(**{"model.generator_width": 9})


def test_a_perfect_generator_has_the_kl_of_chance_and_of_the_labels_frequencies():
    """Of 26,000 samples the papers' floor of 0.0192."""
    rng = np.random.default_rng(0)
    frequent = np.repeat(np.arange(10), [8, 10, 10, 10, 10, 10, 10, 10, 10, 12])
    shares = shares_of_data(frequent, 10)
    assert shares[0] == pytest.approx(0.08**3) and shares[990] == pytest.approx(0.12**2 * 0.08)
    count = 26_000
    found = stacked_coverage(stacked.label_of(rng.choice(frequent, (count, 3)), 10), shares)
    # 2 N KL is about chi-square of 999 degrees, and more by a thirtieth where 26 are expected.
    assert found.data_kl == pytest.approx(999 / (2 * count), rel=0.03 + 5 * np.sqrt(2 / 999))
    # By exactly so much are the shares apart from equal ones, in three independent parts.
    apart = 3 * np.sum(np.bincount(frequent) / 100 * np.log(np.bincount(frequent) / 10))
    assert found.reverse_kl == pytest.approx(found.data_kl + apart, rel=0.1)
    assert found.modes == 1000


def test_missing_modes_cost_the_logarithm_of_what_is_left():
    equal = np.full(1000, 1e-3)
    found = stacked_coverage(np.arange(250).repeat(4), equal)
    assert found.modes == 250
    assert found.reverse_kl == pytest.approx(np.log(4)) == found.data_kl
    impossible = stacked_coverage(np.arange(2), np.array([1.0, 0.0]))
    assert impossible.data_kl == np.inf


def test_each_channel_has_its_own_label():
    def classify(images):
        assert images.shape[1:] == (4, 5, 1)
        return np.eye(10)[images[:, 0, 0, 0]]

    images = np.broadcast_to(np.array([[7, 0, 2], [1, 9, 9]])[:, None, None], (2, 4, 5, 3))
    np.testing.assert_array_equal(labels_of(images.astype(np.uint8), classify), [702, 199])
    with pytest.raises(ValueError, match=r"expected images \[N,H,W,3\], got \(2, 4, 5, 1\)"):
        labels_of(images[..., :1], classify)


@pytest.fixture
def judged(monkeypatch):
    """A classifier that calls an image by the pixel of its middle."""

    def describe(images):
        middle = images[:, 4, 4, 0].astype(np.int64)
        return Described(images.reshape(len(images), -1)[:, ::4] / 255, np.eye(10)[middle % 10])

    def classifier(options):
        assert (options.name, options.channels) in (("digits", 1), ("digits", None))
        return Extractor("classifier of digits", "0123456789abcdef", 0.9, describe)

    monkeypatch.setattr(features, "classifier", classifier)
    monkeypatch.setattr(losses, "classifier", classifier)


def test_a_run_on_stacked_data_is_measured_by_the_classifier_of_what_is_stacked(judged):
    about = {"data.name": "stacked-digits", "data.image_size": 8, "data.cache": None}
    kind = evaluate.kind_of({**about, "data_version": "stacked 1 of digits"})
    assert kind is not None and kind.feature == "image"
    true = kind.true(40, 0)
    assert true.shape == (40, 8, 8, 3) and not np.array_equal(true, kind.true(40, 1))
    found = kind.measured(true)
    (warning,) = kind.warnings(found, 40)
    assert warning.startswith("the classifier names 90.0% of held-out images right")
    said = evaluate.table(evaluate.Evaluation(kind, 1, 40, found, found, [warning], ()))
    assert "triples of labels, of 1,000" in said
    assert "by classifier of digits 0123456789ab, 90.00% of held-out right\n" in said


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_command_measures_each_variant_by_seeds(judged, tmp_path, capsys):
    words = ["--quick", "--variants", "packed-2", "--shares", "0.5", "--plots", str(tmp_path)]
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        benchmark.main([*words, "--json", str(tmp_path / "stacked.jsonl")])
    first, second = lines(tmp_path / "stacked.jsonl")
    assert (first["seed"], second["seed"], first["quick"]) == (0, 1, True)
    assert first["variant"] == "packed-2" and first["share"] == 0.5 and first["samples"] == 300
    assert 1 <= first["modes"] <= 300 and first["data_kl"] != second["data_kl"]
    assert first["classifier"]["digest"] == "0123456789abcdef" and first["truth"]["modes"] > 1
    said = capsys.readouterr().out
    assert "true triples" in said and "PacGAN 2, 0.5" in said and "PacGAN 2, 0.25" not in said
    assert (tmp_path / "packed-2-0.5.png").is_file()
    rows = report.stacked([first, second]).splitlines()
    assert rows[2].startswith("| small, 0.5 | packed-2 | 4 | 2 | 0123456789ab | ")
    assert rows[3].startswith("|  | true triples |  |  | 0123456789ab | ")


def test_the_losses_command_measures_each_loss_by_seeds(judged, tmp_path, capsys, monkeypatch):
    def images_of(config, source, images, seeds, count):  # trained above
        config.recipe.make(source.features, config.options)
        made = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), np.uint8)
        return [made, None], 1.0

    monkeypatch.setattr(losses, "images_of", images_of)
    losses.main(["--quick", "--json", str(tmp_path / "losses.jsonl")])
    found = lines(tmp_path / "losses.jsonl")
    assert [r["loss"] for r in found] == [loss for loss in losses.LOSSES for _ in (0, 1)]
    first, second = (r for r in found if r["loss"] == "non-saturating")
    assert (first["seed"], second["seed"]) == (0, 1)
    assert first["frechet_distance"] > first["real_frechet_distance"] > 0
    assert second["frechet_distance"] is None  # that of a member that is not finite
    assert first["config"]["data.split"] == "train[:50%]" and first["samples"] == 60
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "6.8 +- 0.5" in line]
    assert row.startswith("non-saturating") and row.count("+-") == 3
    rows = report.losses([first, second]).splitlines()
    assert rows[2].startswith("| digits | non-saturating | 4 | 2 | 0123456789ab | ")
    assert rows[3].endswith(f"| {first['real_frechet_distance']:.1f} |")


def test_published_rows_are_of_variants_that_are_compared():
    assert {(networks, share) for networks, share, _ in benchmark.PUBLISHED} == {
        ("small", 0.25),
        ("small", 0.5),
        ("full", 1.0),
    }
    of_both = set(losses.PUBLISHED) & set(losses.LOSSES)
    assert set(losses.LOSSES) - of_both == {"hinge", "rpgan-r1-r2"}  # which came later
