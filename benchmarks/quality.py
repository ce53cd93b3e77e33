"""Frechet distance and class counts on MNIST, over seeds: `python -m benchmarks.quality mnist
--data.dir DIR`.

Trains each preset with each seed by the command that users run, samples 10,000 images, and measures
them with a classifier of our own: two 3 x 3 convolutions with pooling and a layer of 128 features,
trained for four epochs on MNIST's training images from a fixed seed. The Frechet distance is
between its features of the samples and of the 10,000 test images. It is no FID, and is comparable
only within one classifier, so the distance of real training images to the test images is measured
with it in the same run, and so is PyTorch's run of the founding algorithm (torch-seed). Every
number is of the last step; none is chosen. With --out a run that is there already, finished, is
measured again and not trained again.

Options of jaxgan train change what is trained; --data.dir and --data.manual-dir say where MNIST is.
With --quick the data are scikit-learn's digits, four steps are trained and 256 images sampled.
"""

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

from benchmarks import record
from jaxgan import data, images
from jaxgan.metrics import frechet_distance
from jaxgan.run import runtime

SAMPLES = 10_000
TORCH = "torch-seed"  # in the place of a preset


class Classifier(nn.Module):
    """images [B,28,28,1], uint8 -> (logits [B,10], features [B,128])."""

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = images.astype(jnp.float32) / 127.5 - 1.0
        for width in (16, 32):
            x = nn.max_pool(nn.relu(nn.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
        features = nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(features), features


def train_classifier(examples: dict[str, np.ndarray], epochs: int) -> Any:
    """Its parameters, from `image` [N,28,28,1] and `label` [N]; the same for the same data, machine
    and versions.
    """
    net, batch = Classifier(), 128
    per_epoch = len(examples["label"]) // batch
    tx = optax.adam(optax.cosine_decay_schedule(1e-3, epochs * per_epoch))
    params = net.init(jax.random.key(0), examples["image"][:1])
    opt_state = tx.init(params)

    @jax.jit
    def step(params: Any, opt_state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any]:
        def loss(params: Any) -> jax.Array:
            logits: Any = net.apply(params, images)[0]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state)
        return optax.apply_updates(params, updates), opt_state

    rng = np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(examples["label"]))[: per_epoch * batch]
        for rows in np.split(order, per_epoch):
            batch_of = examples["image"][rows], examples["label"][rows]
            params, opt_state = step(params, opt_state, *batch_of)
    return params


def judged(params: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes [N] and features [N,128]."""
    apply = jax.jit(Classifier().apply)
    parts: Any = [apply(params, images[i : i + 1000]) for i in range(0, len(images), 1000)]
    classes = np.concatenate([np.argmax(logits, 1) for logits, _ in parts])
    return classes, np.concatenate([np.asarray(features) for _, features in parts])


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
    count, seeds, epochs = SAMPLES, [int(seed) for seed in given.seeds.split(",")], 4
    if given.quick:
        changes = {"data.name": "digits", "batch_size": "16", "steps": "4", **changes}
        count, seeds, epochs = 256, seeds[:1], 1
    configs = {
        preset: record.config_of(parser, "seed-mnist" if preset == TORCH else preset, changes)
        for preset in given.presets
    }
    runtime.keep_freed_memory()
    options = next(iter(configs.values())).run.data
    if given.quick:
        digits = labelled(data.open_source(options))
        train = {name: values[:1024] for name, values in digits.items()}
        test = {name: values[1024:] for name, values in digits.items()}
    else:
        words = {"data.name": "mnist", **{n: v for n, v in changes.items() if n[:5] == "data."}}
        splits = [
            record.config_of(parser, "mnist", {**words, "data.split": split}).run.data
            for split in ("train", "test")
        ]
        train, test = (labelled(data.open_source(split)) for split in splits)
    classifier = train_classifier(train, epochs)
    predicted, of_test = judged(classifier, test["image"])
    accuracy = float((predicted == test["label"]).mean())
    floor = frechet_distance(judged(classifier, train["image"][:count])[1], of_test)
    about = record.machine(given.quick)
    record.show_machine(about)
    print(f"classifier: {100 * accuracy:.2f} percent of test images right")
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
                classes, features = judged(classifier, samples)
                distances.append(frechet_distance(features, of_test))
                rarest = float(np.bincount(classes, minlength=10).min() / count)
                found = {"frechet_distance": distances[-1], "rarest_class": rarest, "seconds": took}
                time_taken = "trained before" if took is None else f"{took:.0f} s"
                print(
                    f"{preset} seed {seed}: Frechet distance {distances[-1]:.1f}, rarest digit "
                    f"{100 * rarest:.1f} percent, {time_taken}",
                    flush=True,
                )
                made = record.subject("quality", preset, config, "float32") | {"seed": seed}
                with_same = {"real_frechet_distance": floor, "classifier_accuracy": accuracy}
                record.append(given.json, {**made, **found, **with_same, **about})
            print(f"{preset}: {record.shown(distances)} over {len(distances)} seeds", flush=True)


if __name__ == "__main__":
    main()
