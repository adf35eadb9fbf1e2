"""Which of the images of an evaluation are shown: the first, or the worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manas.errors import ManasError
from manas.evaluation.evaluate import Judged
from manas.evaluation.measures import Measure, Scores, worst_of
from manas.evaluation.results import Evaluation
from manas.evaluation.scores import counted
from manas.reporting.pictures import Row, before_after


class First:
    """The first so many scenes that are judged."""

    def __init__(self, count: int):
        self.count, self.kept = count, list[Judged]()

    def __call__(self, judged: Judged) -> None:
        """Keeps it, or not."""
        self.kept += [judged] if len(self.kept) < self.count else []


class Worst:
    """The so many worst scenes by the protocol's first measure, of the first model; the worst first.

    No others are kept.
    """

    def __init__(self, count: int):
        if count < 1:
            raise ManasError(f"a gallery of {count} images is none; give 1 at least")
        self.count, self.kept = count, list[Judged]()

    def __call__(self, judged: Judged) -> None:
        """Keeps it, or not."""
        self.kept = worst_of([*self.kept, judged], self.count, judged.measures[0], lambda each: each.after[0])


def draw_gallery(shown: First | Worst, evaluations: Sequence[Evaluation], path: Path) -> Path:
    """Writes what is kept as a picture, degraded | restored by each model | clean, each with its scores."""
    first = evaluations[0]
    several = len(evaluations) > 1
    headings = [*(each.model if several else "restored" for each in evaluations), "clean"]
    if shown.kept[0].before:
        headings.insert(0, "degraded")
    which = "worst" if isinstance(shown, Worst) else "first"
    of = f" by {first.measures[0].label} of {first.model}" if several and isinstance(shown, Worst) else ""
    data = f"{first.data}, " if first.data else ""
    title = (
        f"{data}protocol {first.protocol}: the {len(shown.kept)} {which} of {counted(len(first.images))}{of}"
    )
    return before_after(list(map(row_of, shown.kept)), path, headings=headings, title=title)


def row_of(judged: Judged) -> Row:
    """The pictures of a scene and what is written with them: ``rain, light, chelsea``, ``24.1 dB``."""
    scene = judged.scene
    before = [] if scene.degraded is None else [scene.degraded]
    scores = [*([judged.before] if judged.before else []), *judged.after]
    notes = (_note(each, judged.measures) for each in scores)
    return Row(str(judged.key), (*before, *judged.restored, scene.clean), (*notes, ""))


def _note(scores: Scores, measures: Sequence[Measure]) -> str:
    return ", ".join(measure.caption(scores[measure.name]) for measure in measures)
