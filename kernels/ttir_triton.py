"""What Triton makes of a kernel for XLA: its first intermediate language, TTIR, as text.

XLA's compiler has Triton's in it, and takes a kernel from there on; nothing of Triton's own driver,
assembler or cache on the disk is used.
"""

import functools
import re
from typing import Any

from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.compiler import make_backend

POINTERS = {"float32": "*fp32", "bfloat16": "*bf16", "float16": "*fp16"}

# TTIR is the same for all GPUs as long as a kernel uses no descriptors of tensors.
_TARGET = GPUTarget("cuda", 90, 32)

# Names of files and lines, which a program would have in its key in the cache of compiled programs:
# lines that define one, and what refers to it at the end of a line or of a parameter.
_DEFINED = re.compile(r"^#loc.*\n?", re.MULTILINE)
_REFERRED = re.compile(r' loc\((?:[^()"]|"[^"\n]*"|\((?:[^()"]|"[^"\n]*"|\([^()]*\))*\))*\)')


@functools.cache
def ttir(
    kernel: Any, dtypes: tuple[str, ...], constants: tuple[tuple[str, Any], ...], warps: int
) -> str:
    """The TTIR of a kernel.

    Args:
      kernel: decorated by `triton.jit`.
      dtypes: of the arrays that its pointers point to, in order; each is aligned to 16 bytes, which
        XLA gives to every array.
      constants: values of the remaining parameters by name.
      warps: of 32 threads in a program.
    """
    source = ast_source(kernel, dtypes, constants)
    backend: Any = make_backend(_TARGET)  # of CUDA, which has more than every backend
    # Said, because Triton 3.9 warns where it is not; TTIR is the same with and without.
    options = backend.parse_options({"num_warps": warps, "enable_fp_fusion": True})
    # What `triton.compile` does up to this stage; it would go on to a binary that nobody needs.
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    functions, modules = backend.get_codegen_implementation(options), backend.get_module_map()
    module = source.make_ir(_TARGET, options, functions, modules, context)
    stages: dict[str, Any] = {}
    backend.add_stages(stages, options, source.language)
    return without_locations(str(stages["ttir"](module, {})))


def ast_source(
    kernel: Any, dtypes: tuple[str, ...], constants: tuple[tuple[str, Any], ...]
) -> ASTSource:
    """A kernel as Triton's compiler takes it; arguments as of `ttir`."""
    known, names = dict(constants), kernel.arg_names
    pointers = [name for name in names if name not in known]
    if len(pointers) != len(dtypes):
        raise TypeError(f"{kernel.__name__} takes {len(pointers)} arrays, not {len(dtypes)}")
    signature = {name: "constexpr" for name in names}
    signature |= {name: POINTERS[dtype] for name, dtype in zip(pointers, dtypes)}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in pointers}
    return ASTSource(fn=kernel, signature=signature, constexprs=known, attrs=aligned)


def without_locations(text: str) -> str:
    """A module's text without the places in Python's files that it came from."""
    return _REFERRED.sub("", _DEFINED.sub("", text))
