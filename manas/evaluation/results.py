"""An evaluation: the scores of every image, by parts of the data, and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from manas.errors import ManasError
from manas.evaluation.measures import Measure, worst_of
from manas.evaluation.protocols import protocol_named
from manas.evaluation.score_file import ScoreFile, read, text_of
from manas.evaluation.score_table import cells, headings, legend
from manas.evaluation.scores import ImageScores, Key, counted
from manas.evaluation.summary import Summary, summarised
from manas.evaluation.tables import Table


class TablePart(NamedTuple):
    """The images of one row of a table."""

    label: str
    images: tuple[ImageScores, ...]


@dataclass(frozen=True)
class Evaluation:
    """Scores of all images.

    Attributes:
        protocol: the name of the protocol that the scores are by.
        images: one entry an image.
        data: what the images are, for captions.
        model: what restored them, for tables of several.
    """

    protocol: str
    images: tuple[ImageScores, ...]
    data: str = ""
    model: str = ""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures of the protocol, without those that a file of scores was written before."""
        measures = protocol_named(self.protocol).measures
        return tuple(m for m in measures if all(m.name in image.restored for image in self.images))

    def summary(self, group: str | None = None, level: str | None = None) -> Summary:
        """The summary of all images, of those of a group, or of one level of it.

        Raises:
            ManasError: if there is none.
        """
        chosen = [i for i in self.images if group in (None, i.group) and level in (None, i.level)]
        if not chosen:
            groups = ", ".join(str(Key(group, level, "")) for group, level in self.levels)
            raise ManasError(f"no image of group {group}, level {level} was evaluated; there are: {groups}")
        return summarised(chosen, self.measures)

    @property
    def levels(self) -> list[tuple[str, str]]:
        """The (group, level) that occur, in order."""
        return list(dict.fromkeys((image.group, image.level) for image in self.images))

    @property
    def groups(self) -> list[str]:
        """The groups that occur, in order."""
        return list(dict.fromkeys(image.group for image in self.images))

    @property
    def parts(self) -> list[TablePart]:
        """The rows of a table: every level of every group, then a group that has several."""
        parts = []
        for group in self.groups:
            own = tuple(image for image in self.images if image.group == group)
            levels = list(dict.fromkeys(image.level for image in own))
            for level in levels:
                of_level = tuple(image for image in own if image.level == level)
                parts.append(TablePart(str(Key(group, level, "")), of_level))
            parts += [TablePart(group, own)] if len(levels) > 1 else []
        return parts

    def worst(self, count: int) -> list[ImageScores]:
        """So many images, the worst after restoring by the first measure of the protocol; the worst first."""
        return worst_of(self.images, count, self.measures[0], lambda image: image.restored)

    def table(self) -> Table:
        """One row a part."""
        return score_table([self])

    def to_markdown(self) -> str:
        """`table` in Markdown."""
        return self.table().to_markdown()

    def to_latex(self) -> str:
        """`table` in LaTeX."""
        return self.table().to_latex()

    def to_csv(self) -> str:
        """One line an image, with six decimals: more than that differs between machines."""
        scored = ScoreFile(self.protocol, self.images, self.data, self.model)
        return text_of(scored, [measure.name for measure in self.measures])

    @classmethod
    def from_csv(cls, path: str | Path) -> Evaluation:
        """The evaluation that `to_csv` wrote into a file.

        Raises:
            ManasError: if it is no such file, or is of several protocols or models, or of an unknown protocol.
        """
        return cls(*read(Path(path)))


def score_table(evaluations: Sequence[Evaluation]) -> Table:
    """One row a part of the data, for each model in turn; all are of the same images, by one protocol."""
    several, measures = len(evaluations) > 1, evaluations[0].measures
    rows = [
        (parts[0].label, *([each.model] if several else []), *cells(part.images, measures))
        for parts in zip(*(each.parts for each in evaluations), strict=True)
        for each, part in zip(evaluations, parts, strict=True)
    ]
    names = ("", *(["model"] if several else []), *headings(measures))
    return Table(caption(evaluations), names, tuple(rows))


def caption(evaluations: Sequence[Evaluation]) -> str:
    """The data, the count, the protocol, and what the numbers are."""
    first = evaluations[0]
    data = f"{first.data}: " if first.data else ""
    images = [image for each in evaluations for image in each.images]
    said = legend(images, first.measures)
    return f"{data}{counted(len(first.images))}, protocol {first.protocol}; {said}"
