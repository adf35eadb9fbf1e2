"""Tiles of images of any size: the part that is cut out, the core that is kept, and the padding of borders.

Tiles are joined by keeping only their cores. An average of overlapping tiles would hold the errors of their
borders; a core that lies a receptive radius inside its tile equals the same part of the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from manas.errors import ManasError


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pads bottom and right by reflection until both sides are multiples: (B, C, H, W) -> (B, C, H', W').

    Images may be as small as 1 x 1: reflections repeat where the padding is wider than the image. The indices
    are arithmetic on the sizes, without a branch, so that `torch.export` traces them with dynamic sizes.
    """
    height, width = image.shape[-2:]
    rows = _reflected(height, multiple, image.device)
    columns = _reflected(width, multiple, image.device)
    return image.index_select(-2, rows).index_select(-1, columns)


def crop_to(image: Tensor, height: int, width: int) -> Tensor:
    """Crops an image to its top left (B, C, height, width), also where `torch.export` traces the sizes.

    A traced slice asks whether it is the whole, and so ties the sizes to the remainder seen while tracing.
    """
    rows, columns = (torch.arange(side, device=image.device) for side in (height, width))
    return image.index_select(-2, rows).index_select(-1, columns)


def _reflected(side: int, multiple: int, device: torch.device) -> Tensor:
    """The indices 0, 1, ..., side - 1, side - 2, ..., continued up to the next multiple."""
    period = torch.sym_max(2 * (side - 1), 1)
    position = torch.arange((side + multiple - 1) // multiple * multiple, device=device) % period
    return torch.minimum(position, period - position)


def rounded_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


class Span(NamedTuple):
    """One tile along one side of the padded image.

    Attributes:
        run: the pixels of the padded image that the network is given.
        core: the pixels of the tile that are right.
        kept: the pixels of the image that the core belongs to, without the padding.
    """

    run: slice
    core: slice
    kept: slice


class Tile(NamedTuple):
    """One tile of an image."""

    rows: Span
    columns: Span


@dataclass(frozen=True)
class Tiling:
    """The way in which images are cut into tiles.

    Attributes:
        multiple: all sides are multiples of this, so that every tile starts where the network's scales start.
        tile: side of the cores in pixels, rounded up to `multiple`; None keeps images whole.
        halo: context around a core in pixels, rounded up, too. Tiles are exact if the halo covers the receptive
            radius of the network and pooling layers get the image's statistics (`manas.inference.statistics`).
    """

    multiple: int
    tile: int | None = None
    halo: int = 0

    def __post_init__(self) -> None:
        for name, least in (("multiple", 1), ("tile", 1), ("halo", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ManasError(f"{name} must be at least {least} pixels, got {value}: give a larger {name}")

    def tiles(self, height: int, width: int) -> list[Tile]:
        """The tiles of an image of that size, row by row; together their cores are the image."""
        rows, columns = (list(self._spans(side)) for side in (height, width))
        return [Tile(row, column) for row in rows for column in columns]

    def _spans(self, side: int) -> Iterator[Span]:
        end = self._rounded_up(side)
        tile = end if self.tile is None else self._rounded_up(self.tile)
        halo = self._rounded_up(self.halo)
        for start in range(0, end, tile):
            stop = min(start + tile, end)
            first, last = max(start - halo, 0), min(stop + halo, end)
            yield Span(slice(first, last), slice(start - first, stop - first), slice(start, min(stop, side)))

    def _rounded_up(self, value: int) -> int:
        return rounded_up(value, self.multiple)

    def windows(self, height: int, width: int, side: int, most: int) -> list[tuple[slice, slice]]:
        """At most `most` x `most` windows of `side` pixels, evenly spread over the padded image."""
        rows, columns = (list(self._spread(end, side, most)) for end in (height, width))
        return [(row, column) for row in rows for column in columns]

    def _spread(self, end: int, side: int, most: int) -> Iterator[slice]:
        end, side = self._rounded_up(end), self._rounded_up(side)
        side = min(side, end)
        count = min(most, -(-end // side))
        for place in range(count):
            start = (end - side) * place // max(count - 1, 1) // self.multiple * self.multiple
            yield slice(start, start + side)

    def cut(self, image: Tensor, rows: slice, columns: slice) -> Tensor:
        """Cuts a part of the padded image from (B, C, H, W), without padding the whole.

        Only the part is copied, and a tile at the border gets the same padding as the whole image.
        """
        height, width = image.shape[-2:]
        down = _reflected(height, self.multiple, image.device)[rows]
        across = _reflected(width, self.multiple, image.device)[columns]
        return image.index_select(-2, down).index_select(-1, across)
