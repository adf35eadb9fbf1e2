"""Where the parts of towers stand: one grid for all, so that stages that are stitched are above each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from manas.reporting.drawing.sheet import MARGIN, length
from manas.reporting.drawing.stitches import scale_name
from search_spaces.multi_scale_attentive.drawing.attention import height_of, width_of
from search_spaces.multi_scale_attentive.drawing.column import BLOCK, COLUMN_PITCH
from search_spaces.multi_scale_attentive.drawing.labels import CellPlan, NetworkPlan

BESIDE = 1.2  # between the name of a scale and the line of the image
BAR = 8.6  # width of stem, head and fusion
TRANSITION = 10.0
ARROW = 5.7  # into the stem and the head, and out of it
INSIDE = 2.8  # between the edge of a cell and what stands in it
LANE = 2.4  # from the stitch of one scale to that of the next
HEADINGS = 15.0  # above the first scale of a cell: its name and the letters of its columns
NARROWEST = 26.0  # cell, for its name and that of the stitch behind it


@dataclass(frozen=True)
class StageSpan:
    """A stage from `start` to `end`; its cell from `left` to `right`, the attention from `attention` on."""

    start: float
    left: float
    attention: float
    right: float
    end: float


@dataclass(frozen=True)
class Grid:
    """Where everything stands from left to right, and how high it is.

    Attributes:
        split: where the image comes in; the names of the scales are left of it.
        spans: of all stages.
        pitch: from one scale to the next.
        box: the height that each scale has for itself.
        joined: whether the outputs of several towers are fused.
    """

    split: float
    spans: tuple[StageSpan, ...]
    pitch: float
    box: float
    joined: bool

    @property
    def stem(self) -> float:
        return self.split + ARROW

    @property
    def head(self) -> float:
        return self.spans[-1].end + ARROW

    @property
    def fusion(self) -> float:
        return self.head + BAR + ARROW

    @property
    def width(self) -> float:
        last = self.fusion if self.joined else self.head
        return last + BAR + ARROW + MARGIN


def grid_of(network: NetworkPlan) -> Grid:
    """The grid on which all towers of a network fit."""
    spans: list[StageSpan] = []
    scales = max(cell.scales for tower in network.towers for cell in tower.cells)
    shuffle = max(tower.shuffle for tower in network.towers)
    split = MARGIN + max(length(scale_name(scale, shuffle)) for scale in range(scales)) + BESIDE
    end = split + ARROW + BAR
    for stage in range(max(len(tower.cells) for tower in network.towers)):
        cells = [tower.cells[stage] for tower in network.towers if stage < len(tower.cells)]
        spans.append(_span(end, cells, stitched=stage < len(network.stitches)))
        end = spans[-1].end
    groups = max(cell.groups for tower in network.towers for cell in tower.cells)
    box = height_of(groups) if groups > 1 else BLOCK + 6
    return Grid(split, tuple(spans), box + 5, box, joined=len(network.towers) > 1)


def _span(start: float, cells: Sequence[CellPlan], *, stitched: bool) -> StageSpan:
    left = start + TRANSITION
    groups = max(cell.groups for cell in cells)
    columns = left + INSIDE + max(len(cell.columns) for cell in cells) * COLUMN_PITCH
    right = columns + (width_of(groups) + INSIDE if groups else 0)
    right = max(right, left + NARROWEST)
    scales = max(cell.scales for cell in cells)
    return StageSpan(start, left, columns, right, right + (2 * INSIDE + (scales - 1) * LANE if stitched else 0))
