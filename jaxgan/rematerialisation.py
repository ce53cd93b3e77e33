"""Rematerialisation: a backward pass computes again what the forward pass would have kept for it.

"elementwise" keeps the results of products and convolutions, and computes the rest again. "blocks"
computes all of it again, block by block: a network is a list of equations, its jaxpr, whatever it
was written in, and is cut where few numbers are alive, into blocks whose inputs alone are kept. A
chain of n equal layers then keeps some sqrt(n) of them, at the cost of a second forward pass.

References:
  Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal, Var, jaxpr_as_fun

from jaxgan.errors import UserError

METHODS = ("none", "elementwise", "blocks")
_PRODUCTS = ("dot_general", "conv_general_dilated", "gan_convolve", "gan_spread", "gan_correlate")
_MOST = 32  # blocks


def rematerialised(function: Callable, method: str) -> Callable:
    """The function of trees of arrays, which keeps less for its gradients, by one of `METHODS`."""
    if method not in METHODS:
        raise UserError(f"remat={method!r} is no method; use {', '.join(METHODS)}")
    if method == "elementwise":
        return jax.checkpoint(function, policy=_is_product)
    return _in_blocks(function) if method == "blocks" else function


def _is_product(primitive: Any, *_: Any, **params: Any) -> bool:
    return primitive.name in _PRODUCTS


def _in_blocks(function: Callable) -> Callable:
    def run(*arguments: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        jaxpr = closed.jaxpr
        held = dict(zip(jaxpr.constvars, closed.consts))
        held |= dict(zip(jaxpr.invars, jax.tree.leaves(arguments)))
        starts = [0, *_cuts(jaxpr), len(jaxpr.eqns)]
        for start, end in itertools.pairwise(starts):
            inputs, outputs = _ends(jaxpr, start, end)
            block = jaxpr.replace(
                constvars=[],
                invars=inputs,
                outvars=outputs,
                eqns=jaxpr.eqns[start:end],
                debug_info=jaxpr.debug_info.with_unknown_names(),
            )
            computed = jax.checkpoint(jaxpr_as_fun(ClosedJaxpr(block, [])))
            held |= dict(zip(outputs, computed(*[held[name] for name in inputs])))
        results = [x.val if isinstance(x, Literal) else held[x] for x in jaxpr.outvars]
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return run


def _cuts(jaxpr: Any) -> list[int]:
    """Before which equations to cut, so that what is kept at the cuts and what the largest block
    makes are the fewest bytes together; nowhere, where that saves less than half of what is made:
    in few layers, of which one is the largest, each cut keeps much."""
    made, kept = _bytes_made(jaxpr), _bytes_alive(jaxpr)
    until = [0, *itertools.accumulate(made)]
    best, cuts = until[-1] / 2, []
    for blocks in range(2, _MOST + 1):
        largest = max(until[-1] / blocks, *made)
        # cost[j]: what the cheapest cuts of the first j equations keep; begun[j]: the last of them.
        cost, begun, first = [0.0], [0], 0
        for j in range(1, len(until)):
            while until[j] - until[first] > largest:
                first += 1
            begun.append(min(range(first, j), key=lambda i: cost[i] + kept[i]))
            cost.append(cost[begun[j]] + kept[begun[j]])
        if cost[-1] + largest < best:
            best, cuts, j = cost[-1] + largest, [], begun[-1]
            while j:
                cuts, j = [j, *cuts], begun[j]
    return cuts


def _size(x: Any) -> int:
    shape, dtype = getattr(x.aval, "shape", ()), getattr(x.aval, "dtype", None)
    return math.prod(shape) * getattr(dtype, "itemsize", 0)


def _bytes_made(jaxpr: Any) -> list[int]:
    """By each equation, of what is written to memory: what XLA computes elementwise it fuses into
    the equation that takes it, unless that is a product."""
    products = [e for e in jaxpr.eqns if e.primitive.name in _PRODUCTS]
    written = {x for e in products for x in (*_variables(e.invars), *e.outvars)}
    return [sum(_size(x) for x in e.outvars if x in written) for e in jaxpr.eqns]


def _bytes_alive(jaxpr: Any) -> list[int]:
    """Before each equation: of what those before it made, and it or a later one takes."""
    made = {x: i for i, equation in enumerate(jaxpr.eqns) for x in equation.outvars}
    used: dict[Any, int] = {}
    for i, equation in enumerate(jaxpr.eqns):
        used |= {x: i for x in _variables(equation.invars)}
    changes = [0] * (len(jaxpr.eqns) + 1)
    for x, i in used.items():
        if x in made:
            changes[made[x] + 1] += _size(x)
            changes[i + 1] -= _size(x)
    alive = []
    for change in changes[:-1]:
        alive.append((alive[-1] if alive else 0) + change)
    return alive


def _ends(jaxpr: Any, start: int, end: int) -> tuple[list[Var], list[Var]]:
    """What equations take from before them, and what those after them, or the result, take."""
    made = dict.fromkeys(x for equation in jaxpr.eqns[start:end] for x in equation.outvars)
    taken = dict.fromkeys(x for e in jaxpr.eqns[start:end] for x in _variables(e.invars))
    later = {x for equation in jaxpr.eqns[end:] for x in _variables(equation.invars)}
    later |= set(_variables(jaxpr.outvars))
    return [x for x in taken if x not in made], [x for x in made if x in later]


def _variables(names: Sequence[Any]) -> list[Var]:
    return [x for x in names if not isinstance(x, Literal)]
