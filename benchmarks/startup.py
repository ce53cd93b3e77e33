"""How long a user waits: importing, and the first step with a cold and with a warm compilation cache.

`python -m benchmarks.startup [--preset mnist]`. Each figure is of processes of their own, in turn; medians with least and greatest.
"""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import output
from jaxgan.config import PRESETS

IMPORTS = "import jax, flax, optax, flax.linen"
FIRST_STEP = """
import sys, jax, numpy as np
from jaxgan import parallel, runtime
from jaxgan.config import preset
from jaxgan.game import init, make_game
runtime.keep_compiled_programs()
config = preset(sys.argv[1])
game, devices = make_game(config), jax.devices()[:1]
size, count = config.data.image_size, config.batch_size
state = jax.jit(lambda: init(game, jax.random.key(0)))()
state, resident = parallel.replicate((state, {"image": np.zeros((256, size, size, config.model.channels), np.uint8)}), devices)
program = parallel.make_program(game, lambda arrays, item: jax.tree.map(lambda x: x[item], arrays), devices)
jax.block_until_ready(program(state, (resident, np.zeros((1, 1, count), np.int32))))
"""


def seconds(*words: str, **environment: str) -> float:
    """Of one process, from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, env={**os.environ, **environment})
    return time.perf_counter() - start


def main(argv: list[str] | None = None) -> None:
    parser = output.parser("startup", __doc__)
    parser.add_argument(
        "--preset", default="mnist", help="whose first step is timed (default: mnist)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="processes for each figure (default: 5)"
    )
    given = parser.parse_args(argv)
    output.check(parser, given)
    if given.preset not in PRESETS:
        parser.error(f"unknown preset {given.preset!r}; use {', '.join(PRESETS)}")
    if given.rounds < 1:
        parser.error(f"--rounds {given.rounds} is too small; use 1 or more")
    rounds = 1 if given.quick else given.rounds
    about = output.machine(given.quick)
    times: dict[str, list[float]] = {"base": [], "jaxgan": [], "cold": [], "warm": []}
    for _ in range(rounds):
        times["base"].append(seconds("-c", IMPORTS))
        times["jaxgan"].append(seconds("-c", f"{IMPORTS}; import jaxgan"))
        with tempfile.TemporaryDirectory() as folder:
            for name in ("cold", "warm"):
                times[name].append(
                    seconds("-c", FIRST_STEP, given.preset, JAX_COMPILATION_CACHE_DIR=folder)
                )
    output.print_machine(about)
    added = [ours - base for base, ours in zip(times["base"], times["jaxgan"])]
    print(f"seconds, median (least to greatest) of {rounds} processes")
    print(f"import jax, flax, optax     {output.shown(times['base'], 2)}")
    print(f"import jaxgan adds          {output.shown(added, 2)}")
    print(
        f"first step, cold cache      {output.shown(times['cold'], 1)}   preset {given.preset}, from the start of Python"
    )
    print(f"first step, warm cache      {output.shown(times['warm'], 1)}")
    record = output.subject("startup", given.preset, PRESETS[given.preset][1]) | {
        "seconds": times,
        "added": added,
    }
    output.append(given.json, record | about)
    if given.plot:
        bars = {"import jax, flax, optax": times["base"], "import jaxgan adds": added}
        bars |= {"first step, cold cache": times["cold"], "first step, warm cache": times["warm"]}

        def draw(axes: list[Any]) -> None:
            for at, values in enumerate(bars.values()):
                axes[0].plot(values, [at] * len(values), "o")
            axes[0].set_yticks(range(len(bars)), list(bars))
            axes[0].set(xlabel="seconds", title=f"{given.preset}, {about['device']}")
            axes[0].invert_yaxis()

        output.figure(given.plot, draw, width=6.0, quick=given.quick)


if __name__ == "__main__":
    main()
