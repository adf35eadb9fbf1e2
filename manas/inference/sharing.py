"""The share of a batch of images that goes through the network at once, by the memory that is free."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from manas.inference.footprint import memory_for
from manas.inference.pipeline import WINDOW, WINDOWS
from manas.inference.traits import Traits

SMALLEST_TILE = 32  # pixels


class Share(NamedTuple):
    """The share of a batch of images that goes through the network at once.

    Attributes:
        at_once: number of images.
        tile: side of the tiles in pixels; None for whole images.
        longest: the longer side of the images in pixels.
        window: side in pixels of the windows from which statistics are sampled.
    """

    at_once: int
    tile: int | None
    longest: int
    window: int = WINDOW

    def halved(self) -> Share:
        """A share of half as many images, or of tiles half as long; ValueError if there is no smaller one."""
        if self.at_once > 1:
            return self._replace(at_once=self.at_once // 2)
        side = (self.longest if self.tile is None else min(self.tile, self.longest)) // 2
        if side < SMALLEST_TILE:
            raise ValueError("nothing smaller is tried")
        return self._replace(tile=side, window=min(self.window, side))


def affordable_share(traits: Traits, device: torch.device, count: int, height: int, width: int) -> Share:
    """The largest share of so many images of that size that the memory of a device is expected to hold."""
    pixels, longest = height * width, max(height, width)
    affordable = memory_for(device) // traits.bytes_a_pixel
    if pixels <= affordable:
        return Share(min(count, affordable // max(pixels, 1)), None, longest)
    side = math.isqrt(affordable)
    window = min(WINDOW, max(side // WINDOWS, SMALLEST_TILE))  # all windows go through the network together
    return Share(1, max(side - 2 * traits.radius, SMALLEST_TILE), longest, window)


def is_lack_of_memory(error: RuntimeError) -> bool:
    """Whether an error says, in the words of any device, that memory has run out."""
    # The allocators of CPUs and cuDNN raise plain RuntimeErrors, which only their words tell apart.
    words = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in words)
