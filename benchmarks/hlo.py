"""What a program compiled by XLA launches, read from the text of its optimised HLO.

`launches` gives each kernel with the bytes that it must move - its operands and results once, a slice or gather of an operand by what
it takes - and the FLOPs of the products and convolutions in it, zeros that fill images included. XLA's own cost analysis does not see
into cuDNN's calls, and there is none where a program was compiled for an absent device.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_BITS = {"pred": 8, "token": 0, "s4": 4, "u4": 4, "c64": 64, "c128": 128}
_NO_LAUNCH = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "call",
    "conditional",
    "after-all",
    "domain",
}
_NO_LAUNCH |= {"opt-barrier", "partition-id", "replica-id"}
_CONVOLUTIONS = {
    "convForward": "forward",
    "convBiasActivationForward": "forward",
    "convBackwardInput": "backward_input",
}
_CONVOLUTIONS |= {"convBackwardFilter": "backward_filter"}
_MOVES = (
    "transpose",
    "bitcast",
    "copy",
    "reshape",
    "convert",
    "pad",
    "parameter",
    "broadcast",
    "constant",
)


class Launch(NamedTuple):
    """One kernel, or one call into a library.

    Attributes:
      name: of the instruction.
      kind: convolution, product, triton, transpose, copy, reduce or elementwise.
      convolution: forward, backward_input or backward_filter where cuDNN convolves; else "".
      scope: the `op_name` that JAX gave it, such as jit(step)/generate/jvp(SeedGenerator)/ConvTranspose_0/...
      operands: names of what it reads.
      bytes: that it must move.
      flops: of products and convolutions.
      zero_dilated: whether it convolves images or kernels between whose pixels zeros were put.
      operation: the target of a custom call, else the HLO operation.
    """

    name: str
    kind: str
    convolution: str
    scope: str
    operands: tuple[str, ...]
    bytes: int
    flops: int
    zero_dilated: bool
    operation: str


class Instruction(NamedTuple):
    """A line of HLO: its result's type, operation, operands' names, and the text after them."""

    name: str
    type: str
    operation: str
    operands: tuple[str, ...]
    rest: str
    root: bool


Computation = dict[str, Instruction]


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """The computations of a program by name, and which is the entry."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := re.match(
            r"(ENTRY )?%?([\w.-]+) \(.*\{$", line.strip() if not line.startswith("  ") else ""
        ):
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif current is not None and (
            found := re.match(r"\s+(ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\((.*)$", line)
        ):
            inside, rest = _closed(found[5])
            current[found[2]] = Instruction(
                found[2],
                found[3],
                found[4],
                tuple(re.findall(r"%([\w.-]+)", inside)),
                rest,
                bool(found[1]),
            )
            if found[4] in ("parameter", "constant"):
                current[found[2]] = current[found[2]]._replace(operands=(inside,))
    return computations, entry


def launches(text: str) -> list[Launch]:
    """Every kernel of a program, those of a loop as often as it goes round, where the program says how often."""
    computations, entry = parse(text)
    return list(_launched(computations, entry, 1))


def _launched(computations: dict[str, Computation], name: str, rounds: int) -> Iterator[Launch]:
    computation = computations[name]
    for i in computation.values():
        for inner in re.findall(
            r"(?:body|condition|to_apply|true_computation|false_computation)=%?([\w.-]+)", i.rest
        ):
            if i.operation in ("while", "call", "conditional"):
                trips = re.search(r'known_trip_count"?[:=]\{"?n"?[:=]"?(\d+)', i.rest)
                yield from _launched(
                    computations, inner, rounds * int(trips[1]) if trips else rounds
                )
        if branches := re.search(r"branch_computations=\{([^}]*)\}", i.rest):
            yield from _launched(
                computations, branches[1].split(",")[0].strip().lstrip("%"), rounds
            )
        if i.operation not in _NO_LAUNCH and not i.operation.endswith("-done"):
            yield from [_launch(computations, computation, i)] * rounds


def _launch(
    computations: dict[str, Computation], computation: Computation, i: Instruction
) -> Launch:
    target = _value("custom_call_target", i.rest)
    convolution = _CONVOLUTIONS.get(target.removeprefix("__cudnn$"), "")
    body = computations.get(_called(i), {}) if i.operation == "fusion" else {}
    flops = sum(_flops(body, inner) for inner in body.values()) if body else _flops(computation, i)
    windows = [
        part.rest for part in (i, *body.values()) if convolution or part.operation == "convolution"
    ]
    zero_dilated = bool(windows) and any(
        _filled(computations, computation, operand) for operand in i.operands[:2]
    )
    zero_dilated |= any(re.search(r"window=\{[^}]*[lr]hs_dilate=", window) for window in windows)
    if windows:
        kind = "convolution"
    elif target.startswith("triton_kernel_call"):
        kind = "triton"
    elif flops or "gemm" in i.name or "__cublas" in target:
        kind = "product"
    elif "transpose" in i.name:
        kind = "transpose"
    elif i.operation.startswith("copy") or i.name.startswith(("copy", "loop_copy", "wrapped_copy")):
        kind = "copy"
    else:
        kind = "reduce" if "reduce" in i.name else "elementwise"
    scope = re.search(r'op_name="((?:[^"\\]|\\.)*)"', i.rest)
    moved = _moved(computation, i, body, target)
    return Launch(
        i.name,
        kind,
        convolution,
        scope[1] if scope else "",
        i.operands,
        moved,
        flops,
        zero_dilated,
        target or i.operation,
    )


# ------------------------------------------------------------------------------------------------------------------ bytes, FLOPs
def _moved(computation: Computation, i: Instruction, body: Computation, target: str) -> int:
    """Bytes of the operands and results; of a library's call without its workspace, the last of several results."""
    if i.operation in ("slice", "dynamic-slice", "gather"):
        return 2 * size(i.type)
    results = _parts(i.type)
    written = sum(
        map(size, results[:-1] if target.startswith("__") and len(results) > 1 else results)
    )
    read = 0
    for position, operand in enumerate(dict.fromkeys(i.operands)):
        whole = size(computation[operand].type) if operand in computation else 0
        parameter = next(
            (
                p.name
                for p in body.values()
                if p.operation == "parameter" and p.operands == (str(position),)
            ),
            None,
        )
        users = [u for u in body.values() if parameter in u.operands]
        if users and all(
            u.operation in ("slice", "dynamic-slice", "gather") and u.operands[0] == parameter
            for u in users
        ):
            whole = min(whole, sum(size(u.type) for u in users))
        read += whole
    return read + written


def _flops(computation: Computation, i: Instruction) -> int:
    shape = lambda name: _dimensions(computation[name].type)
    if i.operation == "dot" or "__cublas$" in i.rest:
        digits = re.search(r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]([\d," ]*)', i.rest)
        contracted = [int(d) for d in re.findall(r"\d+", digits[1])] if digits else []
        return (
            2
            * math.prod(_dimensions(_parts(i.type)[0]))
            * math.prod(shape(i.operands[0])[d] for d in contracted)
        )
    target = _CONVOLUTIONS.get(_value("custom_call_target", i.rest).removeprefix("__cudnn$"))
    labels = re.search(r"dim_labels=\w+_(\w+)->\w+", i.rest)
    if not labels or not (target or i.operation == "convolution"):
        return 0
    first, second, result = (
        shape(i.operands[0]),
        shape(i.operands[1]),
        _dimensions(_parts(i.type)[0]),
    )
    # Each place and channel of the smaller map joins k * k * I pixels; which of the three arrays the map and the kernel are depends.
    small, kernel = {"backward_input": (first, second), "backward_filter": (second, result)}.get(
        target or "", (result, second)
    )
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
    found = re.search(r"\[([\d,]*)\]", type)
    return [int(d) for d in found[1].split(",") if d] if found else []


# -------------------------------------------------------------------------------------------------------------- zeros put between
def _filled(
    computations: dict[str, Computation],
    computation: Computation,
    name: str,
    element: int | None = None,
) -> bool:
    """Whether an array is, but for its layout and margins, another with zeros put between its pixels."""
    i = computation.get(name)
    if i is None:
        return False
    if i.operation == "pad" and re.search(r"padding=[\dx_-]*?\d+_-?\d+_[1-9]", i.rest):
        return True
    if i.operation == "get-tuple-element":
        return _filled(computations, computation, i.operands[0], int(_value("index", i.rest)))
    if i.operation == "tuple":
        return _filled(computations, computation, i.operands[element or 0])
    if i.operation == "fusion":
        body = computations.get(_called(i), {})
        root = next((inner.name for inner in body.values() if inner.root), "")
        if _filled(computations, body, root, element):
            return True
        moves = all(inner.operation in (*_MOVES, "tuple") for inner in body.values())
        return moves and any(_filled(computations, computation, operand) for operand in i.operands)
    return (
        i.operation in _MOVES
        and i.operation not in ("parameter", "constant")
        and _filled(computations, computation, i.operands[0])
    )


# --------------------------------------------------------------------------------------------------------------------------- text
def _closed(text: str) -> tuple[str, str]:
    """Splits what follows an open parenthesis at the one that closes it."""
    depth = 1
    for at, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if not depth:
            return text[:at], text[at + 1 :]
    return text, ""


def _called(i: Instruction) -> str:
    return (re.search(r"calls=%?([\w.-]+)", i.rest) or ["", ""])[1]


def _value(key: str, text: str) -> str:
    found = re.search(rf'{key}="?([^",\s]+)', text)
    return found[1] if found else ""
