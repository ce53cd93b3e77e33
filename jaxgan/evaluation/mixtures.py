"""Samples of mixtures of Gaussians, by the modes that are known."""

from typing import Any

import numpy as np

from jaxgan.data import mixtures
from jaxgan.evaluation.kind import USUALLY, Asked, Kind, Numbers, Row, check_nothing_asked
from jaxgan.metrics import modes


def of_mixture(about: dict[str, Any], asked: Asked = USUALLY) -> Kind | None:
    """The kind of a run on a mixture; None for other data."""
    name = mixtures.name_of(about.get("data_version"))
    if name is None or not mixtures.MIXTURES[name].deviation:
        return None
    check_nothing_asked(name, asked)
    mixture = mixtures.MIXTURES[name]
    all_modes, size = mixture.centres.shape

    def measured(samples: np.ndarray, labels: Any = None) -> Numbers:
        return modes.coverage(samples, *mixture)._asdict()

    def warnings(numbers: Numbers, count: int) -> list[str]:
        if not modes.is_collapsed_within(modes.Coverage(**numbers), count, size):
            return []
        share = modes.true_share(size)
        return [
            f"collapse within modes: {100 * numbers['high_quality']:.1f} % of the samples "
            f"are within {modes.NEAR:.0f} deviations, of true ones {100 * share:.1f} %"
        ]

    rows = {
        "modes": Row(f"modes covered, of {all_modes}", "d", "higher"),
        "high_quality": Row("within 3 deviations of one", ".2%", "higher"),
        "reverse_kl": Row("reverse KL over modes", ".5f", "lower"),
        "reverse_kl_2500": Row("the same of the first 2,500", ".5f", "lower"),
        "binned_kl": Row("reverse KL with a bin off the modes", ".5f", "lower"),
        "spread": Row("spread within modes, of the true one", ".3f"),
        "tightest": Row("the least of a mode", ".3f"),
    }
    return Kind(name, "point", mixture.drawn, measured, rows, warnings)
