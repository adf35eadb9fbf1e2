"""Whether one model is better than another, or only looks so on these images: a paired bootstrap."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, get_args

import numpy as np
from scipy.stats import bootstrap

from manas.errors import ManasError
from manas.evaluation.results import Evaluation, ImageScores, Key, counted
from manas.evaluation.tables import Table

CONFIDENCE = 0.95
RESAMPLES = 10_000
# If chance alone decides, five differences have one sign in 2 / 2^5 = 6 percent of all cases: too often.
FEWEST = 6
SAME_INPUT = 1e-3  # dB; further apart, two inputs are not the same picture

Measure = Literal["psnr", "ssim"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


@dataclass(frozen=True)
class Difference:
    """By how much B is better than A in one measure, on the images of one row.

    Attributes:
        label: of the row.
        measure: psnr, in dB, or ssim.
        images: that both have a finite value of; `left_out` others have none.
        backgrounds: different ones among them.
        means: of A and of B.
        interval: of the difference of means, at 95 percent; None of fewer than `FEWEST` backgrounds.
    """

    label: str
    measure: Measure
    images: int
    left_out: int
    backgrounds: int
    means: tuple[float, float]
    interval: tuple[float, float] | None

    @property
    def mean(self) -> float:
        """B - A."""
        return self.means[1] - self.means[0]

    @property
    def better(self) -> Literal["A", "B"] | None:
        """Which one is better by more than chance, if one is."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return None
        return "B" if self.interval[0] > 0 else "A"

    @property
    def verdict(self) -> str:
        """The same in words."""
        if self.interval is None:
            return f"too few backgrounds to tell: {self.backgrounds}, of {FEWEST} needed"
        return f"{self.better} is better, more than chance" if self.better else "no more than chance"


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same images, held against each other.

    Attributes:
        one, other: A and B.
        differences: PSNR and SSIM of every row of their tables.
    """

    one: Evaluation
    other: Evaluation
    differences: tuple[Difference, ...]

    def table(self) -> Table:
        """One row a measure and part of the data."""
        headings = ("", "measure", "images", "backgrounds", "A", "B", "B - A", "95 % interval", "in words")
        return Table(self._caption(), headings, tuple(map(_cells, self.differences)))

    def to_markdown(self) -> str:
        """`table` in Markdown."""
        return self.table().to_markdown()

    def to_latex(self) -> str:
        """`table` in LaTeX."""
        return self.table().to_latex()

    def _caption(self) -> str:
        data = f"{self.one.data}: " if self.one.data else ""
        left_out = any(difference.left_out for difference in self.differences)
        infinite = "; images without a finite PSNR are left out of it" if left_out else ""
        return (
            f"{data}{counted(len(self.one.images))}, protocol {self.one.protocol}; A is {self.one.model}, B is "
            f"{self.other.model}; interval of the difference of means by {RESAMPLES:,} resamples, in which the "
            f"images of one background stay together; each row by itself{infinite}"
        )


def compare(one: Evaluation, other: Evaluation, *, seed: int = 0) -> Comparison:
    """Holds `other`, B, against `one`, A, image by image.

    The images of one row are resampled with replacement, 10,000 times, by the name of their background: what
    several degradations of one photograph have in common would otherwise be taken for agreement (a cluster
    bootstrap; percentile intervals, Efron and Tibshirani 1993, chapter 13). Which differences are more than
    chance is said of each row by itself: of twenty rows without any difference, one will seem to have one.
    Of few backgrounds the interval is too narrow: where 95 percent of 60 hold the truth, 88 percent of 10 do
    (normal differences, measured).

    Raises:
        ManasError: if they are not by one protocol, or not of the same images.
    """
    if one.protocol != other.protocol:
        raise ManasError(
            f"{one.model} is scored by protocol {one.protocol}, {other.model} by {other.protocol}: "
            "score both by one"
        )
    found = _by_key(other)
    _check_same(one, other, _by_key(one), found)
    differences = [
        _difference(part.label, measure, [(image, found[image.key]) for image in part.images], seed)
        for part in one.parts
        for measure in MEASURES
    ]
    return Comparison(one, other, tuple(differences))


def interval_of(differences: Sequence[float], backgrounds: Sequence[str], seed: int) -> tuple[float, float]:
    """The interval of the mean of differences, of which those of one background are resampled together."""
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


def _difference(
    label: str, measure: Measure, pairs: Sequence[tuple[ImageScores, ImageScores]], seed: int
) -> Difference:
    values = [(getattr(a.restored, measure), getattr(b.restored, measure), a.name) for a, b in pairs]
    finite = [each for each in values if math.isfinite(each[0]) and math.isfinite(each[1])]
    names = [name for _, _, name in finite]
    backgrounds = len(set(names))
    means = (fmean(a for a, _, _ in finite), fmean(b for _, b, _ in finite)) if finite else (math.inf, math.inf)
    enough = backgrounds >= FEWEST
    interval = interval_of([b - a for a, b, _ in finite], names, seed) if enough else None
    return Difference(label, measure, len(finite), len(values) - len(finite), backgrounds, means, interval)


def _by_key(evaluation: Evaluation) -> dict[Key, ImageScores]:
    twice = [key for key, number in Counter(image.key for image in evaluation.images).items() if number > 1]
    if twice:
        raise ManasError(
            f"{evaluation.model}: {twice[0]} is there twice ({counted(len(twice))} in all); leave one of each"
        )
    return {image.key: image for image in evaluation.images}


def _check_same(
    one: Evaluation, other: Evaluation, first: dict[Key, ImageScores], second: dict[Key, ImageScores]
) -> None:
    for has, lacks, missing in (
        (one, other, [key for key in first if key not in second]),
        (other, one, [key for key in second if key not in first]),
    ):
        if missing:
            raise ManasError(
                f"{lacks.model}: {missing[0]} is missing, which {has.model} has "
                f"({counted(len(missing))} in all); score both on the same images"
            )
    for key, image in first.items():
        before, after = image.degraded, second[key].degraded
        if before and after and before.psnr != after.psnr and abs(before.psnr - after.psnr) > SAME_INPUT:
            raise ManasError(
                f"{key}: the input has {before.psnr:.2f} dB in {one.model} and {after.psnr:.2f} dB in "
                f"{other.model}: score both on the same images"
            )


def _cells(difference: Difference) -> tuple[str, ...]:
    digits = 2 if difference.measure == "psnr" else 4
    means = [f"{mean:.{digits}f}" for mean in difference.means]
    low, high = difference.interval or (math.nan, math.nan)
    interval = f"{low:+.{digits}f} to {high:+.{digits}f}" if difference.interval else ""
    return (
        difference.label,
        difference.measure.upper(),
        f"{difference.images:,}",
        f"{difference.backgrounds:,}",
        *means,
        f"{difference.mean:+.{digits}f}" if difference.images else "",
        interval,
        difference.verdict,
    )
