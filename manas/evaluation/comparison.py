"""Whether one model is better than another, or only looks so on these images: a paired bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from manas.evaluation.bootstrap import FEWEST, RESAMPLES, interval_of
from manas.evaluation.measures import Measure
from manas.evaluation.results import Evaluation
from manas.evaluation.same_images import partners, shared_measures
from manas.evaluation.scores import ImageScores, counted
from manas.evaluation.tables import Table


@dataclass(frozen=True)
class ScoreDifference:
    """How far B is from A in one measure, on the images of one row.

    Attributes:
        label: of the row.
        measure: says in which unit, and which direction is the better one.
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
        return "B" if self.measure.worth(self.interval[0]) > 0 else "A"

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
        differences: one for every measure and row of their tables.
    """

    one: Evaluation
    other: Evaluation
    differences: tuple[ScoreDifference, ...]

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
        return (
            f"{data}{counted(len(self.one.images))}, protocol {self.one.protocol}; A is {self.one.model}, B is "
            f"{self.other.model}; interval of the difference of means by {RESAMPLES:,} resamples, in which the "
            f"images of one background stay together; each row by itself{self._remarks()}"
        )

    def _remarks(self) -> str:
        """Each measure that images were left out of, and each one of which the lower value is the better."""
        left_out = dict.fromkeys(each.measure.label for each in self.differences if each.left_out)
        lower = dict.fromkeys(
            each.measure.label for each in self.differences if not each.measure.higher_is_better
        )
        return "".join(
            (
                *(f"; images without a finite {label} are left out of it" for label in left_out),
                *(f"; of {label} the lower is better" for label in lower),
            )
        )


def compare(one: Evaluation, other: Evaluation, *, seed: int = 0) -> Comparison:
    """Holds `other`, B, against `one`, A, image by image.

    The images of one row are resampled by the name of their background (`interval_of`): what several
    degradations of one photograph have in common would otherwise be taken for agreement. Which differences are
    more than chance is said of each row by itself: of twenty rows without any difference, one will seem to have
    one.
    Of few backgrounds the interval is too narrow: where 95 percent of 60 hold the truth, 88 percent of 10 do
    (normal differences, measured).

    Raises:
        ManasError: if they are not by one protocol, or not of the same images.
    """
    measures = shared_measures(one, other)
    found = partners(one, other, measures[0])
    differences = [
        _difference(part.label, measure, [(image, found[image.key]) for image in part.images], seed)
        for part in one.parts
        for measure in measures
    ]
    return Comparison(one, other, tuple(differences))


def _difference(
    label: str, measure: Measure, pairs: Sequence[tuple[ImageScores, ImageScores]], seed: int
) -> ScoreDifference:
    name, best = measure.name, measure.worth(math.inf)
    values = [(a.restored[name], b.restored[name], a.name) for a, b in pairs]
    finite = [each for each in values if math.isfinite(each[0]) and math.isfinite(each[1])]
    names = [name for _, _, name in finite]
    backgrounds = len(set(names))
    means = (fmean(a for a, _, _ in finite), fmean(b for _, b, _ in finite)) if finite else (best, best)
    enough = backgrounds >= FEWEST
    interval = interval_of([b - a for a, b, _ in finite], names, seed) if enough else None
    return ScoreDifference(label, measure, len(finite), len(values) - len(finite), backgrounds, means, interval)


def _cells(difference: ScoreDifference) -> tuple[str, ...]:
    measure, interval = difference.measure, difference.interval
    return (
        difference.label,
        measure.label,
        f"{difference.images:,}",
        f"{difference.backgrounds:,}",
        *map(measure.text, difference.means),
        measure.signed(difference.mean) if difference.images else "",
        " to ".join(map(measure.signed, interval)) if interval else "",
        difference.verdict,
    )
