"""Rematerialisation: the same gradients of less that is kept."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from helpers import assert_close, points, toy, train

from jaxgan.errors import UserError
from jaxgan.game import init
from jaxgan.penalties import r1
from jaxgan.rematerialisation import METHODS, rematerialised
from jaxgan.step import make_step

DEPTH, WIDTH, BATCH = 16, 32, 256


class Deep(nn.Module):
    """A chain of layers, of which a gradient keeps input and slope each, with batch norm."""

    depth: int = DEPTH
    out: int = 1

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(WIDTH)(x)
        for _ in range(self.depth):
            x = x + nn.swish(nn.Dense(WIDTH)(x))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dense(self.out)(x)


def kept_bytes(method):
    """Of what a gradient keeps of the forward pass, without parameters and inputs."""
    x, network = jnp.zeros((BATCH, 2)), Deep()
    variables = network.init(jax.random.key(0), x, train=True)

    def loss(params):
        apply = rematerialised(lambda v, x: network.apply(v, x, False), method)
        return apply({"params": params, "batch_stats": variables["batch_stats"]}, x).sum()

    kept = jax.eval_shape(lambda params: jax.vjp(loss, params)[1], variables["params"])
    return sum(leaf.size * 4 for leaf in jax.tree.leaves(kept) if leaf.shape[:1] == (BATCH,))


def test_blocks_keep_the_root_of_the_layers_and_elementwise_their_products():
    layer = BATCH * WIDTH * 4
    kept = {method: kept_bytes(method) / layer for method in METHODS}
    assert kept["none"] > 2 * DEPTH  # the input, and what swish's slope takes
    assert kept["elementwise"] < DEPTH + 3  # a product a layer
    assert kept["blocks"] < 8


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_step_is_the_same(method):
    game = toy(Deep(4, 2), Deep(4), penalties=(r1(0.1, independent=False),))
    items = [points(i) for i in range(2)]
    first = init(game, jax.random.key(0), items[0])
    plain = train(jax.jit(make_step(game)), first, items)
    again = train(jax.jit(make_step(game, remat=method)), first, items)
    assert_close(plain, again)  # fused otherwise


def test_an_unknown_method_is_refused():
    with pytest.raises(UserError, match="remat='all' is no method; use none, elementwise, blocks"):
        rematerialised(jnp.sin, "all")
