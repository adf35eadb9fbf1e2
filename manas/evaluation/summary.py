"""The scores of several images in a few numbers: the spread of every measure, and the worst image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import NamedTuple

from manas.evaluation.measures import Measure, Scores, worst_of
from manas.evaluation.scores import ImageScores


class Spread(NamedTuple):
    """The values of a measure over several images: their mean, population standard deviation and range.

    `left_out` counts the images without a finite value, those identical to their original: they are in none
    of the other numbers, unless there are no others.
    """

    mean: float
    deviation: float
    least: float
    greatest: float
    left_out: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least one value."""
        values = list(values)
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return cls(values[0], 0.0, values[0], values[0], len(values))
        return cls(fmean(finite), pstdev(finite), min(finite), max(finite), len(values) - len(finite))


Spreads = Mapping[str, Spread]
"""The spread of every measure by its name."""


class Summary(NamedTuple):
    """The scores of several images in brief: ``summary.restored["psnr"].mean``, in the unit of the measure."""

    images: int
    degraded: Spreads | None  # None where the degraded images are unknown
    restored: Spreads
    worst: ImageScores  # by the first measure of the restored image


def summarised(images: Sequence[ImageScores], measures: Sequence[Measure]) -> Summary:
    """The summary of at least one image, by at least one measure."""
    before = [image.degraded for image in images if image.degraded]
    (worst,) = worst_of(images, 1, measures[0], lambda image: image.restored)
    return Summary(
        len(images),
        spreads(before, measures) if len(before) == len(images) else None,
        spreads([image.restored for image in images], measures),
        worst,
    )


def spreads(scores: Sequence[Scores], measures: Sequence[Measure]) -> Spreads:
    """The spread of every measure over the scores of at least one image."""
    return {measure.name: Spread.of(each[measure.name] for each in scores) for measure in measures}
