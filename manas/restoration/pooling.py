"""Pooling, by which alone a restoration network looks at a whole image, or at much of it, at once.

All other layers of restoration networks look at a few pixels. Layers that pool over the image through these
functions can have their statistics gathered over the tiles of an image that does not fit into memory
(`manas.inference.statistics`); a layer that pools by itself makes tiles differ from the whole image. Layers
that pool over wide windows through `local_mean` need no statistics: tiles overlap by so much more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, avg_pool2d

Kind = Literal["mean", "maximum"]


class Pooling(Protocol):
    """Answers for a pooling layer: features (B, C, H, W) of a part of the image -> (B, C)."""

    def __call__(self, x: Tensor, kind: Kind) -> Tensor: ...


class LocalPooling(Protocol):
    """Answers for `local_mean`, of the same arguments."""

    def __call__(self, x: Tensor, cell: int, around: int) -> Tensor: ...


# Of this thread alone.
_answering: ContextVar[Pooling | None] = ContextVar("pooling", default=None)
_answering_locally: ContextVar[LocalPooling | None] = ContextVar("local_pooling", default=None)


def image_mean(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C), the mean over the image."""
    pooling = _of_this_thread()
    if pooling is not None:
        return pooling(x, "mean")
    # A sum over an image overflows in float16, the type in which others may run what is exported.
    if torch.compiler.is_compiling() or x.dtype == torch.float16:
        return x.mean((2, 3))
    # The gradient of `mean` is written out as a whole map; that of a sum is one number that is expanded.
    return x.sum((2, 3)) / (x.shape[2] * x.shape[3])


def image_maximum(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C), the maximum over the image."""
    pooling = _of_this_thread()
    if pooling is not None:
        return pooling(x, "maximum")
    if torch.compiler.is_compiling():  # an export of `adaptive_max_pool2d` would fix the size of the image
        return x.amax((2, 3))
    # In channels_last memory far faster than `amax`, forward and backward.
    return adaptive_max_pool2d(x, 1).flatten(1)


def local_mean(x: Tensor, cell: int, around: int) -> Tensor:
    """(B, C, H, W) -> (B, C, H / cell, W / cell), the means over windows of cells of `cell` x `cell` pixels.

    The window of a cell is itself and `around` cells to each side, as far as the image goes.
    """
    pooling = None if torch.compiler.is_compiling() else _answering_locally.get()
    if pooling is not None:
        return pooling(x, cell, around)
    return avg_pool2d(avg_pool2d(x, cell), 2 * around + 1, 1, around, count_include_pad=False)


def _of_this_thread() -> Pooling | None:
    """The pooling set by `pooled_by`; None in a compiled or exported network, which sees whole images alone."""
    return None if torch.compiler.is_compiling() else _answering.get()


@contextmanager
def pooled_by(pooling: Pooling, locally: LocalPooling | None = None) -> Iterator[None]:
    """Lets `pooling` answer for the layers that pool over the image, and `locally`, if given, for `local_mean`.

    It holds within the block and in this thread.
    """
    token, local_token = _answering.set(pooling), _answering_locally.set(locally)
    try:
        yield
    finally:
        _answering.reset(token)
        _answering_locally.reset(local_token)
