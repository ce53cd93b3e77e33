"""What the measures of alarms range over in healthy runs, and what looking costs.

Each preset is trained in a folder that is thrown away, and looks as runs do. Printed is the range
of each measure over all looks, and of its middle half, every alarm that rang, which is a false one
where the preset is healthy, and what a look takes beside a step; the two take turns. Options of
jaxgan train change what is trained: `--steps 300 --alarm.every 25`, say.
"""

import contextlib
import io
import pathlib
import statistics
import tempfile
import time
from typing import Any

from benchmarks import record
from jaxgan.config import Config

PRESETS = ("ring", "digits", "grid-spacing-2")
_QUICK = {"steps": 20, "batch_size": 16, "alarm.every": 5, "log.every": 5}
_FEW = 10  # steps of a round of the timing


def watched(config: Config) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The looks of a run and the alarms that rang."""
    from jaxgan import train
    from jaxgan.run.records import ALARMS, LOOKS, read_metrics

    def game(example: Any) -> Any:
        return config.recipe.make(example, config.options)

    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        train(game, config.run.data, place, config.run)
        folder = pathlib.Path(place)
        return read_metrics(folder / LOOKS), read_metrics(folder / ALARMS)


def cost(config: Config, source: Any, rounds: int) -> dict[str, list[float]]:
    """Seconds of a step and of a look, in turn, and of the look's first call, which compiles."""
    import jax

    from benchmarks.workload import Workload
    from jaxgan.alarms import looking

    workload = Workload(config, source=source)
    looked = looking.examples(source, None, config.run, 1)
    measured = looking.measurer(workload.game, looked, config.run, jax.devices()[0])
    workload.run(_FEW)
    began = time.perf_counter()
    measured(workload.state)
    found: dict[str, list[float]] = {"compiling": [time.perf_counter() - began]}
    found |= {"step": [], "look": []}
    for _ in range(rounds):
        began = time.perf_counter()
        steps = workload.run(_FEW)
        found["step"].append((time.perf_counter() - began) / steps)
        began = time.perf_counter()
        measured(workload.state)
        found["look"].append(time.perf_counter() - began)
    return found


def ranges(looks: list[dict[str, Any]]) -> dict[str, list[float]]:
    """[least, quartiles, greatest] of each measure."""
    found = {}
    for name in sorted({name for look in looks for name in look} - {"step"}):
        values = sorted(look[name] for look in looks if name in look)
        middle = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
        found[name] = [values[0], *middle, values[-1]]
    return found


def main(argv: list[str] | None = None) -> None:
    parser = record.parser("benchmarks.alarms", __doc__)
    help = record.presets_help(" ".join(PRESETS))
    parser.add_argument("presets", nargs="*", default=list(PRESETS), metavar="PRESET", help=help)
    parser.add_argument("--rounds", type=int, default=9, help="of the timing (default: 9)")
    given, changes = record.parsed(parser, argv)
    more = _QUICK if given.quick else {}
    configs = {p: record.config_of(parser, p, changes, **more) for p in given.presets}
    about = record.machine(given.quick)
    record.show_machine(about)
    from jaxgan import data
    from jaxgan.alarms import looking

    for preset, config in configs.items():
        source = data.open_source(config.run.data)
        looks, rang = watched(config)
        of = ranges(looks)
        print(f"{preset}: {config.run.steps} steps, {len(looks)} looks, {len(rang)} alarms")
        for name, numbers in of.items():
            least, low, middle, high, most = (f"{number:.3g}" for number in numbers)
            print(f"  {name:24s} {middle} ({low} to {high}; {least} to {most})")
        for event in rang:
            print(f"  ALARM at step {event['step']}, {event['alarm']}: {event['value']:.3g}")
        seconds = cost(config, source, 1 if given.quick else given.rounds)
        every = looking.interval(config.run)
        step, look = ([1e3 * x for x in seconds[name]] for name in ("step", "look"))
        share = [100 * b / a / every for a, b in zip(step, look)]
        print(
            f"  a step {record.shown(step, 2)} ms, a look {record.shown(look, 2)} ms: "
            f"{record.shown(share, 2)} percent at one in {every} steps; the first takes "
            f"{seconds['compiling'][0]:.1f} s"
        )
        dtype = config.run.dtype or "float32"
        made = record.subject("alarms", preset, config, dtype)
        found = {"looks": len(looks), "ranges": of, "alarms": rang, "seconds": seconds}
        record.append(given.json, {**made, **found, **about})


if __name__ == "__main__":
    main()
