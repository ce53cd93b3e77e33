"""`jaxgan train`: its options are those of its recipe and of every run."""

import argparse
from typing import Any

from jaxgan import config as configs
from jaxgan import terminal
from jaxgan.config import Config
from jaxgan.errors import UserError
from jaxgan.options import fields, to_dict
from jaxgan.paths import user_path
from jaxgan.user_files import blamed_on
from jaxgan.words import flag, shown_value, whole

DEFAULT = "digits"
_OPTION = "option "  # before the name of an option, so that it is no name of the command's own


def recipe_in(argv: list[str]) -> str:
    """The recipe that the words name: the first one after the command that is neither an option
    nor its value."""
    words = iter(argv[1:])
    for word in words:
        if not word.startswith("-"):
            return word
        if "=" not in word and word not in _SWITCHES:
            next(words, None)
    return DEFAULT


_SWITCHES = {
    "-h",
    "--help",
    "--resume",
    "--accept-changed-recipe",
    "--dry-run",
    "--profile",
    "--distributed",
    "--table",
}


_PROCESSES = (
    (
        "--coordinator-address",
        "HOST:PORT",
        "where process 0 listens; the others get the same address",
    ),
    ("--num-processes", "N", "how many processes train this run, each on its own devices"),
    ("--process-id", "N", "which of them this is, from 0; process 0 alone writes to its workdir"),
    ("--initialization-timeout", "SECONDS", "how long to wait for the others (default: 300)"),
)


def add_parser(commands: Any, config: Config | None) -> argparse.ArgumentParser:
    """The parser of `train` and its options; of `config` those of its recipe."""
    name = config.recipe.name if config else "RECIPE"
    parser = commands.add_parser(
        "train",
        usage="jaxgan train [RECIPE] [--OPTION VALUE ...]",
        help="train a recipe, or resume it",
        description="Train a GAN; a workdir with checkpoints is resumed. Options and defaults "
        f"below are those of {name}: {config.recipe.about if config else ''}",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "recipe",
        nargs="?",
        default=DEFAULT,
        metavar="RECIPE",
        help=f"a preset or recipe (see jaxgan recipes), or FILE.py:FUNCTION (default: {DEFAULT})",
    )
    add("--workdir", metavar="DIR", help="where the run lives (default: runs/RECIPE)")
    add("--resume", action="store_true", help="refuse to begin anew where there is no checkpoint")
    add(
        "--accept-changed-recipe",
        action="store_true",
        help="go on with a run although the recipe's file has changed",
    )
    add(
        "--dry-run",
        action="store_true",
        help="print the options, how many parameters and how much memory the run would take, and "
        "exit; downloads nothing, and writes nothing but the compiled program",
    )
    add("--profile", action="store_true", help="trace a few steps and print the time of each phase")
    several = parser.add_argument_group("several processes")
    for option, value, help in _PROCESSES:
        several.add_argument(option, metavar=value, help=help)
    help = "instead of the first three: let JAX ask the cluster (SLURM, Open MPI)"
    several.add_argument("--distributed", action="store_true", help=help)
    if config:
        add_options(parser, name, config.options)
        add_options(parser, "every run", config.run)
    return parser


def add_options(
    parser: argparse.ArgumentParser, title: str, options: Any, beginning: str = ""
) -> None:
    """Adds a flag for each option whose dotted name begins so; `given_options` reads them."""
    groups: dict[str, Any] = {}
    for name, field, value in fields(options):
        if not name.startswith(beginning):
            continue
        group = name.rpartition(".")[0]
        if group not in groups:
            groups[group] = parser.add_argument_group(f"{group} of {title}" if group else title)
        help = field.metadata.get("help", "").replace("%", "%%")
        try:
            groups[group].add_argument(
                flag(name),
                dest=_OPTION + name,
                default=argparse.SUPPRESS,
                metavar="VALUE",
                help=f"{help} (default: {shown_value(value)})".strip(),
            )
        except argparse.ArgumentError:
            raise UserError(
                f"{title} has an option {flag(name)}, as the command has; rename it"
            ) from None


def given_options(given: argparse.Namespace) -> dict[str, str]:
    """The options that the words name, as they were written."""
    return {n.removeprefix(_OPTION): v for n, v in vars(given).items() if n.startswith(_OPTION)}


def train_command(given: argparse.Namespace, config: Config) -> int:
    """Trains, or with --dry-run tells what that would take; returns the exit status."""
    config = configs.changed(config, given_options(given))
    recipe, run = config.recipe, config.run
    default = recipe.name.rpartition(":")[2] if recipe.source else recipe.name
    place = f"runs/{default}" if given.workdir is None else given.workdir
    workdir = user_path(place, "workdir")
    here = _place(given)
    if given.dry_run:
        return _show(config, workdir, here, given)

    from jaxgan.run import compiled, joining, runtime
    from jaxgan.run.train import train

    compiled.keep_compiled_programs()
    runtime.keep_freed_memory()
    about = configs.described(config)
    with joining.joined(here, about), blamed_on(recipe.name, recipe.source):
        runtime.find_devices()
        train(
            lambda example: recipe.make(example, config.options),
            run.data,
            workdir,
            run,
            about=about,
            recipe=recipe.source,
            may_differ=_may_differ(given),
            defaults=to_dict(recipe.options),
            must_resume=given.resume,
            profiled=given.profile,
            progress=terminal.is_shown(),
        )
    return 0


def _place(given: argparse.Namespace) -> Any:
    """Which of several processes the options name, None for a run of one."""
    from jaxgan.run import joining

    def number(name: str, low: int) -> int | None:
        text = getattr(given, name)
        return None if text is None else whole(name, text, low, 2**16)

    numbers = number("num_processes", 1), number("process_id", 0)
    timeout = number("initialization_timeout", 1)
    return joining.place(given.coordinator_address, *numbers, given.distributed, timeout)


def _may_differ(given: argparse.Namespace) -> tuple[str, ...]:
    return ("recipe_sha256", "game") if given.accept_changed_recipe else ()


def _show(config: Config, workdir: Any, here: Any, given: argparse.Namespace) -> int:
    import jax

    from jaxgan.data import needs_preparing
    from jaxgan.run import compiled, plan, runtime
    from jaxgan.run import workdir as workdirs

    runtime.find_devices()
    recipe, run = config.recipe, config.run
    configs.check_run(run, jax.local_device_count())
    for line in runtime.check_way(run, jax.default_backend())[1]:
        terminal.complain(line)
    workdirs.check(
        workdir,
        configs.described(config),
        run.steps,
        given.resume,
        _may_differ(given),
        to_dict(recipe.options),
    )
    waits = here and "of one process, so without the options of several"
    if not waits and needs_preparing(run.data):
        waits = f"once {run.data.name} is prepared, which the first run does"
    told = [f"parameters and memory are told {waits}"]
    if not waits:
        compiled.keep_compiled_programs()
        with blamed_on(recipe.name, recipe.source):
            told = plan.lines(plan.plan(lambda e: recipe.make(e, config.options), run.data, run))
    terminal.say(f"workdir = {workdir}")
    for name, value in configs.described(config).items():
        terminal.say(f"{name} = {shown_value(value)}")
    terminal.show("\n" + "".join(f"{line}\n" for line in told))
    return 0
