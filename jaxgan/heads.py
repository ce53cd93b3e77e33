"""The heads of a discriminator: logits, or a pytree of them, with one objective or one each."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.errors import UserError
from jaxgan.kernels import fused
from jaxgan.objectives import Objective

Objectives = Objective | dict[str, Objective]  # of all heads, or by head


def over_heads(objectives: Objectives, player: str, real: Any, fake: Any) -> Array:
    """The sum over heads of what "discriminator" or "generator" minimises."""
    if not isinstance(objectives, dict | Objective):
        raise UserError(
            f"objective={objectives!r} is no Objective; use one such as hinge(), called"
        )
    if isinstance(objectives, dict):
        for head in objectives:
            if not isinstance(real, dict) or head not in real:
                given = ", ".join(map(repr, real)) if isinstance(real, dict) else "no dict"
                raise UserError(
                    f"the objective names the head {head!r}, the discriminator gives {given}; name "
                    "its heads"
                )
        losses = [over_heads(o, player, real[head], fake[head]) for head, o in objectives.items()]
    else:
        loss = getattr(fused(objectives), player)
        losses = jax.tree.leaves(jax.tree.map(loss, real, fake))
    return functools.reduce(jnp.add, losses)


def verdicts(objectives: Objectives, outputs: Any) -> Any:
    """The heads that judge whether an example is real, of all that a discriminator gives."""
    if not isinstance(objectives, dict):
        return outputs
    return {head: outputs[head] for head, o in objectives.items() if not o.auxiliary}


def scores(objectives: Objectives, on_real: Any, on_fake: Any) -> dict[str, Array]:
    """Metrics of the outputs: the mean probability of being real, or the mean logit where a logit
    is no log odds; and of auxiliary heads the mean output, by name."""
    heads = objectives if isinstance(objectives, dict) else {"": objectives}
    log_odds = all(o.log_odds for o in heads.values() if not o.auxiliary)
    name, seen_as = ("score", jax.nn.sigmoid) if log_odds else ("logit", jnp.asarray)
    metrics: dict[str, Array] = {}
    for kind, outputs in (("real", on_real), ("fake", on_fake)):
        means = [jnp.mean(seen_as(head)) for head in jax.tree.leaves(verdicts(objectives, outputs))]
        metrics[f"{name}_{kind}"] = functools.reduce(jnp.add, means) / len(means)
        for head, objective in heads.items():
            if objective.auxiliary:
                metrics[f"{head}_{kind}"] = jnp.mean(outputs[head])
    return metrics
