"""The interval of a mean difference by a cluster bootstrap: the images of one background stay together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.stats import bootstrap

CONFIDENCE = 0.95
RESAMPLES = 10_000
# If chance alone decides, five differences have one sign in 2 / 2^5 = 6 percent of all cases: too often.
FEWEST = 6


def interval_of(differences: Sequence[float], backgrounds: Sequence[str], seed: int) -> tuple[float, float]:
    """The interval of the mean of differences, of which those of one background are resampled together.

    The backgrounds are drawn with replacement, 10,000 times; the interval is by percentiles (Efron and
    Tibshirani 1993, chapter 13).
    """
    by_background: dict[str, list[float]] = defaultdict(list)
    for difference, background in zip(differences, backgrounds, strict=True):
        by_background[background].append(difference)
    sums = np.array([sum(own) for own in by_background.values()])
    numbers = np.array([len(own) for own in by_background.values()])
    low, high = bootstrap(
        (sums, numbers),
        lambda sums, numbers, axis: sums.sum(axis) / numbers.sum(axis),
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // len(sums)),
        paired=True,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(low), float(high)
