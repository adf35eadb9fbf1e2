"""Files of two halves, clean and degraded: how they are recognised, told apart and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from manas.data.archives.folder import File
from manas.data.archives.index import Half, Problem, Scene, StoredImage
from manas.data.archives.names import pairing_key
from manas.data.archives.pairing import Part
from manas.data.images import read_image
from manas.errors import ManasError

LOOKED_AT = 20  # files, or scenes, at even distances
SEEN_AT_ONCE = 5  # files; enough to recognise that they have halves
DECIDED = 2 / 3  # the share of files that must speak for a side
ALIKE = 0.5  # correlation; halves of Rain100H's pairs have a median of 0.87, halves of photographs are below 0
THUMBNAIL = 32  # pixels
AGREE = 3.0  # mean difference in levels of 255; differences by JPEG stay below it

_Item = TypeVar("_Item")


def halves_of(files: Iterable[File], side: Half, level: str, *, clean_level: str = "") -> Iterator[Part]:
    """The two parts of each file; `side` is the side of the degraded half."""
    for path, place, stem in files:
        key = place + pairing_key(stem)
        degraded = StoredImage(path, side)
        yield Part("degraded", key, degraded, level)
        yield Part("clean", key, degraded.sibling, clean_level)


def are_halves(files: Sequence[File]) -> bool:
    """Whether the halves of the files show one scene, that is, correlate within the rows."""
    sample = _sample(files, SEEN_AT_ONCE)
    values = [_likeness(image) for image in _decode(sample) if image.shape[1] % 2 == 0]
    return bool(values) and float(np.median(values)) > ALIKE


def degraded_side(files: Sequence[File], where: Path) -> tuple[Half, str]:
    """The side of the degraded halves, and a sentence about the decision.

    Rain and snow are bright and have edges: a file speaks for the side that is brighter on average and whose
    luma differs more from pixel to pixel along the rows. This was right for all pairs of Rain100L and Rain100H.

    Raises:
        ManasError: if the files of the sample do not agree.
    """
    votes = [_vote(image) for image in _decode(_sample(files))]
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
    """A list of at most one problem: the first scene of a sample whose levels have different clean halves."""
    for scene in _sample([scene for scene in scenes if scene.clean.half]):
        for picture in scene.degraded.values():
            distance = _distance(scene.clean, picture.sibling)
            if distance >= AGREE:
                message = (
                    f"its clean half is {distance:.1f} levels from that of {scene.clean}; are they one scene?"
                )
                return [Problem("disagreement", picture.path, message)]
    return []


def _distance(one: StoredImage, other: StoredImage) -> float:
    """The mean difference of two pictures in levels; 0 if one cannot be decoded or their sizes differ."""
    if one.path == other.path:
        return 0.0
    images = [picture.of(image) for picture in (one, other) for image in _decode([picture.path])]
    same = len(images) == 2 and images[0].shape == images[1].shape
    return float(np.abs(images[0].astype(np.float32) - images[1]).mean()) if same else 0.0


def _sample(items: Sequence[_Item], most: int = LOOKED_AT) -> list[_Item]:
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def _decode(files: Iterable[File | Path]) -> Iterator[np.ndarray]:
    """Decodes files to (H, W, 3) uint8; passes over damaged ones, which reading the whole set reports."""
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
    """The correlation of the halves' thumbnails without the means of their rows.

    The rows of any landscape have different means, so that any two landscapes would correlate.
    """
    thumbnails = [
        np.asarray(Image.fromarray(half.astype(np.uint8)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
        for half in _halves(image)
    ]
    left, right = (thumbnail - thumbnail.mean(1, keepdims=True) for thumbnail in thumbnails)
    energy = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum()) / energy if energy else 0.0


def _halves(image: np.ndarray) -> list[np.ndarray]:
    """The luma of the left and the right half, (H, W / 2) float32."""
    luma = image @ np.array([0.299, 0.587, 0.114], np.float32)
    middle = luma.shape[1] // 2
    return [luma[:, :middle], luma[:, middle : 2 * middle]]
