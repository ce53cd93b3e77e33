"""How XLA hands a compiled program to a GPU: what lies in CUDA graphs, and what the host launches
by itself; read from XLA's list of thunks, one of which is one thing that the host starts.

    017: kWhile         [prev=000 (1) | next=000 (1)]
    condition:
        018: kCustomKernel [source | sink] loop_compare_fusion grid: [1, 1, 1] ..
      body:
        000: kCommandBuffer [source        | next=025 (1)]
            019: kCustomKernel [source        | next=024 (5) ] loop_add_fusion ..
        025: kConvolution   [prev=000 (1)  | next=026 (1)] kConvolution

A loop outside of graphs is driven by the host, which starts all that is in it anew in each round.
"""

import collections
import pathlib
import re
from collections.abc import Iterator
from typing import Any

_GRAPH, _LOOP = "kCommandBuffer", "kWhile"
_OF_LOOP = {"condition:": True, "body:": False}


def dumped(folder: str | pathlib.Path) -> str:
    """The thunks of the one program that was dumped to a folder; where XLA makes no graph of any,
    it writes them once only."""
    for name in ("*thunk_sequence_after_thunk_passes.txt", "*thunk_sequence.txt"):
        found = list(pathlib.Path(folder).glob(name))
        if len(found) == 1:
            return found[0].read_text()
    raise ValueError(f"{folder} holds the thunks of no program, or of several")


def counted(text: str, rounds: int) -> dict[str, Any]:
    """What a dispatch starts.

    Args:
      text: thunks, as XLA prints them.
      rounds: of a loop; of one in another one.

    Returns:
      `graphs_per_dispatch`, `launches_outside_graphs`, and `outside`, the latter by kind.
    """
    graphs, outside = 0, collections.Counter[str]()
    for kind, around in _started(text):
        times = rounds if _LOOP in around else 1
        if kind == _GRAPH:
            graphs += times
        elif _GRAPH not in around:
            outside[kind] += times
    total = sum(outside.values())
    return {
        "graphs_per_dispatch": graphs,
        "launches_outside_graphs": total,
        "outside": dict(outside),
    }


def _started(text: str) -> Iterator[tuple[str, list[str]]]:
    """Graphs, and thunks that hold no others, each with the kinds of those that hold it. What says
    whether a loop goes on is left out: of loops of known length nobody asks."""
    lines = text.splitlines()
    found = [re.match(r"( *)\d+: (k\w+)", line) for line in lines]
    of_condition, holders = False, list[tuple[int, str]]()
    for at, thunk in enumerate(found):
        if thunk is None:
            of_condition = _OF_LOOP.get(lines[at].strip(), of_condition)
            continue
        depth, kind = len(thunk[1]), thunk[2]
        while holders and holders[-1][0] >= depth:
            holders.pop()
        following = next(filter(None, found[at + 1 :]), None)
        holds = following is not None and len(following[1]) > depth
        around = [kind for _, kind in holders]
        if not of_condition and (kind == _GRAPH or not (holds or kind.endswith("Done"))):
            yield kind, around
        if holds:
            holders.append((depth, kind))
