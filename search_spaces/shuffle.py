"""The shuffling of pixels into channels, by which a tower works at a half or a quarter of the resolution.

Every square of `factor` x `factor` pixels becomes one pixel with factor^2 times as many channels before the
network (FFDNet, Zhang et al., TIP 2018), and a square again behind it (Shi et al., CVPR 2016). No pixel is
lost, and a convolution of the same width costs 1 / factor^2.

`unshuffled` is torch's pixel_unshuffle, written as one copy, which does not keep channels_last memory; the
next convolution restores it. In an export it is a convolution of zeros and ones, whose sizes every runtime can
infer.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_shuffle

from manas.restoration.tower import Features, Tower

Shuffle = Literal[1, 2, 4]


def image_channels(factor: int) -> int:
    """The channels of an RGB image that is unshuffled by `factor`."""
    return 3 * factor**2


def unshuffled(x: Tensor, factor: int) -> Tensor:
    """Unshuffles (B, C, H, W) to (B, C factor^2, H / factor, W / factor); a factor of 1 returns `x` itself.

    Pixel (i, j) of each square goes to channel c factor^2 + i factor + j.
    """
    if factor == 1:
        return x
    if torch.compiler.is_compiling():
        channels = x.shape[1] * factor**2
        chosen = torch.eye(channels, dtype=x.dtype, device=x.device).view(channels, -1, factor, factor)
        return conv2d(x, chosen, stride=factor)
    squares = x.unflatten(3, (-1, factor)).unflatten(2, (-1, factor))  # (B, C, H / f, f, W / f, f)
    copy = squares.permute(0, 1, 3, 5, 2, 4).clone(memory_format=torch.contiguous_format)
    return copy.flatten(1, 3)


def shuffled(x: Tensor, factor: int) -> Tensor:
    """Shuffles (B, C factor^2, H, W) to (B, C, H factor, W factor), the inverse of `unshuffled`."""
    if factor == 1:
        return x
    return pixel_shuffle(x, factor)  # keeps channels_last memory


class UnshuffledTower(Tower):
    """Base class of towers of one scale, between a first convolution of the unshuffled image and a last one.

    Attributes:
        first, last: the convolutions; `last` adds to the image.
    """

    first: nn.Module
    last: nn.Module

    def stem(self, image: Tensor) -> Features:
        return [self.first(unshuffled(image, self.shuffle))]

    def head(self, features: Features, image: Tensor) -> Tensor:
        return image + shuffled(self.last(features[0]), self.shuffle)
