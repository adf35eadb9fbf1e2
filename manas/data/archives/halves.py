"""Files of two halves, clean and degraded: whether they are, which is which, whether clean ones agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from manas.data.archives.folder import File
from manas.data.archives.index import Half, Picture, Problem, Scene
from manas.data.archives.names import pairing_key
from manas.data.archives.pairing import Part
from manas.data.images import read_image
from manas.errors import ManasError

LOOKED_AT = 20  # files, or scenes, at even distances
SEEN_AT_ONCE = 5  # of them are enough to see that they are halves
DECIDED = 2 / 3  # of them must speak for a side
ALIKE = 0.5  # correlation; halves of Rain100H's pairs have a median of 0.87, those of photographs below 0
THUMBNAIL = 32
AGREE = 3.0  # mean difference in levels, which JPEG stays below

_Item = TypeVar("_Item")


def halves_of(files: Iterable[File], side: Half, level: str, *, clean_level: str = "") -> Iterator[Part]:
    """Both parts that each file plays; `side` is that of the degraded half."""
    for path, place, stem in files:
        key = place + pairing_key(stem)
        degraded = Picture(path, side)
        yield Part("degraded", key, degraded, level)
        yield Part("clean", key, degraded.sibling, clean_level)


def are_halves(files: Sequence[File]) -> bool:
    """Whether the halves of the files show one scene: whether they correlate across, row by row."""
    sample = _sample(files, SEEN_AT_ONCE)
    values = [_likeness(image) for image in _decoded(sample) if image.shape[1] % 2 == 0]
    return bool(values) and float(np.median(values)) > ALIKE


def degraded_side(files: Sequence[File], where: Path) -> tuple[Half, str]:
    """The side of the degraded halves, and a sentence on it.

    Rain and snow are bright and have edges: a file speaks for the side that is brighter on average and whose
    luma differs more from pixel to pixel across. Measured on the pairs of Rain100L and Rain100H: right for all.

    Raises:
        ManasError: if the files looked at do not agree.
    """
    votes = [_vote(image) for image in _decoded(_sample(files))]
    for half in ("left", "right"):
        count = votes.count(half)
        if votes and count >= DECIDED * len(votes):
            return half, f"the degraded half is the {half} one ({count} of {len(votes)} files)"
    left, right = votes.count("left"), votes.count("right")
    raise ManasError(
        f"{where}: cannot tell which half is degraded (of {len(votes)} files {left} speak for left, "
        f"{right} for right); give side: left, or side: right"
    )


def disagreement(scenes: Sequence[Scene]) -> list[Problem]:
    """At most one problem: the first scene whose levels bring different clean halves."""
    for scene in _sample([scene for scene in scenes if scene.clean.half]):
        for picture in scene.degraded.values():
            apart = _apart(scene.clean, picture.sibling)
            if apart >= AGREE:
                message = (
                    f"its clean half is {apart:.1f} levels from that of {scene.clean}; are they one scene?"
                )
                return [Problem("disagreement", picture.path, message)]
    return []


def _apart(one: Picture, other: Picture) -> float:
    if one.path == other.path:
        return 0.0
    images = [picture.of(image) for picture in (one, other) for image in _decoded([picture.path])]
    same = len(images) == 2 and images[0].shape == images[1].shape
    return float(np.abs(images[0].astype(np.float32) - images[1]).mean()) if same else 0.0


def _sample(items: Sequence[_Item], most: int = LOOKED_AT) -> list[_Item]:
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def _decoded(files: Iterable[File | Path]) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8; what cannot be decoded is left to those who read the whole set."""
    for file in files:
        try:
            yield read_image(file.path if isinstance(file, File) else file)
        except ManasError:
            continue


def _vote(image: np.ndarray) -> Half | None:
    halves = _halves(image)
    edges = [float(np.abs(np.diff(half, axis=1)).mean()) for half in halves]
    means = [float(half.mean()) for half in halves]
    if edges[0] > edges[1] and means[0] > means[1]:
        return "left"
    return "right" if edges[0] < edges[1] and means[0] < means[1] else None


def _likeness(image: np.ndarray) -> float:
    """Correlation of the halves' thumbnails without what each row has in common, which any landscape has."""
    thumbnails = [
        np.asarray(Image.fromarray(half.astype(np.uint8)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
        for half in _halves(image)
    ]
    left, right = (thumbnail - thumbnail.mean(1, keepdims=True) for thumbnail in thumbnails)
    energy = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum()) / energy if energy else 0.0


def _halves(image: np.ndarray) -> list[np.ndarray]:
    """Luma of the left and the right half, (H, W / 2) float32."""
    luma = image @ np.array([0.299, 0.587, 0.114], np.float32)
    middle = luma.shape[1] // 2
    return [luma[:, :middle], luma[:, middle : 2 * middle]]
