"""`jaxgan sample`: examples of a trained run."""

import argparse
import os
from typing import Any

from jaxgan import terminal
from jaxgan.errors import UserError
from jaxgan.paths import user_path
from jaxgan.run import signals
from jaxgan.words import checkpoint, whole


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
    add("--num", metavar="N", default="64", help="how many examples (default: 64)")
    add("--seed", metavar="N", default="0", help="seed of the latents (default: 0)")
    add("--member", metavar="N", help="of a sweep: make examples of this member")
    add("--label", metavar="N", help="of a conditional game: make examples of this label alone")
    help = (
        "of which checkpoint: newest, best (see train --evaluate-every) or a step (default: newest)"
    )
    add("--checkpoint", metavar="STEP", default="newest", help=help)
    help = "use the parameters of training in place of their average"
    add("--raw", action="store_true", help=help)
    help = "walk from one latent to another in each row of 8 instead of independent examples"
    add("--interpolate", action="store_true", help=help)
    return parser


def sample_command(given: argparse.Namespace) -> int:
    """Makes examples and writes them; returns the exit status."""
    count, seed = whole("num", given.num, 1, 10_000_001), whole("seed", given.seed, 0, 2**32)
    out, workdir = user_path(given.out, "out"), user_path(given.workdir, "workdir")
    each, step = given.out.endswith(os.sep), checkpoint(given.checkpoint)
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
    conditions = run.conditions
    if given.label is not None:
        conditions = with_label(run, whole("label", given.label, 0, 2**31))
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
