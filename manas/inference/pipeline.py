"""The way from pixels to restored pixels: each tile is cut out, restored, blended and put back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from manas.errors import ManasError
from manas.inference.ensemble import NO_TURN, Turn
from manas.inference.statistics import (
    Core,
    Gathering,
    Network,
    NotFiniteError,
    Statistics,
    exact_statistics,
    sampled_statistics,
    with_statistics,
)
from manas.inference.tiling import Tile, Tiling
from manas.reach import Reach

WINDOW, WINDOWS = 256, 3  # the sample for statistics: up to 3 x 3 windows of 256 x 256 pixels
LEVELS = {torch.uint8: 255, torch.uint16: 65535}  # the value of white; floats have 1


@dataclass(frozen=True)
class Pipeline:
    """The restoring of images by a network.

    Attributes:
        network: maps (B, 3, H, W) in [0, 1] to restored images of that shape; in evaluation mode.
        device: the device of the network. Only tiles go there; the image and the result stay where the image
            is.
        tiling: the way in which images are cut into tiles.
        gathering: the way in which pooling layers get statistics of the whole image, if it has several tiles;
            None for a network without such layers.
        turns: the versions of the image whose restorations are averaged.
        strength: 0 leaves the image as it is, 1 is the restoration.
        at_once: number of images of one tile that are restored together; all unless given.
        window: side in pixels of the windows from which statistics are sampled; 256 unless given.
        depth: number of passes over the tiles that exact statistics need, to count them as progress; else 0.
    """

    network: Network
    device: torch.device
    tiling: Tiling
    gathering: Gathering | None = "sampled"
    turns: tuple[Turn, ...] = (NO_TURN,)
    strength: float = 1.0
    at_once: int | None = None
    window: int | None = None
    depth: int = 0

    @torch.no_grad()
    def __call__(self, image: Tensor, progress: Reach | None = None) -> Tensor:
        """Restores images (B, 3, H, W), uint8, uint16 or float in [0, 1]; the result has the same type.

        Raises:
            NotFiniteError: if the network's output is not finite.
        """
        if image.ndim != 4 or 0 in image.shape:
            raise ManasError(f"restoring takes a batch of images (B, 3, H, W), got shape {tuple(image.shape)}")
        tiles = self.tiling.tiles(*image.shape[-2:])
        restored = torch.empty_like(image)
        # Pooling is over one image, so images of several tiles go one by one.
        at_once = 1 if len(tiles) > 1 else self.at_once or len(image)
        batches = list(zip(image.split(at_once), restored.split(at_once), strict=True))
        counter = _Counter(len(batches) * self._runs(len(tiles)), progress)
        for batch, target in batches:
            statistics = self._statistics(batch, tiles, counter)
            for tile in tiles:
                self._restore(tile, batch, target, statistics)
                counter.one_more()
        return restored

    def _runs(self, tiles: int) -> int:
        """The number of runs of tiles for an image of so many tiles; all turns of a tile are one run."""
        if tiles == 1 or not self.depth:
            return tiles
        # Exact statistics end with the first tile of a pass in which no layer is left to gather.
        return tiles + len(self.turns) * (self.depth * tiles + 1)

    def _restore(
        self, tile: Tile, image: Tensor, restored: Tensor, statistics: dict[Turn, Statistics] | None
    ) -> None:
        degraded = self._cut(image, tile.rows.run, tile.columns.run)
        output = self._mean(degraded, statistics)
        if not output.isfinite().all():
            raise NotFiniteError
        blend = torch.lerp(degraded, output, self.strength).clamp(0, 1)
        core = blend[..., tile.rows.core, tile.columns.core]
        rows, columns = tile.rows.kept, tile.columns.kept
        target = restored[..., rows, columns]
        target.copy_(_as_levels(core[..., : target.shape[-2], : target.shape[-1]], image.dtype))

    def _mean(self, degraded: Tensor, statistics: dict[Turn, Statistics] | None) -> Tensor:
        """The mean of the network's outputs for all turns of a tile, turned back."""
        total = torch.zeros_like(degraded)
        for turn in self.turns:
            turned = turn.of(degraded)
            output = (
                self.network(turned)
                if statistics is None
                else with_statistics(self.network, turned, statistics[turn])
            )
            if output.shape != turned.shape:
                raise ManasError(
                    f"the network turned {tuple(turned.shape)} into {tuple(output.shape)}: "
                    "restoring needs a network that keeps the shape"
                )
            total += turn.undo(output)
        return total / len(self.turns)

    def _statistics(self, image: Tensor, tiles: list[Tile], counter: _Counter) -> dict[Turn, Statistics] | None:
        """The statistics for pooling layers in every tile, for each turn; None if each tile makes its own."""
        if len(tiles) == 1 or self.gathering is None:
            return None
        if self.gathering == "sampled":
            height, width = image.shape[-2:]
            parts = self.tiling.windows(height, width, self.window or WINDOW, WINDOWS)
            windows = torch.cat([self._cut(image, *part) for part in parts])
            return {turn: sampled_statistics(self.network, turn.of(windows)) for turn in self.turns}
        passes = {turn: partial(self._pass, turn, image, tiles, counter) for turn in self.turns}
        return {turn: exact_statistics(self.network, one_pass) for turn, one_pass in passes.items()}

    def _pass(
        self, turn: Turn, image: Tensor, tiles: list[Tile], counter: _Counter
    ) -> Iterator[tuple[Tensor, Core]]:
        for tile in tiles:
            counter.one_more()
            part = self._cut(image, tile.rows.run, tile.columns.run)
            yield turn.of(part), turn.part(tile.rows.core, tile.columns.core, *part.shape[-2:])

    def _cut(self, image: Tensor, rows: slice, columns: slice) -> Tensor:
        """Cuts a part of the padded image and moves it to the device, float32 in [0, 1]."""
        part = self.tiling.cut(image, rows, columns).to(self.device)
        return part.float() / LEVELS.get(image.dtype, 1)


class _Counter:
    """Counts the tiles that were run, and says how many they are."""

    def __init__(self, total: int, reach: Reach | None):
        self.done, self.total, self.reach = 0, total, reach

    def one_more(self) -> None:
        self.done += 1
        if self.reach is not None:
            self.reach(self.done, self.total)


def _as_levels(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Converts values in [0, 1] to `dtype`; for integers, halves are rounded up."""
    if dtype not in LEVELS:
        return values.to(dtype)

    return torch.floor(values * LEVELS[dtype] + 0.5).to(torch.int32).to(dtype)
