"""`jaxgan diagnose`: the eigenvalues of a run's game at a checkpoint."""

import argparse
import json
from typing import Any

from jaxgan import terminal
from jaxgan.errors import UserError
from jaxgan.named_rules import NAMES, rule_in
from jaxgan.paths import user_path
from jaxgan.words import whole


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of `diagnose` and its options."""
    parser = commands.add_parser(
        "diagnose",
        help="eigenvalues of a run's game at a checkpoint",
        description="Print and draw the eigenvalues of the gradient field of a run's game, and of "
        "what a step makes of its players, at a checkpoint, for one batch. Works on a run of a "
        "recipe, also while it is being trained.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--workdir", metavar="DIR", required=True, help="where the run lives")
    add("--checkpoint", metavar="STEP", default="newest", help="its step (default: newest)")
    help = "the picture (default: DIR/dynamics/step_STEP.png)"
    add("--out", metavar="FILE.png", help=help)
    help = "examples of the batch (default: as the run has)"
    add("--batch-size", metavar="N", help=help)
    help = (
        f"rules whose steps are looked at, with commas between, each with a number where it takes "
        f"one: {', '.join(NAMES)} (default: the run's)"
    )
    add("--rules", metavar="NAME[=NUMBER],..", help=help)
    help = "eigenvalues that are printed of each (default: 8)"
    add("--eigenvalues", metavar="N", default="8", help=help)
    help = "products with the Jacobian; more make more eigenvalues known (default: 64)"
    add("--products", metavar="N", default="64", help=help)
    add("--json", action="store_true", help="print it as JSON")
    return parser


def diagnose_command(given: argparse.Namespace) -> int:
    """Prints the eigenvalues and draws them; returns the exit status."""
    workdir = user_path(given.workdir, "workdir")
    newest = given.checkpoint == "newest"
    step = None if newest else whole("checkpoint", given.checkpoint, 0, 2**31)
    shown = whole("eigenvalues", given.eigenvalues, 1, 1001)
    products = whole("products", given.products, 2, 2001)
    size = None if given.batch_size is None else whole("batch-size", given.batch_size, 1, 2**24)
    words = tuple(filter(None, (given.rules or "").split(",")))
    wanted = {word: rule_in(word) for word in words}
    out = None if given.out is None else user_path(given.out, "out")
    if out is not None and out.suffix.lower() != ".png":
        raise UserError(f"out={out} does not end in .png; name a picture")

    from jaxgan.run import compiled, diagnosis, runtime

    compiled.keep_compiled_programs()
    runtime.find_devices()
    found = diagnosis.diagnose(workdir, step, wanted or None, size, products)
    for line in found.passed_over:
        terminal.complain(line)
    path = out or workdir / "dynamics" / f"step_{found.step:08d}.png"
    replaced = diagnosis.draw(found, path)
    if given.json:
        terminal.show(json.dumps({**diagnosis.as_json(found, shown), "picture": str(path)}) + "\n")
        return 0
    for line in diagnosis.lines(found, shown):
        terminal.say(line)
    terminal.say(f"{'replaced' if replaced else 'wrote'} {path}")
    return 0
