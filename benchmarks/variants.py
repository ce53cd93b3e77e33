"""How variants cover the modes of mixtures, over seeds: `python -m benchmarks.variants`.

Every variant is the recipe `mixtures` with other options: the same networks (4 layers of 64), the
same 3,000 steps of 128 and Adam at 3e-3 that falls by a cosine, but for what its row says. Only
`ours` is what the presets train: 18,000 steps of 512, and a discriminator with Fourier features.
The seeds of a variant train together, in one step by `vmap`, and 26,000 samples of each member's
last weights are measured by `jaxgan.metrics.modes`, beside as many true ones. Every number is of
the last step; none is chosen. Rows of papers are printed beside as theirs: with their networks,
budgets and protocols.

Options of jaxgan train change all variants. --plots DIR writes a picture of each mixture: a row for
a variant, and in it the samples of the first seed over time. With --quick four steps of two seeds
of small networks are trained, and 500 samples drawn.
"""

import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image, ImageDraw

from benchmarks import record
from benchmarks.members import doubling, side_by_side
from benchmarks.record import mean_and_deviation
from jaxgan import Sampler, data, members
from jaxgan.config import Config
from jaxgan.data.mixtures import MIXTURES, Mixture
from jaxgan.game import Game
from jaxgan.metrics import modes
from jaxgan.run import runtime

SAMPLES = 26_000
PICTURES = 5  # of each variant over time

# What all variants but `ours` have in common.
_BUDGET = {
    "steps": 3000,
    "batch_size": 128,
    "model.fourier": 0,
    "objective.last_weight": 1.0,
    "optimizer.last_rate": 0.02,
    "optimizer.fall_steps": 3000,
}
_ALONE = {**_BUDGET, "objective.r1_weight": 0.0, "objective.r2_weight": 0.0}
_PLAIN = {**_ALONE, "objective.name": "nonsaturating"}

# name -> what differs from the recipe; in the order of the table.
VARIANTS: dict[str, dict[str, Any]] = {
    "non-saturating": _PLAIN,
    "minimax": {**_ALONE, "objective.name": "minimax"},
    "least-squares": {**_ALONE, "objective.name": "least_squares"},
    "hinge": {**_ALONE, "objective.name": "hinge"},
    "wgan-gp": {**_ALONE, "objective.name": "wasserstein", "objective.gradient_penalty": 10.0},
    "unrolled-5": {**_PLAIN, "objective.looks": 5},
    "unrolled-10": {**_PLAIN, "objective.looks": 10},
    "packed-2": {**_PLAIN, "model.pack": 2},
    "packed-4": {**_PLAIN, "model.pack": 4},
    "r1": {**_PLAIN, "objective.r1_weight": 1.0},
    "r1-r2": {**_BUDGET, "objective.name": "nonsaturating"},
    "rpgan-r1-r2": _BUDGET,
    "rpgan-fixed-rates": {**_BUDGET, "optimizer.last_rate": 1.0},
    "rpgan-falling-weights": {**_BUDGET, "objective.last_weight": 0.01},
    "ours": {},  # as the presets `ring` and `grid`
}

# (mixture, what) -> modes, share at them in percent, reverse KL of 2,500 samples; as published.
PUBLISHED: dict[tuple[str, str], tuple[str, str, str]] = {
    ("ring", "VEEGAN's GAN"): ("1", "99.3", ""),
    ("ring", "VEEGAN's unrolled"): ("7.6", "35.6", ""),
    ("ring", "VEEGAN"): ("8", "52.9", ""),
    ("ring", "PacGAN's GAN"): ("6.3 +- 0.5", "98.2", "0.45"),
    ("ring", "PacGAN 2"): ("7.9 +- 0.1", "95.6", "0.07"),
    ("ring", "PacGAN 4"): ("7.8 +- 0.1", "95.9", "0.07"),
    ("grid", "d2l's RpGAN + R1 + R2"): ("25", "about 10", ""),
    ("grid", "VEEGAN's GAN"): ("3.3", "0.5", ""),
    ("grid", "VEEGAN's unrolled"): ("23.6", "16", ""),
    ("grid", "VEEGAN"): ("24.6", "40", ""),
    ("grid", "PacGAN's GAN"): ("17.3 +- 0.8", "94.8", "0.70"),
    ("grid", "PacGAN 2"): ("23.8 +- 0.7", "91.3", "0.13"),
    ("grid", "PacGAN 4"): ("24.8 +- 0.2", "93.6", "0.04"),
}


class Trained(NamedTuple):
    """Of one variant, all members.

    Attributes:
      found: of each member.
      over_time: samples of the first member, float32 [N, D], by step.
      seconds: of training.
    """

    found: list[modes.Coverage]
    over_time: dict[int, np.ndarray]
    seconds: float


def train(
    game: Game, config: Config, mixture: Mixture, seeds: list[int], samples: int, pictures: int
) -> Trained:
    """Trains one member for each seed, all in one step."""
    source = data.open_source(config.run.data)
    points = source.read(np.arange(source.count))["point"]
    sampler = Sampler(game, (), averaged=False)
    begun, go_on = side_by_side(game, {"point": points}, config.run.batch_size, len(seeds))
    state = begun(seeds)

    def drawn(member: int, count: int) -> np.ndarray:
        key = jax.random.key(seeds[member])
        return sampler.sample(members.alone(state, member), key, count)["point"]

    start, over_time, at = time.perf_counter(), {}, 0
    for until in doubling(config.run.steps, pictures):
        state = go_on(state, until - at)
        at, over_time[until] = until, drawn(0, min(samples, 2500))
    seconds = time.perf_counter() - start
    found = [modes.coverage(drawn(i, samples), *mixture) for i in range(len(seeds))]
    return Trained(found, over_time, seconds)


def picture(points: np.ndarray, reach: float, side: int = 96) -> np.ndarray:
    """Points [N, D] as grey pixels [side, side], darker where more are; on a line as bars."""
    if points.shape[1] == 1:
        heights, _ = np.histogram(points[:, 0], side, (-reach, reach))
        tall = side * heights / max(1, heights.max())
        return np.where(np.arange(side)[::-1, None] < tall, 0, 255).astype(np.uint8)
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], side, [(-reach, reach)] * 2)
    dark = np.sqrt(counts / max(1.0, np.quantile(counts[counts > 0], 0.95))) if counts.any() else 0
    grey = 255 * (1 - np.clip(dark, 0, 1)) * np.ones_like(counts)
    return grey.T[::-1].astype(np.uint8)


def sheet(rows: dict[str, list[np.ndarray]]) -> Image.Image:
    """Pictures of one size, a row under the other, each behind its name."""
    framed = [[np.pad(x, 1, constant_values=160) for x in row] for row in rows.values()]
    grid = np.concatenate([np.concatenate(row, axis=1) for row in framed])
    side, margin = len(framed[0][0]), 140
    made = Image.fromarray(np.pad(grid, ((0, 0), (margin, 0)), constant_values=255))
    for i, name in enumerate(rows):
        ImageDraw.Draw(made).text((4, i * side + side // 2), name, fill=0)
    return made


def shown(name: str, found: list[modes.Coverage]) -> str:
    """A line of the table: means and standard deviations over members."""
    of = {field: [getattr(x, field) for x in found] for field in modes.Coverage._fields}
    cells = [mean_and_deviation(of["modes"], 1)]
    cells += [mean_and_deviation([100 * x for x in of["high_quality"]], 1)]
    cells += [mean_and_deviation(of[n], 4) for n in ("reverse_kl_2500", "reverse_kl", "binned_kl")]
    cells += [mean_and_deviation(of["spread"], 2)]
    return f"{name:26s}" + "".join(f"{cell:>19s}" for cell in cells)


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.variants", __doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=10, metavar="N", help="members of each (default: 10)")
    add("--mixtures", default="ring,grid", help="with commas between (default: ring,grid)")
    add("--variants", default=",".join(VARIANTS), help="with commas between (default: all)")
    add("--plots", metavar="DIR", help="write a picture of each mixture there")
    given, changes = record.parsed(parser, argv)
    names = record.chosen(parser, "variant", given.variants, VARIANTS)
    on = record.chosen(parser, "mixture", given.mixtures, MIXTURES)
    seeds, samples = list(range(given.seeds)), SAMPLES
    if given.quick:
        small = {"steps": 4, "batch_size": 20, "model.width": 4, "model.latent_size": 2}
        changes, seeds, samples = {**small, **changes}, seeds[:2], 500
    runtime.keep_freed_memory()
    about = record.machine(given.quick)
    record.show_machine(about)
    for mixture_name in on:
        mixture, rows = MIXTURES[mixture_name], {}
        head = ("modes", "at them, %", "KL at 2,500", "KL", "KL with off bin", "spread")
        print(f"\n{mixture_name}, {len(seeds)} seeds, {samples} samples; mean +- deviation")
        print(f"{'':26s}" + "".join(f"{word:>19s}" for word in head))
        truth = [modes.coverage(mixture.drawn(samples, seed), *mixture) for seed in seeds]
        print(shown("true samples", truth), flush=True)
        for name in names:
            options = {**VARIANTS[name], **changes, "data.name": mixture_name}
            config = record.config_of(parser, "mixtures", options)
            source = data.open_source(config.run.data)
            game = config.recipe.make(source.features, config.options)
            trained = train(game, config, mixture, seeds, samples, PICTURES)
            print(f"{shown(name, trained.found)}  {trained.seconds:.0f} s", flush=True)
            reach = 1.25 * float(np.abs(mixture.centres).max())
            rows[name] = [picture(points, reach) for points in trained.over_time.values()]
            if given.plots:
                pathlib.Path(given.plots).mkdir(parents=True, exist_ok=True)
                sheet(rows).save(pathlib.Path(given.plots) / f"{mixture_name}.png")
            made = record.subject("variants", "mixtures", config, "float32")
            for seed, found, true in zip(seeds, trained.found, truth, strict=True):
                what = {"variant": name, "mixture": mixture_name, "seed": seed}
                numbers = {**found._asdict(), "truth": true._asdict(), "samples": samples}
                took = {"seconds_of_all": trained.seconds, "members": len(seeds)}
                record.append(given.json, {**made, **what, **numbers, **took, **about})
        for (of, what), cells in PUBLISHED.items():
            if of == mixture_name:
                print(f"{what:26s}" + "".join(f"{cell:>19s}" for cell in cells) + "  published")


if __name__ == "__main__":
    main()
