"""The metrics that a run tells: means over the steps since its last record."""

from typing import Any

import numpy as np

from jaxgan.run import finite

Metrics = dict[str, float]


class Means:
    """Metrics of the steps since the last record, some of them still on the devices.

    They are summed in float64, one step after the other, so that it makes no difference where a
    run was stopped: a checkpoint between two records keeps the sums.

    Args:
      every: steps between records; there is one at the last step, too.
      steps: the last step.
      kept: what `kept` gave at the step at which the run goes on.
    """

    def __init__(self, every: int, steps: int, kept: dict[str, Any] | None = None) -> None:
        self._every, self._steps, self._pending = every, steps, []
        kept = kept or {}
        self._count, self._sums = int(kept.get("count", 0)), dict(kept.get("sums", {}))

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
        series, self._pending = finite.checked_metrics(self._pending, step, saved), []
        if series:
            if self._sums.keys() != series.keys():  # none yet, or a game that now logs others
                self._count, self._sums = 0, dict.fromkeys(series, 0.0)
            # An accumulation adds one by one, where a sum may add in pairs.
            self._sums = {
                name: float(np.add.accumulate([self._sums[name], *values])[-1])
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
        return {"count": self._count, "sums": self._sums}
