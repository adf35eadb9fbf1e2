"""What pooling layers see of an image that is restored in tiles.

Channel attention pools over the whole image, and what a tile alone gives is not that: tiles differ in
brightness and seams show. The statistics of the whole image are therefore found first, and then given to every
tile.
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
Core = tuple[slice, slice]  # the rows and columns of a tile that count


class NotFiniteError(ArithmeticError):
    """The network gave NaN or infinity."""


def with_statistics(network: Network, tile: Tensor, statistics: Statistics) -> Tensor:
    """The network's output for (1, 3, H, W), a part of the image that the statistics are of."""
    with pooled_by(_Given(statistics)):
        return network(tile)


def pooling_depth(network: Network, smallest: Tensor) -> int:
    """How many poolings lie behind one another at most; `smallest` is any image (1, 3, H, W) that fits."""
    passes = 0

    def tiles() -> Iterable[tuple[Tensor, Core]]:
        nonlocal passes
        passes += 1
        yield smallest, (slice(0, smallest.shape[-2]), slice(0, smallest.shape[-1]))

    exact_statistics(network, tiles)
    return passes - 1  # in the last pass nothing was left to gather


def sampled_statistics(network: Network, windows: Tensor) -> Statistics:
    """Statistics over a sample of the image: windows (N, 3, H, W) of it, in one pass."""
    shared = _Shared()
    with pooled_by(shared):
        network(windows)
    return shared.found


def exact_statistics(network: Network, tiles: Callable[[], Iterable[tuple[Tensor, Core]]]) -> Statistics:
    """Statistics over the whole image, from its tiles.

    A layer that pools behind another one can only be gathered when that one is known: there is one pass over
    the tiles for every depth of pooling. Until it is known, a layer answers NaN, by which those behind it
    notice that it is not their turn; and a pass leaves each tile as soon as it has what it came for.

    Args:
        network: (1, 3, H, W) -> the same.
        tiles: each tile with its core; the cores part the image.

    Raises:
        NotFiniteError: if the network's own features are NaN.
    """
    known: dict[int, Tensor] = {}
    while True:
        gathered = _Pass(known)
        for tile, core in tiles():
            gathered.see(network, tile, core)
            if not gathered.totals:
                break
        if not gathered.totals:
            break
        known |= {place: total.value() for place, total in gathered.totals.items()}
    if gathered.asked != len(known):
        raise NotFiniteError
    return [known[place] for place in range(len(known))]


class _Given:
    """Answers with statistics that are known."""

    def __init__(self, statistics: Statistics):
        self.left = iter(statistics)

    def __call__(self, x: Tensor, kind: Kind) -> Tensor:
        return next(self.left).to(x.dtype).expand(len(x), -1)


class _Shared:
    """Pools over all samples of a batch as over one image."""

    def __init__(self) -> None:
        self.found: list[Tensor] = []

    def __call__(self, x: Tensor, kind: Kind) -> Tensor:
        value = x.float().mean((0, 2, 3)) if kind == "mean" else x.amax((0, 2, 3))
        self.found.append(value[None])
        return value.to(x.dtype).expand(len(x), -1)


class _Total:
    """The sum or the maximum of one layer's features over the cores seen so far."""

    def __init__(self, kind: Kind):
        self.kind, self.pixels = kind, 0
        self.total: Tensor | None = None

    def add(self, core: Tensor) -> None:
        """Adds (1, C, H, W)."""
        if self.kind == "mean":
            part = core.sum((2, 3), dtype=widest_float(core.device))
            self.total = part if self.total is None else self.total + part
        else:
            part = core.amax((2, 3))
            self.total = part if self.total is None else torch.maximum(self.total, part)
        self.pixels += core.shape[-2] * core.shape[-1]

    def value(self) -> Tensor:
        """(1, C)"""
        assert self.total is not None
        return (self.total / self.pixels).float() if self.kind == "mean" else self.total


class _Enough(Exception):  # noqa: N818 (not an error: a tile has given what was wanted of it)
    pass


class _Pass:
    """One pass over the tiles: gathers the layers behind none but known ones."""

    def __init__(self, known: dict[int, Tensor]):
        self.known = known
        self.totals: dict[int, _Total] = {}
        self.wanted: set[int] | None = None  # by the second tile; the first one finds out
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
