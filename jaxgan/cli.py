"""`jaxgan train | sample | recipes | doctor`: the options of a command are those of the run and of
its recipe."""

import argparse
import importlib.metadata
import os
import sys
from typing import Any, NoReturn

from jaxgan import config as configs
from jaxgan import recipes, terminal
from jaxgan.config import Config
from jaxgan.errors import RunError, UserError
from jaxgan.names import unknown
from jaxgan.options import fields, to_dict
from jaxgan.paths import shown, user_path
from jaxgan.recipes.recipe import blamed_on
from jaxgan.run import out_of_memory, signals

DEFAULT = "digits"
_OPTION = "option "  # before the name of an option, so that it is no name of the command's own


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        terminal.show(message)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit status. What the user got wrong is one line on standard
    error and status 2."""
    argv = sys.argv[1:] if argv is None else argv
    # A batch_size written with an underscore, as in Python and config.json, is --batch-size.
    argv = [_dashed(word) for word in argv]
    try:
        with out_of_memory.told():
            return _run(argv)
    except (UserError, RunError) as error:
        signals.raise_if_early()
        terminal.complain(error)
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
    config = configs.begun(recipes.find(_recipe_in(argv))) if argv[:1] == ["train"] else None
    parsers = {"train": _train_parser(commands, config), "sample": _sample_parser(commands)}
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
        raise UserError(_unknown_word(rest[0], given.command, parsers))
    if given.command == "train":
        assert config is not None
        return _train(given, config)
    if given.command == "sample":
        return _sample(given)
    if given.command == "doctor":
        from jaxgan.doctor import page

        return page.main(given.json)
    if given.command in ("recipes", "presets"):
        return _list(given.command)
    parser.print_help()
    return 0


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


def _train_parser(commands: Any, config: Config | None) -> argparse.ArgumentParser:
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
        "exit; downloads and writes nothing",
    )
    add("--profile", action="store_true", help="trace a few steps and print the time of each phase")
    several = parser.add_argument_group("several processes")
    for flag, value, help in _PROCESSES:
        several.add_argument(flag, metavar=value, help=help)
    help = "instead of the first three: let JAX ask the cluster (SLURM, Open MPI)"
    several.add_argument("--distributed", action="store_true", help=help)
    if config:
        _add_options(parser, name, config.options)
        _add_options(parser, "every run", config.run)
    return parser


def _add_options(parser: argparse.ArgumentParser, title: str, options: Any) -> None:
    groups: dict[str, Any] = {}
    for name, field, value in fields(options):
        group = name.rpartition(".")[0]
        if group not in groups:
            groups[group] = parser.add_argument_group(f"{group} of {title}" if group else title)
        help = field.metadata.get("help", "").replace("%", "%%")
        try:
            groups[group].add_argument(
                _flag(name),
                dest=_OPTION + name,
                default=argparse.SUPPRESS,
                metavar="VALUE",
                help=f"{help} (default: {_text(value)})".strip(),
            )
        except argparse.ArgumentError:
            flag = _flag(name)
            raise UserError(
                f"{title} has an option {flag}, as the command has; rename it"
            ) from None


def _train(given: argparse.Namespace, config: Config) -> int:
    words = {n: v for n, v in vars(given).items() if n.startswith(_OPTION)}
    config = configs.changed(config, {n.removeprefix(_OPTION): v for n, v in words.items()})
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
        _find_devices()
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


def _find_devices() -> None:
    """Raises `UserError` where JAX finds no device; says what it could not use."""
    from jaxgan.run import runtime

    for line in runtime.check_devices():
        terminal.complain(line)


def _place(given: argparse.Namespace) -> Any:
    """Which of several processes the options name, None for a run of one."""
    from jaxgan.run import joining

    def whole(name: str, low: int) -> int | None:
        text = getattr(given, name)
        return None if text is None else _whole(name, text, low, 2**16)

    numbers = whole("num_processes", 1), whole("process_id", 0)
    timeout = whole("initialization_timeout", 1)
    return joining.place(given.coordinator_address, *numbers, given.distributed, timeout)


def _may_differ(given: argparse.Namespace) -> tuple[str, ...]:
    return ("recipe_sha256", "game") if given.accept_changed_recipe else ()


def _show(config: Config, workdir: Any, here: Any, given: argparse.Namespace) -> int:
    import jax

    from jaxgan.data import needs_preparing
    from jaxgan.run import compiled, plan, runtime
    from jaxgan.run import workdir as workdirs

    _find_devices()
    recipe, run = config.recipe, config.run
    configs.check_run(run, jax.local_device_count())
    runtime.check_kernels(run.kernels, jax.default_backend())
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
        terminal.say(f"{name} = {_text(value)}")
    terminal.show("\n" + "".join(f"{line}\n" for line in told))
    return 0


def _sample_parser(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "sample",
        help="make examples with a trained run",
        description="Make examples with a run's averaged generator.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--workdir", metavar="DIR", required=True, help="where the run lives")
    help = (
        ".png for a picture, .npz for the examples, FOLDER/ (new or empty) for a .png of each image"
    )
    add("--out", metavar="FILE", required=True, help=help)
    add("--num", metavar="N", default="64", help="how many examples (default: 64)")
    add("--seed", metavar="N", default="0", help="seed of the latents (default: 0)")
    add("--label", metavar="N", help="of a conditional game: make examples of this label alone")
    help = "step of the checkpoint to sample from (default: newest)"
    add("--checkpoint", metavar="STEP", default="newest", help=help)
    help = "use the parameters of training in place of their average"
    add("--raw", action="store_true", help=help)
    help = "walk from one latent to another in each row of 8 instead of independent examples"
    add("--interpolate", action="store_true", help=help)
    return parser


def _sample(given: argparse.Namespace) -> int:
    count, seed = _whole("num", given.num, 1, 10_000_001), _whole("seed", given.seed, 0, 2**32)
    out, workdir = user_path(given.out, "out"), user_path(given.workdir, "workdir")
    newest, each = given.checkpoint == "newest", given.out.endswith(os.sep)
    step = None if newest else _whole("checkpoint", given.checkpoint, 0, 2**31)
    if not each and out.suffix.lower() not in (".png", ".npz"):
        raise UserError(
            f"out={out} ends neither in .png nor in .npz nor, for a folder, in {os.sep}; use one "
            "of them"
        )
    columns = 8 if given.interpolate else None
    if columns and count % columns:
        below = count // columns * columns
        near = " or ".join(str(n) for n in sorted({below or columns, below + columns}))
        raise UserError(
            f"num={count} does not fill rows of {columns} for --interpolate; use {near}"
        )

    import jax
    import numpy as np

    from jaxgan import images, sampling
    from jaxgan.run import compiled
    from jaxgan.run.restore import restore, with_label

    if each:
        images.check_folder(out)
        signals.writes_what_stays()
    compiled.keep_compiled_programs()
    _find_devices()
    run = restore(workdir, step=step)
    for line in run.passed_over:
        terminal.complain(line)
    conditions = run.conditions
    if given.label is not None:
        conditions = with_label(run, _whole("label", given.label, 0, 2**31))
    sampler, key = sampling.Sampler(run.game, run.pixels, not given.raw), jax.random.key(seed)
    what: Any = run.state, key, *((count // columns, columns) if columns else (count,)), conditions
    replaced = False
    if each:
        parts = sampler.walks(*what) if columns else sampler.parts(*what)
        images.save_each(out, parts, count)
    else:
        examples = sampler.interpolate(*what) if columns else sampler.sample(*what)
        if out.suffix.lower() == ".npz":  # what the examples were made from, too
            row = np.arange(count) // (columns or 1)
            examples = sampling.tiled(conditions, row) | examples
        replaced = images.save(out, examples, columns)
    doing = "replaced" if replaced else "wrote"
    terminal.say(f"{doing} {out}: {count} examples from step {int(run.state.step)} of {workdir}")
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


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _text(value: Any) -> str:
    """A value as an option takes it."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _dashed(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word


def _recipe_in(argv: list[str]) -> str:
    """The recipe that the words name: the first word after `train` that is neither an option nor
    its value."""
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
}


def _whole(name: str, text: str, low: int, below: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise UserError(
            f"{name}={text[:40]!r} is not a whole number; use one such as {low}"
        ) from None
    if value < low:
        raise UserError(f"{name}={text[:40]} is too small; use {low} or more")
    if value >= below:
        raise UserError(f"{name}={text[:40]} is too large; use less than {below}")
    return value


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
