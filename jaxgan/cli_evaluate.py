"""`jaxgan evaluate`: how good a trained run's samples are."""

import argparse
import json
import pathlib
from typing import Any

from jaxgan import terminal
from jaxgan.data.options import DataOptions
from jaxgan.errors import UserError
from jaxgan.paths import user_path
from jaxgan.words import checkpoint, whole


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of `evaluate` and its options."""
    help = "measure samples of trained runs beside true examples"
    parser = commands.add_parser(
        "evaluate",
        usage="jaxgan evaluate --workdir DIR [DIR ...] [--OPTION VALUE ...]\n"
        "       jaxgan evaluate REAL MADE --features-of DATASET [--OPTION VALUE ...]",
        help=help,
        description=f"{help.capitalize()}: for images Frechet and kernel distances, precision and "
        "recall, in features of a classifier of the data; for runs on mixtures of Gaussians the "
        "modes that are covered, the share of samples at them, reverse KL and the spread within "
        "modes; for runs on stacked digits the triples that a classifier finds, and reverse KL.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    help = (
        "in place of --workdir: a folder of images, or a file .npz or .npy of arrays; two of them"
    )
    add("places", nargs="*", metavar="FOLDER", help=help)
    help = "where a run lives; several make one table"
    add("--workdir", metavar="DIR", nargs="+", help=help)
    help = "how many samples (default: 10000 of images, 26000 of others; of folders all)"
    add("--num", metavar="N", help=help)
    help = "seed of the latents, and of true examples that are drawn (default: 0)"
    add("--seed", metavar="N", help=help)
    help = "newest, best, all, or steps with commas between (default: newest)"
    add("--checkpoint", metavar="WHICH", help=help)
    help = (
        "of images, with commas between: fd, kid, precision_recall, density_coverage, sliced, "
        "score, labels (default: fd,kid,precision_recall,score,labels)"
    )
    add("--metrics", metavar="NAMES", help=help)
    help = (
        "describe images by a function of yours, FILE.py:FUNCTION, or by Inception-v3 with the "
        "weights of a file .pth, in place of the classifier of the data"
    )
    add("--extractor", metavar="PLACE", help=help)
    help = "of folders: describe images by the classifier of this data set, such as mnist"
    add("--features-of", metavar="DATASET", help=help)
    help = "of folders: the side to which images are cropped and resized before they are described"
    add("--image-size", metavar="N", help=help)
    add("--per-class", action="store_true", help="of images with labels: each class by itself, too")
    help = "use the parameters of training in place of their average"
    add("--raw", action="store_true", help=help)
    add("--json", action="store_true", help="print it as JSON")
    return parser


def evaluate_command(given: argparse.Namespace) -> int:
    """Measures samples and prints what was found; returns the exit status."""
    if bool(given.places) == bool(given.workdir):
        raise UserError("evaluate takes --workdir DIR, or two folders or files of images; give one")
    return _of_folders(given) if given.places else _of_workdirs(given)


def _of_workdirs(given: argparse.Namespace) -> int:
    _without(given, "--workdir", "features_of", "image_size")
    seed = whole("seed", given.seed or "0", 0, 2**32)
    workdirs = [user_path(workdir, "workdir") for workdir in given.workdir]
    which = (given.checkpoint or "newest").split(",")
    every = which == ["all"]
    steps = [] if every else [checkpoint(word.strip()) for word in which]
    count = _count(given)

    from jaxgan import evaluate
    from jaxgan.evaluation import tables

    asked = _begun(given)
    options: Any = dict(count=count, seed=seed, averaged=not given.raw, asked=asked)
    found = []
    for workdir in workdirs:
        wanted = _all_of(workdir) if every else steps
        found += [(workdir, e) for e in evaluate.evaluations(workdir, steps=wanted, **options)]
    for line in dict.fromkeys(line for _, each in found for line in each.passed_over):
        terminal.complain(line)
    if given.json:
        told = [tables.about_run(place, each, seed, not given.raw) for place, each in found]
        _show_json(told[0] if len(told) == 1 else told)
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


def _of_folders(given: argparse.Namespace) -> int:
    _without(given, "folders", "checkpoint", "raw", "seed")
    if len(given.places) != 2:
        raise UserError(f"evaluate compares two folders or files, here are {len(given.places)}")
    if bool(given.features_of) == bool(given.extractor):
        raise UserError(
            "evaluate of folders describes images by --features-of DATASET, such as mnist, or by "
            "--extractor FILE.py:FUNCTION; give one of them"
        )
    count = _count(given)
    side = None if given.image_size is None else whole("image-size", given.image_size, 1, 2**15)

    from jaxgan import evaluate
    from jaxgan.evaluation import folders, images, tables

    for place in given.places:
        folders.check(place)
    asked = _begun(given)
    if given.features_of:
        named = DataOptions(name=given.features_of)
        asked = asked._replace(extractor=images.classifier_of(named))
    found = folders.compare(given.places[0], given.places[1], asked, count, side)
    if given.json:
        _show_json(tables.about_folders(found))
        return 0
    terminal.say(f"{found.kind.about['made']}, and {found.kind.about['real']}")
    terminal.show(evaluate.table(found))
    return 0


def _begun(given: argparse.Namespace) -> Any:
    """What is asked for, and the devices that it is computed on."""
    from jaxgan import features
    from jaxgan.evaluation import measures
    from jaxgan.evaluation.kind import Asked
    from jaxgan.run import compiled, runtime

    names = metrics_of(given.metrics)
    measures.check_names(names)
    asked = Asked(names, features.at(given.extractor), given.per_class)
    compiled.keep_compiled_programs()
    runtime.keep_freed_memory()
    runtime.find_devices()
    return asked


def _count(given: argparse.Namespace) -> int | None:
    return None if given.num is None else whole("num", given.num, 1, 10_000_001)


def _without(given: argparse.Namespace, what: str, *names: str) -> None:
    """Raises `UserError` for options that say nothing of what is evaluated."""
    for name in names:
        if getattr(given, name):
            raise UserError(
                f"--{name.replace('_', '-')} has no meaning for evaluate of {what}; leave it out"
            )


def _show_json(content: Any) -> None:
    terminal.show(json.dumps(content, indent=2) + "\n")


def metrics_of(text: str | None) -> tuple[str, ...]:
    """Names with commas between; () for none given."""
    return tuple(filter(None, (word.strip() for word in (text or "").split(","))))


def _all_of(workdir: pathlib.Path) -> list[int | str | None]:
    from jaxgan.run.restore import steps_of

    return list(steps_of(workdir)) or [None]  # for which `restore` says what is missing
