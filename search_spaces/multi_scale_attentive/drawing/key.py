"""The key to a drawing of towers: only what occurs in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from manas.reporting.drawing.sheet import (
    BLUE,
    GREY,
    MARGIN,
    PALE_BLUE,
    PALE_VERMILION,
    VERMILION,
    Sheet,
    length,
    shortened,
)
from search_spaces.multi_scale_attentive.drawing.attention import (
    GATES,
    GROUP,
    NODE,
    PILL,
    PILL_HEIGHT,
    draw_group,
    draw_node,
    draw_pill,
    gate_named,
)
from search_spaces.multi_scale_attentive.drawing.column import COLUMN, draw_letter
from search_spaces.multi_scale_attentive.drawing.labels import NetworkPlan

LINE, GAP = 10.0, 4.0
MEANINGS = {"parallel": "parallel: scales apart", "fusion": "fusion: scales meet"}


class Entry(NamedTuple):
    """A sign, which is drawn at (left, middle), its width, and what it means."""

    sign: Callable[[Sheet, float, float], None]
    width: float
    meaning: str


def draw_key(sheet: Sheet, network: NetworkPlan, top: float) -> float:
    """A table, to be read downwards, of as many columns as fit; returns where it ends."""
    entries = list(_entries(network))
    room = sheet.width - 2 * MARGIN + GAP
    widest = max((PILL + length(entry.meaning) for entry in entries), default=0) + 2 * GAP
    columns = max(1, min(len(entries), int(room // widest)))
    pitch = room / columns
    for column in range(columns):
        _draw_entries(sheet, _share(entries, column, columns), MARGIN + column * pitch, top, pitch - GAP)
    return top + len(_share(entries, 0, columns)) * LINE


def _draw_entries(sheet: Sheet, entries: Sequence[Entry], left: float, top: float, width: float) -> None:
    signs = max((entry.width for entry in entries), default=0)
    for row, entry in enumerate(entries):
        y = top + (row + 0.5) * LINE
        entry.sign(sheet, left + (signs - entry.width) / 2, y)
        meaning = shortened(entry.meaning, width - signs - GAP)
        sheet.text(left + signs + GAP, y, meaning, colour=GREY, align="left")


def _share(entries: Sequence[Entry], column: int, columns: int) -> Sequence[Entry]:
    """As many for each column; the first ones have one more where that does not go."""
    each, more = divmod(len(entries), columns)
    start = column * each + min(column, more)
    return entries[start : start + each + (column < more)]


def _entries(network: NetworkPlan) -> Iterator[Entry]:
    cells = [cell for tower in network.towers for cell in tower.cells]
    columns = {name for cell in cells for name in cell.columns}
    gates = {edge.gate for cell in cells for edges in cell.attention.values() for edge in edges}
    for name, meaning in MEANINGS.items():
        if name in columns:
            yield Entry(partial(_column_sign, name), COLUMN, meaning)
    if gates:
        yield Entry(draw_group, GROUP, "group of channels")
        yield Entry(lambda sheet, left, y: draw_node(sheet, left + NODE / 2, y), NODE, "node: sum of edges")
    for name in [*(name for name in GATES if name in gates), *sorted(gates - GATES.keys())]:
        if gate_named(name).meaning:
            yield Entry(partial(_gate_sign, name), PILL, gate_named(name).meaning)


def _column_sign(name: str, sheet: Sheet, left: float, y: float) -> None:
    fill, edge = (PALE_BLUE, BLUE) if name == "parallel" else (PALE_VERMILION, VERMILION)
    sheet.box(left, y - PILL_HEIGHT / 2, COLUMN, PILL_HEIGHT, fill=fill, edge=edge)
    draw_letter(sheet, left, y, name)


def _gate_sign(name: str, sheet: Sheet, left: float, y: float) -> None:
    draw_pill(sheet, left, y, gate_named(name))
