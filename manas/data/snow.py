"""Snowflakes: soft, slightly elliptical discs, smeared along their fall, as optical depth."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_BATCH = 256  # flakes at a time: their marks stay in the processor's cache, and memory stays bounded
_FAINT = 5.5  # a flake ends where its edge, a sigmoid, has fallen to exp(-5.5): below one grey level of 255


@dataclass(frozen=True)
class Flakes:
    """Flakes of one distance: far ones are many, small and opaque; near ones few, large and blurred.

    Radius and smear (the path during the exposure) are in pixels, opacity is that of the middle of a flake at
    rest. A flake's own radius lies between the two log-uniformly, its own opacity uniformly.
    """

    per_megapixel: float
    radius: tuple[float, float]
    opacity: tuple[float, float]
    smear: float

    def marks(
        self, shape: tuple[int, int], slant: float, density: float, scale: float, rng: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Draw the flakes that touch an image of `shape` (H, W), also those that enter it from outside.

        `slant` is in degrees from the vertical; `density` multiplies the number of flakes, `scale` their
        smear.
        Yields rows (n, R, 1), columns (n, 1, R) and optical depth (n, R, R), some of it outside of the image.
        """
        smear = self.smear * scale
        margin = _reach(self.radius[1]) + smear / 2 + 1
        height, width = shape[0] + 2 * margin, shape[1] + 2 * margin
        count = rng.poisson(self.per_megapixel * density * height * width / 1e6)
        y, x, size, opacity, fall, ratio, turn = rng.random((7, count, 1, 1), dtype=np.float32)
        y, x = y * height - margin, x * width - margin
        radius = self.radius[0] * (self.radius[1] / self.radius[0]) ** size
        opacity = self.opacity[0] + (self.opacity[1] - self.opacity[0]) * opacity
        fall = np.deg2rad(slant + 30 * fall - 15)
        ratio, turn = 0.6 + 0.4 * ratio, np.float32(np.pi) * turn
        # Light that is spread over a longer path covers each point of it for less of the exposure.
        depth = -np.log1p(-opacity) * (2 * radius / (2 * radius + smear))
        for start in range(0, count, _BATCH):
            b = slice(start, start + _BATCH)
            yield _discs(y[b], x[b], radius[b], ratio[b], turn[b], fall[b], smear, depth[b])


def _reach(radius: float) -> float:
    """Distance from its middle at which a flake has faded out."""
    return radius + _FAINT * min(1, radius / 2.5)


def _discs(y, x, radius, ratio, turn, fall, smear, depth) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rasterise n flakes, each argument (n, 1, 1) but `smear`, on squares around their middles."""
    half = int(np.ceil(_reach(float(radius.max())) + smear / 2))
    steps = np.arange(-half, half + 1, dtype=np.float32)
    rows, columns = np.rint(y) + steps[:, None], np.rint(x) + steps  # (n, R, 1), (n, 1, R)
    dy, dx = rows - y, columns - x
    # The distance to a smeared flake is that to the nearest place it passed during the exposure.
    down, aside = np.cos(fall), np.sin(fall)
    passed = dy * down + dx * aside
    np.clip(passed, -smear / 2, smear / 2, out=passed)
    # The ellipse is scaled by the hardness of its edge, so that `edge` becomes the argument of the sigmoid.
    hardness = np.maximum(2.5, radius)
    cosine, sine = np.cos(turn) * (hardness / radius), np.sin(turn) * (hardness / radius)
    edge = _squared(dy * sine + dx * cosine, passed * (down * sine + aside * cosine))
    edge += _squared(
        dy * (cosine / ratio) - dx * (sine / ratio), passed * ((down * cosine - aside * sine) / ratio)
    )
    np.sqrt(edge, out=edge)
    edge -= hardness
    np.exp(edge, out=edge)
    edge += 1
    return rows, columns, np.divide(depth, edge, out=edge)


def _squared(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    whole -= part
    whole *= whole
    return whole
