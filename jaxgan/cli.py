"""`jaxgan train | presets | sample`: the options are the fields of the config."""

import argparse
import dataclasses
import importlib.metadata
import os
import pathlib
import sys
from typing import Any, NoReturn

from jaxgan.config import PRESETS, Config, fields, preset, replace, to_dict, unknown, validate
from jaxgan.errors import RunError, UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit status. What the user got wrong is one line on standard error and status 2."""
    argv = sys.argv[1:] if argv is None else argv
    # A batch_size written with an underscore, as in the config and in Python, is --batch-size.
    argv = [_dashed(word) for word in argv]
    try:
        return _run(argv)
    except (UserError, RunError) as error:
        print("jaxgan:", " ".join(str(error).split("\n")), file=sys.stderr)
        return 2
    except BrokenPipeError:  # `jaxgan presets | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("jaxgan: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"jaxgan: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2


def _run(argv: list[str]) -> int:
    parser = _Parser(
        prog="jaxgan",
        description="Train generative adversarial networks in JAX.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _add_train(commands, _preset_in(argv))
    commands.add_parser(
        "presets", help="list the presets", description="List the presets.", allow_abbrev=False
    )
    _add_sample(commands)
    parser.add_argument(
        "--version", action="version", version=f"jaxgan {importlib.metadata.version('jaxgan')}"
    )
    given, rest = parser.parse_known_args(argv)
    if rest:
        raise UserError(_unknown_word(rest[0], given.command))
    if given.command == "train":
        return _train(given)
    if given.command == "sample":
        return _sample(given)
    if given.command == "presets":
        for name, (line, config) in PRESETS.items():
            print(f"{name:12s} {line} ({config.steps} steps of {config.batch_size})")
        return 0
    parser.print_help()
    return 0


# ------------------------------------------------------------------------------------------------------------------------ train
_PROCESSES = (
    (
        "--coordinator-address",
        "HOST:PORT",
        "where process 0 listens; the others get the same address and the same config",
    ),
    ("--num-processes", "N", "how many processes train this run, each on its own devices"),
    ("--process-id", "N", "which of them this is, from 0; process 0 alone writes to its workdir"),
    (
        "--initialization-timeout",
        "SECONDS",
        "how long to wait for the other processes (default: 300)",
    ),
)


def _add_train(commands: Any, chosen: str) -> None:
    config = PRESETS[chosen][1] if chosen in PRESETS else Config()
    parser = commands.add_parser(
        "train",
        help="train a preset, or resume it",
        description="Train a GAN; a workdir with checkpoints is resumed. The defaults below are those of the preset "
        f"{chosen if chosen in PRESETS else 'digits'}.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "preset",
        nargs="?",
        default="digits",
        metavar="PRESET",
        help=f"{', '.join(PRESETS)} (default: digits)",
    )
    parser.add_argument(
        "--workdir", metavar="DIR", help="where the run lives (default: runs/PRESET)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="refuse to begin anew where there is no checkpoint"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved config, checked but for its data, and exit",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="trace a few steps and print the time of each phase of the step",
    )
    several = parser.add_argument_group("several processes")
    for flag, value, help in _PROCESSES:
        several.add_argument(flag, metavar=value, help=help)
    several.add_argument(
        "--distributed",
        action="store_true",
        help="instead of the first three: let JAX ask the cluster (SLURM, Open MPI)",
    )
    groups: dict[str, Any] = {"": parser.add_argument_group("run")}
    for name, field, value in fields(config):
        group = name.rpartition(".")[0]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        groups[group].add_argument(
            _flag(name),
            dest=name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{field.metadata['help']} (default: {_text(value)})",
        )


def _train(given: argparse.Namespace) -> int:
    config = preset(given.preset)
    names = {name for name, _, _ in fields(config)}
    config = replace(config, {name: value for name, value in vars(given).items() if name in names})
    workdir = pathlib.Path(given.workdir or f"runs/{given.preset}")
    here = _place(given)
    if given.dry_run:
        _show(config, workdir)
        return 0
    # Checked once before JAX looks for devices, which takes a second, and once with them.
    validate(dataclasses.replace(config, devices=None), 1)

    from jaxgan import processes, runtime, train

    runtime.keep_compiled_programs()
    runtime.keep_freed_memory()
    with processes.joined(here):
        train.train(
            config,
            workdir,
            must_resume=given.resume,
            progress=sys.stderr.isatty(),
            profiled=given.profile,
        )
    return 0


def _place(given: argparse.Namespace) -> Any:
    """Which of several processes the options name, None for a run of one."""
    from jaxgan import processes

    whole = lambda name, low: (
        None if (text := getattr(given, name)) is None else _whole(name, text, low, 2**16)
    )
    numbers = whole("num_processes", 1), whole("process_id", 0)
    return processes.place(
        given.coordinator_address, *numbers, given.distributed, whole("initialization_timeout", 1)
    )


def _show(config: Config, workdir: pathlib.Path) -> None:
    import jax

    from jaxgan.train import check_kernels

    validate(config, jax.local_device_count())
    check_kernels(config, jax.default_backend())
    print(f"workdir = {workdir}")
    for name, value in to_dict(config).items():
        print(f"{name} = {_text(value)}")


# ----------------------------------------------------------------------------------------------------------------------- sample
def _add_sample(commands: Any) -> None:
    parser = commands.add_parser(
        "sample",
        help="make images from a trained run",
        description="Make images from the newest checkpoint of a run, with the averaged generator.",
        allow_abbrev=False,
    )
    parser.add_argument("--workdir", metavar="DIR", required=True, help="where the run lives")
    parser.add_argument(
        "--out",
        metavar="FILE",
        required=True,
        help=".png for a grid, .npz for uint8 images [N,H,W,C]",
    )
    parser.add_argument("--num", metavar="N", default="64", help="how many images (default: 64)")
    parser.add_argument("--seed", metavar="N", default="0", help="seed of the latents (default: 0)")
    parser.add_argument(
        "--interpolate",
        action="store_true",
        help="walk from one latent to another in each row of 8 instead of independent images",
    )


def _sample(given: argparse.Namespace) -> int:
    count, seed = _whole("num", given.num, 1, 10_000_001), _whole("seed", given.seed, 0, 2**32)
    out, workdir = pathlib.Path(given.out), pathlib.Path(given.workdir)
    if out.suffix not in (".png", ".npz"):
        raise UserError(f"out={out} ends neither in .png nor in .npz; use one of them")
    columns = 8 if given.interpolate else None
    if columns and count % columns:
        near = sorted({count // columns * columns or columns, count // columns * columns + columns})
        raise UserError(
            f"num={count} does not fill rows of {columns} for --interpolate; use {' or '.join(map(str, near))}"
        )

    import jax

    from jaxgan import runtime, sampling, train
    from jaxgan.game import make_game

    runtime.keep_compiled_programs()
    config, state = train.restore(workdir, lambda line: print("jaxgan:", line, file=sys.stderr))
    game, key = make_game(config), jax.random.key(seed)
    images = (
        sampling.interpolate(game, state, key, count // columns, columns)
        if columns
        else sampling.sample(game, state, key, count)
    )
    replaced = sampling.save(out, images, columns)
    print(
        f"{'replaced' if replaced else 'wrote'} {out}: {count} images from step {int(state.step)} of {workdir}"
    )
    return 0


# ---------------------------------------------------------------------------------------------------------------------- parsing
def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _text(value: Any) -> str:
    """A value as an option takes it."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _dashed(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word


def _preset_in(argv: list[str]) -> str:
    """The preset that the words name, so that --help shows its defaults."""
    return next((word for word in argv[1:] if word in PRESETS), "digits")


def _whole(name: str, text: str, low: int, below: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise UserError(
            f"{name}={text[:40]!r} is not a whole number; use one such as {low}"
        ) from None
    if value < low:
        raise UserError(f"{name}={text} is too small; use {low} or more")
    if value >= below:
        raise UserError(f"{name}={text} is too large; use less than {below}")
    return value


def _unknown_word(word: str, command: str | None) -> str:
    word = word.partition("=")[0]
    if command is None:
        return f"unexpected {word!r} before a command; see jaxgan --help"
    if not word.startswith("--"):
        return f"unexpected word {word!r}; see jaxgan {command} --help"
    train_flags = [
        "--workdir",
        "--resume",
        "--dry-run",
        "--profile",
        "--distributed",
        *(flag for flag, *_ in _PROCESSES),
    ]
    flags = (
        train_flags
        if command == "train"
        else ["--workdir", "--out", "--num", "--seed", "--interpolate"]
    )
    return unknown(
        "field",
        word,
        flags + ([_flag(name) for name, _, _ in fields(Config())] if command == "train" else []),
    )
