"""How samples cover the modes of a mixture of Gaussians whose centres and deviation are known.

The number of covered modes says little where many samples are drawn, since one stray point covers a
mode; the share of samples at the modes punishes wide clouds and rewards collapse within modes,
which the spread shows. So all are told together, beside those of as many true samples.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammainc

NEAR = 3.0  # standard deviations within which a sample counts as of high quality


class ModeCounts(NamedTuple):
    """Where samples lie.

    Attributes:
      nearest: int [N], each sample's nearest mode.
      distance: float64 [N], from its centre, in standard deviations.
      counts: int [modes], samples within three standard deviations of each.
    """

    nearest: np.ndarray
    distance: np.ndarray
    counts: np.ndarray


def mode_counts(samples: Any, centres: Any, deviation: float) -> ModeCounts:
    """The nearest modes of samples [N,D], for centres [modes,D].

    Raises:
      ValueError: shapes that do not fit, and samples that are not finite.
    """
    samples, centres = np.asarray(samples, np.float64), np.asarray(centres, np.float64)
    if samples.ndim != 2 or samples.shape[1:] != centres.shape[1:] or not len(samples):
        raise ValueError(
            f"expected samples [N,{centres.shape[-1]}] for centres {centres.shape}, got "
            f"{samples.shape}"
        )
    if bad := np.count_nonzero(~np.isfinite(samples).all(1)):
        raise ValueError(f"{bad} of {len(samples)} samples are not finite; look for what made them")
    squares = np.stack([np.square(samples - centre).sum(1) for centre in centres], axis=1)
    nearest = squares.argmin(1)
    distance = np.sqrt(squares[np.arange(len(samples)), nearest]) / deviation
    return ModeCounts(
        nearest, distance, np.bincount(nearest[distance < NEAR], minlength=len(centres))
    )


def modes_covered(counts: Any) -> int:
    """Modes with a sample or more within three standard deviations, as PacGAN counts them."""
    return int(np.count_nonzero(counts))


def true_share(size: int, within: float = NEAR) -> float:
    """The share of a Gaussian in `size` dimensions within so many standard deviations: 0.989 for
    points of the plane."""
    return float(gammainc(size / 2, within**2 / 2))


def reverse_kl(counts: Any) -> float | None:
    """KL(shares of the modes | equal shares), in nats; of samples at the modes alone, whatever the
    others do. None where there are none.

    Of N true samples it is about (modes - 1) / 2N: 0.0048 for 25 modes and N = 2,500.

    References:
      Lin et al., PacGAN: The power of two samples in generative adversarial networks, 2018, whose
      protocol draws 2,500.
    """
    counts = np.asarray(counts, np.float64)
    return kl(counts, np.full(len(counts), 1 / len(counts))) if counts.any() else None


def binned_kl(counts: Any, total: int, size: int) -> float:
    """KL(shares | truth) over the modes and one more bin for all samples that are at no mode, in
    nats, of `total` samples in `size` dimensions. It also punishes clouds about the modes."""
    counts, share = np.asarray(counts, np.float64), true_share(size)
    made = np.append(counts, total - counts.sum())
    return kl(made, np.append(np.full(len(counts), share / len(counts)), 1 - share))


def within_mode_spread(samples: Any, found: ModeCounts, deviation: float) -> np.ndarray:
    """The spread of each mode's samples about their own mean, over the true one; float64 [modes],
    NaN for modes of less than two samples.

    Root mean squares of samples within three standard deviations of the centre, over that of a
    Gaussian cut there, so that true samples have 1.
    """
    samples = np.asarray(samples, np.float64)
    size, near = samples.shape[1], found.distance < NEAR
    # The mean square per dimension of a Gaussian cut at three deviations, in squared deviations.
    cut = gammainc(size / 2 + 1, NEAR**2 / 2) / gammainc(size / 2, NEAR**2 / 2)
    spreads = np.full(len(found.counts), np.nan)
    for mode in np.flatnonzero(found.counts > 1):
        own = samples[near & (found.nearest == mode)]
        spreads[mode] = np.sqrt(own.var(0, ddof=1).mean() / cut) / deviation
    return spreads


def kl(counts: np.ndarray, truth: np.ndarray) -> float:
    """KL(shares of the counts | truth), in nats; infinite where something is counted that has no
    share in truth."""
    shares, some = counts / counts.sum(), counts > 0
    if (truth[some] <= 0).any():
        return float("inf")
    return float(np.sum(shares[some] * np.log(shares[some] / truth[some])))


class Coverage(NamedTuple):
    """All of them for one set of samples.

    Attributes:
      modes: covered.
      high_quality: share of samples within three standard deviations of a mode.
      reverse_kl: over the modes, of all samples; None where none is at a mode.
      reverse_kl_2500: of the first 2,500, as PacGAN's protocol draws.
      binned_kl: over the modes and a bin for the others.
      spread: root mean square of the modes' spreads over the true one; None without any.
      tightest: the least of the modes' spreads.
    """

    modes: int
    high_quality: float
    reverse_kl: float | None
    reverse_kl_2500: float | None
    binned_kl: float
    spread: float | None
    tightest: float | None


def coverage(samples: Any, centres: Any, deviation: float) -> Coverage:
    """How samples [N,D] cover equally likely Gaussians at centres [modes,D].

    Raises:
      ValueError: as `mode_counts`.
    """
    samples, centres = np.asarray(samples), np.asarray(centres)
    found = mode_counts(samples, centres, deviation)
    first = mode_counts(samples[:2500], centres, deviation).counts
    spreads = within_mode_spread(samples, found, deviation)
    spreads = spreads[~np.isnan(spreads)]
    return Coverage(
        modes_covered(found.counts),
        float(found.counts.sum() / len(samples)),
        reverse_kl(found.counts),
        reverse_kl(first),
        binned_kl(found.counts, len(samples), samples.shape[1]),
        float(np.sqrt(np.square(spreads).mean())) if len(spreads) else None,
        float(spreads.min()) if len(spreads) else None,
    )


def is_collapsed_within(found: Coverage, count: int, size: int) -> bool:
    """Whether more of `count` samples are at the modes than of true ones, by over three standard
    deviations of chance: each mode is too narrow, and the share is no sign of quality."""
    share = true_share(size)
    return found.high_quality > share + 3 * np.sqrt(share * (1 - share) / count)
