"""`jaxgan train | sweep | sample | evaluate | diagnose | data | features | recipes | kernels |
doctor`: which command, and how it ends."""

import argparse
import importlib.metadata
import sys
from typing import Any, NoReturn

from jaxgan import (
    cli_data,
    cli_diagnose,
    cli_evaluate,
    cli_features,
    cli_kernels,
    cli_sample,
    cli_sweep,
    cli_train,
    recipes,
    terminal,
)
from jaxgan import config as configs
from jaxgan.errors import RunError, UserError
from jaxgan.names import unknown
from jaxgan.paths import shown
from jaxgan.run import out_of_memory, signals
from jaxgan.words import dashed


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        terminal.show(message)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit status. What the user got wrong is one line on standard
    error and status 2."""
    argv = sys.argv[1:] if argv is None else argv
    argv = [dashed(word) for word in argv]
    try:
        with out_of_memory.told():
            return _run(argv)
    except (UserError, RunError) as error:
        signals.raise_if_early()
        terminal.complain(error)
        return error.status
    except OSError as error:
        signals.raise_if_early()
        where = f"{shown(error.filename)}: " if error.filename else ""
        terminal.complain(f"{where}{error.strerror or error}; mend that and run again")
    return 2


def _run(argv: list[str]) -> int:
    parser = _Parser(
        prog="jaxgan",
        description="Train generative adversarial networks in JAX.",
        allow_abbrev=False,
    )
    version = f"jaxgan {importlib.metadata.version('jaxgan')}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    config = None
    if argv[:1] in (["train"], ["sweep"]):
        config = configs.begun(recipes.find(cli_train.recipe_in(argv)))
    if argv[:2] == ["data", "prepare"]:
        config = cli_data.config_of(cli_train.recipe_in(argv[1:]))
    parsers = {
        "train": cli_train.add_parser(commands, config),
        "sweep": cli_sweep.add_parser(commands, config),
        "sample": cli_sample.add_parser(commands),
        "evaluate": cli_evaluate.add_parser(commands),
        "diagnose": cli_diagnose.add_parser(commands),
        "kernels": cli_kernels.add_parser(commands),
        **cli_data.add_parsers(commands, config),
        **cli_features.add_parsers(commands),
    }
    for name in ("recipes", "presets"):
        help = f"list the {name}"
        commands.add_parser(
            name, help=help, description=f"{help.capitalize()}.", allow_abbrev=False
        )
    help = "tell what a run would find on this machine, and what to mend"
    parsers["doctor"] = commands.add_parser(
        "doctor", help=help, description=f"{help.capitalize()}.", allow_abbrev=False
    )
    parsers["doctor"].add_argument("--json", action="store_true", help="print it as JSON")
    given, rest = parser.parse_known_args(argv)
    if rest:
        within = getattr(given, "within", None)  # of several, such as data
        command = f"{given.command} {within}" if within else given.command
        raise UserError(_unknown_word(rest[0], command, parsers))
    if given.command == "train":
        assert config is not None
        return cli_train.train_command(given, config)
    if given.command == "sweep":
        assert config is not None
        return cli_sweep.sweep_command(given, config)
    if given.command == "sample":
        return cli_sample.sample_command(given)
    if given.command == "evaluate":
        return cli_evaluate.evaluate_command(given)
    if given.command == "diagnose":
        return cli_diagnose.diagnose_command(given)
    if given.command == "kernels":
        return cli_kernels.kernels_command(given)
    if given.command == "data":
        return cli_data.data_command(given, config)
    if given.command == "features":
        return cli_features.features_command(given)
    if given.command == "doctor":
        from jaxgan.doctor import page

        return page.main(given.json)
    if given.command in ("recipes", "presets"):
        return _list(given.command)
    parser.print_help()
    return 0


def _list(what: str) -> int:
    width = max(len(name) for name in (*recipes.PRESETS, *recipes.RECIPES))
    if what == "recipes":
        for name, function in recipes.RECIPES.items():
            terminal.say(f"{name:{width}s}  {recipes.about(function)}")
        terminal.show("\npresets:\n")
    for name, preset in recipes.PRESETS.items():
        run = configs.begun(recipes.find(name)).run
        terminal.say(
            f"{name:{width}s}  {preset.recipe}: {preset.about} ({run.steps} steps of "
            f"{run.batch_size})"
        )
    return 0


def _unknown_word(
    word: str, command: str | None, parsers: dict[str, argparse.ArgumentParser]
) -> str:
    word = word.partition("=")[0]
    if command is None:
        return f"unexpected {word!r} before a command; see jaxgan --help"
    if not word.startswith("--"):
        return f"unexpected word {word!r}; see jaxgan {command} --help"
    if command not in parsers:
        return f"unexpected {word!r}; jaxgan {command} has no options"
    known = [flag for action in parsers[command]._actions for flag in action.option_strings]
    return unknown("option", word, [flag for flag in known if flag.startswith("--")])
