"""What a run is made of: frozen dataclasses, the table of presets, and the checks made before anything is compiled.

Options are declared here and nowhere else: the command line, `config.json` and the help text are generated from the fields.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from jaxgan.errors import UserError
from jaxgan.kernels.gan_loss import KINDS, SMOOTHED


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A field with its help text and its bounds: low <= value, above < value, value < below."""
    return dataclasses.field(
        default=default, metadata=dict(help=help, low=low, above=above, below=below)
    )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    name: str = option(
        "digits",
        "'digits' (embedded), 'shapes' (drawn) or any image data set of TensorFlow Datasets, such as mnist or cifar10",
    )
    split: str = option(
        "train", "the split to train on, in TFDS's syntax, such as train or train[:50%%]"
    )
    image_size: int = option(
        28, "side of the training images in pixels; others are resized", low=8, below=4097
    )
    dir: str | None = option(
        None, "where prepared data sets live; by default ~/.cache/jaxgan/datasets"
    )
    manual_dir: str | None = option(None, "folder with the original files, downloaded beforehand")
    resident_limit_mb: int = option(
        2048, "data sets up to this many MiB live on the device; larger ones stream", low=0
    )
    read_threads: int = option(2, "threads that read ahead when streaming", low=0, below=1025)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    name: str = option(
        "dcgan", "'dcgan' (batch norm, one-logit head) or 'seed' (the founding networks)"
    )
    doublings: int = option(
        2,
        "doublings of the generator's first image, and halvings in the discriminator; 2 in 'seed'",
        low=1,
        below=11,
    )
    latent_size: int = option(100, "length of the latent vector z", low=1, below=2**16)
    generator_width: int = option(64, "channels of the generator's first image", low=2, below=2**14)
    discriminator_width: int = option(
        32, "channels of the discriminator's first layer", low=1, below=2**14
    )
    channels: int = option(1, "colour channels of the images: 1 or 3", low=1)


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    name: str = option(
        "nonsaturating", "nonsaturating, minimax, hinge, least_squares or relativistic"
    )
    label_smoothing: float = option(
        0.0,
        "one-sided: real labels are 1 minus this (nonsaturating, minimax, least_squares)",
        low=0.0,
        below=1.0,
    )
    r1_weight: float = option(
        0.0,
        "weight of the R1 penalty, the discriminator's squared slope at real images; 0 for none",
        low=0.0,
    )
    r1_every: int = option(
        8, "the R1 penalty is taken on every n-th image of a batch", low=1, below=2**24
    )
    instance_noise: float = option(
        0.0,
        "standard deviation of noise added to all that the discriminator sees, at step 0",
        low=0.0,
    )
    instance_noise_steps: int = option(
        2000, "steps over which the instance noise decays linearly to 0", low=1, below=2**31
    )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    generator_rate: float = option(2e-4, "Adam's learning rate for the generator", above=0.0)
    discriminator_rate: float = option(
        2e-4, "Adam's learning rate for the discriminator", above=0.0
    )
    beta1: float = option(0.5, "Adam's decay of the first moment", low=0.0, below=1.0)
    beta2: float = option(0.999, "Adam's decay of the second moment", low=0.0, below=1.0)
    decay_from: int = option(
        0, "step at which the rates begin to fall linearly", low=0, below=2**31
    )
    decay_steps: int | None = option(
        None, "steps in which the rates fall to a hundredth; none keeps them", low=1, below=2**31
    )
    clip_norm: float | None = option(
        None, "clip each player's gradient to this global norm; none does not clip", above=0.0
    )
    ema_decay: float = option(
        0.999, "decay per step of the averaged generator that samples come from", low=0.0, below=1.0
    )


@dataclasses.dataclass(frozen=True)
class LogConfig:
    every: int = option(50, "steps between lines of losses", low=1)
    sample_every: int = option(500, "steps between sample grids", low=1)
    samples: int = option(64, "images in a sample grid", low=1, below=10_001)
    checkpoint_every: int = option(500, "steps between checkpoints", low=1)
    keep: int = option(3, "how many of the newest checkpoints to keep", low=1)
    tensorboard: bool = option(True, "write scalars and grids for TensorBoard")
    steps_per_call: int | None = option(
        None, "training steps in one dispatch; none means 25 on a GPU and 1 on a CPU", low=1
    )


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = option(
        2000, "training steps in all, those of a resumed run included", low=1, below=2**31
    )
    seed: int = option(0, "seed of weights, noise and data order", low=0, below=2**32)
    batch_size: int = option(64, "images per step, over all devices", low=1, below=2**24)
    devices: int | None = option(None, "how many devices to train on; none means all", low=1)
    dtype: str = option(
        "float32",
        "what the networks compute in: float32 or bfloat16; parameters, statistics and losses are float32",
    )
    kernels: str = option(
        "auto",
        "fused operations: auto, xla (their references), triton (CUDA GPUs only) or plain (jax.nn's)",
    )
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    log: LogConfig = LogConfig()


# Found by trying on MNIST, see the README's figures: fast rates that fall, and a flat discriminator.
_FALLING = OptimizerConfig(generator_rate=2e-3, discriminator_rate=1e-3)
_FLAT = ObjectiveConfig(r1_weight=0.5)

PRESETS: dict[str, tuple[str, Config]] = {
    "digits": (
        "digits of 8 x 8 pixels from scikit-learn, embedded: about two minutes on two cores",
        Config(
            objective=_FLAT,
            optimizer=dataclasses.replace(_FALLING, decay_from=1000, decay_steps=1000),
        ),
    ),
    "mnist": (
        "MNIST, batch norm and a one-logit head: 10 epochs",
        Config(
            steps=4680,
            batch_size=128,
            data=DataConfig(name="mnist"),
            objective=_FLAT,
            optimizer=dataclasses.replace(_FALLING, decay_from=2340, decay_steps=2340),
        ),
    ),
    "seed-mnist": (
        "the founding algorithm and networks, step for step: 10 epochs of MNIST",
        Config(
            steps=4680,
            batch_size=128,
            data=DataConfig(name="mnist"),
            model=ModelConfig(name="seed", generator_width=64, discriminator_width=16),
            optimizer=OptimizerConfig(beta1=0.9, ema_decay=0.0),
        ),
    ),
    "dcgan-64": (
        "DCGAN at 64 x 64 pixels in colour, on drawn shapes or any --data.name: for a GPU",
        Config(
            steps=25_000,
            batch_size=128,
            data=DataConfig(name="shapes", image_size=64),
            model=ModelConfig(doublings=4, generator_width=512, discriminator_width=64, channels=3),
            optimizer=OptimizerConfig(),
        ),
    ),
}

MODELS = ("dcgan", "seed")
DTYPES = ("float32", "bfloat16")
KERNELS = ("auto", "xla", "triton", "plain")
OBJECTIVES = KINDS
# A run is continued with these changed; a change of any other field makes it another run.
MAY_CHANGE = (
    "steps",
    "devices",
    "kernels",
    "log.",
    "data.dir",
    "data.manual_dir",
    "data.read_threads",
)


def preset(name: str) -> Config:
    """The preset of that name, or a `UserError` with the nearest names."""
    if name not in PRESETS:
        raise UserError(unknown("preset", name, PRESETS))
    return PRESETS[name][1]


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line for a name that is not known, with the nearest that are."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return (
        f"unknown {kind} {name!r}; did you mean {' or '.join(near)}?"
        if near
        else f"unknown {kind} {name!r}; use {', '.join(known)}"
    )


def fields(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """(dotted name, field, value) of every option."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field, value


def replace(config: Config, changes: dict[str, Any]) -> Config:
    """The config with the dotted names in `changes` set; text is read as the field's type."""
    known = {name: field for name, field, _ in fields(config)}
    for name, value in changes.items():
        if name not in known:
            raise UserError(unknown("field", name, known))
        value = parse(name, known[name], value if isinstance(value, str) else str(value))
        group, _, leaf = name.rpartition(".")
        if group:
            config = dataclasses.replace(
                config, **{group: dataclasses.replace(getattr(config, group), **{leaf: value})}
            )
        else:
            config = dataclasses.replace(config, **{leaf: value})
    return config


def parse(name: str, field: dataclasses.Field, text: str) -> Any:
    """A field's value from text."""
    kinds = (
        typing.get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    )
    if type(None) in kinds and text.lower() == "none":
        return None
    kind: Any = kinds[0]
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"{name}={text!r} is neither true nor false; use one of them")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        noun = {int: "a whole number", float: "a number"}[kind]
        raise UserError(
            f"{name}={text!r} is not {noun}; use {noun} such as {field.default or 1}"
        ) from None


def to_dict(config: Config) -> dict[str, Any]:
    """Dotted names to values, for `config.json`."""
    return {name: value for name, _, value in fields(config)}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The fields that make `new` another run than `old`, each as 'name: old, now new'."""
    old = {
        **to_dict(Config()),
        **old,
    }  # a field that the old run did not know had its default's meaning
    names = [n for n in sorted(old.keys() | new.keys()) if not n.startswith(MAY_CHANGE)]
    return [
        f"{n} was {old.get(n)!r}, now {new.get(n)!r}" for n in names if old.get(n) != new.get(n)
    ]


def validate(config: Config, device_count: int, process_count: int = 1) -> None:
    """Raises `UserError` for a config that cannot train on `device_count` devices, of all processes. Nothing is compiled or read."""
    for name, field, value in fields(config):
        _check_bounds(name, value, **{k: field.metadata[k] for k in ("low", "above", "below")})
    if config.model.name not in MODELS:
        raise UserError("model.name: " + unknown("model", config.model.name, MODELS))
    if config.objective.name not in OBJECTIVES:
        raise UserError(
            "objective.name: " + unknown("objective", config.objective.name, OBJECTIVES)
        )
    if config.kernels not in KERNELS:
        raise UserError("kernels: " + unknown("kind", config.kernels, KERNELS))
    if config.dtype not in DTYPES:
        raise UserError("dtype: " + unknown("dtype", config.dtype, DTYPES))
    if config.objective.label_smoothing and config.objective.name not in SMOOTHED:
        raise UserError(
            f"objective.label_smoothing={config.objective.label_smoothing} has no meaning for {config.objective.name}; use 0"
        )
    if config.model.channels not in (1, 3):
        raise UserError(
            f"model.channels={config.model.channels} is neither 1 (greyscale) nor 3 (RGB); use one of them"
        )
    doublings = config.model.doublings
    if config.model.name == "seed" and doublings != 2:
        raise UserError(
            f"model.doublings={doublings} but the networks of 'seed' have 2; use 2, or --model.name dcgan"
        )
    width, halvings = config.model.generator_width, 2 ** (doublings - 1)
    if width % halvings:
        near = " or ".join(
            str(n)
            for n in (width // halvings * halvings, width // halvings * halvings + halvings)
            if n
        )
        raise UserError(
            f"model.generator_width={width} cannot be halved {doublings - 1} times by the generator's layers; use {near}"
        )
    size, factor = config.data.image_size, 2**doublings
    if size % factor:
        near = " or ".join(
            str(n) for n in (size // factor * factor, size // factor * factor + factor) if n >= 8
        )
        raise UserError(
            f"data.image_size={size} cannot be made by {doublings} doublings; use {near}, multiples of {factor}"
        )
    devices = config.devices or device_count
    if devices > device_count:
        where = f"these {process_count} processes have" if process_count > 1 else "this machine has"
        raise UserError(f"devices={devices} but {where} {device_count}; use at most {device_count}")
    if devices % process_count:
        less = devices // process_count * process_count
        near = " or ".join(str(n) for n in (less, less + process_count) if n)
        raise UserError(
            f"devices={devices} are not the same number in each of {process_count} processes; use {near}"
        )
    batch = config.batch_size
    if batch % devices:
        near = [n for n in (batch // devices * devices, batch // devices * devices + devices) if n]
        raise UserError(
            f"batch_size={batch} is not divisible by {devices} devices; use {' or '.join(map(str, near))}"
        )
    share, every = batch // devices, config.objective.r1_every
    if devices > 1 and config.objective.r1_weight and share % every:
        raise UserError(
            f"objective.r1_every={every} does not divide the {share} images of each of {devices} devices, so R1 would see other images "
            f"than on one device; use batch_size={devices * every} or --objective.r1-every {math.gcd(share, every)}"
        )


def _check_bounds(
    name: str, value: Any, low: float | None, above: float | None, below: float | None
) -> None:
    if value is None or isinstance(value, str | bool):
        return
    if not math.isfinite(value):
        raise UserError(f"{name}={value} is not a finite number; use one")
    if low is not None and value < low:
        raise UserError(f"{name}={value} is too small; use {low} or more")
    if above is not None and value <= above:
        raise UserError(f"{name}={value} is too small; use more than {above}")
    if below is not None and value >= below:
        raise UserError(f"{name}={value} is too large; use less than {below}")
