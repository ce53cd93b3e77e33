"""Means over the steps since a record: in float64, and the same wherever a run was stopped."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import RunError
from jaxgan.run.means import Means

LOSSES = np.random.default_rng(0).normal(size=20).astype(np.float32)


def sent(means, first, last, together=1):
    for step in range(first, last, together):
        losses = LOSSES[step : step + together] if together > 1 else LOSSES[step]
        means.sent({"loss": jnp.asarray(losses)})


@pytest.mark.parametrize("together", [1, 5])
def test_each_record_has_the_mean_of_its_own_steps(together):
    means = Means(every=10, steps=20)
    for first in (0, 10):
        sent(means, first, first + 10, together)
        found = means.taken(first + 10, 0)
        # Rounding of a sum of float64.
        expected = LOSSES[first : first + 10].mean(dtype=np.float64)
        np.testing.assert_allclose(found["loss"], expected, rtol=1e-14)


def test_looking_between_two_records_tells_the_mean_so_far_and_changes_no_bit():
    once, often = Means(10, 20), Means(10, 20)
    sent(once, 0, 10)
    for step in range(10):
        sent(often, step, step + 1)
        found = often.taken(step + 1, 0)["loss"]
        np.testing.assert_allclose(found, LOSSES[: step + 1].mean(dtype=np.float64), rtol=1e-14)
    assert found == once.taken(10, 0)["loss"]


@pytest.mark.parametrize("stop", range(1, 10))
def test_a_checkpoint_keeps_what_was_summed_in_all_its_bits(stop):
    whole, first = Means(10, 20), Means(10, 20)
    sent(whole, 0, 10)
    sent(first, 0, stop)
    second = Means(10, 20, json.loads(json.dumps(first.kept(stop, 0))))
    sent(second, stop, 10)
    assert second.taken(10, 0) == whole.taken(10, 0)


@pytest.mark.parametrize("step", [10, 17])
def test_nothing_is_kept_where_a_record_is_made(step):
    means = Means(10, 17)
    sent(means, 0, step)
    means.taken(step, 0)
    assert means.kept(step, 0) == {"count": 0, "sums": {}}


def test_a_run_that_logs_others_than_before_begins_its_means_anew():
    kept = {"count": 3, "sums": {"other": 30.0}}
    means = Means(10, 20, kept)
    sent(means, 3, 10)
    np.testing.assert_allclose(
        means.taken(10, 0)["loss"], LOSSES[3:10].mean(dtype=np.float64), rtol=1e-14
    )


def test_a_game_that_logs_nothing_has_no_means():
    means = Means(10, 20)
    means.sent({})
    assert means.taken(1, 0) == {} and means.kept(1, 0) == {"count": 0, "sums": {}}


def test_one_step_that_is_not_finite_is_named_and_hidden_in_no_mean():
    means = Means(10, 20)
    sent(means, 0, 4)
    means.taken(4, 0)
    means.sent({"loss": jnp.float32(jnp.nan)})
    sent(means, 5, 10)
    with pytest.raises(RunError, match="loss became nan at step 5, within steps 5 to 10"):
        means.taken(10, 0)
