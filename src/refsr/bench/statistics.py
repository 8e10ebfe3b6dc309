"""Means and their confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_BOOTSTRAP_RESAMPLES: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean, median, minimum and maximum of one metric over pictures.

    Attributes:
        ci95: Bounds of the 95 % confidence interval of the mean.
    """

    mean: float
    median: float
    least: float
    most: float
    ci95: tuple[float, float]


def summarise(figures: Sequence[float]) -> Summary:
    """Summarise at least one figure; the confidence interval is a percentile bootstrap with a fixed seed.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.
    """
    values = np.asarray(figures, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(values), size=(_BOOTSTRAP_RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
    return Summary(
        mean=float(values.mean()),
        median=float(np.median(values)),
        least=float(values.min()),
        most=float(values.max()),
        ci95=(float(low), float(high)),
    )
