"""Frechet distance and class counts on MNIST, over seeds: `python -m benchmarks.quality mnist
--data.dir DIR`.

Trains each preset with each seed by the command that users run, samples 10,000 images, and measures
them by the classifier of MNIST that `jaxgan features train mnist` trains, with its digest in each
record. The Frechet distance is between its features of the samples and of the 10,000 test images.
It is no FID, and is comparable only within one classifier, so the distance of real training images
to the test images is measured with it in the same run, and so is PyTorch's run of the founding
algorithm (torch-seed). Records without a digest are of a classifier before this one, with other
features. Every number is of the last step; none is chosen. With --out a run that is there already,
finished, is measured again and not trained again.

Options of jaxgan train change what is trained; --data.dir and --data.manual-dir say where MNIST is.
With --quick the data are scikit-learn's digits, four steps are trained and 256 images sampled.
"""

import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import record
from jaxgan import data, images
from jaxgan.features.classifiers import classifier
from jaxgan.features.network import Settings
from jaxgan.metrics import frechet_distance, label_histogram
from jaxgan.run import runtime

SAMPLES = 10_000
TORCH = "torch-seed"  # in the place of a preset


def labelled(source: data.Source) -> dict[str, np.ndarray]:
    """All examples of a source."""
    return source.read(np.arange(source.count))


def train_jaxgan(
    preset: str, seed: int, changes: dict[str, Any], workdir: pathlib.Path, count: int
) -> tuple[np.ndarray, float | None]:
    """Samples of a run of `jaxgan train`, and the seconds that the whole command took."""
    command, out = [sys.executable, "-m", "jaxgan"], workdir / "samples.npz"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in changes.items()]
    train = [*command, "train", preset, "--workdir", str(workdir), f"--seed={seed}", *options]
    sample = [*command, "sample", "--workdir", str(workdir), "--out", str(out), f"--num={count}"]
    start = time.perf_counter()
    subprocess.run(train, check=True, stdout=subprocess.DEVNULL)
    seconds = None if out.exists() else time.perf_counter() - start
    subprocess.run(sample, check=True, stdout=subprocess.DEVNULL)
    with np.load(out) as file:
        return file[file.files[0]], seconds


def train_torch(
    seed: int, pixels: np.ndarray, steps: int, workdir: pathlib.Path, count: int
) -> tuple[np.ndarray, float | None]:
    """The same of the founding algorithm in PyTorch eager."""
    out = workdir / "samples.npz"
    if out.exists():
        with np.load(out) as file:
            return file[file.files[0]], None
    import torch

    from benchmarks.torch_peer import Trainer

    torch.manual_seed(seed)
    trainer, start = Trainer(), time.perf_counter()
    real = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    order, per_epoch = torch.randperm(len(real)), len(real) // 128
    for step in range(steps):
        place = step % per_epoch
        if place == 0:
            order = torch.randperm(len(real))
        batch = real[order[place * 128 : (place + 1) * 128]].float() / 127.5 - 1.0
        trainer.step(batch, torch.randn(128, 100))
    seconds = time.perf_counter() - start
    with torch.no_grad():
        chunks = [min(500, count - i) for i in range(0, count, 500)]
        made = torch.cat([trainer.generator(torch.randn(chunk, 100)) for chunk in chunks])
    drawn = ((made + 1) * 127.5).round().clamp(0, 255).byte().numpy().transpose(0, 2, 3, 1)
    workdir.mkdir(parents=True, exist_ok=True)
    images.save(out, {"image": drawn})
    return drawn, seconds


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.quality", __doc__)
    help = f"mnist, seed-mnist, any of 28 x 28 grey pixels, or {TORCH}"
    parser.add_argument("presets", nargs="+", metavar="PRESET", help=help)
    parser.add_argument("--seeds", default="0,1,2", help="with commas between (default: 0,1,2)")
    parser.add_argument("--out", metavar="DIR", help="keep the workdirs there")
    given, changes = record.parsed(parser, argv)
    if not all(seed.isdecimal() for seed in given.seeds.split(",")):
        parser.error(f"--seeds {given.seeds} are not whole numbers with commas between")
    count, seeds = SAMPLES, [int(seed) for seed in given.seeds.split(",")]
    settings = Settings()
    if given.quick:
        changes = {"data.name": "digits", "batch_size": "16", "steps": "4", **changes}
        count, seeds, settings = 256, seeds[:1], Settings(fewest=20, most=20)
    configs = {
        preset: record.config_of(parser, "seed-mnist" if preset == TORCH else preset, changes)
        for preset in given.presets
    }
    runtime.keep_freed_memory()
    options, of_mnist = next(iter(configs.values())).run.data, []
    if given.quick:
        digits = labelled(data.open_source(options))
        train = {name: values[:1024] for name, values in digits.items()}
        test = {name: values[1024:] for name, values in digits.items()}
    else:
        words = {"data.name": "mnist", **{n: v for n, v in changes.items() if n[:5] == "data."}}
        of_mnist = [
            record.config_of(parser, "mnist", {**words, "data.split": split}).run.data
            for split in ("train", "test")
        ]
        train, test = (labelled(data.open_source(split)) for split in of_mnist)
    judge = classifier(options if given.quick else of_mnist[0], settings)
    of_test = judge.describe(test["image"]).features
    floor = frechet_distance(judge.describe(train["image"][:count]).features, of_test)
    about = record.machine(given.quick)
    record.show_machine(about)
    assert judge.accuracy is not None
    print(
        f"{judge.name}, digest {judge.digest[:12]}: {100 * judge.accuracy:.2f} percent of held-out "
        "images right"
    )
    print(f"Frechet distance of {count} training images: {floor:.2f}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(given.out or temporary)
        for preset, config in configs.items():
            distances = []
            for seed in seeds:
                workdir = root / f"{preset}-{seed}"
                if preset == TORCH:
                    steps = config.run.steps
                    samples, took = train_torch(seed, train["image"], steps, workdir, count)
                else:
                    samples, took = train_jaxgan(preset, seed, changes, workdir, count)
                features, probabilities = judge.describe(samples)
                assert probabilities is not None
                distances.append(frechet_distance(features, of_test))
                rarest = label_histogram(probabilities.argmax(1), probabilities.shape[1]).rarest
                found = {"frechet_distance": distances[-1], "rarest_class": rarest, "seconds": took}
                time_taken = "trained before" if took is None else f"{took:.0f} s"
                print(
                    f"{preset} seed {seed}: Frechet distance {distances[-1]:.1f}, rarest digit "
                    f"{100 * rarest:.1f} percent, {time_taken}",
                    flush=True,
                )
                made = record.subject("quality", preset, config, "float32") | {"seed": seed}
                with_same = {"real_frechet_distance": floor, "extractor": judge.digest}
                with_same["classifier_accuracy"] = judge.accuracy
                record.append(given.json, {**made, **found, **with_same, **about})
            print(f"{preset}: {record.shown(distances)} over {len(distances)} seeds", flush=True)


if __name__ == "__main__":
    main()
