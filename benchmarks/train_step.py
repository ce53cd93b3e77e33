"""Step throughput of `seed-mnist` beside PyTorch eager, in turn in one run: `python -m benchmarks.train_step`.

Each provider runs in a process of its own, started once; rounds go from one to the other, so that a change in the machine's speed
meets both. What is timed is what trains: the step that `jaxgan train` runs, its batches gathered from 60,000 images of random
pixels (the time of a step does not depend on what they show), and the same algorithm in `benchmarks.torch_peer`, its batches sliced
from the same. jaxgan's process keeps freed memory, as `jaxgan train` does; `torch-eager+malloc` is PyTorch with that very setting
of the C library, which no PyTorch script has by default.
"""

import argparse
import json
import multiprocessing
import time
from typing import Any

from benchmarks import report

PROVIDERS = ("jaxgan", "torch-eager", "torch-eager+malloc")
EXAMPLES = 60_000


def jaxgan_steps(batch_size: int) -> Any:
    """A function that trains n steps and waits for the last."""
    import jax
    import numpy as np

    from jaxgan import parallel, runtime
    from jaxgan.config import preset
    from jaxgan.data.feeds import batch_indices
    from jaxgan.game import init, make_game

    runtime.keep_freed_memory()
    config, devices = preset("seed-mnist"), jax.devices()[:1]
    game = make_game(config)
    program = parallel.make_program(game, lambda arrays, item: jax.tree.map(lambda x: x[item], arrays), devices)
    images = np.random.default_rng(0).integers(0, 256, (EXAMPLES, 28, 28, 1), np.uint8)
    state, resident = parallel.replicate((init(game, jax.random.key(0)), {"image": images}), devices)
    per_call = parallel.default_steps_per_call(config.log, devices[0].platform)
    at = 0

    def run(steps: int) -> None:
        nonlocal state, at
        for _ in range(max(1, steps // per_call)):
            items = np.stack([batch_indices(0, t, batch_size, EXAMPLES) for t in range(at, at + per_call)])
            state, _ = program(state, (resident, parallel.split(items, 1)))
            at += per_call
        jax.block_until_ready(state)

    return run


def torch_steps(batch_size: int, keep_memory: bool) -> Any:
    """The same in PyTorch eager. The losses are read every 50 steps, as the listing prints them."""
    import torch

    from benchmarks.torch_peer import Trainer

    if keep_memory:
        from jaxgan import runtime

        runtime.keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = Trainer()
    for network in (trainer.generator, trainer.discriminator):
        network.to(device)
    images = torch.rand(EXAMPLES, 1, 28, 28, device=device) * 2 - 1
    at = 0

    def run(steps: int) -> None:
        nonlocal at
        losses = None
        for _ in range(steps):
            first = at * batch_size % (EXAMPLES - batch_size)
            losses = trainer.step(images[first : first + batch_size], torch.randn(batch_size, 100, device=device))
            at += 1
        if losses is not None:
            losses[0].item()

    return run


def serve(provider: str, batch_size: int, pipe: Any) -> None:
    """Runs the asked number of steps at each message and answers with the seconds they took."""
    run = jaxgan_steps(batch_size) if provider == "jaxgan" else torch_steps(batch_size, provider.endswith("malloc"))
    while steps := pipe.recv():
        start = time.perf_counter()
        run(steps)
        pipe.send(time.perf_counter() - start)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__, allow_abbrev=False)
    parser.add_argument("--batch-size", type=int, default=128, help="images per step (default: 128)")
    parser.add_argument("--steps", type=int, default=100, help="steps in a round (default: 100)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds counted, after one that is not (default: 7)")
    parser.add_argument("--providers", default=",".join(PROVIDERS), help="which, with commas between (default: all)")
    parser.add_argument("--json", metavar="FILE", help="append a JSON line for each provider")
    parser.add_argument("--quick", action="store_true", help="two rounds of two steps of eight images, to try the command")
    given = parser.parse_args(argv)
    if given.quick:
        given.steps, given.rounds, given.batch_size = 2, 2, 8
    providers = given.providers.split(",")
    if wrong := [p for p in providers if p not in PROVIDERS]:
        parser.error(f"unknown provider {wrong[0]!r}; use {', '.join(PROVIDERS)}")

    context = multiprocessing.get_context("spawn")
    pipes = {}
    for provider in providers:
        pipes[provider], theirs = context.Pipe()
        context.Process(target=serve, args=(provider, given.batch_size, theirs), daemon=True).start()
    rates: dict[str, list[float]] = {provider: [] for provider in providers}
    for i in range(given.rounds + 1):
        for provider, pipe in pipes.items():
            pipe.send(given.steps)
            seconds = pipe.recv()
            if i:
                rates[provider].append(given.steps / seconds)
    for pipe in pipes.values():
        pipe.send(0)

    about = report.machine()
    report.print_machine(about)
    print(f"seed-mnist, batch {given.batch_size}, {given.rounds} rounds of {given.steps} steps: steps/s, median (least to greatest)")
    for provider in providers:
        ratios = [ours / theirs for ours, theirs in zip(rates.get("jaxgan", []), rates[provider])]
        beside = f"   jaxgan is {report.shown(ratios, 2)} x" if ratios and provider != "jaxgan" else ""
        print(f"{provider:20s} {report.shown(rates[provider])}{beside}")
        record = {"preset": "seed-mnist", "provider": provider, "batch_size": given.batch_size, "steps_per_round": given.steps}
        record |= {"steps_per_s": report.spread(rates[provider])["median"], "samples": rates[provider], "ratios": ratios, **about}
        report.append(given.json, json.loads(json.dumps(record)))


if __name__ == "__main__":
    main()
