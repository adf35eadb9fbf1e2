"""How much of a batch of images goes through the network at once, by the memory that there is."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from manas.inference.footprint import memory_for
from manas.inference.pipeline import WINDOW, WINDOWS
from manas.inference.traits import Traits

SMALLEST_TILE = 32  # pixels


class Share(NamedTuple):
    """What goes through the network at once."""

    at_once: int  # images
    tile: int | None  # pixels; None: whole images
    longest: int  # pixels, the longer side of the image
    window: int = WINDOW  # pixels, the side of the windows that sampled statistics are over

    def halved(self) -> Share:
        """Half as many images, or else tiles and windows half as long; ValueError where there is no less."""
        if self.at_once > 1:
            return self._replace(at_once=self.at_once // 2)
        side = (self.longest if self.tile is None else min(self.tile, self.longest)) // 2
        if side < SMALLEST_TILE:
            raise ValueError("nothing smaller is tried")
        return self._replace(tile=side, window=min(self.window, side))


def affordable_share(traits: Traits, device: torch.device, count: int, height: int, width: int) -> Share:
    """What memory is expected to hold of so many images of that size."""
    pixels, longest = height * width, max(height, width)
    affordable = memory_for(device) // traits.bytes_a_pixel
    if pixels <= affordable:
        return Share(min(count, affordable // max(pixels, 1)), None, longest)
    side = math.isqrt(affordable)
    window = min(WINDOW, max(side // WINDOWS, SMALLEST_TILE))
    return Share(1, max(side - 2 * traits.radius, SMALLEST_TILE), longest, window)


def is_lack_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that a device has no memory left, however it says so."""
    said = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in said)
