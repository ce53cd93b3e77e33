"""Prediction for N GPUs in nodes of g, m = N / g nodes, S bytes in C collectives a step, each a ring within the node and rings over the
nodes:

  t = 2 (g-1)/g S/B_node + 2 (m-1)/m (S/g)/B_network + C (2 (g-1) L_node + 2 (m-1) L_network)

(reduce-scatter and all-gather within the node, between them an all-reduce of a g-th of the bytes by each GPU over its own share of the
network; Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH, 2005). B are bytes a second of one
GPU in one direction, L the time of a hop; S and C come from the compiled program. One step of a GPU alone takes T. Without overlap a step
takes T + t, the pessimistic bound; with all communication hidden max(T, t), the optimistic one.

Assumed: equal GPUs that never wait for data or for a slower one, an uncongested network, no loss in NCCL's protocols, and rings; NCCL's
trees need fewer hops on many nodes, so that there the latency is an upper bound too.
"""

import re
from typing import Any, NamedTuple

from benchmarks.hlo import size as bytes_of

GPUS = (8, 16, 64, 256, 1024)
_COLLECTIVES = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"


class Links(NamedTuple):
    """How GPUs are connected: bytes a second of one GPU in one direction, seconds of a hop."""

    gpus_per_node: int = 8
    node_bytes_per_s: float = 450e9
    network_bytes_per_s: float = 50e9
    node_latency_s: float = 2e-6
    network_latency_s: float = 5e-6


def communication_seconds(gpus: int, size: float, collectives: int, links: Links) -> float:
    """Seconds of a step's collectives over `gpus`, by the formula above; size in bytes."""
    g = min(gpus, links.gpus_per_node)
    m = -(-gpus // g)
    within, over = 2 * (g - 1), 2 * (m - 1)
    carried = (
        within / g * size / links.node_bytes_per_s + over / m * size / g / links.network_bytes_per_s
    )
    return carried + collectives * (within * links.node_latency_s + over * links.network_latency_s)


def predicted(
    step_s: float | None, batch: int, size: float, collectives: int, links: Links
) -> list[dict[str, Any]]:
    """A row for each number of GPUs; rates and efficiencies are None where no step time is known."""
    rows = []
    for gpus in GPUS:
        t = communication_seconds(gpus, size, collectives, links)
        row: dict[str, Any] = {"gpus": gpus, "communication_ms": 1e3 * t}
        for name in ("no_overlap", "full_overlap"):
            seconds = (
                None if step_s is None else step_s + t if name == "no_overlap" else max(step_s, t)
            )
            row[f"efficiency_{name}"] = step_s / seconds if step_s and seconds else None
            row[f"images_per_s_{name}"] = gpus * batch / seconds if seconds else None
        rows.append(row)
    return rows


def collectives(hlo: str) -> list[dict[str, Any]]:
    """The collectives of an optimised program: kind, bytes that each device gives, and the shapes that were combined."""
    found = []
    hlo = re.sub(r"/\*.*?\*/", "", hlo)  # long tuples number their parts
    for shapes, kind in re.findall(rf"= ([^=\n]*?) ({_COLLECTIVES})(?:-start)?\(", hlo):
        dims = [
            [int(n) for n in dims.split(",") if n] for dims in re.findall(r"\w\[([\d,]*)\]", shapes)
        ]
        found.append({"kind": kind, "bytes": bytes_of(shapes), "shapes": dims})
    return found
