"""The pictures of two sets that show one scene: points give candidates, and the overlap of each decides."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from manas.data.checking.overlap import LEAST_CONTRAST, Kind, Placement, compare, detail
from manas.data.checking.signature import KEPT, Signature

_LEAST_SCORE = 0.85  # different pictures reach 0.77
_LEAST_ALIKE = 0.6  # correlation of whole pictures that makes them candidates
_LEAST_COSINE, _NEIGHBOURS, _PROBES = 0.955, 4, 3  # of descriptors; nearest descriptors of each; cells searched
_BLOCK = 512  # pictures at a time, so that the memory is bounded

# A mirrored patch has the opposite sign in the coefficients of odd horizontal frequency.
_MIRRORED = (-1.0) ** np.nonzero(KEPT)[1].astype(np.float32)


@dataclass(frozen=True)
class Match:
    """Two pictures of one scene: their keys, the certainty of the match and its kind.

    The score of identical pictures is 1. Otherwise it is the correlation of the slopes in their common part,
    along or across its main direction, whichever is less.
    """

    first: Hashable
    second: Hashable
    score: float
    kind: Kind


class _Candidate(NamedTuple):
    first: int
    second: int
    mirrored: bool  # whether the first picture is mirrored before it is placed
    placement: Placement


class _Points(NamedTuple):
    """The points of several pictures: the number of the picture, x, y and sigma, and unit descriptors."""

    picture: np.ndarray  # (N,)
    place: np.ndarray  # (N, 3)
    descriptors: np.ndarray  # (N, 20)


def matches(of: Mapping[Hashable, Signature], among: Mapping[Hashable, Signature]) -> list[Match]:
    """The pairs of a picture `of` one set and a picture `among` another that show one scene, best first.

    If both are the same set (`of is among`), every unordered pair occurs once, and no picture with itself.
    Pairs are ``identical`` (equal pixels), ``near`` (they share 90 % of both or more) or ``crop`` (less of one,
    or of both).

    The match finds pictures that were encoded again as JPEG, resized (also to another aspect ratio), mirrored
    left to right, shortened by a few rows or changed a little in brightness or gamma: all of 133 photographs.
        Of crops
    of a photograph 480 pixels wide it finds 19 in 20 at 192 x 192, 17 in 20 at 128 x 128 and 12 in 20 at 96 x
    96. It does not find rotations, pictures upside down, heavy edits and smaller crops, nor pictures that are
    nearly flat or hold only parallel edges, unless they are identical. Of many crops of one scene, each is
    matched with some of the others, but not with all.
    """
    if len(of) > len(among):  # the index is made of the larger set, and the smaller set is looked up in it
        return [Match(match.second, match.first, match.score, match.kind) for match in matches(among, of)]
    if not of:
        return []
    firsts, seconds, within = list(of), list(among), of is among
    left, right = list(of.values()), list(among.values())
    best: dict[tuple[int, int], tuple[float, Kind]] = dict.fromkeys(_identical(left, right), (1.0, "identical"))
    for one, other, mirrored, placement in (*_alike(left, right), *_agreeing(left, right, within)):
        known = best.get((one, other), (0.0, "crop"))
        if known[1] != "identical" and not (within and one >= other):
            thumbnail = left[one].thumbnail[:, :: -1 if mirrored else 1]
            best[one, other] = max(known, compare(thumbnail, right[other].thumbnail, placement))
    results = [
        Match(firsts[one], seconds[other], score, kind)
        for (one, other), (score, kind) in sorted(best.items())
        if score >= _LEAST_SCORE and not (within and one >= other)
    ]
    return sorted(results, key=lambda match: -match.score)


def _identical(left: Sequence[Signature], right: Sequence[Signature]) -> Iterator[tuple[int, int]]:
    places: dict[bytes, list[int]] = {}
    for index, picture in enumerate(right):
        places.setdefault(picture.digest.tobytes(), []).append(index)
    for index, picture in enumerate(left):
        yield from ((index, other) for other in places.get(picture.digest.tobytes(), ()))


def _alike(left: Sequence[Signature], right: Sequence[Signature]) -> Iterator[_Candidate]:
    """The candidates that look alike as wholes, whatever their aspect ratios."""
    theirs = np.stack([_overview(picture.thumbnail) for picture in right])
    for start in range(0, len(left), _BLOCK):
        block = left[start : start + _BLOCK]
        for mirrored, step in ((False, 1), (True, -1)):
            ours = np.stack([_overview(picture.thumbnail[:, ::step]) for picture in block])
            for one, other in np.argwhere(ours @ theirs.T > _LEAST_ALIKE) + (start, 0):
                scale = np.divide(right[other].thumbnail.shape[::-1], left[one].thumbnail.shape[::-1])
                yield _Candidate(int(one), int(other), mirrored, Placement(scale, np.zeros(2)))


def _overview(thumbnail: np.ndarray) -> np.ndarray:
    """A picture as a unit vector (256,); zero for a flat picture, which would be like any other."""
    small = Image.fromarray(np.ascontiguousarray(thumbnail)).resize((16, 16), Image.Resampling.BOX)
    vector = detail(np.asarray(small, np.float32)).ravel()
    return vector / np.linalg.norm(vector) if vector.std() > LEAST_CONTRAST else np.zeros_like(vector)


def _agreeing(left: Sequence[Signature], right: Sequence[Signature], within: bool) -> Iterator[_Candidate]:
    """The candidates with two points or more that agree on a scale and a shift, placed as most points agree."""
    theirs = _points_of(right, 0)
    if not len(theirs.picture):
        return
    index = _Index(theirs.descriptors)
    for start in range(0, len(left), _BLOCK):
        ours = _points_of(left[start : start + _BLOCK], start)
        width = np.array([picture.thumbnail.shape[1] for picture in left])[ours.picture]
        mirror = np.column_stack([width - ours.place[:, 0], ours.place[:, 1:]])
        mirror_image = ours._replace(place=mirror, descriptors=ours.descriptors * _MIRRORED)
        for mirrored, asking in ((False, ours), (True, mirror_image)):
            mine, other = index.nearest(asking, theirs.picture if within else None)
            pair = asking.picture[mine] * len(right) + theirs.picture[other]
            for votes in _sharing(pair, 2):
                placement = _consensus(asking.place[mine[votes]], theirs.place[other[votes]])
                if placement is not None:
                    one, another = divmod(int(pair[votes[0]]), len(right))
                    yield _Candidate(one, another, mirrored, placement)


def _sharing(keys: np.ndarray, least: int) -> Iterator[np.ndarray]:
    """The indexes of each key that occurs `least` times or more."""
    order = np.argsort(keys, kind="stable")
    _, begins, counts = np.unique(keys[order], return_index=True, return_counts=True)
    repeated = counts >= least
    for begin, count in zip(begins[repeated], counts[repeated], strict=True):
        yield order[begin : begin + count]


def _points_of(pictures: Sequence[Signature], start: int) -> _Points:
    counts = [len(picture.points) for picture in pictures]
    return _Points(
        np.repeat(np.arange(start, start + len(pictures)), counts),
        np.concatenate([picture.points for picture in pictures]),
        np.concatenate([picture.descriptors for picture in pictures]).astype(np.float32) / 127,
    )


class _Index:
    """An index of millions of descriptors: an inverted file, whose cells are multiplied as matrices.

    A k-d tree would visit most of its leaves in 20 dimensions.
    """

    def __init__(self, descriptors: np.ndarray) -> None:
        cells = int(np.sqrt(len(descriptors)))
        self._centres = descriptors[np.linspace(0, len(descriptors) - 1, cells, dtype=np.intp)]
        cell = self._nearest_cells(descriptors, 1)[:, 0]
        self._order = np.argsort(cell, kind="stable")
        self._bounds = np.searchsorted(cell[self._order], np.arange(cells + 1))
        self._sorted = descriptors[self._order]

    def nearest(self, points: _Points, owners: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The indexes of points and of their neighbours in this index.

        With `owners`, the pictures of the descriptors in this index, no neighbour is of the point's own
        picture.
        """
        cell = self._nearest_cells(points.descriptors, min(_PROBES, len(self._centres)))
        hits = [(np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0, np.float32))]
        for group in _sharing(cell.ravel(), 1):
            number, asking = cell.flat[group[0]], group // cell.shape[1]
            inside = slice(*self._bounds[number : number + 2])
            cosine = points.descriptors[asking] @ self._sorted[inside].T
            # On the flat array, since numpy's nonzero of a matrix takes ten times as long.
            row, column = np.divmod(np.flatnonzero(cosine > _LEAST_COSINE), cosine.shape[1])
            hits.append((asking[row], self._order[inside][column], cosine[row, column]))
        mine, other, cosine = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        if owners is not None:
            foreign = points.picture[mine] != owners[other]
            mine, other, cosine = mine[foreign], other[foreign], cosine[foreign]
        order = np.lexsort((-cosine, mine))
        # The rank of a hit among those of its point is its distance from the first of them.
        nearest = order[np.arange(len(order)) - np.searchsorted(mine[order], mine[order]) < _NEIGHBOURS]
        return mine[nearest], other[nearest]

    def _nearest_cells(self, descriptors: np.ndarray, count: int) -> np.ndarray:
        parts = [np.zeros((0, count), np.intp)]
        for start in range(0, len(descriptors), 4096):
            cosine = descriptors[start : start + 4096] @ self._centres.T
            parts.append(_largest(cosine, count))
        return np.concatenate(parts)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """The columns of the `count` largest values of each row, one by one, which is faster than a partition."""
    columns = []
    for _ in range(count):
        columns.append(values.argmax(1))
        values[np.arange(len(values)), columns[-1]] = -np.inf
    return np.stack(columns, axis=1)


def _consensus(ours: np.ndarray, theirs: np.ndarray) -> Placement | None:
    """The placement that most pairs of points, (N, 3) each, agree on; None if no two pairs agree."""
    scale = theirs[:, 2] / ours[:, 2]
    apart = theirs[:, :2] - theirs[:, None, :2]  # (N, N, 2)
    error = scale[:, None, None] * (ours[:, :2] - ours[:, None, :2]) - apart
    # Wide enough for scales that differ between x and y.
    near = np.linalg.norm(error, axis=2) < 1.5 * theirs[:, 2] + 0.25 * np.linalg.norm(apart, axis=2)
    agree = near & (np.abs(np.log2(scale / scale[:, None])) < 0.6)
    inliers = agree[agree.sum(1).argmax()]
    ours, theirs, scale = ours[inliers], theirs[inliers], scale[inliers]
    if any(np.ptp(points[:, :2].round(1), axis=0).max() == 0 for points in (ours, theirs)):
        return None  # they are all one point
    return _fit(ours, theirs, np.exp(np.log(scale).mean()))


def _fit(ours: np.ndarray, theirs: np.ndarray, scale: float) -> Placement:
    """Fits a placement by least squares for each axis, drawn to the `scale` of the points' sizes.

    Without that, points that hardly spread along an axis would leave its scale undetermined.
    """
    centre, target = ours[:, :2].mean(0), theirs[:, :2].mean(0)
    away = ours[:, :2] - centre
    hold = 4 * ours[:, 2].mean() ** 2
    scales = ((away * (theirs[:, :2] - target)).sum(0) + hold * scale) / ((away**2).sum(0) + hold)
    return Placement(scales, target - scales * centre)
