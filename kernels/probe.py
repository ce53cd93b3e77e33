"""Whether this process's GPU takes the kernels: one small launch, compared with the reference."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgan import terminal
from jaxgan.kernels.bias_leaky_relu import bias_leaky_relu


@functools.cache
def refusal(implementation: str = "triton") -> str:
    """Why an implementation does not run here, in a line; "" where it does.

    XLA, Triton and the driver are of versions of their own, and any of them may refuse a kernel.
    Better asked once, of two small ones, than found out deep inside of a step that is compiled.
    """
    try:
        found, expected = (_small(kind) for kind in (implementation, "xla"))
    except Exception as error:  # of any of the three
        return terminal.one_line(str(error).partition("\n")[0])
    # Sums of eight numbers in another order.
    if all(np.allclose(f, e, rtol=1e-5, atol=1e-6) for f, e in zip(found, expected)):
        return ""
    return "the results are not those of the reference"


def _small(implementation: str) -> list[np.ndarray]:
    """An operation of [8, 128], and its gradients, of which one is summed."""

    def run(x: Array, bias: Array) -> tuple[Any, ...]:
        operation = functools.partial(bias_leaky_relu, implementation=implementation)
        y, pull = jax.vjp(operation, x, bias)
        return y, *pull(jnp.cos(x))

    x = jnp.linspace(-3.0, 3.0, 8 * 128).reshape(8, 128)
    return [np.asarray(result) for result in jax.jit(run)(x, x[0])]
