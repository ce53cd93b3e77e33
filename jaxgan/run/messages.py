"""The lines that a run says at its beginning and at its end."""

import pathlib
from typing import Any

import jax

from jaxgan.config import RunOptions
from jaxgan.data import Source
from jaxgan.paths import shown


def beginning(
    workdir: pathlib.Path, step: int, run: RunOptions, source: Source, devices: list[Any]
) -> str:
    """Which run begins or goes on, where, on what."""
    if step == run.steps:
        return (
            f"{shown(workdir)} is already at step {step} of {run.steps}; use more --steps to go on"
        )
    kind, many = devices[0].platform, "s" * (len(devices) > 1)
    where = f"{run.batch_size} examples a step on {len(devices)} {kind} device{many}"
    if jax.process_count() > 1:
        where += f" of {jax.process_count()} processes"
    doing = "resuming" if step else "training"
    what = f"{source.count} examples of {source.name}, {where}"
    return f"{doing} {shown(workdir)} at step {step} of {run.steps}: {what}"


def end(
    workdir: pathlib.Path, step: int, run: RunOptions, stopped: list[str], pictures: bool
) -> str:
    """How a run ended, and what to look at."""
    if stopped and step < run.steps:
        return (
            f"stopped by {stopped[0]} at step {step} of {run.steps}, saved; the same command "
            "resumes"
        )
    where = f"in {shown(workdir / 'samples')}" if pictures else "could not be written"
    return f"step {step} of {run.steps}: samples {where}"
