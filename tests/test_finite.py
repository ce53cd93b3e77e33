"""Finiteness: which array of a state is named, and that a state that is not finite is not kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import finite
from jaxgan.errors import RunError


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_first_array_that_is_not_finite_is_named(value, dtype):
    tree = {
        "a": jnp.ones((2, 3), dtype),
        "b": (jnp.ones(4, dtype).at[3].set(value), jnp.full((), value, dtype)),
    }
    assert finite.first_not_finite(tree) == "b.0"
    assert finite.first_not_finite(jax.device_get(tree)) == "b.0"  # on the host


def test_integers_keys_and_numbers_of_python_are_passed_over_or_looked_at():
    tree = {"key": jax.random.key(0), "step": jnp.int32(3), "rate": 0.5, "none": None, "empty": {}}
    assert finite.first_not_finite(tree) is None
    assert finite.first_not_finite({**tree, "rate": float("nan")}) == "rate"
    assert finite.first_not_finite({}) is None


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
