"""Finiteness: which array of a state is named, and what an error says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import RunError
from jaxgan.run import finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_first_array_that_is_not_finite_is_named(value, dtype):
    bad = jnp.ones(4, dtype).at[3].set(value)
    tree = {"a": jnp.ones((2, 3), dtype), "b": (bad, jnp.full((), value, dtype))}
    assert finite.first_not_finite(tree) == "b.0"
    assert finite.first_not_finite(jax.device_get(tree)) == "b.0"  # on the host


def test_integers_keys_and_numbers_of_python_are_passed_over_or_looked_at():
    tree = {"key": jax.random.key(0), "step": jnp.int32(3), "rate": 0.5, "none": None, "empty": {}}
    assert finite.first_not_finite(tree) is None
    assert finite.first_not_finite({**tree, "rate": float("nan")}) == "rate"
    assert finite.first_not_finite({}) is None


def test_scalars_of_an_optimizer_may_begin_infinite_and_its_arrays_may_not():
    """Such as the best loss so far."""
    tree = {"opt_state": {"best": jnp.float32(jnp.inf), "moment": jnp.ones(3)}}
    assert finite.first_not_finite(tree) is None
    tree["opt_state"]["moment"] = jnp.full(3, jnp.inf)
    assert finite.first_not_finite(tree) == "opt_state.moment"


def test_the_largest_finite_numbers_are_finite():
    """A sum would overflow."""
    assert finite.first_not_finite(jnp.full(1000, jnp.finfo(jnp.float32).max)) is None


@pytest.mark.parametrize(
    ("step", "saved", "text"),
    [
        (1, 0, "not finite in step 1: w; no checkpoint was made yet"),
        (8, 4, "not finite within steps 5 to 8: w; the checkpoint of step 4 is kept"),
    ],
)
def test_the_error_names_the_steps_the_array_and_the_checkpoint(step, saved, text):
    with pytest.raises(RunError, match=text):
        finite.check_state({"w": jnp.float32(jnp.nan)}, step, saved)
    finite.check_state({"w": jnp.float32(0)}, step, saved)


def test_metrics_of_single_steps_and_of_many_are_looked_at_in_order():
    one, many = {"loss": jnp.float32(1)}, {"loss": jnp.float32([2, 3, 4])}
    found = finite.checked_metrics([one, many, one], 5, 0)["loss"]
    assert found.tolist() == [1.0, 2.0, 3.0, 4.0, 1.0] and found.dtype == np.float64
    many = {"loss": jnp.float32([2, jnp.inf, jnp.nan])}
    text = "loss became inf at step 8, within steps 6 to 10; the checkpoint of step 5 is kept"
    with pytest.raises(RunError, match=text):
        finite.checked_metrics([one, many, one], 10, 5)


def test_a_game_that_logs_nothing_has_nothing_to_look_at():
    assert finite.checked_metrics([{}, {}], 2, 0) == {} == finite.checked_metrics([], 0, 0)
