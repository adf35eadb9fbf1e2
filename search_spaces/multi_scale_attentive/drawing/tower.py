"""Drawing of towers: scales from top to bottom, cells from left to right, stitches between the towers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from manas.reporting.drawing.sheet import FAINT, GREY, INK, SHADE, TEXT, WIRE, Sheet, length, shortened
from manas.reporting.drawing.stitches import scale_name
from search_spaces.multi_scale_attentive.drawing.attention import draw_attention
from search_spaces.multi_scale_attentive.drawing.column import COLUMN_PITCH, draw_column, draw_letter
from search_spaces.multi_scale_attentive.drawing.grid import (
    ARROW,
    BAR,
    BESIDE,
    HEADINGS,
    INSIDE,
    LANE,
    Grid,
    StageSpan,
)
from search_spaces.multi_scale_attentive.drawing.labels import CellPlan, NetworkPlan, TowerPlan

HEADING = 5.6
BETWEEN = 15.0  # from tower to tower, where the stitches have their names
TASK = 10.0  # height of the line with the name of a task


def draw_network(sheet: Sheet, network: NetworkPlan, grid: Grid, top: float) -> float:
    """Towers, stitches and fusion from `top` downwards; returns where they end."""
    firsts = []  # middle of the finest scale of each tower
    for tower in network.towers:
        first = top + (TASK if tower.task else 0) + HEADINGS + grid.box / 2
        _draw_tower(sheet, tower, grid, first)
        firsts.append(first)
        scales = max(cell.scales for cell in tower.cells)
        bottom = first + (scales - 1) * grid.pitch + grid.box / 2 + INSIDE
        top = bottom + BETWEEN
    if len(firsts) > 1:
        sheet.line([(grid.split, firsts[0]), (grid.split, firsts[-1])])
        _draw_fusion(sheet, network.fusion, grid, firsts)
    for stage, name in enumerate(network.stitches):
        _draw_stitch(sheet, name, stage, network.towers, grid, firsts)
    return bottom


def _draw_tower(sheet: Sheet, tower: TowerPlan, grid: Grid, first: float) -> None:
    if tower.task:
        name = shortened(tower.task, grid.spans[0].right - grid.stem, HEADING, bold=True)
        y = first - grid.box / 2 - HEADINGS - TASK / 2
        sheet.text(grid.stem, y, name, size=HEADING, bold=True, align="left")
    for cell, span in zip(tower.cells, grid.spans, strict=False):
        _draw_ground(sheet, cell, span, grid, first)
    _draw_wires(sheet, tower, grid, first)
    for index, (cell, span) in enumerate(zip(tower.cells, grid.spans, strict=False)):
        _draw_cell(sheet, index, cell, span, grid, first)
    _draw_ends(sheet, tower, grid, first)


def _draw_ground(sheet: Sheet, cell: CellPlan, span: StageSpan, grid: Grid, first: float) -> None:
    top = first - grid.box / 2 - HEADINGS
    height = HEADINGS + grid.box + (cell.scales - 1) * grid.pitch + INSIDE
    sheet.box(span.left, top, span.right - span.left, height, fill=SHADE, edge=None, rounding=2.5)


def _draw_wires(sheet: Sheet, tower: TowerPlan, grid: Grid, first: float) -> None:
    """One wire a scale; a transition takes the coarsest one a scale further."""
    scales = 1
    for cell, span in zip(tower.cells, grid.spans, strict=False):
        for scale in range(cell.scales):
            y, known = first + scale * grid.pitch, scale < scales
            if not known:
                above = first + (scales - 1) * grid.pitch
                sheet.swing((span.start, above), (span.left, y))
            sheet.line([(span.start if known else span.left, y), (span.end, y)])
        scales = cell.scales
    end = grid.spans[len(tower.cells) - 1].end
    for scale in range(scales):
        y = first + scale * grid.pitch
        sheet.line([(end, y), (grid.head, y)], arrow=True)


def _draw_cell(sheet: Sheet, index: int, cell: CellPlan, span: StageSpan, grid: Grid, first: float) -> None:
    top = first - grid.box / 2 - HEADINGS
    sheet.text(span.left + INSIDE, top + 5, f"cell {index}", size=TEXT, bold=True, align="left")
    heights = [first + scale * grid.pitch for scale in range(cell.scales)]
    for place, name in enumerate(cell.columns):
        left = span.left + INSIDE + place * COLUMN_PITCH
        draw_letter(sheet, left, top + HEADINGS - 3.5, name)
        draw_column(sheet, left, heights, name)
    for scale, edges in cell.attention.items():
        width = span.right - INSIDE - span.attention
        draw_attention(sheet, span.attention, heights[scale], width, edges)


def _draw_ends(sheet: Sheet, tower: TowerPlan, grid: Grid, first: float) -> None:
    """The scales' names, the stem with the image that enters it, the head and the image that leaves it."""
    scales = tower.cells[-1].scales
    for scale in range(max(cell.scales for cell in tower.cells)):
        y = first + scale * grid.pitch
        sheet.text(grid.split - BESIDE, y, scale_name(scale, tower.shuffle), colour=GREY, align="right")
    sheet.line([(grid.split, first), (grid.stem, first)], arrow=True)
    _draw_bar(sheet, grid.stem, first - grid.box / 2, grid.box, "stem")
    height = grid.box + (scales - 1) * grid.pitch
    _draw_bar(sheet, grid.head, first - grid.box / 2, height, "head")
    sheet.line([(grid.head + BAR, first), (grid.head + BAR + ARROW, first)], arrow=True)


def _draw_bar(sheet: Sheet, left: float, top: float, height: float, text: str) -> None:
    sheet.box(left, top, BAR, height)
    sheet.text(left + BAR / 2, top + height / 2, text, upwards=True)


def _draw_fusion(sheet: Sheet, name: str, grid: Grid, firsts: Sequence[float]) -> None:
    top, bottom = firsts[0] - grid.box / 2, firsts[-1] + grid.box / 2
    _draw_bar(sheet, grid.fusion, top, bottom - top, f"fusion: {name}")
    middle = (top + bottom) / 2
    sheet.line([(grid.fusion + BAR, middle), (grid.fusion + BAR + ARROW, middle)], arrow=True)


def _draw_stitch(
    sheet: Sheet, name: str, stage: int, towers: Sequence[TowerPlan], grid: Grid, firsts: Sequence[float]
) -> None:
    """One line a scale from tower to tower; its name stands in the middle of them."""
    nothing, span = name == "none", grid.spans[stage]
    scales = min(tower.cells[stage].scales for tower in towers)
    colour = FAINT if nothing else INK
    for scale in range(scales):
        x = span.right + INSIDE + scale * LANE
        heights = [first + scale * grid.pitch for first in firsts]
        sheet.line([(x, heights[0]), (x, heights[-1])], colour=colour, width=0.65, dashed=nothing)
        for y in heights:
            sheet.dot(x, y, 0.9, fill=colour)
    text, gaps = f"stitch: {name}", list(pairwise(firsts))
    centre = span.right + INSIDE + (scales - 1) * LANE / 2
    y = gaps[(len(gaps) - 1) // 2][1] - grid.box / 2 - HEADINGS - TASK - BETWEEN / 2
    width = length(text) + 5
    sheet.box(centre - width / 2, y - 4, width, 8, edge=FAINT if nothing else WIRE, dashed=nothing, rounding=2)
    sheet.text(centre, y, text, colour=GREY if nothing else INK)
