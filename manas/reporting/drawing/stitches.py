"""Drawing of stitch matrices: a small map for each stage and scale, in one scale of colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from manas.reporting.drawing.output import rasterised, settings, suffix_of, write
from manas.reporting.drawing.sheet import (
    BLUE,
    FAINT,
    GREY,
    INK,
    MARGIN,
    PAGE,
    VERMILION,
    WHITE,
    Sheet,
    length,
    shortened,
)
from manas.reporting.stitch_numbers import Stitches

CELL = 14.0  # side of an entry, for a sign and three digits
APART = 3.5  # from map to map
LINE, AIR = 9.0, 3.0
LONGEST = 40.0  # name of a task
SMALLEST = 0.2  # full colour is for no smaller difference: stitches that hardly exchange look so
DARK = 0.85  # share of full colour from which on text is white
BAR, STEPS = 48.0, 48  # the scale of colours in the key
TITLE, HEADLINE = "cross-stitches", 6.4


def figure(stitches: Stitches) -> Figure:
    """Maps side by side by stage and one below the other by scale; a row is what one tower takes of each.

    White is the identity, with which towers are alone; colours say how far an entry is from it. The figure is
    one column (3.4 in) wide, else as wide as a page (7.1 in), and stages that find no room there go below.
    """
    with settings():
        block = _Block(stitches)
        places = list(stitches.matrices)
        each = min(len(places), max(1, block.fitting(PAGE)))
        sheet = Sheet(block.width(each))
        y = _draw_title(sheet, stitches)
        for first in range(0, len(places), each):
            y = block.draw(sheet, places[first : first + each], y)
        return sheet.finish(_draw_key(sheet, block.limit, y) + MARGIN)


def draw_stitches(stitches: Stitches, path: str | Path) -> Path:
    """Writes the figure as SVG, PNG or PDF by the suffix; the same stitches give the same bytes.

    Raises:
        ManasError: for another suffix.
        OSError: where the path cannot be written.
    """
    path = Path(path)
    suffix_of(path)  # before anything is drawn
    return write(figure(stitches), path)


def raster_of_stitches(stitches: Stitches) -> np.ndarray:
    """The figure as (H, W, 3) uint8."""
    return rasterised(figure(stitches))


def scale_name(scale: int, shuffle: int = 1) -> str:
    """The resolution of a scale in parts of that of the image, which is unshuffled by `shuffle`."""
    part = shuffle * 2**scale
    return f"1/{part}" if part > 1 else "1"


class _Block:
    """Maps of some stages, with what is written around them."""

    def __init__(self, stitches: Stitches):
        self.stitches, self.tasks = stitches, [shortened(task, LONGEST) for task in stitches.tasks]
        self.scales = max(map(len, stitches.matrices.values()))
        self.names = max(map(length, self.tasks))
        scale = length(scale_name(self.scales - 1, stitches.shuffle)) + AIR if self.scales > 1 else 0
        self.left = MARGIN + scale + self.names + AIR
        self.side = CELL * len(self.tasks)
        self.limit = _limit(stitches)

    def width(self, stages: int) -> float:
        return self.left + stages * (self.side + APART) - APART + MARGIN

    def fitting(self, width: float) -> int:
        """How many stages find room."""
        return int((width - self.left - MARGIN + APART) // (self.side + APART))

    def draw(self, sheet: Sheet, places: Sequence[str], top: float) -> float:
        """Returns where the next block may begin."""
        lefts = [self.left + number * (self.side + APART) for number in range(len(places))]
        for place, left in zip(places, lefts, strict=True):
            name = place.replace("stage", "stage ")
            sheet.text(left + self.side / 2, top + LINE / 2, shortened(name, self.side + APART), colour=GREY)
        top, scales = top + LINE, max(len(self.stitches.matrices[place]) for place in places)
        for scale in range(scales):
            y = top + scale * (self.side + APART)
            self._name_rows(sheet, scale, y)
            for place, left in zip(places, lefts, strict=True):
                if scale < len(self.stitches.matrices[place]):
                    _draw_map(sheet, self.stitches.matrices[place][scale], left, y, self.limit)
        bottom = top + scales * (self.side + APART) - APART
        return self._name_columns(sheet, lefts, bottom) + 2 * AIR

    def _name_rows(self, sheet: Sheet, scale: int, top: float) -> None:
        if self.scales > 1:
            name = scale_name(scale, self.stitches.shuffle)
            sheet.text(MARGIN, top + self.side / 2, name, colour=GREY, align="left")
        for row, task in enumerate(self.tasks):
            sheet.text(self.left - AIR, top + (row + 0.5) * CELL, task, align="right")

    def _name_columns(self, sheet: Sheet, lefts: Sequence[float], top: float) -> float:
        for left in lefts:
            for column, task in enumerate(self.tasks):
                x = left + (column + 0.5) * CELL
                sheet.text(x, top + AIR, task, align="right", upwards=True)
        return top + AIR + self.names


def _draw_title(sheet: Sheet, stitches: Stitches) -> float:
    y = MARGIN + LINE / 2
    sheet.text(MARGIN, y, TITLE, size=HEADLINE, bold=True, align="left")
    mean = " (mean over channels)" if stitches.channelwise else ""
    x = MARGIN + length(TITLE, HEADLINE, bold=True) + 2 * AIR
    said = shortened(f"rows take, columns give{mean}", sheet.width - MARGIN - x)
    sheet.text(x, y, said, colour=GREY, align="left")
    return y + LINE / 2 + AIR


def _draw_map(sheet: Sheet, matrix: np.ndarray, left: float, top: float, limit: float) -> None:
    shares = _from_identity(matrix) / limit
    for (row, column), value in np.ndenumerate(matrix):
        x, y, share = left + column * CELL, top + row * CELL, float(shares[row, column])
        sheet.box(x, y, CELL, CELL, fill=_colour(share), edge=FAINT, rounding=0, line=0.4)
        colour = WHITE if abs(share) > DARK else INK
        sheet.text(x + CELL / 2, y + CELL / 2, _digits(value), colour=colour)


def _draw_key(sheet: Sheet, limit: float, top: float) -> float:
    """The scale of colours; returns where it ends."""
    y, low, high = top + LINE / 2, f"\N{MINUS SIGN}{limit:.2f}", f"+{limit:.2f}"
    sheet.text(MARGIN, y, low, colour=GREY, align="left")
    left = MARGIN + length(low) + AIR
    for step in range(STEPS):
        # Each goes on to the end, since viewers show the paper between what only touches.
        done = BAR * step / STEPS
        colour = _colour(2 * step / (STEPS - 1) - 1)
        sheet.box(left + done, y - LINE / 3, BAR - done, 2 * LINE / 3, fill=colour, edge=None, rounding=0)
    said = f"{high}   away from the identity"
    sheet.text(left + BAR + AIR, y, said, colour=GREY, align="left")
    return top + LINE


def _limit(stitches: Stitches) -> float:
    """The difference from the identity that has the full colour."""
    apart = [np.abs(_from_identity(m)) for by_scale in stitches.matrices.values() for m in by_scale]
    return max(SMALLEST, *(float(each.max()) for each in apart))


def _from_identity(matrix: np.ndarray) -> np.ndarray:
    return np.nan_to_num(matrix - np.eye(len(matrix)), posinf=0, neginf=0)


def _colour(share: float) -> str:
    """From blue (-1) over white (0) to vermilion (1)."""
    red, green, blue = (1 + abs(share) * (x - 1) for x in to_rgb(VERMILION if share > 0 else BLUE))
    return to_hex((red, green, blue))


def _digits(value: float) -> str:
    """``0.90``; at most three digits, with a hyphen for a minus sign, which would not fit."""
    text = f"{value:.2f}" if abs(value) < 9.995 else f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"
    return "0.00" if text == "-0.00" else text
