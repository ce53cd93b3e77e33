"""Frechet distance and class counts on MNIST: `python -m benchmarks.quality --data-dir DIR [--manual-dir DIR] PRESET...`.

Trains each preset with each seed by the command that users run, samples 10,000 images, and measures them with a classifier of our
own: two 3 x 3 convolutions with pooling and a layer of 128 features, trained for four epochs on MNIST's training images from a
fixed seed. The
Frechet distance is between its features of the samples and of the 10,000 test images. It is no FID, and is comparable only within
one classifier, so the distance of real training images to the test images, and PyTorch's run of the founding algorithm
(`torch-seed`), are measured with it in the same run. Every number printed is of the last step; none is chosen. With `--out` a run
that is there already, finished, is measured again and not trained again. With --quick the data are scikit-learn's digits, four steps are
trained and 256 images sampled: that only tries the command, its figures mean nothing.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import output
from jaxgan import runtime
from jaxgan.config import PRESETS, Config, replace
from jaxgan.metrics import frechet_distance

SAMPLES = 10_000


class Classifier(nn.Module):
    """images [B,28,28,1] in [-1, 1] -> (logits [B,10], features [B,128])."""

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = images
        for width in (16, 32):
            x = nn.max_pool(nn.relu(nn.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
        features = nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(features), features


def load_digits(
    name: str, data_dir: str | None, manual_dir: str | None, split: str
) -> dict[str, np.ndarray]:
    """`image` uint8 [N,28,28,1] and `label` [N] of mnist or digits."""
    from jaxgan import data

    changes = {
        "data.name": name,
        "data.split": split,
        "data.dir": data_dir,
        "data.manual_dir": manual_dir,
    }
    return data.load(replace(Config(), changes)).resident


def train_classifier(train: dict[str, np.ndarray], epochs: int) -> Any:
    """Its parameters; the same for the same data, machine and versions."""
    net, batch = Classifier(), 128
    per_epoch = len(train["label"]) // batch
    tx = optax.adam(optax.cosine_decay_schedule(1e-3, epochs * per_epoch))
    params = net.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    opt_state = tx.init(params)

    @jax.jit
    def step(params: Any, opt_state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any]:
        def loss(params: Any) -> jax.Array:
            logits, _ = net.apply(params, images.astype(jnp.float32) / 127.5 - 1.0)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state)
        return optax.apply_updates(params, updates), opt_state

    rng = np.random.default_rng(0)
    for _ in range(epochs):
        for rows in np.split(rng.permutation(len(train["label"]))[: per_epoch * batch], per_epoch):
            params, opt_state = step(params, opt_state, train["image"][rows], train["label"][rows])
    return params


def judged(params: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes [N] and features [N,128] of uint8 images."""
    apply = jax.jit(
        lambda images: Classifier().apply(params, images.astype(jnp.float32) / 127.5 - 1.0)
    )
    parts = [apply(images[i : i + 1000]) for i in range(0, len(images), 1000)]
    return np.concatenate([np.argmax(p[0], 1) for p in parts]), np.concatenate(
        [np.asarray(p[1]) for p in parts]
    )


def train_jaxgan(
    preset: str, seed: int, workdir: pathlib.Path, given: argparse.Namespace
) -> tuple[np.ndarray, float | None]:
    """Samples of a run of `jaxgan train`, and the seconds that the whole command took."""
    words = [sys.executable, "-m", "jaxgan"]
    options = ["--workdir", str(workdir), "--seed", str(seed)]
    for name, value in [
        ("data.dir", given.data_dir),
        ("data.manual-dir", given.manual_dir),
        ("steps", given.steps),
    ]:
        options += [f"--{name}", str(value)] if value else []
    options += ["--data.name", "digits", "--batch-size", "16"] if given.quick else []
    out, start = workdir / "samples.npz", time.perf_counter()
    subprocess.run([*words, "train", preset, *options], check=True, stdout=subprocess.DEVNULL)
    seconds = None if out.exists() else time.perf_counter() - start
    subprocess.run(
        [
            *words,
            "sample",
            "--workdir",
            str(workdir),
            "--out",
            str(out),
            "--num",
            str(given.samples),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with np.load(out) as file:
        return file["images"], seconds


def config_of(workdir: pathlib.Path) -> Config | None:
    """Of a run of `jaxgan train`; None for one of PyTorch."""
    path = workdir / "config.json"
    return replace(Config(), json.loads(path.read_text())) if path.exists() else None


def train_torch(
    seed: int, images: np.ndarray, steps: int, workdir: pathlib.Path, samples: int
) -> tuple[np.ndarray, float | None]:
    """The same of the founding algorithm in PyTorch eager."""
    import torch

    from benchmarks.torch_peer import Trainer
    from jaxgan import sampling

    out = workdir / "samples.npz"
    if out.exists():
        with np.load(out) as file:
            return file["images"], None
    torch.manual_seed(seed)
    trainer, start = Trainer(), time.perf_counter()
    real = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    order = torch.randperm(len(real))
    per_epoch = len(real) // 128
    for step in range(steps):
        place = step % per_epoch
        if place == 0:
            order = torch.randperm(len(real))
        batch = real[order[place * 128 : (place + 1) * 128]].float() / 127.5 - 1.0
        trainer.step(batch, torch.randn(128, 100))
    seconds = time.perf_counter() - start
    with torch.no_grad():
        made = [
            trainer.generator(torch.randn(min(500, samples - i), 100))
            for i in range(0, samples, 500)
        ]
    drawn = (
        ((torch.cat(made) + 1) * 127.5).round().clamp(0, 255).byte().numpy().transpose(0, 2, 3, 1)
    )
    sampling.save(workdir / "samples.png", drawn[:64])
    sampling.save(out, drawn)
    return drawn, seconds


def main(argv: list[str] | None = None) -> None:
    parser = output.parser("quality", __doc__, "run")
    parser.add_argument(
        "presets", nargs="+", metavar="PRESET", help="mnist, seed-mnist or torch-seed"
    )
    parser.add_argument("--seeds", default="0,1,2", help="with commas between (default: 0,1,2)")
    parser.add_argument("--steps", type=int, help="other than the preset's")
    parser.add_argument("--data-dir", metavar="DIR", help="where prepared data sets live")
    parser.add_argument("--manual-dir", metavar="DIR", help="folder with MNIST's original files")
    parser.add_argument("--out", metavar="DIR", help="keep the workdirs there")
    given = parser.parse_args(argv)
    output.check(parser, given)
    for preset in given.presets:
        if preset not in (*PRESETS, "torch-seed"):
            parser.error(f"unknown preset {preset!r}; use {', '.join(PRESETS)} or torch-seed")
    if not all(seed.isdecimal() for seed in given.seeds.split(",")):
        parser.error(
            f"--seeds {given.seeds} are not whole numbers with commas between; use for example 0,1,2"
        )
    given.samples = SAMPLES
    if given.quick:
        given.steps, given.samples, given.seeds = 4, 256, given.seeds.split(",")[0]
        print("these figures only show that the command runs")
    runtime.keep_freed_memory()

    if given.quick:
        digits = load_digits("digits", None, None, "train")
        train, test = (
            {name: values[part] for name, values in digits.items()}
            for part in (np.s_[:1024], np.s_[1024:])
        )
    else:
        train, test = (
            load_digits("mnist", given.data_dir, given.manual_dir, split)
            for split in ("train", "test")
        )
    classifier = train_classifier(train, epochs=1 if given.quick else 4)
    predicted, of_test = judged(classifier, test["image"])
    accuracy = float((predicted == test["label"]).mean())
    floor = frechet_distance(judged(classifier, train["image"][: given.samples])[1], of_test)
    about = output.machine(given.quick)
    output.print_machine(about)
    print(
        f"classifier: {100 * accuracy:.2f} percent of test images right; Frechet distance of {given.samples} training images: {floor:.2f}",
        flush=True,
    )
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(given.out or temporary)
        for preset in given.presets:
            distances = []
            for seed in map(int, given.seeds.split(",")):
                workdir = root / f"{preset}-{seed}"
                if preset == "torch-seed":
                    samples, seconds = train_torch(
                        seed, train["image"], given.steps or 4680, workdir, given.samples
                    )
                else:
                    samples, seconds = train_jaxgan(preset, seed, workdir, given)
                classes, features = judged(classifier, samples)
                distances.append(frechet_distance(features, of_test))
                share = np.bincount(classes, minlength=10).min() / given.samples
                took = f"{seconds:.0f} s" if seconds else "trained before"
                line = f"{preset} seed {seed}: Frechet distance {distances[-1]:.1f}, rarest digit {100 * share:.1f} percent, {took}"
                print(line, flush=True)
                record = output.subject(
                    "quality",
                    preset,
                    config_of(workdir) or replace(PRESETS["seed-mnist"][1], {"seed": seed}),
                )
                record |= {
                    "frechet_distance": distances[-1],
                    "rarest_class": float(share),
                    "seconds": seconds,
                }
                output.append(
                    given.json,
                    record
                    | {"real_frechet_distance": floor, "classifier_accuracy": accuracy, **about},
                )
            print(f"{preset}: {output.shown(distances)} over {len(distances)} seeds", flush=True)
            found[preset] = distances
    if given.plot:

        def draw(axes: list[Any]) -> None:
            for at, distances in enumerate(found.values()):
                axes[0].plot([at] * len(distances), distances, "o")
            axes[0].axhline(floor, color="grey", linewidth=0.5, label="training images")
            axes[0].set_xticks(range(len(found)), list(found))
            axes[0].set(ylabel="Frechet distance, a seed each", ylim=(0, None))
            axes[0].legend()

        output.figure(given.plot, draw, quick=given.quick)


if __name__ == "__main__":
    main()
