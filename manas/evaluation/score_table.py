"""The table of scores: its headings, the cells of a row, and the caption's words on the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain

from manas.evaluation.measures import Measure
from manas.evaluation.scores import ImageScores, Key
from manas.evaluation.summary import Summary, summarised


def headings(measures: Sequence[Measure]) -> tuple[str, ...]:
    """One heading for each of `cells`."""
    numbers = ((f"{measure.label} degraded", "restored", "min", "max") for measure in measures)
    return ("images", *chain.from_iterable(numbers), "worst image")


def cells(images: Sequence[ImageScores], measures: Sequence[Measure]) -> tuple[str, ...]:
    """The count, the spread of every measure, and the worst image by the first of them."""
    summary = summarised(images, measures)
    level = summary.worst.level if len({image.level for image in images}) > 1 else ""
    numbers = (_numbers(measure, summary) for measure in measures)
    return (f"{summary.images:,}", *chain.from_iterable(numbers), str(Key("", level, summary.worst.name)))


def legend(images: Sequence[ImageScores], measures: Sequence[Measure]) -> str:
    """The caption's words on the numbers: their units, their directions, and how many are infinite."""
    said = ", ".join(filter(None, ["standard deviation", *(measure.legend for measure in measures)]))
    return "; ".join((f"means of per-image values ± {said}", *_left_out(images, measures)))


def _numbers(measure: Measure, summary: Summary) -> tuple[str, ...]:
    before, after = (summary.degraded or {}).get(measure.name), summary.restored[measure.name]
    return (
        measure.text(before.mean) if before else "",
        f"{measure.text(after.mean)} ± {measure.text(after.deviation)}",
        measure.text(after.least),
        measure.text(after.greatest),
    )


def _left_out(images: Sequence[ImageScores], measures: Sequence[Measure]) -> Iterator[str]:
    scores = [each for image in images for each in (image.degraded, image.restored) if each]
    for measure in measures:
        infinite = sum(math.isinf(each[measure.name]) for each in scores)
        if infinite:
            yield (
                f"without a finite {measure.label}, and left out of it: "
                f"{infinite:,} identical to their original"
            )
