"""`jaxgan evaluate`: how good a trained run's samples are."""

import argparse
import json
import pathlib
from typing import Any

from jaxgan import terminal
from jaxgan.errors import UserError
from jaxgan.paths import user_path
from jaxgan.words import checkpoint, whole


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of `evaluate` and its options."""
    help = "measure samples of trained runs beside true examples"
    parser = commands.add_parser(
        "evaluate",
        usage="jaxgan evaluate --workdir DIR [DIR ...] [--OPTION VALUE ...]",
        help=help,
        description=f"{help.capitalize()}: for images Frechet and kernel distances, precision and "
        "recall, in features of a classifier of the data; for runs on mixtures of Gaussians the "
        "modes that are covered, the share of samples at them, reverse KL and the spread within "
        "modes; for runs on stacked digits the triples that a classifier finds, and reverse KL.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    help = "where a run lives; several make one table"
    add("--workdir", metavar="DIR", nargs="+", required=True, help=help)
    help = "how many samples (default: 10000 of images, 26000 of others)"
    add("--num", metavar="N", help=help)
    help = "seed of the latents, and of true examples that are drawn (default: 0)"
    add("--seed", metavar="N", default="0", help=help)
    help = "newest, best, all, or steps with commas between (default: newest)"
    add("--checkpoint", metavar="WHICH", default="newest", help=help)
    help = (
        "of images, with commas between: fd, kid, precision_recall, density_coverage, sliced, "
        "score, labels (default: fd,kid,precision_recall,score,labels)"
    )
    add("--metrics", metavar="NAMES", help=help)
    help = "describe images by a function of yours, in place of the classifier of the data"
    add("--extractor", metavar="FILE.py:FUNCTION", help=help)
    add("--per-class", action="store_true", help="of images with labels: each class by itself, too")
    help = "use the parameters of training in place of their average"
    add("--raw", action="store_true", help=help)
    add("--json", action="store_true", help="print it as JSON")
    return parser


def evaluate_command(given: argparse.Namespace) -> int:
    """Measures samples and prints what was found; returns the exit status."""
    count = None if given.num is None else whole("num", given.num, 1, 10_000_001)
    seed = whole("seed", given.seed, 0, 2**32)
    workdirs = [user_path(workdir, "workdir") for workdir in given.workdir]
    which = given.checkpoint.split(",")
    every = which == ["all"]
    steps = [] if every else [checkpoint(word.strip()) for word in which]

    from jaxgan import evaluate
    from jaxgan.evaluation import measures, tables
    from jaxgan.run import compiled, runtime

    names = metrics_of(given.metrics)
    measures.check_names(names)
    asked = evaluate.Asked(names, extractor_of(given.extractor), given.per_class)
    compiled.keep_compiled_programs()
    runtime.keep_freed_memory()
    runtime.find_devices()
    options: Any = dict(count=count, seed=seed, averaged=not given.raw, asked=asked)
    found = []
    for workdir in workdirs:
        wanted = _all_of(workdir) if every else steps
        found += [(workdir, e) for e in evaluate.evaluations(workdir, steps=wanted, **options)]
    for line in dict.fromkeys(line for _, each in found for line in each.passed_over):
        terminal.complain(line)
    if given.json:
        told = [tables.about_run(place, each, seed, not given.raw) for place, each in found]
        page = told[0] if len(told) == 1 else told
        terminal.show(json.dumps(page, indent=2) + "\n")
        return 0
    made_by = "parameters of training" if given.raw else "average"
    if len(found) > 1:
        terminal.say(f"samples of the {made_by}, and true ones")
        terminal.show(tables.several([(str(workdir), each) for workdir, each in found]))
        return 0
    workdir, one = found[0]
    terminal.say(
        f"{one.count} samples of the {made_by} at step {one.step} of {workdir}, and true ones of "
        f"{one.kind.data}"
    )
    terminal.show(evaluate.table(one))
    return 0


def metrics_of(text: str | None) -> tuple[str, ...]:
    """Names with commas between; () for none given."""
    return tuple(filter(None, (word.strip() for word in (text or "").split(","))))


def extractor_of(place: str | None) -> Any:
    """The extractor of a user's file; None for none given."""
    from jaxgan.features import of_file
    from jaxgan.user_files import is_place

    if place is not None and not is_place(place):
        raise UserError(f"extractor={place!r} is no function of a file; give FILE.py:FUNCTION")
    return None if place is None else of_file(place)


def _all_of(workdir: pathlib.Path) -> list[int | str | None]:
    from jaxgan.run.restore import steps_of

    return list(steps_of(workdir)) or [None]  # for which `restore` says what is missing
