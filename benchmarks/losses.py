"""Seven losses on two data sets, over seeds: `python -m benchmarks.losses`.

Every loss is the recipe `stacked` with another objective or penalty: the same networks (DCGAN from
7 x 7 x 32 to 28 x 28, the discriminator as wide), the same steps of 64, one update of each player
and Adam(0.5, 0.999) at 1e-3 that falls by a cosine. No rate or weight was tuned for any of them,
where Lucic et al., 2018, took the best of a hundred settings of each: their rows, printed beside,
are of other networks and of Inception's features, and compare in no value. The seeds train one
after the other on a CPU, where that is twice as fast, and in one step by `vmap` on a GPU.

What is measured is the Frechet distance of the features of a classifier of the data, which is no
FID: of the last weights' samples to images that were not trained on, and as the floor of the images
trained on to these. On mnist these are the first 10,000 of the training images and the 10,000 test
images; on digits the halves, about 900 each, with a distance that so few examples make larger.

Options of jaxgan train change all of them: --steps 5000 takes two and a half times as long.
--data.dir and --data.manual-dir say where MNIST is, --plots DIR writes samples of the first seed of
each. With --quick four steps of two seeds of tiny networks are trained on digits, and 60 images
sampled.
"""

import dataclasses
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.members import images_of, save_some
from benchmarks.record import mean_and_deviation
from jaxgan import data
from jaxgan.config import Config
from jaxgan.features import Extractor, classifier
from jaxgan.metrics import frechet_distance
from jaxgan.run import runtime

COUNT = 10_000  # images of either side, at most
STEPS = 2000
SPLITS = {"mnist": ("train", "test"), "digits": ("train[:50%]", "train[50%:]")}
COMMON: dict[str, Any] = {
    "batch_size": 64,
    "steps": STEPS,
    "model.generator_width": 32,
    "model.doublings": 2,
    "objective.r1_weight": 0.0,
    "objective.r2_weight": 0.0,
    "objective.last_weight": 1.0,
    "optimizer.generator_rate": 1e-3,
    "optimizer.discriminator_rate": 1e-3,
    "optimizer.beta1": 0.5,
    "optimizer.beta2": 0.999,
}

# name -> what differs; in the order of the table.
LOSSES: dict[str, dict[str, Any]] = {
    "minimax": {"objective.name": "minimax"},
    "non-saturating": {"objective.name": "nonsaturating"},
    "least-squares": {"objective.name": "least_squares"},
    "hinge": {"objective.name": "hinge"},
    "wgan-gp": {"objective.name": "wasserstein", "objective.gradient_penalty": 10.0},
    "dragan": {"objective.name": "minimax", "objective.dragan": 10.0},
    "rpgan-r1-r2": {
        "objective.name": "relativistic",
        "objective.r1_weight": 1.0,
        "objective.r2_weight": 1.0,
    },
}

# Best Frechet distances of Lucic et al., 2018, Inception's features: on MNIST, Fashion-MNIST.
PUBLISHED: dict[str, tuple[str, str]] = {
    "minimax": ("9.8 +- 0.9", "29.6 +- 1.6"),
    "non-saturating": ("6.8 +- 0.5", "26.5 +- 1.6"),
    "least-squares": ("7.8 +- 0.6", "30.7 +- 2.2"),
    "wgan": ("6.7 +- 0.4", "21.5 +- 1.6"),
    "wgan-gp": ("20.3 +- 5.0", "24.5 +- 2.1"),
    "dragan": ("7.6 +- 0.4", "27.7 +- 1.2"),
    "began": ("13.1 +- 1.0", "22.9 +- 0.9"),
}


class Setting:
    """What all losses on one data set have in common: the images, what describes them, the floor.

    Args:
      config: of one of them.
      others: the split that is not trained on.
      count: images of either side, at most.
    """

    def __init__(self, config: Config, others: str, count: int) -> None:
        options = config.run.data
        self.source = data.open_source(options)
        self.images = self.source.read(np.arange(self.source.count))["image"]
        apart = data.open_source(dataclasses.replace(options, split=others))
        held_out = apart.read(np.arange(min(count, apart.count)))["image"]
        self.judge: Extractor = classifier(options)
        self.count = min(count, len(self.images), len(held_out))
        self.held_out = self.judge.describe(held_out[: self.count]).features
        self.floor = self.distance(self.images[: self.count])

    def distance(self, made: np.ndarray) -> float:
        """Of images to those that were not trained on."""
        return frechet_distance(self.judge.describe(made).features, self.held_out)


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.losses", __doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=5, metavar="N", help="members of each (default: 5)")
    add("--data", default="digits,mnist", help="with commas between (default: digits,mnist)")
    add("--losses", default=",".join(LOSSES), help="with commas between (default: all)")
    add("--plots", metavar="DIR", help="write samples of each there")
    given, changes = record.parsed(parser, argv)
    names = record.chosen(parser, "loss", given.losses, LOSSES)
    on = record.chosen(parser, "data set", given.data, SPLITS)
    seeds, count = list(range(given.seeds)), COUNT
    if given.quick:
        tiny = {"data.image_size": 8, "steps": 4, "batch_size": 12, "model.latent_size": 2}
        changes = {**tiny, "model.generator_width": 4, "model.doublings": 1, **changes}
        seeds, on, count = seeds[:2], ["digits"], 60
    configs = {
        (name, loss): record.config_of(parser, "stacked", _options(name, loss, changes))
        for name in on
        for loss in names
    }
    runtime.keep_freed_memory()
    about = record.machine(given.quick)
    record.show_machine(about)
    found: dict[str, dict[str, list[float | None]]] = {loss: {} for loss in names}
    for name in on:
        setting = Setting(configs[name, names[0]], SPLITS[name][1], count)
        judge = setting.judge
        accuracy = "" if judge.accuracy is None else f", {judge.accuracy:.2%} of held-out right"
        print(f"\n{name}, {len(seeds)} seeds, by {judge.name} {judge.digest[:12]}{accuracy}")
        print(f"Frechet distance of {setting.count} real images: {setting.floor:.2f}", flush=True)
        for loss in names:
            config = configs[name, loss]
            made, seconds = images_of(config, setting.source, setting.images, seeds, setting.count)
            distances = [None if x is None else setting.distance(x) for x in made]
            found[loss][name] = distances
            lost = sum(x is None for x in made)
            ended = f", {lost} not finite" if lost else ""
            told = f"{mean_and_deviation(distances, 1):>18s}{ended}"
            print(f"{loss:18s}{told}  {config.run.steps} steps, {seconds:.0f} s", flush=True)
            save_some(given.plots, f"{name}-{loss}", made)
            subject = record.subject("losses", "stacked", config, "float32")
            what = {"loss": loss, "data": name, "samples": setting.count}
            what |= {"classifier": judge.about()}
            took = {"seconds_of_all": seconds, "members": len(seeds)}
            for seed, distance in zip(seeds, distances, strict=True):
                numbers = {"frechet_distance": distance, "real_frechet_distance": setting.floor}
                record.append(
                    given.json, {**subject, **what, "seed": seed, **numbers, **took, **about}
                )
    columns = [*on, "Lucic: MNIST", "Fashion-MNIST"]
    print("\nOurs, and as published of Inception's features: not comparable by value")
    print(f"{'':18s}" + "".join(f"{word:>18s}" for word in columns))
    for loss in dict.fromkeys([*names, *PUBLISHED]):
        ours = [mean_and_deviation(found[loss][name], 1) if loss in found else "" for name in on]
        cells = [*ours, *PUBLISHED.get(loss, ("", ""))]
        print(f"{loss:18s}" + "".join(f"{cell:>18s}" for cell in cells))


def _options(name: str, loss: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Of one loss on one data set; its rates fall in all of its steps."""
    options = {**COMMON, **LOSSES[loss], **changes}
    options |= {"data.name": name, "data.split": SPLITS[name][0]}
    options.setdefault("optimizer.fall_steps", options["steps"])
    return options


if __name__ == "__main__":
    main()
