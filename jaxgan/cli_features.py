"""`jaxgan features train | list | remove`: classifiers of data sets, in whose features samples are
measured."""

import argparse
import pathlib
from typing import Any

from jaxgan import memory, terminal
from jaxgan.cli_train import add_options, given_options
from jaxgan.config import RunOptions
from jaxgan.data.options import DataOptions
from jaxgan.errors import UserError
from jaxgan.features import kept
from jaxgan.features.kept import Entry, Kept
from jaxgan.names import unknown
from jaxgan.options import replace
from jaxgan.paths import shown
from jaxgan.words import whole


def add_parsers(commands: Any) -> dict[str, argparse.ArgumentParser]:
    """The parsers of `features` and of the commands within."""
    help = "train the classifier that samples of a data set are measured by, list or remove it"
    features = commands.add_parser(
        "features",
        help=help,
        description="A small classifier of a data set's labelled images, in whose features "
        "samples are measured; kept in ~/.cache/jaxgan/classifiers, and known by its digest.",
        allow_abbrev=False,
    )
    within = features.add_subparsers(dest="within", metavar="WHAT", parser_class=type(features))
    train = within.add_parser(
        "train",
        usage="jaxgan features train [NAME] [--data.OPTION VALUE ...]",
        help="train the classifier of a data set, where it is not kept yet",
        description="Train the classifier of a data set on its split train, or find it kept; "
        "tell how many of the examples of its split test, or of every tenth of those held out, it "
        "names right.",
        allow_abbrev=False,
    )
    help = "of the data, in place of --data.name, such as mnist or fashion_mnist"
    train.add_argument("name", nargs="?", metavar="NAME", help=help)
    help = "of the weights, and part of what they are known by (default: 0)"
    train.add_argument("--seed", metavar="N", default="0", help=help)
    add_options(train, "every run", RunOptions(), "data.")
    help = "list the classifiers that are kept"
    listing = within.add_parser(
        "list", help=help, description=f"{help.capitalize()}.", allow_abbrev=False
    )
    help = "remove classifiers"
    remove = within.add_parser(
        "remove",
        usage="jaxgan features remove NAME [NAME ...] | --all",
        help=help,
        description=f"{help.capitalize()}; they are trained again where they are asked for.",
        allow_abbrev=False,
    )
    help = "of the data, or of one file without its ending, see jaxgan features list"
    remove.add_argument("names", nargs="*", metavar="NAME", help=help)
    remove.add_argument("--all", action="store_true", help="all of them")
    several = {"train": train, "list": listing, "remove": remove}
    return {
        "features": features,
        **{f"features {name}": parser for name, parser in several.items()},
    }


def features_command(given: argparse.Namespace) -> int:
    """Runs a command of `features`; returns the exit status."""
    if given.within is None:
        terminal.show("jaxgan features train | list | remove; see jaxgan features --help\n")
        return 0
    if given.within == "train":
        return _train(given)
    root = kept.root()
    if root is None:
        raise UserError("there is no home folder where classifiers could be; set HOME")
    return _list(root) if given.within == "list" else _remove(root, given)


def _train(given: argparse.Namespace) -> int:
    seed, options = whole("seed", given.seed, 0, 2**31), _data(given)

    from jaxgan.features.classifiers import found
    from jaxgan.features.network import Settings
    from jaxgan.run import compiled, runtime

    compiled.keep_compiled_programs()
    runtime.keep_freed_memory()
    runtime.find_devices()
    made, path = found(options, Settings(seed=seed))
    terminal.say(f"{_about(made)}{f': {shown(path)}' if path else ', and not kept'}")
    return 0


def _data(given: argparse.Namespace) -> DataOptions:
    changes = given_options(given)
    if given.name is not None:
        others = [o for o in ("name", "folder", "file") if f"data.{o}" in changes]
        if others:
            raise UserError(
                f"features train {given.name} and --data.{others[0]} name two data sets; give one "
                "of them"
            )
        changes["data.name"] = given.name
    return replace(RunOptions(), changes).data


def _about(made: Kept) -> str:
    shape = " x ".join(map(str, made.preprocessing["shape"]))
    return (
        f"classifier of {made.about['data']}, {shape}, seed {made.about['settings']['seed']}, "
        f"names {100 * made.accuracy:.2f} % right of {made.held_out}, trained in "
        f"{made.seconds:.0f} s, digest {made.digest[:12]}"
    )


def _list(root: pathlib.Path) -> int:
    found = list(kept.all_in(root))
    for entry in found:
        terminal.say(f"{_about(entry.kept)}: {shown(entry.path)}")
    for path, reason in kept.of_no_use(root):
        terminal.say(f"of no use, {reason}: {shown(path)}")
    size = sum(_bytes_of(entry) for entry in found)
    terminal.say(f"{len(found)} classifiers in {shown(root)}: {memory.shown(size)}")
    return 0


def _remove(root: pathlib.Path, given: argparse.Namespace) -> int:
    if given.all == bool(given.names):
        raise UserError("features remove takes names or --all; see jaxgan features list")
    found = list(kept.all_in(root))
    known = {name for entry in found for name in _names(entry)}
    for name in given.names:
        if not known:
            raise UserError(f"features remove: no classifier is kept in {shown(root)}")
        if name not in known:
            raise UserError(f"features remove: {unknown('name', name, known)}")
    freed = 0
    for entry in found:
        if given.all or _names(entry) & set(given.names):
            size = _bytes_of(entry)
            kept.remove(entry.path)
            freed += size
            terminal.say(f"removed {shown(entry.path)}: {_about(entry.kept)}")
    terminal.say(f"freed {memory.shown(freed)} in {shown(root)}")
    return 0


def _names(entry: Entry) -> set[str]:
    return {entry.path.stem, str(entry.kept.about["data"])}


def _bytes_of(entry: Entry) -> int:
    return entry.path.lstat().st_size
