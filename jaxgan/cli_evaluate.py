"""`jaxgan evaluate`: how good a trained run's samples are."""

import argparse
import json
from typing import Any

from jaxgan import terminal
from jaxgan.paths import user_path
from jaxgan.words import whole


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of `evaluate` and its options."""
    help = "measure samples of a trained run beside true examples"
    parser = commands.add_parser(
        "evaluate",
        help=help,
        description=f"{help.capitalize()}: for runs on mixtures of Gaussians the modes that are "
        "covered, the share of samples at them, reverse KL and the spread within modes; for runs "
        "on stacked digits the triples that a classifier finds, and reverse KL.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--workdir", metavar="DIR", required=True, help="where the run lives")
    add("--num", metavar="N", default="26000", help="how many samples (default: 26000)")
    help = "seed of the latents and of the true examples (default: 0)"
    add("--seed", metavar="N", default="0", help=help)
    help = "step of the checkpoint to measure (default: newest)"
    add("--checkpoint", metavar="STEP", default="newest", help=help)
    help = "use the parameters of training in place of their average"
    add("--raw", action="store_true", help=help)
    add("--json", action="store_true", help="print it as JSON")
    return parser


def evaluate_command(given: argparse.Namespace) -> int:
    """Measures samples and prints what was found; returns the exit status."""
    count, seed = whole("num", given.num, 1, 10_000_001), whole("seed", given.seed, 0, 2**32)
    workdir, newest = user_path(given.workdir, "workdir"), given.checkpoint == "newest"
    step = None if newest else whole("checkpoint", given.checkpoint, 0, 2**31)

    from jaxgan import evaluate
    from jaxgan.run import compiled, runtime

    compiled.keep_compiled_programs()
    runtime.find_devices()
    options: Any = dict(count=count, seed=seed, step=step, averaged=not given.raw)
    found = evaluate.evaluate(workdir, **options)
    for line in found.passed_over:
        terminal.complain(line)
    which = "parameters of training" if given.raw else "average"
    if given.json:
        about = dict(workdir=str(workdir), data=found.kind.data, step=found.step, num=count)
        about |= dict(seed=seed, averaged=not given.raw, warnings=found.warnings)
        about |= dict(extractor=found.kind.extractor) if found.kind.extractor else {}
        numbers = dict(samples=found.samples, truth=found.truth)
        terminal.show(json.dumps(about | numbers, indent=2) + "\n")
        return 0
    terminal.say(
        f"{count} samples of the {which} at step {found.step} of {workdir}, and true ones of "
        f"{found.kind.data}"
    )
    terminal.show(evaluate.table(found))
    return 0
