"""The dynamics of a run at a checkpoint: what is computed, told, and drawn."""

import functools
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import charts, data, dynamics, files, images, memory, spectra
from jaxgan.config import RunOptions
from jaxgan.data.reading import checked_read
from jaxgan.errors import RunError, UserError
from jaxgan.files import written_whole
from jaxgan.rules import Rule
from jaxgan.run import runtime
from jaxgan.run.records import writable
from jaxgan.run.restore import known_options, restore
from jaxgan.spectra import Flow, Spectrum


class Diagnosis(NamedTuple):
    """What was found.

    Attributes:
      workdir, step: of the checkpoint.
      examples: of the batch.
      field: the spectrum of the gradient field.
      steps: of what a step makes of the players, by the name of the rule.
      products: that were allowed for each.
      passed_over: a line for each damaged checkpoint.
    """

    workdir: pathlib.Path
    step: int
    examples: int
    field: Spectrum
    steps: dict[str, Spectrum]
    products: int
    passed_over: tuple[str, ...]


def diagnose(
    workdir: pathlib.Path,
    step: int | None = None,
    rules: dict[str, Rule] | None = None,
    batch_size: int | None = None,
    products: int = spectra.PRODUCTS,
) -> Diagnosis:
    """The spectra of a run of a recipe, on the batch that comes next.

    Args:
      workdir: of the run.
      step: of one of its checkpoints; None for the newest.
      rules: whose steps are looked at, by name; None for the rule of the run.
      batch_size: examples; None for as many as the run has in a step.
      products: of each Jacobian with a vector, at most.

    Raises:
      UserError: a run that is none of a recipe, or whose data are others now; too many products
        for this machine's memory.
      RunError: derivatives that are not finite.
    """
    run = restore(workdir, step=step)
    options = known_options(RunOptions(), run.about)
    source = data.open_source(options.data)
    if source.version != run.about.get("data_version"):
        raise UserError(
            f"workdir={workdir} was trained on other data than {source.name} holds now; bring back "
            "those"
        )
    count = batch_size or options.batch_size
    if count > source.count:
        raise UserError(
            f"batch-size={count} exceeds the {source.count} examples of {source.name}; use "
            f"{source.count} or less"
        )
    at = int(run.state.step)
    indices = data.batch_indices(options.seed, at, count, source.count).astype(np.int64)
    batch = checked_read(source, indices)
    # In bfloat16 a derivative of a derivative has two digits.
    game = run.game._replace(dtype=jnp.float32)
    chosen = rules or {getattr(game.rule, "__name__", None) or repr(game.rule): game.rule}
    chosen = {"alternating" if rule is None else name: rule for name, rule in chosen.items()}
    flows = {"field": dynamics.field(game, run.state, batch)}
    for name, rule in chosen.items():
        flows[name] = dynamics.update_map(game._replace(rule=rule), run.state, batch)
    found = {name: _spectrum(name, flow, products) for name, flow in flows.items()}
    steps = {name: found[name] for name in chosen}
    return Diagnosis(workdir, at, count, found["field"], steps, products, run.passed_over)


def _spectrum(name: str, flow: Flow, products: int) -> Spectrum:
    size, room = flow.point.size, memory.most()
    need = 4 * size * (products + 1)
    if size > spectra.DENSE and room and need > room // 2:
        raise UserError(
            f"products={products} take {need / 1e9:.1f} GB for {size:,} numbers, this machine has "
            f"{room / 1e9:.1f} GB of memory; use {max(2, room // 8 // size)} or less"
        )
    options = runtime.compiler_options(jax.default_backend())
    jit = functools.partial(jax.jit, compiler_options=options)
    spectrum = spectra.eigenvalues(flow, products, jit=jit)
    if spectrum.held == size or not np.isfinite(spectrum.values).all():
        raise RunError(
            f"the derivatives of {name} are not finite; where Adam is looked through, give it "
            "eps_root"
        )
    return spectrum


def lines(found: Diagnosis, shown: int) -> Iterator[str]:
    """What is printed: a line for each spectrum, and a table of its outermost eigenvalues."""
    yield f"step {found.step} of {found.workdir}, on {found.examples} examples"
    fastest = _fastest(found.field)
    yield (
        f"gradient field, {found.field.size:,} numbers: largest real part "
        f"{found.field.values[0].real:.4g}, |Im|/|Re| {fastest:.3g} where it turns fastest"
    )
    yield from _table(found.field, shown, found.products)
    for name, spectrum in found.steps.items():
        radius = np.abs(spectrum.values).max()
        yield f"a step, {name}, {spectrum.size:,} numbers: spectral radius {radius:.6f}"
        yield from _table(spectrum, shown, found.products)


def as_json(found: Diagnosis, shown: int) -> dict[str, Any]:
    """The same as JSON takes it; numbers that are infinite are None."""
    of_field = _as_json(found.field, shown)
    of_field |= {"largest_real_part": float(found.field.values[0].real)}
    of_field |= {"rotation": _finite(_fastest(found.field))}
    steps = {
        name: {**_as_json(s, shown), "spectral_radius": float(np.abs(s.values).max())}
        for name, s in found.steps.items()
    }
    about = {"workdir": str(found.workdir), "step": found.step, "examples": found.examples}
    return {**about, "products": found.products, "field": of_field, "steps": steps}


def draw(found: Diagnosis, path: pathlib.Path) -> bool:
    """Writes the picture; returns whether a file was replaced."""
    panels = [_panel("gradient field", found.field)]
    for name, spectrum in found.steps.items():
        unit = charts.Series(charts.circle(), charts.FAINT, width=1.0, label="|eigenvalue| = 1")
        panels.append(_panel(f"a step, {name}", spectrum, (unit,)))
    replaced = path.exists()
    with writable(path):
        files.make_folder(path.parent)
    with written_whole(path) as file:
        images.write_png(file, charts.picture(tuple(panels), min(3, len(panels))))
    return replaced


def _panel(title: str, spectrum: Spectrum, behind: tuple[charts.Series, ...] = ()) -> charts.Panel:
    points = np.stack([spectrum.values.real, spectrum.values.imag], axis=1)
    known = spectrum.converged
    rough = charts.Series(points[~known], charts.FAINT, 4.0, label="not converged")
    exact = charts.Series(points[known], charts.COLOURS[0], 6.0, label="eigenvalue")
    parts = (*behind, *((rough,) if len(points[~known]) else ()), exact)
    return charts.Panel(title, "real part", "imaginary part", parts, equal=bool(behind))


def _fastest(spectrum: Spectrum) -> float:
    """|Im| / |Re| of the eigenvalue of the largest imaginary part."""
    fastest = np.abs(spectrum.values.imag).argmax()
    return float(spectra.rotation(spectrum.values)[fastest])


def _outermost(spectrum: Spectrum, shown: int) -> list[int]:
    """Which have the largest real parts or moduli, as many of either, of a pair the upper one."""
    upper = np.flatnonzero(spectrum.values.imag >= 0.0)
    by_modulus = upper[np.argsort(-np.abs(spectrum.values[upper]), kind="stable")]
    in_turn = [int(i) for pair in zip(upper, by_modulus) for i in pair]
    return sorted(dict.fromkeys(in_turn), key=in_turn.index)[:shown]


def _table(spectrum: Spectrum, shown: int, products: int) -> Iterator[str]:
    chosen, turns = sorted(_outermost(spectrum, shown)), spectra.rotation(spectrum.values)
    yield "      real part   imaginary part   |Im|/|Re|     modulus       error"
    for i in chosen:
        value = spectrum.values[i]
        sign = "+-" if value.imag else "  "
        yield (
            f"  {value.real:13.6g}   {sign}{abs(value.imag):12.6g}   {turns[i]:9.3g}   "
            f"{abs(value):9.6g}   {spectrum.errors[i]:9.2g}"
        )
    if rough := int((~spectrum.converged[chosen]).sum()):
        yield (
            f"  {rough} of these {len(chosen)} have not converged in {products} products; take "
            f"more, --products {2 * products}"
        )
    if spectrum.held:
        yield f"  {spectrum.held:,} numbers have no derivative and are taken not to change"


def _as_json(spectrum: Spectrum, shown: int) -> dict[str, Any]:
    turns = spectra.rotation(spectrum.values)
    rows = [
        {
            "real": float(spectrum.values[i].real),
            "imaginary": float(spectrum.values[i].imag),
            "rotation": _finite(turns[i]),
            "error": float(spectrum.errors[i]),
            "converged": bool(spectrum.converged[i]),
        }
        for i in sorted(_outermost(spectrum, shown))
    ]
    return {"numbers": spectrum.size, "held": spectrum.held, "eigenvalues": rows}


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
