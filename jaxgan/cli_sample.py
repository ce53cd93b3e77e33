"""`jaxgan sample`: examples of a trained run."""

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from jaxgan import terminal
from jaxgan.errors import UserError
from jaxgan.paths import user_path
from jaxgan.run import signals
from jaxgan.words import checkpoint, near_multiples, number, whole


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of `sample` and its options."""
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
    add("--num", metavar="N", help="how many examples (default: 64; by class 8 of each)")
    add("--seed", metavar="N", default="0", help="seed of the latents (default: 0)")
    add("--member", metavar="N", help="of a sweep: make examples of this member")
    add("--label", metavar="N", help="of a conditional game: make examples of this label alone")
    help = (
        "of which checkpoint: newest, best (see train --evaluate-every) or a step (default: newest)"
    )
    add("--checkpoint", metavar="STEP", default="newest", help=help)
    help = "use the parameters of training in place of their average"
    add("--raw", action="store_true", help=help)
    help = "multiply normal latents by it, up to 1: examples are more typical, and vary less"
    add("--truncation", metavar="PSI", help=help)
    help = "of a conditional game: a row of examples of each label, a column of each latent"
    add("--by-class", action="store_true", help=help)
    help = "walk from one latent to another in each row of 8 instead of independent examples"
    add("--interpolate", action="store_true", help=help)
    return parser


def sample_command(given: argparse.Namespace) -> int:
    """Makes examples and writes them; returns the exit status."""
    count = whole("num", given.num or "64", 1, 10_000_001)
    seed = whole("seed", given.seed, 0, 2**32)
    out, workdir = user_path(given.out, "out"), user_path(given.workdir, "workdir")
    each, step = given.out.endswith(os.sep), checkpoint(given.checkpoint)
    psi = None if given.truncation is None else number("truncation", given.truncation, 0.0, 1.0)
    if not each and out.suffix.lower() not in (".png", ".npz"):
        raise UserError(
            f"out={out} ends neither in .png nor in .npz nor, for a folder, in {os.sep}; use one "
            "of them"
        )
    if given.by_class and (given.interpolate or given.label is not None):
        other = "--interpolate" if given.interpolate else "--label"
        raise UserError(f"--by-class and {other} fill rows in two ways; give one of them")
    columns = 8 if given.interpolate else None
    if columns and count % columns:
        raise UserError(
            f"num={count} does not fill rows of {columns} for --interpolate; use "
            f"{near_multiples(count, columns)}"
        )

    import jax

    from jaxgan import images, latents, sampling
    from jaxgan.run import compiled, runtime
    from jaxgan.run.restore import restore, with_label

    if each:
        images.check_folder(out)
        signals.writes_what_stays()
    compiled.keep_compiled_programs()
    runtime.find_devices()
    member = None if given.member is None else whole("member", given.member, 0, 2**31)
    run = restore(workdir, step=step, member=member)
    for line in run.passed_over:
        terminal.complain(line)
    if psi is not None:
        run = run._replace(game=run.game._replace(latent=latents.scaled(run.game.latent, psi)))
    if given.label is not None:
        run = run._replace(conditions=with_label(run, whole("label", given.label, 0, 2**31)))
    sampler, key = sampling.Sampler(run.game, run.pixels, not given.raw), jax.random.key(seed)
    made = (_by_class if given.by_class else _in_rows)(given, run, sampler, key, count, columns)
    replaced = False
    if each:
        images.save_each(out, made.parts(), made.count)
    else:
        examples = made.whole()
        if out.suffix.lower() == ".npz":  # what the examples were made from, too
            examples = made.conditions | examples
        replaced = images.save(out, examples, made.columns)
    doing = "replaced" if replaced else "wrote"
    scaled = "" if psi is None else f", normal latents times {psi:g}"
    terminal.say(
        f"{doing} {out}: {made.count} examples from step {int(run.state.step)} of {workdir}{scaled}"
    )
    return 0


class _Made(NamedTuple):
    """Examples that are to be made: how many, all of them, or some at a time, what they are made
    from, leaves [count, ...], and the columns of their picture; None for any number."""

    count: int
    whole: Callable[[], dict[str, Any]]
    parts: Callable[[], Iterator[dict[str, Any]]]
    conditions: dict[str, Any]
    columns: int | None


def _in_rows(
    given: argparse.Namespace, run: Any, sampler: Any, key: Any, count: int, columns: int | None
) -> _Made:
    """Independent examples, or where there are columns walks."""
    import numpy as np

    from jaxgan.sampling import tiled

    what = run.state, key, *((count // columns, columns) if columns else (count,)), run.conditions
    whole, parts = sampler.sample, sampler.parts
    if columns:
        whole, parts = sampler.interpolate, sampler.walks
    conditions = tiled(run.conditions, np.arange(count) // (columns or 1))
    return _Made(count, partial(whole, *what), partial(parts, *what), conditions, columns)


def _by_class(
    given: argparse.Namespace, run: Any, sampler: Any, key: Any, count: int, columns: int | None
) -> _Made:
    """A row of each class."""
    from jaxgan.run.restore import classes_of
    from jaxgan.sampling import rows_of_classes

    classes = classes_of(run, "by_class=true", "--by-class")
    if not classes:
        raise UserError("by_class=true but the data do not tell how many classes there are")
    count = count if given.num else 8 * classes
    if count % classes or count > _MOST_BY_CLASS:
        near = near_multiples(min(count, _MOST_BY_CLASS), classes)
        raise UserError(
            f"num={count} does not fill a row of each of {classes} classes, or is more than "
            f"{_MOST_BY_CLASS}; use {near}"
        )
    columns = count // classes
    column, conditions = rows_of_classes(run.conditions, classes, columns)

    def whole() -> dict[str, Any]:
        return sampler.generate(run.state, sampler.latents(key, column), conditions)

    return _Made(count, whole, lambda: iter([whole()]), conditions, columns)


_MOST_BY_CLASS = 10_000  # examples, which are made at once
