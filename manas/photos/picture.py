"""A picture with all that its file says of it, and the kind of function that restores its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from manas.photos.metadata import Metadata
from manas.reach import Reach

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's own conversion to grey
_ROWS = 512  # converted at a time, so that a large picture is never a second time in memory as floats


class PixelRestorer(Protocol):
    """A function that restores (H, W, 3), uint8 or uint16, in the same shape and type: a `Restorer` is one."""

    def __call__(self, pixels: np.ndarray, /, progress: Reach | None = None) -> np.ndarray: ...


@dataclass(frozen=True)
class Picture:
    """An upright picture.

    Attributes:
        pixels: (H, W, 3) RGB, uint8 or uint16; of a grey picture three equal channels.
        alpha: (H, W) of the same type, or None.
        grey: whether it is written as grey.
        metadata: colour profile, EXIF, XMP, resolution, texts.
        losses: sentences about what its file holds and this value does not.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    metadata: Metadata = Metadata()
    losses: tuple[str, ...] = ()

    def showing(self, pixels: np.ndarray) -> Picture:
        """The same with other pixels; those of a grey picture become their luma.

        Any mean leaves a neutral colour as it is. Luma weighs the tint that a network may give to grey as
        the eye does, by which the noise of its blue channel hardly counts.
        """
        return replace(self, pixels=_as_grey(pixels) if self.grey else pixels)


def _as_grey(pixels: np.ndarray) -> np.ndarray:
    grey = np.empty_like(pixels)
    for start in range(0, len(pixels), _ROWS):
        rows = slice(start, start + _ROWS)
        grey[rows] = (pixels[rows].astype(np.float32) @ _LUMA + 0.5)[..., None]
    return grey
