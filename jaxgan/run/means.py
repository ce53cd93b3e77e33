"""The metrics that a run tells: means over the steps since its last record."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgan.run import finite

Metrics = dict[str, Any]  # numbers, or of several members arrays [n]


class Means:
    """Metrics of the steps since the last record, some of them still on the devices.

    They are summed in float64, one step after the other, so that it makes no difference where a
    run was stopped: a checkpoint between two records keeps the sums.

    Args:
      every: steps between records; there is one at the last step, too.
      steps: the last step.
      kept: what `kept` gave at the step at which the run goes on.
      series: as `finite.checked_metrics`: what was sent -> {name: float64 [steps, ...]}.
    """

    def __init__(
        self,
        every: int,
        steps: int,
        kept: dict[str, Any] | None = None,
        series: Callable[..., dict[str, np.ndarray]] = finite.checked_metrics,
    ) -> None:
        self._every, self._steps, self._pending, self._series = every, steps, [], series
        kept = kept or {}
        self._count = int(kept.get("count", 0))
        self._sums = {name: np.asarray(total) for name, total in kept.get("sums", {}).items()}

    def sent(self, metrics: Any) -> None:
        """Metrics of steps that are under way, {name: [] or [K]}."""
        self._pending.append(metrics)

    def taken(self, step: int, saved: int) -> Metrics:
        """The means over the steps since the last record up to `step`, all of them sent. This is
        where the host waits for the devices.

        Args:
          step: finished steps.
          saved: the step of the last checkpoint, 0 for none.

        Raises:
          RunError: where a metric of any of the steps is not finite.
        """
        series, self._pending = self._series(self._pending, step, saved), []
        if series:
            if self._sums.keys() != series.keys():  # none yet, or a game that now logs others
                self._count = 0
                self._sums = {name: np.zeros(values.shape[1:]) for name, values in series.items()}
            # An accumulation adds one by one, where a sum may add in pairs.
            self._sums = {
                name: np.add.accumulate([self._sums[name], *values])[-1]
                for name, values in series.items()
            }
            self._count += len(next(iter(series.values())))
        means = {name: total / self._count for name, total in self._sums.items()}
        if step % self._every == 0 or step == self._steps:
            self._count, self._sums = 0, {}
        return means

    def kept(self, step: int, saved: int) -> dict[str, Any]:
        """What a checkpoint of `step` keeps, as JSON; arguments and errors as for `taken`."""
        if self._pending:
            self.taken(step, saved)
        sums = {name: np.asarray(total).tolist() for name, total in self._sums.items()}
        return {"count": self._count, "sums": sums}
