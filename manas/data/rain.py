"""Rain streaks: anti-aliased line segments, drawn row by row, as optical depth."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_BATCH = 512  # streaks at a time: their marks stay in the processor's cache, and memory stays bounded


@dataclass(frozen=True)
class Streaks:
    """Streaks of one distance: far ones are many, short, thin and faint; near ones few, long, wide and clear.

    Length and width are in pixels, opacity is that of the middle of a streak. A streak's own length and width
    lie within a quarter of these, its own opacity between the two, closer to the lower one in most.
    """

    per_megapixel: float
    length: float
    width: float
    opacity: tuple[float, float]

    def marks(
        self, shape: tuple[int, int], slant: float, density: float, scale: float, rng: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Draw the streaks that touch an image of `shape` (H, W), also those that enter it from outside.

        `slant` is in degrees from the vertical; `density` multiplies the number of streaks, `scale` their
        length.
        Yields rows (n, R, 1), columns (n, R, C) and optical depth (n, R, C), some of it outside of the image.
        """
        longest = 1.25 * self.length * scale
        above = longest / 2 + 1
        aside = longest / 2 * float(np.sin(np.deg2rad(abs(slant) + 4))) + self.width + 1
        height, width = shape[0] + 2 * above, shape[1] + 2 * aside
        count = rng.poisson(self.per_megapixel * density * height * width / 1e6)
        y, x, length, tilt, thickness, opacity = rng.random((6, count, 1), dtype=np.float32)
        y = y * height - above
        x = x * width - aside
        length = longest * (0.6 + 0.4 * length)
        tilt = np.deg2rad(slant + 8 * tilt - 4)
        thickness = self.width * (0.75 + 0.5 * thickness)
        depth = -np.log1p(-(self.opacity[0] + (self.opacity[1] - self.opacity[0]) * opacity**2))
        for start in range(0, count, _BATCH):
            batch = slice(start, start + _BATCH)
            yield _segments(y[batch], x[batch], length[batch], tilt[batch], thickness[batch], depth[batch])


def _segments(y, x, length, tilt, thickness, depth) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rasterise n segments, each argument (n, 1); each row marks the few pixels beside its segment's axis."""
    cosine = np.cos(tilt)
    half_rows = int((length * cosine).max() / 2) + 1
    half_columns = int(np.ceil((thickness.max() / 2 + 0.5) / cosine.min() - 0.5))
    rows = np.rint(y) + np.arange(-half_rows, half_rows + 1, dtype=np.float32)  # (n, R)
    axis = x + (rows - y) * np.tan(tilt)
    nearest = np.rint(axis)
    across = np.arange(-half_columns, half_columns + 1, dtype=np.float32)  # (C,)
    # The share of a pixel that a bar covers falls linearly with its distance from the axis, and never exceeds
    # the width of the bar.
    most = np.minimum(thickness, 1)
    coverage = np.abs((nearest - axis)[..., None] + across)  # (n, R, C)
    coverage *= (-cosine / most)[..., None]
    coverage += ((thickness + 1) / (2 * most))[..., None]
    np.clip(coverage, 0, 1, out=coverage)
    # The ends fade over a quarter of the streak each: a hard end reads as a scratch, not as a falling drop.
    along = np.clip(2 - 4 * np.abs(rows - y) / (length * cosine), 0, 1)
    coverage *= (along * (depth * most))[..., None]
    return rows[..., None], nearest[..., None] + across, coverage
