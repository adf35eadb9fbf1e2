"""Drawing of the columns of a cell: the scales apart, or crossing."""

from __future__ import annotations

from collections.abc import Sequence

from manas.reporting.drawing.sheet import BLUE, PALE_BLUE, PALE_VERMILION, VERMILION, WIRE, Sheet, shortened

COLUMN, COLUMN_PITCH = 8.8, 12.9
BLOCK = 10.0  # height of one scale
_BYPASS = 1.5

COLOURS = {"parallel": PALE_BLUE, "fusion": PALE_VERMILION}  # pale enough for text to stand on
LETTERS = {"parallel": ("P", BLUE), "fusion": ("F", VERMILION)}


def draw_letter(sheet: Sheet, left: float, y: float, name: str) -> None:
    """The initial of a column over it; others than those of MANAS have their name inside."""
    if name in LETTERS:
        letter, colour = LETTERS[name]
        sheet.text(left + COLUMN / 2, y, letter, bold=True, colour=colour)


def draw_column(sheet: Sheet, left: float, heights: Sequence[float], name: str) -> None:
    """One column over the scales at these heights."""
    if name == "parallel":
        for y in heights:
            _draw_residual(sheet, left, y)
    elif name == "fusion":
        _draw_crossing(sheet, left, heights)
    else:
        _draw_other(sheet, left, heights, name)


def _draw_residual(sheet: Sheet, left: float, y: float) -> None:
    """A residual block: a box with the way around it."""
    sheet.bridge((left - _BYPASS, y), (left + COLUMN + _BYPASS, y), BLOCK / 2 + 2.2, colour=BLUE)
    sheet.box(left, y - BLOCK / 2, COLUMN, BLOCK, fill=PALE_BLUE, edge=BLUE)


def _draw_crossing(sheet: Sheet, left: float, heights: Sequence[float]) -> None:
    """A strip over all scales, in which each reaches each."""
    top, bottom = heights[0] - BLOCK / 2, heights[-1] + BLOCK / 2
    sheet.box(left, top, COLUMN, bottom - top, fill=PALE_VERMILION, edge=VERMILION)
    inner, outer = left + 1.6, left + COLUMN - 1.6
    sheet.web(
        [((inner, source), (outer, target)) for source in heights for target in heights], colour=VERMILION
    )
    for y in heights:
        sheet.dot(inner, y, 0.8, fill=VERMILION)
        sheet.dot(outer, y, 0.8, fill=VERMILION)


def _draw_other(sheet: Sheet, left: float, heights: Sequence[float], name: str) -> None:
    top, bottom = heights[0] - BLOCK / 2, heights[-1] + BLOCK / 2
    sheet.box(left, top, COLUMN, bottom - top, edge=WIRE)
    middle = (heights[0] + heights[-1]) / 2
    sheet.text(left + COLUMN / 2, middle, shortened(name, bottom - top - 3), upwards=True)
