"""Small multiples: panels side by side with few lines, which have their names at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import StringIO
from itertools import accumulate
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, LogLocator, MaxNLocator, NullLocator

from manas.reporting.drawing.sheet import BLUE, FAINT, GREY, INK, VERMILION, length, shortened

WIDTH = 504.0  # points of a figure; at 700 pixels, its text is as large as the text around it
TEXT = 8.0
TOP, BOTTOM, LEFT, RIGHT = 24.0, 28.0, 46.0, 12.0  # points around a panel
LINE = TEXT * 1.25  # from one name to the next
_STEPS = [1, 2, 5, 10]  # from tick to tick
POINTS = 200  # points of a curve; more of them cannot be seen, but make a page heavy
FEW = 12  # the most values of a curve that are shown as dots, too

# Blue and vermilion as in drawings, then others that all readers tell apart (Okabe and Ito, 2008).
COLOURS = (BLUE, VERMILION, "#007a5a", "#b0568f", "#a87400", "#2f6f8f", GREY)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "manas",  # the same run gives the same page
    "font.family": "DejaVu Sans",  # which matplotlib brings along, so that widths are right
    "font.size": TEXT,
    "axes.titlesize": TEXT + 0.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.6,
    "axes.labelcolor": GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e4e2",
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.major.width": 0.6,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.4,
    "lines.markersize": 3,
    "lines.solid_capstyle": "round",
}


def style() -> AbstractContextManager[None]:
    """The block in which figures are made and written, independent of a user's configuration of matplotlib."""
    return matplotlib.style.context(["default", _STYLE])


def as_svg(figure: Figure) -> str:
    """The figure as SVG, the same text each time."""
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def panels(
    titles: Sequence[str], xlabel: str, *, columns: int, height: float = 104, right: float = RIGHT
) -> tuple[Figure, list[Axes]]:
    """Makes a figure with one panel a title, row by row.

    Args:
        xlabel: label of the x axis of all panels, written below the last panel of each column.
        columns: the most panels in a row; a lone panel has the whole width.
        height: height of a panel in points, without the room around it.
        right: points right of each panel, for names.
    """
    columns = min(columns, len(titles))
    rows, pitch = -(-len(titles) // columns), height + TOP + BOTTOM
    figure = Figure(figsize=(WIDTH / 72, rows * pitch / 72))
    FigureCanvasAgg(figure)
    width, every_axes = WIDTH / columns, []
    for place, title in enumerate(titles):
        row, column = divmod(place, columns)
        foot = rows * pitch - (row + 1) * pitch + BOTTOM
        box = (column * width + LEFT) / WIDTH, foot / (rows * pitch)
        axes = figure.add_axes((*box, (width - LEFT - right) / WIDTH, height / (rows * pitch)))
        axes.set_title(shortened(title, width - LEFT, TEXT + 0.5, bold=True), parse_math=False)
        if place + columns >= len(titles):
            axes.set_xlabel(xlabel)
        axes.xaxis.set_major_locator(MaxNLocator(max(2, int(width / 60)), steps=_STEPS, integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
        axes.yaxis.set_major_formatter(Shortest())
        every_axes.append(axes)
    return figure, every_axes


class Shortest(Formatter):
    """Formats numbers with as few digits as tell the ticks apart: ``30``, ``0.01255``, ``2e−5``."""

    def __init__(self) -> None:
        self.ticks = np.empty(0)

    def set_locs(self, locs: Any) -> None:
        """Remembers the ticks of the axis."""
        self.ticks = np.asarray(locs, dtype=np.float64)

    def __call__(self, value: float, _: Any = None) -> str:
        ticks = self.ticks
        steps, largest = np.abs(np.diff(ticks)), np.abs(ticks).max(initial=0)
        digits = int(np.log10(largest / steps.min())) + 2 if len(steps) and steps.min() > 0 else 3
        text = f"{value:.{digits}g}"
        if 0 < abs(value) < 1e-3:
            mantissa, exponent = f"{value:.{digits}e}".split("e")
            text = f"{float(mantissa):g}e{int(exponent)}"
        return text.replace("-", "\N{MINUS SIGN}")


def curve(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """Draws a line; of very many values it draws the means, in a band from the smallest to the largest."""
    finite = np.isfinite(y)
    if len(y) <= POINTS:
        alone = len(y) <= FEW or not (finite[1:] & finite[:-1]).any()
        axes.plot(x, y, color=colour, marker="o" if alone else "", clip_on=False)
        return
    low, mean, high = condensed(x[finite], y[finite])
    axes.fill_between(mean[0], low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(*mean, color=colour)


def condensed(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Condenses a curve (N,) to at most `POINTS` stretches.

    Returns the lowest values (M,), the means of x and y (2, M), and the highest values (M,).
    """
    places, values = (np.array_split(each, min(POINTS, max(1, len(y)))) for each in (x, y))
    rows = [(p.mean(), v.mean(), v.min(), v.max()) for p, v in zip(places, values, strict=True) if len(v)]
    mean_x, mean_y, low, high = np.array(rows).reshape(-1, 4).T
    return low, np.array([mean_x, mean_y]), high


def scale(axes: Axes, values: np.ndarray) -> None:
    """Makes the y axis logarithmic if the values are positive and span more than a decade."""
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0 and finite.max() > 10 * finite.min():
        axes.set_yscale("log")
        factor = finite.max() / finite.min()
        ticks = (1, 2, 5) if factor < 30 else (1, 3) if factor < 1e3 else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=ticks))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(Shortest())


class Name(NamedTuple):
    """A name beside a panel, at the height of a value."""

    text: str
    value: float
    colour: str = INK


def room_for(texts: Sequence[str], most: float = 110) -> float:
    """The points of room right of a panel whose lines have these names."""
    return min(most, max((length(text, TEXT) for text in texts), default=0)) + 16


def name_ends(axes: Axes, names: Sequence[Name], right: float) -> None:
    """Writes names right of a panel at the heights of their values, moved apart where they would overlap."""
    axes.autoscale_view()  # otherwise put off until the figure is drawn
    names = sorted((n for n in names if n.text and np.isfinite(n.value)), key=lambda name: name.value)
    box, points = axes.get_window_extent(), 72 / axes.figure.dpi
    places = axes.transData.transform([(0, name.value) for name in names]).reshape(-1, 2)
    wanted = [float(y - box.y0) * points for _, y in places]
    width, height = box.width * points, box.height * points
    for name, at, y in zip(names, wanted, spread(wanted, LINE, height), strict=True):
        if abs(at - y) > 1:
            ends = [1 + 1 / width, 1 + 8 / width], [at / height, y / height]
            axes.plot(*ends, color=FAINT, linewidth=0.6, transform=axes.transAxes, clip_on=False)
        text = shortened(name.text, right - 12, TEXT)
        place = 1 + 10 / width, y / height
        axes.text(*place, text, color=name.colour, transform=axes.transAxes, **_BESIDE)


_BESIDE: dict[str, Any] = {"verticalalignment": "center_baseline", "parse_math": False}


def spread(wanted: Sequence[float], gap: float, height: float) -> list[float]:
    """Places in ascending order near the wanted ones, at least `gap` apart, in [0, height] if there is room."""
    upwards = accumulate(wanted, lambda below, own: max(own, below + gap))
    downwards = accumulate(reversed(wanted), lambda above, own: min(own, above - gap))
    between = [(up + down) / 2 for up, down in zip(upwards, [*downwards][::-1], strict=True)]
    last = len(wanted) - 1
    return [max(k * gap, min(y, height - (last - k) * gap)) for k, y in enumerate(between)]
