"""The index that a data set is read into: scenes of pictures, and the problems of its files."""

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

NAMED = 3  # the number of problems of a kind that an error names


@dataclass(frozen=True)
class StoredImage:
    """An image file, or one half of an image file."""

    path: Path
    half: Half | None = None

    def __str__(self) -> str:
        return f"{self.path} ({self.half} half)" if self.half else str(self.path)

    def __lt__(self, other: StoredImage) -> bool:
        return (self.path, self.half or "") < (other.path, other.half or "")

    @property
    def sibling(self) -> StoredImage:
        """The picture in the other half of the file."""
        return StoredImage(self.path, "left" if self.half == "right" else "right")

    def read(self, decode: Callable[[Path], np.ndarray] = read_image) -> np.ndarray:
        """Reads the picture as (H, W, 3) uint8.

        Args:
            decode: decodes a file, for instance through a cache.

        Raises:
            ManasError: if the file cannot be decoded.
        """
        return self.of(decode(self.path))

    def of(self, image: np.ndarray) -> np.ndarray:
        """The picture (H, W or W / 2, 3) as a view of its decoded file (H, W, 3)."""
        middle = image.shape[1] // 2
        return image if self.half is None else image[:, :middle] if self.half == "left" else image[:, middle:]


@dataclass(frozen=True)
class Scene:
    """One background: its clean picture, its degraded pictures and their masks by level, the lightest first."""

    name: str
    clean: StoredImage
    degraded: Mapping[str, StoredImage]
    masks: Mapping[str, StoredImage] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """A problem of a file.

    Attributes:
        kind: ``unmatched``: the file has no partner, or a list names it and it is missing. ``duplicate``: two
            files have one name, of which the first is taken. ``unreadable``: the file is empty or no image.
            ``odd_width``: a file of two halves has an odd width. ``size``: the image has not the size of the
            clean image. ``disagreement``: the clean halves of a scene differ from level to level; only a sample
            of the scenes is compared, and no file is left out.
        path: the file.
        message: the problem and its remedy in words.
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
        layout: the name of its layout in `manas.data.archives.layouts.LAYOUTS`, or ``list`` or ``mapping``.
        root: the folder or list that it was read from.
        scenes: the scenes in the natural order of their names, without the files that have a problem.
        problems: all problems, in the order of `KINDS`.
        notes: sentences about decisions and about files that were left out.
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
        """The levels of the degraded pictures, in the order of `level_order`."""
        levels = {level for scene in self.scenes for level in scene.degraded}
        return tuple(sorted(levels, key=level_order))

    def require(self, allow: Collection[str] = ()) -> Archive:
        """Returns the archive if all its problems are of allowed kinds, with a note that counts them.

        Raises:
            ManasError: for a problem of another kind, an unknown kind, or an archive without scenes.
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
    """The key that sorts levels: light, medium, heavy; then all others, with numbers in them as numbers."""
    known = {"light": 0, "medium": 1, "heavy": 2}
    return known.get(level, len(known)), natural_order(level)


def natural_order(name: str) -> list[str | int]:
    """The key that sorts names with the numbers in them as numbers."""
    pieces = re.split(r"([0-9]+)", name)  # text and numbers in turn, so that only like meets like
    return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)]


def _complaint(root: Path, problems: list[Problem]) -> str:
    counts: Counter[Kind] = Counter()
    examples = []
    for problem in problems:
        counts[problem.kind] += 1
        if counts[problem.kind] <= NAMED:
            examples.append(str(problem))
    more = len(problems) - len(examples)
    examples += [f"and {more} more"] if more else []
    kinds = ", ".join(sorted(counts))
    return (
        f"{root}: {_counts(problems)}: {'; '.join(examples)}. Mend them, or allow [{kinds}] to leave them out"
    )


def _counts(problems: Collection[Problem]) -> str:
    counts = Counter(problem.kind for problem in problems)
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if kind in counts)
