"""The comparison of two thumbnails in the part where they overlap."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

LEAST_CONTRAST = 1.5  # standard deviation in grey levels of 255

_LEAST_ALONG = 0.025  # energy along an edge over the energy across: a stepped edge has 0.014, scenes have 0.04
_LEAST_OVERLAP, _MOST_OVERLAP = 12, 32  # side of the part compared, in pixels of the coarser thumbnail
_WHOLE = 0.9  # share of both pictures from which an overlap is no crop
_REFINEMENTS = 5

Kind = Literal["identical", "near", "crop"]


class Placement(NamedTuple):
    """The place of the first thumbnail in the second: a point (x, y) lies at scale * (x, y) + shift."""

    scale: np.ndarray  # (2,)
    shift: np.ndarray  # (2,)


def compare(one: np.ndarray, other: np.ndarray, placement: Placement) -> tuple[float, Kind]:
    """The best score and kind of two thumbnails while the placement is refined (Lucas, Kanade, IJCAI 1981)."""
    first, second = Image.fromarray(np.ascontiguousarray(one)), Image.fromarray(other)
    best: tuple[float, Kind] = (0.0, "crop")
    for _ in range(_REFINEMENTS):
        scale, shift = placement
        if not (0.02 < scale.min() <= scale.max() < 50 and scale.max() < 2.5 * scale.min()):
            break
        low = np.maximum(0, -shift / scale)
        high = np.minimum(first.size, (second.size - shift) / scale)
        extent = np.minimum(high - low, scale * (high - low))
        if extent.min() < _LEAST_OVERLAP:
            break
        cells = np.rint(extent.clip(max=_MOST_OVERLAP)).astype(int)
        mine = detail(_cut(first, low, high, cells))
        theirs = detail(_cut(second, scale * low + shift, scale * high + shift, cells))
        share = min(((high - low) / first.size).prod(), (scale * (high - low) / second.size).prod())
        best = max(best, (_score(mine, theirs), "near" if share >= _WHOLE else "crop"))
        step = _correction(mine, theirs)
        if step[0] < 0.05:  # the pictures are unlike, and no step would improve that
            break
        x, y, wider, higher = (step[1:] / step[0]).clip(-2, 2)
        middle, cell = (low + high) / 2, (high - low) / cells
        target = scale * (middle + cell * (x, y)) + shift
        scale = scale * (1 + 2 * np.array([wider, higher]) / cells)
        placement = Placement(scale, target - scale * middle)
    return best


def _cut(picture: Image.Image, low: np.ndarray, high: np.ndarray, cells: np.ndarray) -> np.ndarray:
    left, top = low.clip(0)
    right, bottom = np.minimum(high, picture.size)
    size = (int(cells[0]), int(cells[1]))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR, (left, top, right, bottom)), np.float32)


def detail(grey: np.ndarray) -> np.ndarray:
    """A picture without its smooth parts and the means of rows and columns, in which any two skies agree."""
    grey = grey - gaussian_filter(grey, 3, mode="nearest")
    return grey - grey.mean(0) - grey.mean(1)[:, None] + grey.mean()


def _score(mine: np.ndarray, theirs: np.ndarray) -> float:
    """The lesser correlation of slopes along and across the main direction; 0 if there are hardly any slopes.

    One straight edge makes any two pictures correlate, but along the edge they do not.
    """
    if min(mine.std(), theirs.std()) < LEAST_CONTRAST:
        return 0.0
    slopes = [np.stack([part.ravel() for part in np.gradient(detail)]) for detail in (mine, theirs)]
    tensors = np.stack([slope @ slope.T / (slope**2).sum() for slope in slopes])
    directions = np.linalg.eigh(tensors.sum(0))[1].T
    ours, other = (directions @ slope for slope in slopes)
    energies = np.stack([(ours**2).mean(1), (other**2).mean(1)])  # (2 pictures, 2 directions)
    if (energies.min(1) < _LEAST_ALONG * energies.max(1)).any():
        return 0.0
    return float(((ours * other).mean(1) / np.sqrt(energies.prod(0))).min().clip(0, 1))


def _correction(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The gain of the second picture, and its steps in cells times the gain: right, down, wider and higher."""
    down, right = np.gradient(theirs)
    v, u = np.meshgrid(*(np.linspace(-1, 1, side) for side in theirs.shape), indexing="ij")
    columns = np.stack([theirs, right, down, u * right, v * down], axis=-1).reshape(-1, 5)
    return np.linalg.lstsq(columns, mine.ravel(), rcond=None)[0]
