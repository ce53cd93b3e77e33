"""What benchmarks time: the training step of a preset, as runs train it."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import data
from jaxgan.config import Config, step_options
from jaxgan.data import Feature
from jaxgan.data.feeds import Feed
from jaxgan.game import Game
from jaxgan.kernels import using
from jaxgan.run import dispatch, first, parallel, ways

Features = dict[str, Feature]
_RANDOM_BYTES = 256 << 20


def features_of(config: Config) -> Features:
    """What an example of a config's data holds. MNIST's files are not looked for."""
    options = config.run.data
    if options.name == "mnist" and not (options.folder or options.file):
        size = options.image_size or 28
        return {"image": Feature((size, size, options.channels or 1), np.dtype(np.uint8))}
    return data.open_source(options).features


def game_of(config: Config, features: Features) -> Game:
    """The game that a config trains on such examples."""

    def make(example: Features) -> Game:
        return config.recipe.make(example, config.options)

    return first.game_of(make, features, config.run.dtype)


def dtype_of(game: Game) -> str:
    """What a game computes in."""
    return jnp.dtype(game.dtype).name


def kernels_of(config: Config) -> Any:
    """The context in which a config's step is traced, as `train` enters it."""
    return using(None if config.run.kernels == "auto" else config.run.kernels)


def examples_of(features: Features, batch_size: int) -> int:
    """How many random examples there are: as many as MNIST has, or as fill 256 MiB."""
    each = sum(int(np.prod(f.shape)) * f.dtype.itemsize for f in features.values())
    return max(2 * batch_size, min(60_000, _RANDOM_BYTES // each))


def random_source(features: Features, count: int, seed: int) -> data.Source:
    """Random examples. What a step takes does not depend on what they show."""
    rng = np.random.default_rng(seed)

    def drawn(feature: Feature) -> np.ndarray:
        shape = (count, *feature.shape)
        if np.issubdtype(feature.dtype, np.floating):
            return rng.uniform(-1.0, 1.0, shape).astype(feature.dtype)
        high = 256 if feature.dtype == np.uint8 else feature.classes or 2
        return rng.integers(0, high, shape, feature.dtype)

    return _ready(features, {n: drawn(f) for n, f in features.items()})


def mapped(source: data.Source, folder: pathlib.Path) -> data.Source:
    """The arrays of a source in files of a folder, mapped, and in the system's memory."""
    arrays = {}
    for name, array in (source.arrays or {}).items():
        array.tofile(folder / name)
        arrays[name] = np.memmap(folder / name, array.dtype, "r", shape=array.shape)
        arrays[name].max()  # touches every page
    return _ready(source.features, arrays)


def _ready(features: Features, arrays: dict[str, np.ndarray]) -> data.Source:
    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        return {name: array[indices] for name, array in arrays.items()}

    count = len(next(iter(arrays.values())))
    return data.Source("random", count, read, features, "", arrays)


class Workload:
    """A game, its program, data on the device and a state, made once; compiled by the first `run`.

    Args:
      config: what is trained.
      devices: on which; the first by default.
      source: what the data are; random examples by default.

    Attributes:
      game: that is trained.
      feed: of the data.
      steps_per_call: in one dispatch.
    """

    def __init__(
        self,
        config: Config,
        devices: Sequence[Any] | None = None,
        source: data.Source | None = None,
    ) -> None:
        run, devices = config.run, list(devices or jax.devices()[:1])
        if source is None:
            features = features_of(config)
            source = random_source(features, examples_of(features, run.batch_size), run.seed)
        self.config, self.devices, self.step = config, devices, 0
        self.game = game_of(config, source.features)
        reading = run.data.resident_limit_mb, run.data.read_threads
        place = parallel.placing(devices, data.streams(source, reading[0]))
        fed = source, run.batch_size, run.seed, slice(None), *reading, False, place
        self.feed: Feed = data.make_feed(*fed)
        way = ways.open_ways(run, devices[0].platform)[0]
        self._program = parallel.make_program(self.game, self.feed.fetch, devices, way)
        state = first.made_state(self.game, source.features, run)
        self._state, self._resident = parallel.replicate((state, self.feed.resident), devices)
        self.steps_per_call = dispatch.steps_per_call(
            run.steps_per_call, devices[0].platform, [run.log.every]
        )

    def run(self, steps: int, wait_every: int | None = None) -> int:
        """Trains `steps` steps, or as many more as fill the last dispatch, and waits for them.

        Args:
          steps: how many.
          wait_every: steps after which to wait in between, as a run does for its log.

        Returns:
          How many were trained.
        """
        calls = -(-steps // self.steps_per_call)
        for call in range(1, calls + 1):
            program, arguments = self._next()
            self._state, metrics = program(*arguments)
            self.step += self.steps_per_call
            if wait_every and call * self.steps_per_call % wait_every == 0:
                jax.block_until_ready(metrics)
        jax.block_until_ready(self._state)
        return calls * self.steps_per_call

    def text(self) -> str:
        """The optimised HLO of a dispatch."""
        return self._compiled().as_text()

    @property
    def state(self) -> Any:
        """As it is now; the next `run` takes it apart."""
        return self._state

    def program_bytes(self) -> dict[str, int | None]:
        """What a dispatch is given, and what it takes beside that, as XLA tells."""
        told = self._compiled().memory_analysis()
        names = {"scratch_bytes": "temp_size_in_bytes", "argument_bytes": "argument_size_in_bytes"}
        return {ours: getattr(told, theirs, None) for ours, theirs in names.items()}

    def _compiled(self) -> Any:
        program, arguments = self._next()
        return program.lower(*arguments).compile()

    def parameter_bytes(self) -> int:
        """Of all players."""
        params = [player.params for player in self._state.players.values()]
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))

    def _next(self) -> tuple[Any, tuple[Any, Any, Any]]:
        """The program of the next dispatch, and its arguments."""
        count = self.steps_per_call
        item = self.feed.item(self.step, count)
        return self._program.of(count), (self._state, self._resident, item)


def gathered(resident: Any, item: Any) -> Any:
    """The batch that a resident feed makes on the device."""
    return jax.tree.map(lambda leaf: leaf[item], resident)


def step_shapes(config: Config, examples: int, steps: int) -> tuple[Any, tuple[Any, Any, Any]]:
    """(run, shapes of its arguments) of a dispatch of `steps` steps on resident data, to compile or
    to count.
    """
    from jaxgan.step import make_step

    features = features_of(config)
    game = game_of(config, features)
    state = first.template_of(game, features, config.run)
    item = jax.ShapeDtypeStruct((steps, config.run.batch_size), "int32")
    run = dispatch.many_steps(make_step(game, **step_options(config.run)), gathered)
    return run, (state, first.batch_of(features, examples), item)
