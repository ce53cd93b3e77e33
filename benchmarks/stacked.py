"""How variants cover the 1,000 modes of stacked MNIST, over seeds: `python -m benchmarks.stacked`.

Every variant is the recipe `stacked` with other options: the same networks, steps, batches of 64
and Adam, but for what its row says. With --networks small, the default, the generator is about that
of Metz et al., from 4 x 4 x 64, and --shares are the discriminator's sizes beside it, PacGAN's
smaller table; with --networks full both are of PacGAN's size, for a GPU. All train for the 50
epochs of 128,000 examples of that protocol unless --steps says less. 26,000 samples of each
member's last weights are given to a classifier of the data, channel by channel, and so are as many
true triples. Every number is of the last step; none is chosen. Rows of papers are printed beside as
theirs: with their networks, classifiers and rates.

Options of jaxgan train change all variants; --data.dir and --data.manual-dir say where MNIST is.
--plots DIR writes samples of the first seed of each variant. With --quick four steps of two seeds
of tiny networks are trained on stacked digits of scikit-learn, and 300 samples drawn.
"""

from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.members import images_of, save_some
from benchmarks.record import mean_and_deviation
from jaxgan import data, evaluate
from jaxgan.config import Config, described
from jaxgan.evaluate import Kind
from jaxgan.run import runtime

SAMPLES = 26_000
NETWORKS: dict[str, dict[str, Any]] = {
    "small": {
        "model.generator_width": 64,
        "model.doublings": 3,
        "optimizer.generator_rate": 2e-3,
        "optimizer.discriminator_rate": 2e-3,
    },
    "full": {"model.generator_width": 512, "model.doublings": 4},
}
# The papers' Adam for all but ours, at a rate that stays.
_PLAIN = {
    "objective.name": "nonsaturating",
    "objective.r1_weight": 0.0,
    "objective.r2_weight": 0.0,
    "optimizer.generator_rate": 2e-4,
    "optimizer.discriminator_rate": 2e-4,
    "optimizer.last_rate": 1.0,
    "optimizer.beta1": 0.5,
    "optimizer.beta2": 0.999,
}

# name -> what differs from the recipe; in the order of the table.
VARIANTS: dict[str, dict[str, Any]] = {
    "dcgan": _PLAIN,
    "unrolled-1": {**_PLAIN, "objective.looks": 1},
    "unrolled-5": {**_PLAIN, "objective.looks": 5},
    "unrolled-10": {**_PLAIN, "objective.looks": 10},
    "packed-2": {**_PLAIN, "model.pack": 2},
    "packed-3": {**_PLAIN, "model.pack": 3, "batch_size": 63},  # which three divides
    "packed-4": {**_PLAIN, "model.pack": 4},
    "rpgan-r1-r2": {},
}

# (networks, share, what) -> modes and KL, as published.
PUBLISHED: dict[tuple[str, float, str], tuple[str, str]] = {
    ("small", 0.25, "Metz et al.: DCGAN"): ("30.6", "5.99"),
    ("small", 0.25, "Metz et al.: unrolled 1"): ("65.4", "5.91"),
    ("small", 0.25, "Metz et al.: unrolled 5"): ("236.4", "4.67"),
    ("small", 0.25, "Metz et al.: unrolled 10"): ("327.2", "4.66"),
    ("small", 0.25, "PacGAN: DCGAN again"): ("78.5", "5.21"),
    ("small", 0.25, "PacGAN 2"): ("484.5", "2.61"),
    ("small", 0.25, "PacGAN 3"): ("601.3", "2.00"),
    ("small", 0.25, "PacGAN 4"): ("667.4", "1.81"),
    ("small", 0.5, "Metz et al.: DCGAN"): ("628.0", "2.58"),
    ("small", 0.5, "Metz et al.: unrolled 1"): ("523.6", "2.44"),
    ("small", 0.5, "Metz et al.: unrolled 5"): ("732.0", "1.66"),
    ("small", 0.5, "Metz et al.: unrolled 10"): ("817.4", "1.43"),
    ("small", 0.5, "PacGAN: DCGAN again"): ("487.7", "2.24"),
    ("small", 0.5, "PacGAN 2"): ("840.7", "1.00"),
    ("small", 0.5, "PacGAN 3"): ("866.6", "0.90"),
    ("small", 0.5, "PacGAN 4"): ("820.2", "1.15"),
    ("full", 1.0, "VEEGAN: DCGAN"): ("99", "3.40"),
    ("full", 1.0, "VEEGAN"): ("150", "2.95"),
    ("full", 1.0, "PacGAN: DCGAN"): ("78.9 +- 6.5", "4.50"),
    ("full", 1.0, "PacGAN 2"): ("1000", "0.06"),
    ("full", 1.0, "PacGAN 4"): ("1000", "0.07"),
    ("full", 1.0, "R3GAN: GAN + R1 + R2"): ("693", "0.927"),
    ("full", 1.0, "R3GAN: RpGAN + R1 + R2"): ("1000", "0.078"),
}


def shown(name: str, found: list[dict[str, Any]]) -> str:
    """A line of the table: means and standard deviations over members that stayed finite."""
    cells = [
        mean_and_deviation([numbers.get(field) for numbers in found], digits)
        for field, digits in (("modes", 1), ("reverse_kl", 3), ("data_kl", 3))
    ]
    return f"{name:30s}" + "".join(f"{cell:>20s}" for cell in cells)


def kind_of(config: Config, source: data.Source) -> Kind:
    """What `jaxgan evaluate` measures on such data."""
    kind = evaluate.kind_of({**described(config), "data_version": source.version})
    assert kind is not None
    return kind


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.stacked", __doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=5, metavar="N", help="members of each (default: 5)")
    add("--networks", choices=list(NETWORKS), default="small", help="(default: small)")
    help = "of the discriminator, with commas between (default: 0.25,0.5 for small, 1 for full)"
    add("--shares", metavar="SHARES", help=help)
    add("--variants", default=",".join(VARIANTS), help="with commas between (default: all)")
    add("--plots", metavar="DIR", help="write samples of each variant there")
    given, changes = record.parsed(parser, argv)
    names = record.chosen(parser, "variant", given.variants, VARIANTS)
    shares = (given.shares or {"small": "0.25,0.5", "full": "1"}[given.networks]).split(",")
    seeds, count = list(range(given.seeds)), SAMPLES
    networks = NETWORKS[given.networks]
    if given.quick:
        tiny = {"data.name": "stacked-digits", "data.image_size": 8, "steps": 4, "batch_size": 12}
        changes = {**tiny, **changes}
        networks = {"model.generator_width": 4, "model.doublings": 1, "model.latent_size": 2}
        seeds, count = seeds[:2], 300
    configs = [
        (name, share, record.config_of(parser, "stacked", _options(name, share, networks, changes)))
        for share in shares
        for name in names
    ]
    runtime.keep_freed_memory()
    about = record.machine(given.quick)
    record.show_machine(about)
    first = configs[0][2]
    source = data.open_source(first.run.data)
    pixels = source.read(np.arange(source.count))["image"]
    kind = kind_of(first, source)
    judge = kind.extractor
    told = f"{judge['name']} {judge['digest'][:12]}, {judge['accuracy']:.2%} of held-out right"
    print(f"\n{source.name}, {len(seeds)} seeds, {count} samples, by {told}; mean +- deviation")
    head = ("modes", "KL from equal", "KL from the data")
    print(f"{'':30s}" + "".join(f"{word:>20s}" for word in head))
    truth = [kind.measured(kind.true(count, seed)) for seed in seeds]
    print(shown("true triples", truth), flush=True)
    for name, share, config in configs:
        made, seconds = images_of(config, source, pixels, seeds, count)
        found = [{} if x is None else kind.measured(x) for x in made]
        title = f"{name}, D of {share}"
        print(f"{shown(title, found)}  {config.run.steps} steps, {seconds:.0f} s", flush=True)
        save_some(given.plots, f"{name}-{share}", made)
        subject = record.subject("stacked", "stacked", config, "float32")
        for seed, numbers, true in zip(seeds, found, truth, strict=True):
            what = {"variant": name, "networks": given.networks, "share": float(share)}
            numbers = {**(numbers or dict.fromkeys(true)), "truth": true, "samples": count}
            took = {"seconds_of_all": seconds, "members": len(seeds), "classifier": judge}
            record.append(given.json, {**subject, **what, "seed": seed, **numbers, **took, **about})
    for (of, share, what), cells in PUBLISHED.items():
        if of == given.networks and str(share) in {str(float(s)) for s in shares}:
            title = f"{what}, {share}" if of == "small" else what
            print(f"{title:30s}" + "".join(f"{cell:>20s}" for cell in cells) + "  published")


def _options(name: str, share: str, networks: dict, changes: dict) -> dict[str, Any]:
    """Of one variant; its rates and weights fall in all of its steps."""
    options = {**networks, **VARIANTS[name], **changes, "model.discriminator_share": share}
    if "steps" in options:
        options.setdefault("optimizer.fall_steps", options["steps"])
    return options


if __name__ == "__main__":
    main()
