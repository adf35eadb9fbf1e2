"""Which pixels of a picture a protocol counts: all, the middle, a resized picture, or all but the border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from manas.errors import ManasError
from manas.evaluation.batch import as_tensor

WINDOW = 11  # pixels; the side of the Gaussian of Wang's SSIM
BLOCK = 16  # pixels; the size multiple of all-in-one networks
LONGEST = 1024  # pixels; the longest side that WeatherDiffusion scores


def unchanged(pictures: Tensor) -> Tensor:
    """All of them."""
    return pictures


def middle_in_blocks(pictures: Tensor) -> Tensor:
    """The middle of pictures in multiples of 16: (..., H, W) -> (..., H', W').

    Raises:
        ManasError: for pictures smaller than 16 x 16.
    """
    _check_size(pictures, BLOCK, f"crops to multiples of {BLOCK}")
    height, width = pictures.shape[-2:]
    top, left = height % BLOCK // 2, width % BLOCK // 2
    return pictures[..., top : top + height // BLOCK * BLOCK, left : left + width // BLOCK * BLOCK]


def resized(pictures: Tensor) -> Tensor:
    """Their long side at most 1024, then both up to multiples of 16: (N, 3, H, W) uint8 -> (N, 3, H', W').

    Pillow resizes them once, by Lanczos, on the CPU.
    """
    height, width = pictures.shape[-2:]
    longest = max(height, width, LONGEST)
    sides = (-(-side * LONGEST // longest) for side in (width, height))
    size = [-(-side // BLOCK) * BLOCK for side in sides]
    arrays = pictures.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    smaller = [np.asarray(Image.fromarray(array).resize(size, Image.Resampling.LANCZOS)) for array in arrays]
    return torch.stack([as_tensor(array) for array in smaller]).to(pictures.device)


@dataclass(frozen=True)
class BorderCrop:
    """Leaves out `scale` pixels at each border, as super-resolution does: (..., H, W) -> (..., H', W')."""

    scale: int = 4

    def __call__(self, pictures: Tensor) -> Tensor:
        _check_size(pictures, WINDOW + 2 * self.scale, f"crops {self.scale} pixels at each border")
        height, width = pictures.shape[-2:]
        return pictures[..., self.scale : height - self.scale, self.scale : width - self.scale]


def _check_size(pictures: Tensor, side: int, rule: str) -> None:
    height, width = pictures.shape[-2:]
    if min(height, width) < side:
        raise ManasError(
            f"the protocol {rule} and needs images of at least {side} x {side} pixels, got {width} x {height}: "
            "leave this image out or choose another protocol"
        )
