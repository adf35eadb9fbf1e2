"""Rain streaks: anti-aliased line segments, drawn row by row, as optical depth."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from manas.data.weather.particles import Fall, Marks


@dataclass(frozen=True)
class Streaks:
    """Streaks of one distance: far ones are many, short, thin and faint; near ones few, long, wide and clear.

    Attributes:
        per_megapixel: number of streaks.
        length, width: in pixels of a picture of 480 x 320; each streak has 0.75 to 1.25 of both.
        opacity: range of the opacity in the middle of a streak; most streaks are closer to the lower end.
        spread: largest departure, in degrees, of the direction of the whole layer from that of the fall.
    """

    per_megapixel: float
    length: float
    width: float
    opacity: tuple[float, float]
    spread: float = 0

    at_once: ClassVar[int] = 512  # streaks whose marks stay in a processor's cache

    def draw(self, shape: tuple[int, int], fall: Fall, rng: np.random.Generator) -> np.ndarray:
        """Draws the streaks that touch an image of `shape` (H, W), also those that enter it from outside.

        Returns (n, 6) float32: row and column of the middle, length, tilt in radians, width, optical depth.
        """
        slant = fall.slant + self.spread * rng.uniform(-1, 1)
        longest = 1.25 * self.length * fall.length * fall.scale
        widest = self.width * fall.width * fall.scale
        above = longest / 2 + 1
        aside = longest / 2 * float(np.sin(np.deg2rad(abs(slant) + 4))) + widest + 1
        height, width = shape[0] + 2 * above, shape[1] + 2 * aside
        count = rng.poisson(self.per_megapixel * fall.density * height * width / fall.scale**2 / 1e6)
        y, x, length, tilt, thickness, opacity = rng.random((6, count), dtype=np.float32)
        opacity = self.opacity[0] + (self.opacity[1] - self.opacity[0]) * opacity**2
        streaks = (
            y * height - above,
            x * width - aside,
            longest * (0.6 + 0.4 * length),
            np.deg2rad(slant + 8 * tilt - 4),
            widest * (0.75 + 0.5 * thickness),
            -np.log1p(-opacity),
        )
        return np.stack(streaks, axis=1).astype(np.float32)

    @staticmethod
    def marks(streaks: np.ndarray, device: torch.device) -> Marks:
        """Rasterises (n, 6) streaks; in each row of an image, a streak marks the few pixels beside its axis."""
        half_rows, half_columns = _window(*streaks[:, 2:5].T)
        y, x, length, tilt, thickness, depth = torch.from_numpy(streaks).to(device)[..., None].unbind(1)
        cosine = torch.cos(tilt)  # (n, 1), as all of them
        rows = torch.round(y) + torch.arange(-half_rows, half_rows + 1, device=device)  # (n, R)
        axis = x + (rows - y) * torch.tan(tilt)
        nearest = torch.round(axis)
        across = torch.arange(-half_columns, half_columns + 1, device=device)  # (C,)
        # The share of a pixel that a bar covers falls linearly with its distance from the axis, and never
        # exceeds the width of the bar.
        most = thickness.clamp(max=1)
        coverage = ((nearest - axis)[..., None] + across).abs_()  # (n, R, C)
        coverage *= (-cosine / most)[..., None]
        coverage += ((thickness + 1) / (2 * most))[..., None]
        coverage.clamp_(0, 1)
        # The ends fade over a quarter of the streak each: a hard end reads as a scratch, not as a falling drop.
        along = (2 - 4 * (rows - y).abs() / (length * cosine)).clamp_(0, 1)
        coverage *= (along * (depth * most))[..., None]
        return Marks(rows[..., None], nearest[..., None] + across, coverage)


def _window(length: np.ndarray, tilt: np.ndarray, thickness: np.ndarray) -> tuple[int, int]:
    """The rows above and below the middle and the columns beside the axis that hold any of the streaks."""
    cosine = np.cos(tilt)
    columns = (thickness.max() / 2 + 0.5) / cosine.min() - 0.5
    return int((length * cosine).max() / 2) + 1, int(np.ceil(columns))
