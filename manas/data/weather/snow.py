"""Snowflakes: soft, slightly elliptical discs, smeared along their fall, as optical depth."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from manas.data.weather.particles import Fall, Marks

_FAINT = 5.5  # a flake ends where its edge, a sigmoid, has fallen to exp(-5.5): below one grey level of 255
_SOFT = 2.5  # radius up to which the edge of a flake grows softer with it


@dataclass(frozen=True)
class Flakes:
    """Flakes of one distance: far ones are many, small and opaque; near ones few, large and out of focus.

    Attributes:
        per_megapixel: number of flakes.
        radius: range of the radius in pixels of a picture of 480 x 320, drawn log-uniformly.
        opacity: range of the opacity in the middle of a flake at rest, drawn uniformly.
        smear: path during the exposure, in pixels of a picture of 480 x 320.
    """

    per_megapixel: float
    radius: tuple[float, float]
    opacity: tuple[float, float]
    smear: float

    at_once: ClassVar[int] = 256  # flakes whose marks stay in a processor's cache

    def draw(self, shape: tuple[int, int], fall: Fall, rng: np.random.Generator) -> np.ndarray:
        """Draws the flakes that touch an image of `shape` (H, W), also those that enter it from outside.

        Returns (n, 8) float32: row, column, radius, ratio of the axes, their turn and the direction of the
        fall in radians, smear, optical depth.
        """
        smear = self.smear * fall.length * fall.scale
        smallest, largest = (radius * fall.width * fall.scale for radius in self.radius)
        margin = _reach(largest) + smear / 2 + 1
        height, width = shape[0] + 2 * margin, shape[1] + 2 * margin
        count = rng.poisson(self.per_megapixel * fall.density * height * width / fall.scale**2 / 1e6)
        y, x, size, opacity, direction, ratio, turn = rng.random((7, count), dtype=np.float32)
        radius = smallest * (largest / smallest) ** size
        opacity = self.opacity[0] + (self.opacity[1] - self.opacity[0]) * opacity
        flakes = (
            y * height - margin,
            x * width - margin,
            radius,
            0.6 + 0.4 * ratio,
            np.float32(np.pi) * turn,
            np.deg2rad(fall.slant + 30 * direction - 15),
            np.full(count, smear),
            # Light that is spread over a longer path covers each point of it for less of the exposure.
            -np.log1p(-opacity) * (2 * radius / (2 * radius + smear)),
        )
        return np.stack(flakes, axis=1).astype(np.float32)

    @staticmethod
    def marks(flakes: np.ndarray, device: torch.device) -> Marks:
        """Rasterises (n, 8) flakes on squares around their middles."""
        half = int(np.ceil(_reach(float(flakes[:, 2].max())) + float(flakes[:, 6].max()) / 2))
        parts = torch.from_numpy(flakes).to(device)[..., None, None].unbind(1)
        y, x, radius, ratio, turn, fall, smear, depth = parts  # (n, 1, 1) each
        steps = torch.arange(-half, half + 1, device=device)
        rows, columns = torch.round(y) + steps[:, None], torch.round(x) + steps  # (n, R, 1), (n, 1, R)
        dy, dx = rows - y, columns - x
        # The distance to a smeared flake is the distance to the nearest place that it passed in the exposure.
        down, aside = torch.cos(fall), torch.sin(fall)
        passed = dy * down + dx * aside
        passed = torch.maximum(torch.minimum(passed, smear / 2), -smear / 2)
        # The ellipse is scaled by the hardness of its edge, so that `edge` becomes the argument of the sigmoid.
        hardness = radius.clamp(min=_SOFT)
        cosine, sine = torch.cos(turn) * (hardness / radius), torch.sin(turn) * (hardness / radius)
        edge = (dy * sine + dx * cosine - passed * (down * sine + aside * cosine)).square_()
        across = dy * (cosine / ratio) - dx * (sine / ratio)
        edge += (across - passed * ((down * cosine - aside * sine) / ratio)).square_()
        edge.sqrt_().sub_(hardness).exp_().add_(1)
        return Marks(rows, columns, depth / edge)


def _reach(radius: float) -> float:
    """The distance from its middle at which a flake has faded out."""
    return radius + _FAINT * min(1, radius / _SOFT)
