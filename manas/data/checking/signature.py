"""The signature by which a picture is recognised: a digest of its pixels, a thumbnail, distinctive points."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter, map_coordinates

from manas.errors import ManasError

_GREY, _THUMBNAIL = 320, 96  # long sides in pixels
_FINEST, _LEVELS, _OCTAVES = 1.2, 3, 4  # sigma in pixels, levels an octave, number of octaves
_FAINTEST = 0.5  # difference of Gaussians, in grey levels of 255
_TILES, _IN_TILE = 4, 10  # tiles a side, points a tile
_OFFSETS = 1.2 * (np.arange(8) - 3.5)  # offsets of a patch's samples, in units of the point's sigma
_ORDER = np.add.outer(np.arange(8), np.arange(8))
KEPT = (_ORDER > 0) & (_ORDER <= 5)  # low frequencies without the mean: 20 of the 64 coefficients


@dataclass(frozen=True, eq=False)
class Signature:
    """The signature of a picture, of 11 kB at 480 x 320 and never more than 15.

    Attributes:
        digest: (32,) uint8, SHA-256 of shape and pixels.
        thumbnail: (h, w) uint8 luma, long side at most 96.
        points: (N, 3) float32, x, y and sigma of at most 160 blobs, in pixels of the thumbnail.
        descriptors: (N, 20) int8, low DCT coefficients of the patches around points; unit vectors times 127.
    """

    digest: np.ndarray
    thumbnail: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray


def signature(image: np.ndarray) -> Signature:
    """The signature of a clean picture, (H, W, 3) uint8 RGB of any size, for `matches` to compare.

    The points are extrema of differences of Gaussians over scale and place (Lowe, "Distinctive image features
    from scale-invariant keypoints", IJCV 2004), the strongest of each of 4 x 4 tiles, without rotation:
    scikit-image's SIFT and ORB take several times longer.

    Raises:
        ManasError: for another type or shape, or an image without pixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ManasError(f"a picture is uint8 of shape (H, W, 3), got {image.dtype} {image.shape}; convert it")
    digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
    luma = Image.fromarray(image).convert("L")
    grey = _shrink(luma, _GREY)
    points, descriptors = _points(np.asarray(grey, np.float32))
    thumbnail = _shrink(luma, _THUMBNAIL)
    points[:, :2] *= np.divide(thumbnail.size, grey.size)
    points[:, 2] *= max(thumbnail.size) / max(grey.size)
    return Signature(np.frombuffer(digest, np.uint8), np.asarray(thumbnail), points, descriptors)


def _shrink(picture: Image.Image, long_side: int) -> Image.Image:
    scale = long_side / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.HAMMING)


def _points(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places and sigmas (N, 3), in pixels of `grey`, and descriptors (N, 20) of the strongest points."""
    base = gaussian_filter(grey, _FINEST, mode="nearest", truncate=3)
    octaves = [(np.zeros((0, 3)), np.zeros(0), np.zeros((0, np.count_nonzero(KEPT))))]
    for octave in range(_OCTAVES):
        if min(base.shape) < 16:
            break
        levels = _blur(base)
        points, strength = _extrema(np.diff(levels, axis=0))
        descriptors = _describe(levels, points)
        points = (points + (0.5, 0.5, 0)) * 2**octave  # centres of pixels lie at halves
        octaves.append((points, strength, descriptors))
        base = levels[_LEVELS][::2, ::2]  # smoothed to twice the sigma, so that every other pixel is enough
    points, strength, descriptors = (np.concatenate(parts) for parts in zip(*octaves, strict=True))
    best = _strongest(points, strength, grey.shape)
    return points[best].astype(np.float32), np.rint(127 * descriptors[best]).astype(np.int8)


def _blur(base: np.ndarray) -> np.ndarray:
    """An octave of ever smoother levels, (levels + 3, H, W), from the finest sigma to more than twice that."""
    levels = [base]
    growth = 2 ** (1 / _LEVELS)
    for level in range(_LEVELS + 2):
        sigma = _FINEST * growth**level * np.sqrt(growth**2 - 1)  # variances of successive blurs add up
        levels.append(gaussian_filter(levels[-1], sigma, mode="nearest", truncate=3))
    return np.stack(levels)


def _extrema(difference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The extrema as place and sigma (N, 3), to a fraction of a pixel and level, and strength (N,).

    Points whose patch would leave the picture are left out.
    """
    magnitude = np.abs(difference)
    inner = magnitude[1:-1]
    level, y, x = np.nonzero((inner > _FAINTEST) & (inner == _neighbourhood_maximum(magnitude)[1:-1]))
    reach = 1 - _OFFSETS[0] * _FINEST * 2 ** ((level + 1.5) / _LEVELS)
    height, width = difference.shape[1:]
    whole = (np.minimum(x, width - 1 - x) >= reach) & (np.minimum(y, height - 1 - y) >= reach)
    place = np.stack([level[whole] + 1, y[whole], x[whole]])
    level, y, x = place + np.stack([_peak(difference, place, step) for step in np.eye(3, dtype=np.intp)])
    sigma = _FINEST * 2 ** (level / _LEVELS)
    return np.stack([x, y, sigma], axis=1), magnitude[tuple(place)]


def _neighbourhood_maximum(stack: np.ndarray) -> np.ndarray:
    """The maximum of 3 x 3 x 3 values by slices, several times faster than by scipy's general filter."""
    for axis in range(3):
        before, after = (np.moveaxis(stack, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        larger = np.maximum(before, after)
        stack = stack.copy()
        view = np.moveaxis(stack, axis, 0)
        np.maximum(view[:-1], larger, out=view[:-1])
        np.maximum(view[1:], larger, out=view[1:])
    return stack


def _peak(values: np.ndarray, place: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The offset along `step` from `place` to the extremum of the parabola through three values."""
    before, here, after = (values[tuple(place + side * step[:, None])] for side in (-1, 0, 1))
    bend = before - 2 * here + after
    flat = np.abs(bend) < 1e-6
    return np.where(flat, 0, (before - after) / np.where(flat, 1, 2 * bend)).clip(-0.5, 0.5)


def _describe(levels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The low DCT coefficients of the 8 x 8 samples around each point, as unit vectors (N, 20)."""
    height, width = levels.shape[1:]
    x, y, sigma = points.T[:, :, None, None]
    level = np.rint(_LEVELS * np.log2(sigma / _FINEST))
    rows = (y + sigma * _OFFSETS[:, None]).clip(0, height - 1) + level * height
    columns = (x + sigma * _OFFSETS).clip(0, width - 1)
    samples = map_coordinates(levels.reshape(-1, width), np.broadcast_arrays(rows, columns), order=1)
    coefficients = dctn(samples, axes=(1, 2), norm="ortho")[:, KEPT]
    return coefficients / np.maximum(np.linalg.norm(coefficients, axis=1, keepdims=True), 1e-6)


def _strongest(points: np.ndarray, strength: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The indexes of the strongest points of every tile, so that a crop of any part has some of them."""
    column, row = (points[:, :2] / shape[::-1] * _TILES).astype(np.intp).clip(0, _TILES - 1).T
    tile = row * _TILES + column
    order = np.lexsort((-strength, tile))
    rank = np.arange(len(order)) - np.searchsorted(tile[order], tile[order])
    return order[rank < _IN_TILE]
