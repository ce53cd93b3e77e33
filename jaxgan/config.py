"""What a run is made of: the options of every run, and a recipe with its own."""

import dataclasses
from typing import Any, NamedTuple

from jaxgan import recipes
from jaxgan.data.options import DataOptions
from jaxgan.errors import UserError
from jaxgan.names import unknown
from jaxgan.options import fields, option, replace, to_dict
from jaxgan.recipes.recipe import Recipe, check_given
from jaxgan.rematerialisation import METHODS
from jaxgan.words import near_multiples

IMPLEMENTATIONS = ("auto", "xla", "triton", "plain")


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """What a run writes, and how often."""

    every: int = option(50, "steps between lines of losses", low=1)
    sample_every: int = option(500, "steps between sample grids", low=1)
    samples: int = option(64, "examples in a sample grid", low=1, below=10_001)
    checkpoint_every: int = option(500, "steps between checkpoints", low=1)
    keep: int = option(3, "how many of the newest checkpoints to keep", low=1)
    tensorboard: bool = option(True, "write scalars and grids for TensorBoard")


@dataclasses.dataclass(frozen=True)
class AlarmOptions:
    """How a run looks after its health, see `jaxgan.alarms`."""

    every: int = option(
        100, "steps between looks at least; they fall on lines of the log", low=1, below=2**31
    )
    held_out: str | None = option(
        None, "a split that is not trained on, such as test, by which overfitting is measured"
    )
    most: int = option(3, "how often alarms=rollback goes back at most", low=0)
    rate: float = option(
        0.5, "by what updates are multiplied when alarms=rollback goes back", above=0
    )


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The options of every run, whatever it trains."""

    steps: int = option(
        2000, "training steps in all, those of a resumed run included", low=1, below=2**31
    )
    seed: int = option(0, "seed of weights, noise and data order", low=0, below=2**32)
    batch_size: int = option(64, "examples per step, over all devices", low=1, below=2**24)
    devices: int | None = option(None, "how many devices to train on; none means all", low=1)
    dtype: str | None = option(
        None,
        "what networks compute in, float32 or bfloat16; none leaves it to the recipe",
        choices=("float32", "bfloat16"),
    )
    kernels: str = option(
        "auto",
        "fused operations: xla (their references), triton (CUDA GPUs only) or plain (jax.nn's); "
        "auto times the step with xla and triton on a GPU",
        choices=IMPLEMENTATIONS,
    )
    one_graph: bool | None = option(
        None,
        "whether a dispatch is one CUDA graph, as far as XLA can make it one; none times the step "
        "both ways on a GPU",
    )
    steps_per_call: int | None = option(
        None, "training steps in one dispatch; none means 1 on a CPU and up to 25 on a GPU", low=1
    )
    accumulate: int = option(
        1,
        "micro-batches in which each device takes its gradients: less memory, the same step",
        low=1,
        below=2**24,
    )
    remat: str = option(
        "none",
        "what is computed again for gradients instead of kept: none, elementwise (all but products "
        "and convolutions) or blocks (everything, for deep networks)",
        choices=METHODS,
    )
    alarms: str = option(
        "warn",
        "what a sign of sickness does: off, warn (a line), stop (saved, status 3) or rollback (to "
        "the last good checkpoint, with other noise and lower rates)",
        choices=("off", "warn", "stop", "rollback"),
    )
    alarm: AlarmOptions = AlarmOptions()
    evaluate_every: int | None = option(
        None,
        "steps between measures of samples beside true examples, as jaxgan evaluate makes them; "
        "the best checkpoint is kept; none measures nothing",
        low=1,
    )
    evaluate_metric: str | None = option(
        None,
        "the number by which a checkpoint is best, such as fd, kid, precision or recall of images; "
        "none means fd, or for other data their first",
    )
    evaluate_num: int = option(2000, "samples that are measured each time", low=4, below=10**7)
    evaluate_extractor: str | None = option(
        None,
        "FILE.py:FUNCTION that describes images, or weights .pth of Inception-v3, in place of the "
        "classifier of the data",
    )
    data: DataOptions = DataOptions()
    log: LogOptions = LogOptions()


# What `config.json` says beside the options.
RESERVED = (
    *("recipe", "recipe_sha256", "recipe_folder"),
    *("examples", "data_version", "example", "game", "run_id", "sweep"),
)


class Config(NamedTuple):
    """A recipe and all options: what the command line names.

    Attributes:
      recipe: what is trained.
      options: of the recipe.
      run: of the run.
    """

    recipe: Recipe
    options: Any
    run: RunOptions


# A run is continued with these changed; a change of any other option makes it another run.
_MAY_CHANGE = (
    *("steps", "devices", "kernels", "one_graph", "steps_per_call", "recipe_folder"),
    *("accumulate", "remat", "alarms"),
    *("evaluate_every", "evaluate_metric", "evaluate_num", "evaluate_extractor"),
    *("data.dir", "data.cache", "data.manual_dir", "data.read_threads", "data.resident_limit_mb"),
    # What lies there is known by `data_version`.
    *("data.folder", "data.file"),
)


def configured(name: str, changes: dict[str, Any]) -> Config:
    """The config of a recipe, a preset or `FILE.py:FUNCTION`, with options changed by dotted names.

    Raises:
      UserError: an unknown recipe or option, or a value out of its bounds.
    """
    return changed(begun(recipes.find(name)), changes)


def begun(recipe: Recipe) -> Config:
    """A recipe with its own defaults."""
    run = replace(RunOptions(), recipe.defaults)
    of_run, own = ({option for option, _, _ in fields(o)} for o in (run, recipe.options))
    if taken := sorted(own & set(RESERVED)):
        raise UserError(
            f"recipe {recipe.title} has an option {taken[0]!r}, which config.json uses; rename it"
        )
    if both := sorted(of_run & own):
        raise UserError(
            f"recipe {recipe.name} has an option {both[0]!r}, as every run has; rename it"
        )
    return Config(recipe, recipe.options, run)


def changed(config: Config, changes: dict[str, Any]) -> Config:
    """The config with these options changed."""
    own, of_run = set(to_dict(config.options)), set(to_dict(config.run))
    for name in changes:
        if name not in own | of_run:
            raise UserError(unknown("option", name, own | of_run))
    options = replace(config.options, {n: v for n, v in changes.items() if n in own})
    run = replace(config.run, {n: v for n, v in changes.items() if n in of_run})
    check_given(config.recipe, options)
    return Config(config.recipe, options, run)


def described(config: Config) -> dict[str, Any]:
    """What `config.json` says of a config."""
    about: dict[str, Any] = {"recipe": config.recipe.title}
    if config.recipe.sha256:
        about["recipe_sha256"] = config.recipe.sha256
        about["recipe_folder"] = config.recipe.folder
    return {**about, **to_dict(config.run), **to_dict(config.options)}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The options that make `new` another run than `old`, each as 'name was .., now ..'."""
    all_names = sorted((old.keys() | new.keys()) - {"run_id"})  # which is no option
    names = [n for n in all_names if is_of_training(n)]
    told = {"data_version": "the data are others than they were: data_version"}
    return [
        f"{told.get(n, n)} was {old.get(n)!r}, now {new.get(n)!r}"
        for n in names
        if old.get(n) != new.get(n)
    ]


def is_of_training(name: str) -> bool:
    """Whether an option changes what is trained."""
    return name not in _MAY_CHANGE and not name.startswith(("log.", "alarm."))


def check_run(run: RunOptions, device_count: int, process_count: int = 1) -> None:
    """Raises `UserError` for a run that cannot be divided over `device_count` devices of all
    processes."""
    devices = run.devices or device_count
    if devices > device_count:
        where = f"these {process_count} processes have" if process_count > 1 else "this machine has"
        raise UserError(f"devices={devices} but {where} {device_count}; use at most {device_count}")
    if devices % process_count:
        raise UserError(
            f"devices={devices} are not the same number in each of {process_count} processes; "
            f"use {near_multiples(devices, process_count)}"
        )
    if run.batch_size % devices:
        raise UserError(
            f"batch_size={run.batch_size} is not divisible by {devices} devices; "
            f"use {near_multiples(run.batch_size, devices)}"
        )
    if run.batch_size // devices % run.accumulate:
        share = f" on each of {devices} devices" if devices > 1 else ""
        near = near_multiples(run.batch_size, devices * run.accumulate)
        raise UserError(
            f"batch_size={run.batch_size} cannot be divided into accumulate={run.accumulate} "
            f"micro-batches{share}; use a batch_size of {near}"
        )


def step_options(run: RunOptions) -> dict[str, Any]:
    """The arguments of `make_step` that a run's options are."""
    return {"accumulate": run.accumulate, "remat": run.remat}
