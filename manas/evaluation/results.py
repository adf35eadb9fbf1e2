"""What an evaluation found: the scores of every image, and what is said of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import NamedTuple, TypeVar

from manas.errors import ManasError
from manas.evaluation.protocols import Scores
from manas.evaluation.tables import Table

T = TypeVar("T")


class Key(NamedTuple):
    """Which image of an evaluation it is; as text it is the image's caption: ``rain, light, chelsea``."""

    group: str
    level: str
    name: str

    def __str__(self) -> str:
        return ", ".join(part for part in self if part)


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image before and after.

    Attributes:
        group: what tables have a row for: the weather, or the folder of the set.
        level: of the degradation; empty where there are none.
        name: of its background, which other levels and groups may share.
        degraded: before; None where only the restored image is known.
        restored: after.
    """

    group: str
    level: str
    name: str
    degraded: Scores | None
    restored: Scores

    @property
    def key(self) -> Key:
        """What tells it from the others."""
        return Key(self.group, self.level, self.name)


class Spread(NamedTuple):
    """What a measure does over several images: mean and population standard deviation of per-image values.

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
        """Of at least one value."""
        values = list(values)
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return cls(values[0], 0.0, values[0], values[0], len(values))
        return cls(fmean(finite), pstdev(finite), min(finite), max(finite), len(values) - len(finite))


class Summary(NamedTuple):
    """What is said of several images: PSNR in dB and SSIM, degraded (None where unknown) and restored."""

    images: int
    degraded_psnr: Spread | None
    degraded_ssim: Spread | None
    restored_psnr: Spread
    restored_ssim: Spread
    worst: ImageScores  # by the PSNR of the restored image


class Part(NamedTuple):
    """The images of one row of a table."""

    label: str
    images: tuple[ImageScores, ...]


@dataclass(frozen=True)
class Evaluation:
    """Scores of all images.

    Attributes:
        protocol: the name of the protocol that both PSNR and SSIM are by.
        images: one entry an image.
        data: what the images are, for captions.
        model: what restored them, for tables of several.
    """

    protocol: str
    images: tuple[ImageScores, ...]
    data: str = ""
    model: str = ""

    def summary(self, group: str | None = None, level: str | None = None) -> Summary:
        """Of all images, of those of a group, or of one level of it.

        Raises:
            ManasError: if there is none.
        """
        chosen = [i for i in self.images if group in (None, i.group) and level in (None, i.level)]
        if not chosen:
            groups = ", ".join(str(Key(group, level, "")) for group, level in self.levels)
            raise ManasError(f"no image of group {group}, level {level} was evaluated; there are: {groups}")
        return summarised(chosen)

    @property
    def levels(self) -> list[tuple[str, str]]:
        """The (group, level) that occur, in order."""
        return list(dict.fromkeys((image.group, image.level) for image in self.images))

    @property
    def groups(self) -> list[str]:
        """The groups that occur, in order."""
        return list(dict.fromkeys(image.group for image in self.images))

    @property
    def parts(self) -> list[Part]:
        """What tables have rows for: every level of every group, then a group that has several."""
        parts = []
        for group in self.groups:
            own = tuple(image for image in self.images if image.group == group)
            levels = list(dict.fromkeys(image.level for image in own))
            for level in levels:
                of_level = tuple(image for image in own if image.level == level)
                parts.append(Part(str(Key(group, level, "")), of_level))
            parts += [Part(group, own)] if len(levels) > 1 else []
        return parts

    def worst(self, count: int) -> list[ImageScores]:
        """So many images, those of the lowest PSNR after restoring; the lowest first."""
        return lowest(self.images, count, lambda image: image.restored)

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
        from manas.evaluation.score_file import written

        return written(self)

    @classmethod
    def from_csv(cls, path: str | Path) -> Evaluation:
        """What `to_csv` wrote into a file.

        Raises:
            ManasError: if it is no such file, or is of several protocols or models.
        """
        from manas.evaluation.score_file import read

        return read(Path(path))


def summarised(images: Sequence[ImageScores]) -> Summary:
    """The summary of at least one image."""
    before = [image.degraded for image in images if image.degraded]
    known = len(before) == len(images)
    return Summary(
        len(images),
        Spread.of(scores.psnr for scores in before) if known else None,
        Spread.of(scores.ssim for scores in before) if known else None,
        Spread.of(image.restored.psnr for image in images),
        Spread.of(image.restored.ssim for image in images),
        *lowest(images, 1, lambda image: image.restored),
    )


def lowest(entries: Iterable[T], count: int, scores: Callable[[T], Scores]) -> list[T]:
    """So many entries, those of the lowest PSNR, the lowest first; of equal ones those that come first."""
    return sorted(entries, key=lambda entry: scores(entry).psnr)[:count]


def score_table(evaluations: Sequence[Evaluation]) -> Table:
    """One row a part of the data, for each model in turn."""
    several = len(evaluations) > 1
    rows = [
        (parts[0].label, *([each.model] if several else []), *_cells(part.images))
        for parts in zip(*(each.parts for each in evaluations), strict=True)
        for each, part in zip(evaluations, parts, strict=True)
    ]
    measures = ("PSNR degraded", "restored", "min", "max", "SSIM degraded", "restored", "min", "max")
    headings = ("", *(["model"] if several else []), "images", *measures, "worst image")
    return Table(caption(evaluations), headings, tuple(rows))


def caption(evaluations: Sequence[Evaluation]) -> str:
    """The data, the count, the protocol, and what the numbers are."""
    first = evaluations[0]
    said = f"{first.data}: " if first.data else ""
    said += f"{counted(len(first.images))}, protocol {first.protocol}; "
    said += "means of per-image values ± standard deviation, PSNR in dB"
    infinite = sum(math.isinf(scores.psnr) for each in evaluations for scores in _all_scores(each))
    if infinite:
        said += f"; without a finite PSNR, and left out of it: {infinite:,} identical to their original"
    return said


def _all_scores(evaluation: Evaluation) -> Iterator[Scores]:
    for image in evaluation.images:
        yield from filter(None, (image.degraded, image.restored))


def counted(images: int) -> str:
    """``1 image``, ``2 images``."""
    return f"{images:,} image{'' if images == 1 else 's'}"


def _cells(images: Sequence[ImageScores]) -> list[str]:
    summary = summarised(images)
    psnr, ssim = summary.restored_psnr, summary.restored_ssim
    before = summary.degraded_psnr, summary.degraded_ssim
    level = summary.worst.level if len({image.level for image in images}) > 1 else ""
    return [
        f"{summary.images:,}",
        f"{before[0].mean:.2f}" if before[0] else "",
        f"{psnr.mean:.2f} ± {psnr.deviation:.2f}",
        f"{psnr.least:.2f}",
        f"{psnr.greatest:.2f}",
        f"{before[1].mean:.4f}" if before[1] else "",
        f"{ssim.mean:.4f} ± {ssim.deviation:.4f}",
        f"{ssim.least:.4f}",
        f"{ssim.greatest:.4f}",
        str(Key("", level, summary.worst.name)),
    ]
