"""What a program compiled by XLA launches, read from the text of its optimised HLO.

Each kernel comes with the bytes that it must move - its operands and results once, a slice or
gather of an operand by what it takes - and with the FLOPs of the products and convolutions in it,
zeros that fill images included. XLA's own cost analysis does not see into cuDNN's calls, and there
is none where a program was compiled for an absent device.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxgan.run.hlo import Computation, Instruction, parse

_BITS = {"pred": 8, "token": 0, "s4": 4, "u4": 4, "c64": 64, "c128": 128}
_NO_LAUNCH = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call"),
    *("conditional", "after-all", "domain", "opt-barrier", "partition-id", "replica-id"),
}
_CONVOLUTIONS = {
    "convForward": "forward",
    "convBiasActivationForward": "forward",
    "convBackwardInput": "backward_input",
    "convBackwardFilter": "backward_filter",
}
_MOVES = {
    *("transpose", "bitcast", "copy", "reshape", "convert", "pad", "parameter", "broadcast"),
    "constant",
}
_SLICES = {"slice", "dynamic-slice", "gather"}
_COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"),
)


class Launch(NamedTuple):
    """One kernel, or one call into a library.

    Attributes:
      name: of the instruction.
      kind: convolution, product, triton, transpose, copy, reduce or elementwise.
      convolution: forward, backward_input or backward_filter where cuDNN convolves; else "".
      scope: the `op_name` that JAX gave it.
      bytes: that it must move.
      flops: of products and convolutions.
      zero_dilated: whether it convolves images or kernels between whose pixels zeros were put.
    """

    name: str
    kind: str
    convolution: str
    scope: str
    bytes: int
    flops: int
    zero_dilated: bool


def launches(text: str) -> list[Launch]:
    """Every kernel of a program, those of a loop as often as it goes round, where the program says
    how often.
    """
    computations, entry = parse(text)
    return list(_launched(computations, entry, 1))


def collectives(text: str) -> list[dict[str, Any]]:
    """The collectives of a program: kind, and the bytes that each device gives."""
    found = []
    for computation in parse(text)[0].values():
        for i in computation.values():
            kind = i.opcode.removesuffix("-start")
            if kind in _COLLECTIVES:
                found.append({"kind": kind, "bytes": size(i.type)})
    return found


def _launched(computations: dict[str, Computation], name: str, rounds: int) -> Iterator[Launch]:
    callers = r"(?:body|condition|to_apply|true_computation|false_computation)=%?([\w.-]+)"
    for i in computations[name].values():
        if i.opcode in ("while", "call", "conditional"):
            trips = re.search(r'known_trip_count"?[:=]\{"?n"?[:=]"?(\d+)', i.rest)
            inside = re.findall(callers, i.rest)
            if branches := re.search(r"branch_computations=\{([^}]*)\}", i.rest):
                inside.append(branches[1].split(",")[0].strip().lstrip("%"))
            for inner in inside:
                times = rounds * int(trips[1]) if trips else rounds
                yield from _launched(computations, inner, times)
        elif i.opcode not in _NO_LAUNCH and not i.opcode.endswith("-done"):
            yield from [_launch(computations, computations[name], i)] * rounds


def _launch(
    computations: dict[str, Computation], computation: Computation, i: Instruction
) -> Launch:
    target = i.attribute("custom_call_target")
    convolution = _CONVOLUTIONS.get(target.removeprefix("__cudnn$"), "")
    body = _body(computations, i)
    flops = sum(_flops(body, inner) for inner in body.values()) if body else _flops(computation, i)
    parts = (i, *body.values())
    windows = [part.rest for part in parts if convolution or part.opcode == "convolution"]
    zero_dilated = bool(windows) and (
        any(_filled(computations, computation, operand) for operand in i.operands[:2])
        or any(re.search(r"window=\{[^}]*[lr]hs_dilate=", window) for window in windows)
    )
    kind = _kind(i, target, bool(windows), flops)
    moved = _moved(computation, i, body, target)
    return Launch(i.name, kind, convolution, i.scope, moved, flops, zero_dilated)


def _kind(i: Instruction, target: str, convolves: bool, flops: int) -> str:
    if convolves:
        return "convolution"
    if target == "__gpu$xla.gpu.triton":
        return "triton"
    if flops or "gemm" in i.name or "__cublas" in target:
        return "product"
    if "transpose" in i.name:
        return "transpose"
    if i.opcode.startswith("copy") or i.name.startswith(("copy", "loop_copy", "wrapped_copy")):
        return "copy"
    return "reduce" if "reduce" in i.name else "elementwise"


def _body(computations: dict[str, Computation], i: Instruction) -> Computation:
    return computations.get(i.attribute("calls"), {}) if i.opcode == "fusion" else {}


def _moved(computation: Computation, i: Instruction, body: Computation, target: str) -> int:
    """Bytes of the operands and results; of a library's call without its workspace, the last of
    several results.
    """
    if i.opcode in _SLICES:
        return 2 * size(i.type)
    results = _parts(i.type)
    if target.startswith(("__cublas", "__cudnn")) and len(results) > 1:
        results = results[:-1]
    moved = sum(map(size, results))
    numbers = {p.operands: p.name for p in body.values() if p.opcode == "parameter"}
    for position, operand in enumerate(dict.fromkeys(i.operands)):
        whole = size(computation[operand].type) if operand in computation else 0
        parameter = numbers.get((str(position),))
        users = [u for u in body.values() if parameter in u.operands]
        if users and all(u.opcode in _SLICES and u.operands[0] == parameter for u in users):
            whole = min(whole, sum(size(u.type) for u in users))
        moved += whole
    return moved


def _flops(computation: Computation, i: Instruction) -> int:
    def shape(position: int) -> list[int]:
        return _dimensions(computation[i.operands[position]].type)

    result = _dimensions(i.type)
    if i.opcode == "dot" or "__cublas$" in i.rest:
        digits = re.search(r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]([\d," ]*)', i.rest)
        contracted = [int(d) for d in re.findall(r"\d+", digits[1])] if digits else []
        return 2 * math.prod(result) * math.prod(shape(0)[d] for d in contracted)
    target = i.attribute("custom_call_target").removeprefix("__cudnn$")
    labels = re.search(r"dim_labels=\w+_(\w+)->\w+", i.rest)
    if not labels or not (target in _CONVOLUTIONS or i.opcode == "convolution"):
        return 0
    # Each place and channel of the smaller map joins k * k * I pixels; which of the three arrays
    # the map and the kernel are depends.
    small, kernel = {
        "convBackwardInput": (shape(0), shape(1)),
        "convBackwardFilter": (shape(1), result),
    }.get(target, (result, shape(1)))
    return 2 * math.prod(small) * math.prod(kernel) // kernel[labels[1].index("o")]


def size(type: str) -> int:
    """Bytes of a type such as f32[128,7,7,64]{3,2,1,0} or of a tuple's parts together."""
    total = 0
    for name, dimensions in re.findall(r"(\w+)\[([\d,]*)\]", type):
        bits = _BITS.get(name) or int((re.search(r"\d+", name) or ["0"])[0])
        total += math.prod(int(d) for d in dimensions.split(",") if d) * bits // 8
    return total


def _parts(type: str) -> list[str]:
    return re.findall(r"\w+\[[\d,]*\]", type)


def _dimensions(type: str) -> list[int]:
    """Of the first array of a type."""
    found = re.search(r"\[([\d,]*)\]", type)
    return [int(d) for d in found[1].split(",") if d] if found else []


def _filled(
    computations: dict[str, Computation], computation: Computation, name: str, element: int = 0
) -> bool:
    """Whether an array is, but for its layout and margins, another with zeros put between its
    pixels.
    """
    i = computation.get(name)
    if i is None or not i.operands or i.opcode in ("parameter", "constant"):
        return False
    if i.opcode == "pad" and re.search(r"padding=[\dx_-]*?\d+_-?\d+_[1-9]", i.rest):
        return True
    if i.opcode == "get-tuple-element":
        return _filled(computations, computation, i.operands[0], int(i.attribute("index")))
    if i.opcode == "tuple":
        return _filled(computations, computation, i.operands[element])
    if i.opcode == "fusion":
        body = _body(computations, i)
        root = next((inner.name for inner in body.values() if inner.root), "")
        if _filled(computations, body, root, element):
            return True
        moves = all(inner.opcode in (*_MOVES, "tuple") for inner in body.values())
        return moves and any(_filled(computations, computation, operand) for operand in i.operands)
    return i.opcode in _MOVES and _filled(computations, computation, i.operands[0])
