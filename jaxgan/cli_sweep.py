"""`jaxgan sweep`: a recipe with several seeds and options, and what came out of each."""

import argparse
from typing import Any

from jaxgan import cli_train, terminal
from jaxgan import config as configs
from jaxgan.config import Config
from jaxgan.errors import UserError
from jaxgan.paths import user_path
from jaxgan.words import whole


def add_parser(commands: Any, config: Config | None) -> argparse.ArgumentParser:
    """The parser of `sweep` and its options; of `config` those of its recipe."""
    name = config.recipe.name if config else "RECIPE"
    parser = commands.add_parser(
        "sweep",
        usage="jaxgan sweep [RECIPE] [--seeds N] [--vary OPTION=VALUE,VALUE ...] [--OPTION VALUE "
        "...]",
        help="train a recipe with several seeds and options, and compare them",
        description="Train each combination of varied options with each seed; members that share a "
        "program train together. The same command resumes. Options and defaults below are those of "
        f"{name}: {config.recipe.about if config else ''}",
        allow_abbrev=False,
    )
    add = parser.add_argument
    help = f"a preset or recipe, or FILE.py:FUNCTION (default: {cli_train.DEFAULT})"
    add("recipe", nargs="?", default=cli_train.DEFAULT, metavar="RECIPE", help=help)
    add("--workdir", metavar="DIR", help="where the sweep lives (default: runs/RECIPE-sweep)")
    help = "how many, from --seed on, or a list such as 3,7 (default: 10)"
    add("--seeds", metavar="N", default="10", help=help)
    help = "an option and its values; may be given for several options"
    add("--vary", metavar="OPTION=VALUE,..", action="append", default=[], help=help)
    help = "at most how many members a program takes at once; 1 trains one after the other "
    help += "(default: the fastest of several, by measuring)"
    add("--together", metavar="N", help=help)
    add("--resume", action="store_true", help="refuse to begin anew where there is no sweep")
    help = "go on with a sweep although the recipe's file has changed"
    add("--accept-changed-recipe", action="store_true", help=help)
    help = "print which members share a program, and exit; writes nothing"
    add("--dry-run", action="store_true", help=help)
    help = "print what came out so far of the sweep in --workdir, and exit"
    add("--table", action="store_true", help=help)
    if config:
        cli_train.add_options(parser, name, config.options)
        cli_train.add_options(parser, "every run", config.run)
    return parser


def sweep_command(given: argparse.Namespace, config: Config) -> int:
    """Trains a sweep, or tells of one; returns the exit status."""
    config = configs.changed(config, cli_train.given_options(given))
    recipe = config.recipe
    default = recipe.name.rpartition(":")[2] if recipe.source else recipe.name
    place = f"runs/{default}-sweep" if given.workdir is None else given.workdir
    workdir = user_path(place, "workdir").absolute()
    together = None if given.together is None else whole("together", given.together, 1, 10_001)

    from jaxgan.sweeps import plan as plans

    plan = plans.planned(config, given.seeds, given.vary)
    if given.table and given.dry_run:
        raise UserError("--table and --dry-run are two things to print; give one of them")

    from jaxgan.run import compiled, runtime
    from jaxgan.sweeps import grouping, results, running

    if given.table:
        for line in results.summary(workdir):
            terminal.say(line)
        return 0
    compiled.keep_compiled_programs()
    runtime.keep_freed_memory()
    runtime.find_devices()
    if given.dry_run:
        groups = grouping.grouped(plan, running.sources(keep=False))
        for line in running.lines(plan, groups):
            terminal.say(line)
        return 0
    may_differ = ("recipe_sha256", "game") if given.accept_changed_recipe else ()
    running.swept(
        plan, workdir, running.How(together, given.resume, may_differ, terminal.is_shown())
    )
    return 0
