"""The traces of a camera in a picture: sensor noise and JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, model_validator

from manas.data.images import as_bytes, as_floats
from manas.errors import ManasError


class Capture(BaseModel):
    """Ranges from which every picture draws; a range (x, x) is the number x.

    Attributes:
        noise: standard deviation of the sensor noise in grey levels of 255, at white; None adds no noise.
        jpeg: quality of the JPEG file, 1 to 100; None makes no JPEG file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    noise: tuple[float, float] | None = None
    jpeg: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Capture:
        for name, range_, lowest, highest in (("noise", self.noise, 0, 255), ("jpeg", self.jpeg, 1, 100)):
            if range_ and not lowest <= range_[0] <= range_[1] <= highest:
                raise ManasError(f"{name} is {range_}; give two numbers in order, from {lowest} to {highest}")
        return self

    def of(self, pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The pictures (N, H, W, 3), float32 in [0, 1], with these traces; each picture has its own draws."""
        return np.stack([self._one(picture, rng) for picture in pictures])

    def _one(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.noise:
            # Photon noise grows with the root of the light; in sRGB that is nearly flat but for the shadows.
            strength = rng.uniform(*self.noise) / 255 * np.sqrt(0.25 + 0.75 * picture)
            picture = picture + strength * rng.standard_normal(picture.shape, dtype=np.float32)
            picture = np.clip(picture, 0, 1).astype(np.float32)
        if self.jpeg:
            return _as_jpeg(picture, int(rng.integers(self.jpeg[0], self.jpeg[1] + 1)), int(rng.integers(3)))
        return picture


def _as_jpeg(picture: np.ndarray, quality: int, subsampling: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(as_bytes(picture)).save(file, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(file) as jpeg:
        return as_floats(np.asarray(jpeg))
