"""Samples measured while a run trains, and the checkpoint that is best by one of the numbers.

The best checkpoint lies beside the newest ones, in a folder of its own that holds no other, and is
written as they are. Its manifest tells the number, and what that was measured by: of another metric
or extractor, and of another run, it is set aside.
"""

import contextlib
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxgan import files
from jaxgan.config import RunOptions
from jaxgan.errors import RunError, UserError
from jaxgan.evaluate import kind_of, numbers_of
from jaxgan.evaluation.kind import Asked, Kind, Numbers
from jaxgan.evaluation.tables import cell
from jaxgan.game import Game
from jaxgan.names import unknown
from jaxgan.paths import shown
from jaxgan.run import checkpoint, manifest, records
from jaxgan.run.checkpoint import Checkpoints
from jaxgan.run.hooks import Dispatch, Hook, Moment
from jaxgan.run.workdir import BEST
from jaxgan.sampling import Sampler


class Evaluator(NamedTuple):
    """What samples of a run are measured by.

    Attributes:
      kind: how.
      sampler: of the run's game.
      metric: the number that the best checkpoint is best by.
      count: samples.
      seed: of their latents.
      truth: the numbers of as many true examples.
    """

    kind: Kind
    sampler: Sampler
    metric: str
    count: int
    seed: int
    truth: Numbers

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether a number is strictly better than the best."""
        if best is None:
            return True
        return value < best if self.kind.rows[self.metric].better == "lower" else value > best

    def by(self, run_id: str | None) -> dict[str, Any]:
        """What numbers have to share to be compared, as JSON has it."""
        about = {
            "metric": self.metric,
            "num": self.count,
            "seed": self.seed,
            "extractor": self.kind.extractor.get("digest"),
            "data_version": self.kind.about.get("data_version"),
            "run_id": run_id,
        }
        return json.loads(json.dumps(about))


class Best(NamedTuple):
    """The folder of the best checkpoint: what writes to it, what its number compares by, and its
    value so far, in a list of one or none."""

    saver: Checkpoints
    by: dict[str, Any]
    value: list[float]


def prepared(
    run: RunOptions, about: dict[str, Any], game: Game, pixels: tuple[str, ...]
) -> Evaluator:
    """What a run is to be measured by, with the true examples measured.

    Args:
      run: whose options ask for it.
      about: what `config.json` is to say.
      game: the variant.
      pixels: features that are images of uint8.

    Raises:
      UserError: for data of which nothing is known, and metrics that they have not.
    """
    from jaxgan import features

    if "sweep" in about:
        raise UserError(
            f"evaluate_every={run.evaluate_every} is for a run of one game; leave it out of sweeps"
        )
    extractor = features.at(run.evaluate_extractor, "evaluate_extractor")
    kind = kind_of(about, Asked(extractor=extractor, number=run.evaluate_metric or ""))
    if kind is None:
        raise UserError(
            f"evaluate_every={run.evaluate_every} but of these data nothing is known that samples "
            "can be measured by; leave it out, or name images by the options of data"
        )
    ranked = [name for name, row in kind.rows.items() if row.better]
    metric = run.evaluate_metric or ranked[0]
    if metric not in ranked:
        raise UserError(unknown("evaluate_metric", metric, ranked))
    count = min(run.evaluate_num, kind.most or run.evaluate_num)
    truth = kind.truth(count, run.seed)
    return Evaluator(kind, Sampler(game, pixels), metric, count, run.seed, truth)


def opened(
    held: contextlib.ExitStack,
    evaluator: Evaluator,
    workdir: pathlib.Path,
    run_id: str | None,
    say: Callable[[str], None],
) -> Best:
    """The folder of the best checkpoint, open for writing until `held` ends.

    Raises:
      RunError: where it cannot be made.
    """
    folder, by = workdir / BEST, evaluator.by(run_id)
    value = []
    with records.writable(folder):
        files.make_folder(folder)
        for step in reversed(checkpoint.steps_in(folder)):
            try:
                found = manifest.read(folder / str(step))["records"]["best"]
                if found["by"] == by:
                    value = [float(found["value"])]
                    break
                differs = ", ".join(name for name in by if found["by"].get(name) != by[name])
                name = files.set_aside(folder)
                files.make_folder(folder)
                say(f"{shown(folder)} is of another {differs}; it is now called {name}")
                break
            except (OSError, RunError, ValueError, KeyError, TypeError, AttributeError) as error:
                name = files.set_aside(folder / str(step), f"damaged_{step}")
                say(f"the best checkpoint, {step}, is damaged ({error}); kept as {name}")
        saver = checkpoint.open_checkpoints(folder, 1, run_id)
    held.enter_context(checkpoint.closing(saver))
    return Best(saver, by, value)


def hook(here: Any, every: int) -> Hook:
    """Measures samples, writes the numbers, and keeps the checkpoint that is best.

    It comes before the hook that saves: what a checkpoint was saved after is then not lost where
    the run is killed, as nothing before it is trained again.

    Args:
      here: a `Begun`.
      every: steps.
    """
    evaluator, best = here.evaluator, here.best
    if evaluator is None or best is None:  # in a process that does not write
        return Hook(every)
    took, began = [], []

    def before(dispatch: Dispatch) -> None:
        if not began:
            began.append(here.clock.seconds())

    def do(moment: Moment) -> float:
        begin = time.perf_counter()
        numbers, failed = _numbers(evaluator, here, moment)
        if not numbers:
            here.log.say(f"step {moment.step} cannot be measured: {failed}")
            return _noted(took, begin)
        told = {f"evaluate/{n}": v for n, v in numbers.items() if isinstance(v, int | float)}
        here.log.numbers({"step": moment.step, **told})
        value = numbers[evaluator.metric]
        is_best = value is not None and evaluator.is_better(value, *(best.value or [None]))
        if is_best and value is not None:
            _keep(here, best, moment, value)
        seconds = _noted(took, begin)
        here.log.say(_line(evaluator, numbers, moment.step, is_best, seconds))
        return seconds

    def end() -> list[str]:
        if not took:
            return []
        share = sum(took) / max(here.clock.seconds() - (began or [0.0])[0], 1e-9)
        return [
            f"evaluating took {sum(took):.1f} s in {len(took)} times, {min(share, 1.0):.1%} of the "
            "time since the run began or was resumed"
        ]

    return Hook(every, do, before, end=end)


def _numbers(evaluator: Evaluator, here: Any, moment: Moment) -> tuple[Numbers, str]:
    """The numbers, or why there are none: samples that are no use yet end no run."""
    kind, sampler, conditions = evaluator.kind, evaluator.sampler, here.sampler.conditions
    sets = moment.state, evaluator.count, evaluator.seed, conditions
    try:
        return numbers_of(kind, sampler, *sets), ""
    except ValueError as error:
        return {}, str(error)


def _noted(took: list[float], begin: float) -> float:
    took.append(time.perf_counter() - begin)
    return took[-1]


def _keep(here: Any, best: Best, moment: Moment, value: float) -> None:
    """Writes the state of a step as the best, before anything else is done."""
    here.check_held()
    here.subject.watch.state(moment.state, moment.step, here.saver.latest())
    if best.saver.latest() != moment.step:  # trained again, on other devices say
        about = {"best": {"value": value, "by": best.by}}
        lines = best.saver.save(moment.state, here.feed.position(), about)
        for line in [*lines, *best.saver.wait()]:
            here.log.say(line)
    best.value[:] = [value]


def _line(evaluator: Evaluator, numbers: Numbers, step: int, is_best: bool, seconds: float) -> str:
    rows = evaluator.kind.rows
    shown = {n: numbers if n == evaluator.metric else {n: numbers[n]} for n in rows if n in numbers}
    words = [f"{name} {cell(of, name, rows[name])}" for name, of in shown.items()]
    true = cell(evaluator.truth, evaluator.metric, rows[evaluator.metric])
    best = f", the best {evaluator.metric} so far" if is_best else ""
    return (
        f"step {step}, {evaluator.count} samples in {seconds:.1f} s: {', '.join(words)}{best}; "
        f"true ones have {evaluator.metric} {true}"
    )
