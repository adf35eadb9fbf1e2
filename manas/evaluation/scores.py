"""The scores of one image, before and after it was restored, and which image it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from manas.evaluation.measures import Scores


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
        degraded: before, by the names of the measures; None where only the restored image is known.
        restored: after, by the same names.
    """

    group: str
    level: str
    name: str
    degraded: Scores | None
    restored: Scores

    @property
    def key(self) -> Key:
        """The group, level and name, which no other image has."""
        return Key(self.group, self.level, self.name)


def counted(images: int) -> str:
    """``1 image``, ``2 images``."""
    return f"{images:,} image{'' if images == 1 else 's'}"
