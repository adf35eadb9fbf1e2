"""Images of any size, parted into tiles: what is cut, what of it is kept, and how borders are padded.

Tiles are stitched by keeping only their cores. Averaging overlapping tiles leaves the error of their borders
in the result; a core that lies a receptive radius inside its tile is exactly what the whole image gives.
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

    Any size down to 1 x 1: reflections repeat where the padding is wider than the image. The indices are
    arithmetic on the sizes, without a branch, so that `torch.export` traces it with dynamic sizes.
    """
    height, width = image.shape[-2:]
    rows = _reflected(height, multiple, image.device)
    columns = _reflected(width, multiple, image.device)
    return image.index_select(-2, rows).index_select(-1, columns)


def crop_to(image: Tensor, height: int, width: int) -> Tensor:
    """The top left (B, C, height, width), as a slice would give it, where `torch.export` traces the sizes.

    A traced slice asks whether it is the whole, and so ties the sizes to the remainder seen while tracing.
    """
    rows, columns = (torch.arange(side, device=image.device) for side in (height, width))
    return image.index_select(-2, rows).index_select(-1, columns)


def _reflected(side: int, multiple: int, device: torch.device) -> Tensor:
    """0, 1, ..., side - 1, side - 2, ..., continued up to the next multiple."""
    period = torch.sym_max(2 * (side - 1), 1)
    position = torch.arange((side + multiple - 1) // multiple * multiple, device=device) % period
    return torch.minimum(position, period - position)


def rounded_up(value: int, multiple: int) -> int:
    """The next multiple of `multiple`."""
    return -(-value // multiple) * multiple


class Span(NamedTuple):
    """One tile along one side of the padded image."""

    run: slice  # of the padded image: what the network is given
    core: slice  # of the tile: what is right
    kept: slice  # of the image: where the core belongs, without what is padding


class Tile(NamedTuple):
    """One tile of an image."""

    rows: Span
    columns: Span


@dataclass(frozen=True)
class Tiling:
    """How images are parted.

    Attributes:
        multiple: what sides must be multiples of, so that every tile starts where the network's scales start.
        tile: side of the cores in pixels, rounded up to `multiple`; None keeps images whole.
        halo: context around a core in pixels, rounded up too. Tiles are exact where it covers the receptive
            radius of the network and its pooling is given (`manas.inference.statistics`).
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
        """The tiles of an image of that size, row by row; their cores part it."""
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
        """At most `most` x `most` parts of the padded image, evenly spread, of `side` pixels or all."""
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
        """A part of (B, C, H, W) padded by reflection to the multiple, without padding all of it.

        Every tile so sees the borders of the whole image, and no more than the tile is copied.
        """
        height, width = image.shape[-2:]
        taken = _reflected(height, self.multiple, image.device)[rows]
        across = _reflected(width, self.multiple, image.device)[columns]
        return image.index_select(-2, taken).index_select(-1, across)
