"""The recipe of mixtures as each of its variants, and the command that compares them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks import variants
from benchmarks.members import doubling
from jaxgan import config, init, make_step
from jaxgan.data import Feature
from jaxgan.errors import UserError

POINT = {"point": Feature((2,), np.dtype(np.float32))}
TINY = {"model.width": 3, "model.latent_size": 2}


def game_of(example=POINT, **changes):
    made = config.configured("mixtures", {**TINY, **changes})
    return made.recipe.make(example, made.options)


# Those that differ by the objective alone, or by the number of looks, trace as others do.
TRACED = [
    n for n in variants.VARIANTS if n not in ("minimax", "hinge", "unrolled-10", "packed-2", "ours")
]


@pytest.mark.parametrize("name", TRACED)
def test_each_variant_traces_as_a_step_with_its_parts(name):
    game = game_of(**variants.VARIANTS[name])
    batch = {"point": jax.ShapeDtypeStruct((8, 2), np.float32)}
    state = jax.eval_shape(lambda: init(game, jax.random.key(0), batch))
    after, metrics = jax.eval_shape(make_step(game), state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    penalties = {n.removeprefix("penalty_") for n in metrics if n.startswith("penalty_")}
    both = name.startswith("rpgan") or name == "r1-r2"
    expected = {"r1", "r2"} if both else {"r1"} if name == "r1" else set()
    assert penalties == (expected or ({"gradient_penalty"} if name == "wgan-gp" else set()))
    word, _, number = name.rpartition("-")
    assert len(game.moves[1].lookahead) == (int(number) if word == "unrolled" else 0)
    assert getattr(game.players["discriminator"].module, "pack", 1) == (
        int(number) if word == "packed" else 1
    )


def test_rates_and_weights_fall_by_a_cosine_to_their_last_shares():
    options = {"optimizer.fall_steps": 10, "optimizer.last_rate": 0.1, "objective.last_weight": 0.5}
    game = game_of(**options, **{"optimizer.discriminator_rate": 1e-3})
    r1, _ = game_penalties(game)
    np.testing.assert_allclose([r1.weight(t) for t in (0, 5, 10, 99)], [1, 0.75, 0.5, 0.5])
    tx = game.players["discriminator"].tx
    grads = {"w": jnp.ones(())}
    # Adam of equal gradients moves by its rate.
    _, moved = jax.lax.scan(lambda held, _: tx.update(grads, held)[::-1], tx.init(grads), length=12)
    rates = -moved["w"][jnp.array([0, 5, 11])]
    np.testing.assert_allclose(rates, [1e-3, 5.5e-4, 1e-4], rtol=1e-3)


def game_penalties(game):
    """Of the discriminator's move, from what its loss is made of."""
    (_, given) = game.moves[0].loss._known
    return dict(given)["penalties"]


def test_examples_without_points_are_refused():
    with pytest.raises(UserError, match="needs a feature 'point', an example has image"):
        game_of({"image": Feature((8, 8, 1), np.dtype(np.uint8))})


def test_the_command_measures_each_member_and_draws_it_over_time(tmp_path, capsys):
    words = ["--quick", "--mixtures", "mixture-1d", "--variants", "non-saturating"]
    kept = tmp_path / "variants.jsonl"
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        variants.main([*words, "--json", str(kept), "--plots", str(tmp_path / "plots")])
    first, second = [json.loads(line) for line in kept.read_text().splitlines()]
    assert (first["seed"], second["seed"], first["quick"]) == (0, 1, True)
    assert first["variant"] == "non-saturating" and first["samples"] == 500
    assert first["binned_kl"] != second["binned_kl"]
    assert first["truth"]["modes"] == 4 and 0 <= first["modes"] <= 4
    said = capsys.readouterr().out
    assert "true samples" in said and "non-saturating" in said
    with Image.open(tmp_path / "plots" / "mixture-1d.png") as file:
        assert file.height == 98 and file.width % 98 > 0  # a name, then pictures


def test_pictures_are_dark_where_points_are():
    dark = variants.picture(np.array([[0.9, 0.9]] * 9), 1.0, 10)
    assert dark[0, 9] == 0 and (dark == 255).sum() == 99  # up is up
    assert variants.picture(np.full((4, 1), -0.95), 1.0, 10)[:, 0].max() == 0
    assert doubling(8, 5) == [1, 2, 4, 8] and doubling(80, 3) == [20, 40, 80]


def test_published_rows_are_of_known_mixtures():
    assert {mixture for mixture, _ in variants.PUBLISHED} <= set(variants.MIXTURES)
