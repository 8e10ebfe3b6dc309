"""Means and how sure we are of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures of one kind, one a picture, in brief.

    Attributes:
        mean: Their mean.
        median: Their median.
        least: The smallest.
        most: The largest.
        ci95: Where the mean lies with 95 % confidence: over other pictures of the same kind.
    """

    mean: float
    median: float
    least: float
    most: float
    ci95: tuple[float, float]


def summarise(figures: Sequence[float]) -> Summary:
    """Summarise at least one figure; the interval is the bootstrap's percentiles, from a fixed seed.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.
    """
    values = np.asarray(figures, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
    return Summary(
        mean=float(values.mean()),
        median=float(np.median(values)),
        least=float(values.min()),
        most=float(values.max()),
        ci95=(float(low), float(high)),
    )
