"""The image unshuffled: a tower then works at a half or a quarter of its resolution, and on more channels.

Every square of `factor` x `factor` pixels becomes one pixel of factor^2 as many channels, and again a square
behind the network (Shi et al., CVPR 2016; before the network: FFDNet, Zhang et al., TIP 2018). Nothing of the
image is lost, and a convolution of the same width costs 1 / factor^2.

Both functions are torch's pixel_unshuffle and pixel_shuffle, written as one copy each, since torch's
unshuffling cannot be exported for images that become one pixel wide. Torch's keep channels_last memory, and a
copy gives planes; the next convolution and the image that is added restore it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Shuffle = Literal[1, 2, 4]


def image_channels(factor: int) -> int:
    """The channels of an RGB image that is unshuffled by `factor`."""
    return 3 * factor**2


def unshuffled(x: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) -> (B, C factor^2, H / factor, W / factor); by 1 it is `x` itself, without an operation.

    Pixel (i, j) of each square is in channel c factor^2 + i factor + j.
    """
    if factor == 1:
        return x
    squares = x.unflatten(3, (-1, factor)).unflatten(2, (-1, factor))  # (B, C, H / f, f, W / f, f)
    return _copy(squares, 0, 1, 3, 5, 2, 4).flatten(1, 3)


def shuffled(x: Tensor, factor: int) -> Tensor:
    """(B, C factor^2, H, W) -> (B, C, H factor, W factor), the inverse of `unshuffled`."""
    if factor == 1:
        return x
    squares = x.unflatten(1, (-1, factor, factor))  # (B, C, f, f, H, W)
    return _copy(squares, 0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)


def _copy(x: Tensor, *order: int) -> Tensor:
    """The dimensions in another order, in memory too: a reshape would ask whether it has to copy.

    When it is traced, that question ties the sizes of the exported network to the answer.
    """
    return x.permute(order).clone(memory_format=torch.contiguous_format)
