"""A sheet of paper for line drawings: what stands on it is placed in units, and text has a size in units too.

One unit is at least a point when the sheet is printed at the width of a column or of a page of text, so text
of five units can always be read. y grows downwards.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence
from typing import Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Ellipse, FancyBboxPatch, Patch, PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

COLUMN, PAGE = 3.4 * 72, 7.1 * 72  # points: one column and the text width of a two-column paper
LARGEST = 1.3  # points a unit, so that small drawings do not shout
MARGIN = 2.0
TEXT = 5.0
SIGN = 27.1  # for the short name of a candidate
CAPITAL = 0.73  # height of a capital letter in parts of the size of DejaVu Sans
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

# Blue and vermilion are told apart by all readers (Okabe and Ito, "Color Universal Design", 2008).
INK, WIRE, GREY, FAINT, SHADE, WHITE = "#1a1a1a", "#4d4d4d", "#6b6b6b", "#a6a6a6", "#f3f3f1", "#ffffff"
BLUE, PALE_BLUE, VERMILION, PALE_VERMILION = "#0072b2", "#d9eaf6", "#c04a00", "#fbe3d4"
PALE = ("#dce9f5", "#fbe3d4", "#dff0e2", "#fdeecb", "#ece2f2", "#eeeeee")  # for text to stand on

Point = tuple[float, float]


class Sheet:
    """A drawing `width` units wide; `finish` gives it its height.

    It is scaled to the width of a column where that leaves `TEXT` its five points, else to that of a page,
    and is wider than that only if it has to be.
    """

    def __init__(self, width: float):
        self.width = max(width, COLUMN / LARGEST)
        printed = next((page for page in (COLUMN, PAGE) if self.width <= page), self.width)
        self.points = min(printed / self.width, LARGEST)
        self.figure = Figure(facecolor=WHITE)
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()

    def finish(self, height: float) -> Figure:
        """The figure, `height` units high."""
        self.figure.set_size_inches(self.width * self.points / 72, height * self.points / 72)
        self.axes.set(xlim=(0, self.width), ylim=(height, 0))
        return self.figure

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = TEXT,
        bold: bool = False,
        colour: str = INK,
        align: Literal["left", "center", "right"] = "center",
        upwards: bool = False,
    ) -> None:
        """One line whose capitals have their middle at y; read upwards, at x."""
        # Aligned on the baseline, so that lines side by side agree whatever letters they hold.
        lower = size * CAPITAL / 2
        font = _font(size * self.points, bold)
        self.axes.text(
            x + (lower if upwards else 0),
            y + (0 if upwards else lower),
            text,
            fontproperties=font,
            color=colour,
            horizontalalignment=align,
            verticalalignment="baseline",
            rotation=90 if upwards else 0,
            rotation_mode="anchor",
            parse_math=False,
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = WHITE,
        edge: str | None = WIRE,
        dashed: bool = False,
        rounding: float = 1.2,
        line: float = 0.5,
    ) -> None:
        """A rounded rectangle whose upper left corner is (x, y)."""
        shape = f"round,pad=0,rounding_size={rounding}"
        patch = FancyBboxPatch((x, y), width, height, boxstyle=shape, facecolor=fill)
        self._add(patch, edge, line, dashed)

    def line(
        self,
        points: Sequence[Point],
        *,
        colour: str = WIRE,
        width: float = 0.55,
        dashed: bool = False,
        arrow: bool = False,
    ) -> None:
        """Straight from point to point, with a small head at the last if it is an arrow."""
        self._add(PathPatch(Path(list(points)), fill=False), colour, width, dashed)
        if arrow:
            self.head(points[-2], points[-1], colour)

    def web(self, pairs: Sequence[tuple[Point, Point]], *, colour: str = WIRE) -> None:
        """A straight line from the first to the second point of each pair, all in one piece."""
        points = [point for pair in pairs for point in pair]
        path = Path(points, [Path.MOVETO, Path.LINETO] * len(pairs))
        self._add(PathPatch(path, fill=False), colour, 0.4, False)

    def swing(self, start: Point, end: Point, *, colour: str = WIRE, width: float = 0.55) -> None:
        """A curve that leaves `start` and reaches `end` horizontally."""
        middle = (start[0] + end[0]) / 2
        path = Path([start, (middle, start[1]), (middle, end[1]), end], [Path.MOVETO, *[Path.CURVE4] * 3])
        self._add(PathPatch(path, fill=False), colour, width, False)

    def bridge(self, start: Point, end: Point, height: float, *, colour: str = WIRE) -> None:
        """From `start` to `end`, which lies right of it, over what stands between them."""
        (left, foot), (right, _) = start, end
        top, bend = foot - height, min(3.0, (right - left) / 2)
        corners = [start, (left, top + bend), (left, top), (left + bend, top)]
        corners += [(right - bend, top), (right, top), (right, top + bend), end]
        codes = [Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CURVE3] + [
            Path.LINETO,
            Path.CURVE3,
            Path.CURVE3,
            Path.LINETO,
        ]
        self._add(PathPatch(Path(corners, codes), fill=False), colour, 0.5, False)

    def bow(self, start: Point, end: Point, *, colour: str = WIRE, dashed: bool = False) -> None:
        """A curve that leaves `start` horizontally and reaches `end` vertically."""
        path = Path([start, (end[0], start[1]), end], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
        self._add(PathPatch(path, fill=False), colour, 0.55, dashed)

    def head(self, start: Point, end: Point, colour: str = WIRE, length: float = 2.2) -> None:
        """The head of an arrow from `start`, its tip at `end`."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        norm = max((dx * dx + dy * dy) ** 0.5, 1e-9) / length
        dx, dy = dx / norm, dy / norm
        base = end[0] - dx, end[1] - dy
        corners = [end, (base[0] - 0.4 * dy, base[1] + 0.4 * dx), (base[0] + 0.4 * dy, base[1] - 0.4 * dx)]
        self._add(Polygon(corners, facecolor=colour), None, 0, False)

    def dot(self, x: float, y: float, radius: float, *, fill: str = WIRE, edge: str | None = None) -> None:
        """A disc around (x, y)."""
        self._add(Ellipse((x, y), 2 * radius, 2 * radius, facecolor=fill), edge, 0.55, False)

    def _add(self, patch: Patch, edge: str | None, width: float, dashed: bool) -> None:
        patch.set(
            edgecolor=edge or "none",
            linewidth=width * self.points if edge else 0,
            linestyle=(0, (2.6, 1.8)) if dashed else "solid",
            capstyle="butt",
            joinstyle="round",
            clip_on=False,
            zorder=1,  # of all alike: what is drawn later is on top
        )
        self.axes.add_artist(patch)  # add_patch would measure each for limits that are not asked for


@functools.cache
def _font(size: float, bold: bool) -> FontProperties:
    # matplotlib brings DejaVu Sans itself: what is measured here is what is drawn on every machine.
    return FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")


@functools.lru_cache(4096)
def length(text: str, size: float = TEXT, *, bold: bool = False) -> float:
    """How many units wide a text is."""
    return text_to_path.get_text_width_height_descent(text, _font(size, bold), False)[0]


def shortened(text: str, width: float, size: float = TEXT, *, bold: bool = False) -> str:
    """The text, or its beginning and end around an ellipsis where it is wider than `width`."""
    if length(text, size, bold=bold) <= width:
        return text

    def cut(kept: int) -> str:
        return text[: (kept + 1) // 2] + ELLIPSIS + text[len(text) - kept // 2 :]

    fitting = bisect.bisect(range(len(text)), width, key=lambda kept: length(cut(kept), size, bold=bold)) - 1
    return cut(max(fitting, 2))
