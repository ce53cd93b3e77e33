"""Small runs, and commands in processes of their own, that several tests begin."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan import Game, Move, Outcome, Play, Player, drawn
from jaxgan.run.records import read_metrics
from jaxgan.run.train import train

STARTED: list[subprocess.Popen[str]] = []  # of the running test
ROOT = pathlib.Path(__file__).parent.parent
FASTER_TO_COMPILE = os.environ["JAXGAN_TESTS_XLA_FLAGS"]

# A run of a moment, as options of every run; and with those of the recipe dcgan.
RUN: dict[str, Any] = {
    "steps": 20,
    "batch_size": 8,
    "devices": 1,
    "log.every": 5,
    "log.sample_every": 1000,
    "log.checkpoint_every": 10,
    "log.samples": 4,
    "log.tensorboard": False,
}
SMALL: dict[str, Any] = {
    **RUN,
    "data.image_size": 8,
    "model.latent_size": 4,
    "model.generator_width": 4,
    "model.discriminator_width": 2,
}


def flags(options: dict[str, Any]) -> list[str]:
    """Options as words of the command line."""
    named = {"--" + name.replace("_", "-"): str(value).lower() for name, value in options.items()}
    return [word for pair in named.items() for word in pair]


def small_flags(**changes: Any) -> list[str]:
    """The small run of dcgan as words of the command line."""
    return flags({**SMALL, **changes})


def command(*words: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    """A `jaxgan` command for a process of its own, of one device."""
    quiet = [str(ROOT / "tests" / "quiet"), os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(filter(None, quiet))
    own = {"XLA_FLAGS": FASTER_TO_COMPILE, "PYTHONPATH": path}
    return [sys.executable, "-m", "jaxgan", *words], {**os.environ, **own, **environment}


def start(*words: str, **environment: str) -> subprocess.Popen[str]:
    """Starts `jaxgan` with its output in pipes."""
    words_, environment_ = command(*words, **environment)
    pipes: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    STARTED.append(subprocess.Popen(words_, env=environment_, **pipes))
    return STARTED[-1]


def end_started() -> None:
    """Ends what a test that failed left running, which else would be the fault of the next."""
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `jaxgan` and gives its output."""
    words_, environment_ = command(*words, **environment)
    return subprocess.run(words_, env=environment_, capture_output=True, text=True, timeout=240)


class Centre(nn.Module):
    """noise [B,2] -> points [B,2] about a centre, which is learnt; counts its calls in training."""

    @nn.compact
    def __call__(self, noise: jax.Array, train: bool) -> jax.Array:
        centre = self.param("centre", nn.initializers.normal(1.0), (1, 2))
        calls = self.variable("counts", "calls", jnp.zeros, ())
        if train and not self.is_initializing():
            calls.value = calls.value + 1.0
        return centre + 0.1 * noise


def normal(key: jax.Array) -> jax.Array:
    """The noise of one point [2]."""
    return jax.random.normal(key, (2,))


def centre_game(rate: float = 1e-2, feature: str = "point") -> Game:
    """A game of one player that traces in a moment, for tests of what goes on around a game.

    Its state depends on the data's order, on the run's key and, by Adam, on all steps before.
    """

    def make(apply: Any, latents: Any, batch: Any) -> tuple[Any, Any]:
        points, state = apply("generator", latents)
        return {feature: points}, {"generator": state}

    def fit(play: Play) -> tuple[jax.Array, Outcome]:
        made, states = make(play.apply, drawn(normal, play.keys, "latent"), play.batch)
        loss = jnp.mean((made[feature] - play.batch[feature]) ** 2)
        return loss, Outcome({"loss": loss}, states)

    player = Player(Centre(), optax.adam(rate), 0.9)
    return Game({"generator": player}, (Move("fit", ("generator",), fit),), normal, make)


def points(count: int = 100, seed: int = 0) -> np.ndarray:
    """Points [count,2] about (2, 0)."""
    return np.random.default_rng(seed).normal((2, 0), 1, (count, 2)).astype(np.float32)


def train_points(
    workdir: pathlib.Path, game: Game | Callable | None = None, data: Any = None, **changes: Any
) -> Any:
    """A small run of `centre_game` on `points`; `changes` are options of the run, or of `train`."""
    data = points() if data is None else data
    return train(game or centre_game(), data, workdir, **{**RUN, **changes})


# The same game in a file of a user's.
RECIPE = '''
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import jaxgan
from jaxgan import Game, Move, Outcome, Player, drawn, recipe


class Centre(nn.Module):
    @nn.compact
    def __call__(self, noise):
        return self.param("centre", nn.initializers.normal(1.0), (1, 2)) + 0.1 * noise


def normal(key):
    return jax.random.normal(key, (2,))


@recipe(steps=20, batch_size=8, data={"name": "ring"}, log={"samples": 4})
def centre(rate: float = 1e-2) -> Game:
    """Learns the centre of points.

    Args:
      rate: Adam's learning rate, a number
        above 0.
    """

    def make(apply, latents, batch):
        points, state = apply("generator", latents)
        return {"point": points}, {"generator": state}

    def fit(play):
        made, states = make(play.apply, drawn(normal, play.keys, "latent"), play.batch)
        loss = jnp.mean((made["point"] - play.batch["point"]) ** 2)
        return loss, Outcome({"loss": loss}, states)

    player = Player(Centre(), optax.adam(rate), 0.9)
    return Game({"generator": player}, (Move("fit", ("generator",), fit),), normal, make)
'''


def metrics_of(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a run, without the time and the speed."""
    timed, records = ("seconds", "examples_per_second"), read_metrics(workdir / "metrics.jsonl")
    return [{name: value for name, value in r.items() if name not in timed} for r in records]


def holding(folder: pathlib.Path) -> dict[pathlib.Path, bytes | None]:
    """What lies in a folder, with the content of the files."""
    found = sorted(folder.rglob("*"))
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in found}


# Several processes.
def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def several(*commands: tuple[list[str], dict[str, str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes, of words and an environment each, that end with the test, however it ends."""
    started, pipe = [], subprocess.PIPE
    try:
        for words, environment in commands:
            started.append(
                subprocess.Popen(
                    words, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
                )
            )
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def place_flags(port: int, number: int, count: int = 2) -> list[str]:
    """Which of several processes on localhost one is, as words of the command line."""
    words = ["--coordinator-address", f"localhost:{port}", "--num-processes", str(count)]
    return [*words, "--process-id", str(number)]


def said(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Standard output, without the lines that tell of waiting and by which Gloo says that it is
    connected, and standard error."""
    out, err = process.communicate(timeout=150)
    lines = out.splitlines(True)
    own = [
        x for x in lines if "peer ranks" not in x and not x.startswith(("[Gloo]", "waiting for "))
    ]
    return "".join(own), err
