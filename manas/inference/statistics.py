"""The statistics of pooling layers in an image that is restored in tiles.

Channel attention pools over the whole image. If it pooled over each tile alone, tiles would differ in
brightness and seams would show. The statistics of the whole image are therefore found first, and then given to
every tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from manas.device import widest_float
from manas.restoration.pooling import Kind, pooled_by

Gathering = Literal["sampled", "exact"]
Statistics = Sequence[Tensor]  # one (1, C) for every pooling layer, in the order in which the network asks
Network = Callable[[Tensor], Tensor]
Core = tuple[slice, slice]  # the rows and columns of a tile that belong to it alone


class NotFiniteError(ArithmeticError):
    """An output or a feature of the network is NaN or infinite."""


def with_statistics(network: Network, tile: Tensor, statistics: Statistics) -> Tensor:
    """The network's output for a tile (1, 3, H, W), with the statistics of the image that it is a part of."""
    with pooled_by(_Answer(statistics)):
        return network(tile)


def pooling_depth(network: Network, smallest: Tensor) -> int:
    """The largest number of pooling layers behind one another.

    Args:
        network: maps (1, 3, H, W) to the same shape.
        smallest: any image (1, 3, H, W) that fits the network.
    """
    passes = 0

    def tiles() -> Iterable[tuple[Tensor, Core]]:
        nonlocal passes
        passes += 1
        yield smallest, (slice(0, smallest.shape[-2]), slice(0, smallest.shape[-1]))

    exact_statistics(network, tiles)
    return passes - 1  # in the last pass nothing was left to gather


def sampled_statistics(network: Network, windows: Tensor) -> Statistics:
    """The statistics over windows (N, 3, H, W) of an image, in one pass."""
    pooling = _JointPooling()
    with pooled_by(pooling):
        network(windows)
    return pooling.statistics


def exact_statistics(network: Network, tiles: Callable[[], Iterable[tuple[Tensor, Core]]]) -> Statistics:
    """The statistics over the whole image, from its tiles.

    The statistics of a layer that pools behind another layer depend on those of the other: there is one pass
    over the tiles for every depth of pooling. Until its statistics are known, a layer answers NaN, which tells
    the layers behind it that it is not their turn. A pass leaves each tile as soon as the last layer that it
    gathers has been seen.

    Args:
        network: maps (1, 3, H, W) to the same shape.
        tiles: gives each tile with its core; together the cores are the image.

    Raises:
        NotFiniteError: if the network's own features are NaN.
    """
    known: dict[int, Tensor] = {}
    while True:
        one_pass = _Pass(known)
        for tile, core in tiles():
            one_pass.see(network, tile, core)
            if not one_pass.totals:  # the first tile tells that no layer is left
                break
        if not one_pass.totals:
            break
        known |= {place: total.value() for place, total in one_pass.totals.items()}
    if one_pass.asked != len(known):  # a layer saw NaN although all layers before it are known
        raise NotFiniteError
    return [known[place] for place in range(len(known))]


class _Answer:
    """Answers the pooling layers with statistics that are known, in the order in which they ask."""

    def __init__(self, statistics: Statistics):
        self.left = iter(statistics)

    def __call__(self, x: Tensor, kind: Kind) -> Tensor:
        return next(self.left).to(x.dtype).expand(len(x), -1)


class _JointPooling:
    """Pools over all samples of a batch as over one image, and remembers the statistics."""

    def __init__(self) -> None:
        self.statistics: list[Tensor] = []

    def __call__(self, x: Tensor, kind: Kind) -> Tensor:
        value = x.float().mean((0, 2, 3)) if kind == "mean" else x.amax((0, 2, 3))
        self.statistics.append(value[None])
        return value.to(x.dtype).expand(len(x), -1)


class _Total:
    """The sum or the maximum of one layer's features over the cores seen so far."""

    def __init__(self, kind: Kind):
        self.kind, self.pixels = kind, 0
        self.total: Tensor | None = None

    def add(self, core: Tensor) -> None:
        """Adds the features (1, C, H, W) of a core."""
        if self.kind == "mean":
            # In the widest type, since sums over a large image lose digits in float32.
            part = core.sum((2, 3), dtype=widest_float(core.device))
            self.total = part if self.total is None else self.total + part
        else:
            part = core.amax((2, 3))
            self.total = part if self.total is None else torch.maximum(self.total, part)
        self.pixels += core.shape[-2] * core.shape[-1]

    def value(self) -> Tensor:
        """(1, C), the mean or the maximum."""
        assert self.total is not None
        return (self.total / self.pixels).float() if self.kind == "mean" else self.total


class _Enough(Exception):  # noqa: N818 (not an error: the last layer that a pass gathers has been seen)
    pass


class _Pass:
    """One pass over the tiles, which gathers the layers whose predecessors are all known."""

    def __init__(self, known: dict[int, Tensor]):
        self.known = known
        self.totals: dict[int, _Total] = {}
        self.wanted: set[int] | None = None  # the layers that this pass gathers, known after its first tile
        self.asked = 0

    def see(self, network: Network, tile: Tensor, core: Core) -> None:
        self.place, self.side, self.core = 0, tile.shape[-1], core
        self.left = None if self.wanted is None else set(self.wanted)
        try:
            with pooled_by(self):
                network(tile)
            self.asked = self.place
        except _Enough:
            pass
        self.wanted = set(self.totals)

    def __call__(self, x: Tensor, kind: Kind) -> Tensor:
        place, self.place = self.place, self.place + 1
        if place in self.known:
            return self.known[place].to(x.dtype)
        if self._is_turn_of(place, x):
            self.totals.setdefault(place, _Total(kind)).add(self._core_of(x))
            if self.left is not None:
                self.left.discard(place)
                if not self.left:
                    raise _Enough
        return x.new_full(x.shape[:2], torch.nan)

    def _is_turn_of(self, place: int, x: Tensor) -> bool:
        if self.wanted is not None:
            return place in self.wanted
        return not bool(x[0, :, 0, 0].isnan().any())

    def _core_of(self, x: Tensor) -> Tensor:
        scale = self.side // x.shape[-1]
        rows, columns = (slice(each.start // scale, each.stop // scale) for each in self.core)
        return x[..., rows, columns]
