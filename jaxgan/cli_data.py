"""`jaxgan data prepare | list | remove`: data that are kept decoded, for runs to map."""

import argparse
import pathlib
import time
from typing import Any

from jaxgan import config as configs
from jaxgan import memory, recipes, terminal
from jaxgan.cli_train import DEFAULT, add_options, given_options
from jaxgan.config import Config
from jaxgan.data import cached, entries, opening, preparing
from jaxgan.data.entries import Entry
from jaxgan.data.options import DataOptions
from jaxgan.errors import UserError
from jaxgan.names import unknown
from jaxgan.paths import shown

_CACHE = "--data.cache"


def add_parsers(commands: Any, config: Config | None) -> dict[str, argparse.ArgumentParser]:
    """The parsers of `data` and of the commands within; `prepare` has the options of `config`."""
    help = "prepare data for runs, show what is prepared, or remove it"
    data = commands.add_parser(
        "data",
        help=help,
        description=f"{help.capitalize()}: what data sets, folders and files give, decoded and "
        "resized once, for each later run to map.",
        allow_abbrev=False,
    )
    within = data.add_subparsers(dest="within", metavar="WHAT", parser_class=type(data))
    prepare = within.add_parser(
        "prepare",
        usage="jaxgan data prepare [RECIPE] [--data.OPTION VALUE ...]",
        help="prepare the data of a recipe",
        description="Prepare the data of a recipe, or of options; what a run would do first.",
        allow_abbrev=False,
    )
    help = f"whose data, see jaxgan recipes (default: {DEFAULT})"
    prepare.add_argument("recipe", nargs="?", default=DEFAULT, metavar="RECIPE", help=help)
    if config:
        add_options(prepare, "every run", config.run, "data.")
    help = "list prepared data"
    listing = within.add_parser(
        "list", help=help, description=f"{help.capitalize()}.", allow_abbrev=False
    )
    help = "remove prepared data"
    remove = within.add_parser(
        "remove",
        usage="jaxgan data remove NAME [NAME ...] | --all",
        help=help,
        description=f"{help.capitalize()}; originals and downloads stay.",
        allow_abbrev=False,
    )
    help = "of the data, or of one folder of them, see jaxgan data list"
    remove.add_argument("names", nargs="*", metavar="NAME", help=help)
    remove.add_argument("--all", action="store_true", help="all, and what was left unfinished")
    for parser in (listing, remove):
        help = "where prepared data lie (default: ~/.cache/jaxgan/prepared)"
        parser.add_argument(_CACHE, dest="cache", default="auto", metavar="DIR", help=help)
    several = {"prepare": prepare, "list": listing, "remove": remove}
    return {"data": data, **{f"data {name}": parser for name, parser in several.items()}}


def config_of(recipe: str) -> Config:
    """The config of the recipe whose data are to be prepared; raises `UserError` for none."""
    try:
        return configs.begun(recipes.find(recipe))
    except UserError as error:
        raise UserError(
            f"{error}; data are named by --data.name, --data.folder or --data.file"
        ) from None


def data_command(given: argparse.Namespace, config: Config | None) -> int:
    """Runs a command of `data`; returns the exit status."""
    if given.within == "prepare":
        assert config is not None
        return _prepare(configs.changed(config, given_options(given)).run.data)
    if given.within is None:
        terminal.show("jaxgan data prepare | list | remove; see jaxgan data --help\n")
        return 0
    root = cached.root_of(None if given.cache.lower() == "none" else given.cache)
    if root is None:
        raise UserError(f"data {given.within}: {_CACHE} none keeps nothing; name a folder")
    found = list(entries.all_in(root))
    return _list(root, found) if given.within == "list" else _remove(root, found, given)


def _prepare(options: DataOptions) -> int:
    entry = opening.prepare(options, terminal.is_shown())
    name = options.folder or options.file or options.name
    if entry is None:
        terminal.say(f"{shown(name)} needs no preparing: it is read as it is")
    else:
        terminal.say(f"{entry.header.name} is prepared: {_about(entry)}, in {shown(entry.path)}")
    return 0


def _about(entry: Entry) -> str:
    return f"{entry.header.count:,} examples, {memory.shown(entry.header.bytes)}"


def _list(root: pathlib.Path, found: list[Entry]) -> int:
    for entry in found:
        header, used = entry.header, time.localtime(entries.last_used(entry))
        shape = next((f.shape for f in header.features.values() if f.shape), ())
        words = header.name, header.split, " x ".join(map(str, shape)), _about(entry)
        when = time.strftime("%Y-%m-%d %H:%M", used)
        terminal.say(f"{', '.join(filter(None, words))}, used {when}: {shown(entry.path)}")
    for path, reason in entries.of_no_use(root):
        terminal.say(f"of no use, {reason}: {shown(path)}")
    size = sum(entry.header.bytes for entry in found)
    left = len(preparing.unfinished(root))
    more = f"; {left} unfinished" if left else ""
    terminal.say(f"{len(found)} prepared in {shown(root)}: {memory.shown(size)}{more}")
    return 0


def _remove(root: pathlib.Path, found: list[Entry], given: argparse.Namespace) -> int:
    if given.all == bool(given.names):
        raise UserError("data remove takes names or --all; see jaxgan data list")
    named = [(entry.path, entry.header.name, _about(entry)) for entry in found]
    named += [(path, path.name, reason) for path, reason in entries.of_no_use(root)]
    known = {name for path, title, _ in named for name in (path.name, title)}
    for name in given.names:
        if not known:
            raise UserError(f"data remove: nothing is prepared in {shown(root)}")
        if name not in known:
            raise UserError(f"data remove: {unknown('name', name, known)}")
    freed = 0
    for path, title, about in named:
        if given.all or {path.name, title} & set(given.names):
            freed += _bytes_in(path)
            try:
                is_gone = preparing.remove(path)
            except BlockingIOError:
                raise UserError(
                    f"{shown(path)} is being prepared by another process; wait for it"
                ) from None
            stays = "" if is_gone else "; files in it that are not ours stay"
            freed -= 0 if is_gone else _bytes_in(path)
            terminal.say(f"removed {shown(path)}: {about}{stays}")
    freed += preparing.remove_unfinished(root) if given.all else 0
    terminal.say(f"freed {memory.shown(freed)} in {shown(root)}")
    return 0


def _bytes_in(folder: pathlib.Path) -> int:
    return sum(path.lstat().st_size for path in folder.iterdir())
