"""What a data set is read into: scenes of pictures, and what is wrong with its files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from manas.data.images import read_image
from manas.errors import ManasError, nearest

Half = Literal["left", "right"]
Kind = Literal["unmatched", "duplicate", "unreadable", "odd_width", "size", "disagreement"]
KINDS: tuple[Kind, ...] = get_args(Kind)

NAMED = 3  # so many problems of a kind are named in an error


@dataclass(frozen=True)
class Picture:
    """An image file, or one half of it."""

    path: Path
    half: Half | None = None

    def __str__(self) -> str:
        return f"{self.path} ({self.half} half)" if self.half else str(self.path)

    def __lt__(self, other: Picture) -> bool:
        return (self.path, self.half or "") < (other.path, other.half or "")

    @property
    def sibling(self) -> Picture:
        """The other half."""
        return Picture(self.path, "left" if self.half == "right" else "right")

    def read(self, decode: Callable[[Path], np.ndarray] = read_image) -> np.ndarray:
        """(H, W, 3) uint8, by way of what decodes its file, a cache for instance.

        Raises:
            ManasError: if the file cannot be decoded.
        """
        return self.of(decode(self.path))

    def of(self, image: np.ndarray) -> np.ndarray:
        """The picture as a view of its decoded file: (H, W, 3) -> (H, W or W / 2, 3)."""
        middle = image.shape[1] // 2
        return image if self.half is None else image[:, :middle] if self.half == "left" else image[:, middle:]


@dataclass(frozen=True)
class Scene:
    """One background: its clean picture, and its degraded pictures and their masks by level, lightest first."""

    name: str
    clean: Picture
    degraded: Mapping[str, Picture]
    masks: Mapping[str, Picture] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file.

    Attributes:
        kind: ``unmatched``: a file without partner, or one that a list names and that is not there.
            ``duplicate``: two files with one name; the first is taken. ``unreadable``: empty, or no image.
            ``odd_width``: of a file of two halves. ``size``: not that of the clean image.
            ``disagreement``: the clean halves of a scene differ from level to level; a sample is looked at, and
            nothing left out.
    """

    kind: Kind
    path: Path
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class Archive:
    """A data set, read into one index.

    Attributes:
        layout: how it is kept: a name of `manas.data.archives.layouts.LAYOUTS`, or ``mapping``.
        root: where it is.
        scenes: in the natural order of their names, without the files that have a problem.
        problems: all that was found, in the order of `KINDS`.
        notes: sentences on what was decided and left out.
        sizes: (width, height) of the upright image in each file of the scenes.
    """

    layout: str
    root: Path
    scenes: tuple[Scene, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    sizes: Mapping[Path, tuple[int, int]] = field(default_factory=dict, repr=False)

    @property
    def levels(self) -> tuple[str, ...]:
        """The names of the degraded versions that occur, lightest first where that is known."""
        found = {level for scene in self.scenes for level in scene.degraded}
        return tuple(sorted(found, key=level_order))

    def require(self, allow: Collection[str] = ()) -> Archive:
        """The archive, if its problems are all of kinds to `allow`; these are counted in a note.

        Raises:
            ManasError: for a problem of another kind, an unknown kind, or if no scene is left.
        """
        for kind in allow:
            if kind not in KINDS:
                raise ManasError(f"allow: no problem is of kind {kind!r}; {nearest(kind, KINDS)}")
        refused = [problem for problem in self.problems if problem.kind not in allow]
        if refused:
            raise ManasError(_complaint(self.root, refused))
        if not self.scenes:
            raise ManasError(
                f"{self.root}: no pair is left of it; give a folder with clean and degraded images"
            )
        allowed = [f"allowed: {_counts(self.problems)}"] if self.problems else []
        return replace(self, notes=(*self.notes, *allowed))


def level_order(level: str) -> tuple[int, list[str | int]]:
    """Sorts levels: light, medium, heavy; then the others, numbers in them as numbers."""
    known = {"light": 0, "medium": 1, "heavy": 2}
    return known.get(level, len(known)), natural_order(level)


def natural_order(name: str) -> list[str | int]:
    """Sorts names, the numbers in them as numbers."""
    pieces = re.split(r"([0-9]+)", name)  # text and numbers in turn, so that only like meets like
    return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)]


def _complaint(root: Path, problems: list[Problem]) -> str:
    seen: Counter[Kind] = Counter()
    named = []
    for problem in problems:
        seen[problem.kind] += 1
        if seen[problem.kind] <= NAMED:
            named.append(str(problem))
    more = len(problems) - len(named)
    named += [f"and {more} more"] if more else []
    kinds = ", ".join(sorted(seen))
    return f"{root}: {_counts(problems)}: {'; '.join(named)}. Mend them, or allow [{kinds}] to leave them out"


def _counts(problems: Collection[Problem]) -> str:
    counts = Counter(problem.kind for problem in problems)
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if kind in counts)
