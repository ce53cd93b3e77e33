"""Trajectories of eight variants on the Dirac-GAN: `python -m benchmarks.dirac --out FILE.png`.

Each begins at theta = psi = 1 and takes 500 steps of gradient descent at rate 0.2. The table says
how far from the equilibrium, 0, it ends, beside the spectral radius of a step there: what the
theory says of a step near 0, by derivatives of the step itself.
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from jaxgan import charts, data, dynamics, images, spectra
from jaxgan.config import Config
from jaxgan.files import written_whole
from jaxgan.game import Game, init
from jaxgan.rules import with_params
from jaxgan.step import make_step

SIMULTANEOUS = {"optimizer.rule": "simultaneous"}
VARIANTS: dict[str, dict[str, Any]] = {
    "minimax, simultaneous": SIMULTANEOUS,
    "minimax, alternating": {},
    "non-saturating, simultaneous": {**SIMULTANEOUS, "objective.name": "nonsaturating"},
    "Wasserstein, slope penalty 0.3": {
        "objective.name": "wasserstein",
        "objective.gradient_penalty_weight": 0.3,
    },
    "extragradient": {"optimizer.rule": "extragradient"},
    "unrolled, 5 steps": {**SIMULTANEOUS, "optimizer.lookahead": 5},
    "R1, weight 0.3": {**SIMULTANEOUS, "objective.r1_weight": 0.3},
    "R1, weight 1 (critical)": {**SIMULTANEOUS, "objective.r1_weight": 1.0},
}
_REACH = 2.2  # of the panels


def game_of(config: Config) -> tuple[Game, Any]:
    """The game of a config of the recipe, and its batch."""
    source = data.open_source(config.run.data)
    batch = source.read(np.arange(config.run.batch_size))
    return config.recipe.make(source.features, config.options), batch


def trajectory(game: Game, batch: Any, steps: int) -> np.ndarray:
    """(theta, psi) before the first step and after each, [steps + 1, 2]."""
    step = make_step(game)

    def once(state: Any, _: None) -> tuple[Any, Any]:
        params = {name: player.params for name, player in state.players.items()}
        here = params["generator"]["theta"], params["discriminator"]["psi"]
        return step(state, batch)[0], jnp.stack(here)

    run = jax.jit(lambda state: jax.lax.scan(once, state, length=steps + 1)[1])
    return np.asarray(run(init(game, jax.random.key(0), batch)))


def radius_at_equilibrium(game: Game, batch: Any) -> float:
    """The spectral radius of a step where theta = psi = 0."""
    state = init(game, jax.random.key(0), batch)
    zeros = {n: jax.tree.map(jnp.zeros_like, p.params) for n, p in state.players.items()}
    state = state.replace(players=with_params(state.players, zeros))
    return float(np.abs(spectra.eigenvalues(dynamics.update_map(game, state, batch)).values).max())


def panel(name: str, path: np.ndarray) -> charts.Panel:
    """A trajectory in the plane, with its start and its end, until it leaves the panel."""
    outside = np.flatnonzero(np.abs(path).max(1) > _REACH)
    path = path[: outside[0]] if len(outside) else path
    parts = (
        charts.Series(path, charts.COLOURS[0], size=2.2, width=0.7),
        charts.Series(path[:1], charts.INK, size=7.0),
        charts.Series(path[-1:], charts.COLOURS[1], size=7.0),
    )
    return charts.Panel(name, "theta", "psi", parts, (-_REACH, _REACH), (-_REACH, _REACH))


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.dirac", __doc__)
    parser.add_argument("--out", metavar="FILE.png", default="dirac.png", help="the picture")
    given, changes = record.parsed(parser, argv)
    for name in changes:
        if name not in ("optimizer.generator_rate", "optimizer.discriminator_rate"):
            parser.error(f"--{name} is set by the variants; only the rates can be changed")
    steps = 50 if given.quick else 500
    about, panels = record.machine(given.quick), []
    width = max(map(len, VARIANTS))
    print(f"{'':{width}s}  spectral radius at 0  distance after {steps} steps")
    for name, options in VARIANTS.items():
        game, batch = game_of(record.config_of(parser, "dirac", changes, **options))
        path = trajectory(game, batch, steps)
        distance = float(np.linalg.norm(path[-1]))
        radius = radius_at_equilibrium(game, batch)
        print(f"{name:{width}s}  {radius:20.6f}  {distance:.3g}", flush=True)
        panels.append(panel(name, path))
        made = {"benchmark": "dirac", "variant": name, "options": {**changes, **options}}
        found = {"steps": steps, "spectral_radius": radius, "distance": distance}
        record.append(given.json, {**made, **found, **about})
    with written_whole(pathlib.Path(given.out)) as file:
        images.write_png(file, charts.picture(tuple(panels), 4, 260, 258))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
