"""The tracked numbers of a run, drawn over its epochs or over its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manas.reporting.drawing.sheet import FAINT, GREY
from manas.reporting.report.panels import COLOURS, Name, curve, name_ends
from manas.reporting.report.record import Record, Series

DASHED = (0, (4, 3))


class Curves(NamedTuple):
    """A figure with its heading and a caption, which describes the figure and tells the last numbers."""

    title: str
    caption: str
    figure: Figure


def over_epochs(
    axes: Axes,
    record: Record,
    shown: Mapping[str, Series],
    right: float,
    levels: Mapping[str, float] | None = None,
) -> None:
    """Draws a line for each series, and dashed levels, all with their names at the end.

    Args:
        right: points right of the panel, for the names.
    """
    levels, names = levels or {}, []
    for place, (name, series) in enumerate(shown.items()):
        colour = COLOURS[place % len(COLOURS)]
        curve(axes, places(record, series), series.values, colour)
        names.append(Name(name, last(series, finite=True), colour))
    for name, level in levels.items():
        axes.axhline(level, color=GREY, linewidth=0.9, linestyle=DASHED)
        names.append(Name(name, level, GREY))
    axes.set_xlim(*_ends(record))
    name_ends(axes, names, right)


def over_steps(axes: Axes, record: Record, series: Series, colour: str) -> None:
    """Draws a line over all steps of the run; in a random search it is cut between the candidates."""
    borders = candidates(record)[:-1]
    cuts = np.searchsorted(series.steps, borders, side="right")
    for steps, values in zip(np.split(series.steps, cuts), np.split(series.values, cuts), strict=True):
        curve(axes, steps, values, colour)
    for border in borders:
        axes.axvline(border, color=FAINT, linewidth=0.6)
    axes.set_xlim(0, max(each.steps.max() for each in record.metrics.values()))


def candidates(record: Record) -> np.ndarray:
    """The steps at which the candidates of a random search were finished."""
    series = record.metrics.get("validation/psnr_of_a_candidate")
    return series.steps if series else np.empty(0)


def places(record: Record, series: Series) -> np.ndarray:
    """The epochs, counted from zero, at whose ends the numbers of a series were written, or their steps."""
    steps = record.steps_of_an_epoch
    return series.steps / steps - 1 if steps else series.steps


def unit(record: Record) -> str:
    """The unit of these places: ``epoch`` or ``step``."""
    return "epoch" if record.steps_of_an_epoch else "step"


def last(series: Series, *, finite: bool = False) -> float:
    """The last number of a series, or its last finite number."""
    return float(series.values[np.isfinite(series.values)][-1] if finite else series.values[-1])


def _ends(record: Record) -> tuple[float, float]:
    """The first and the last epoch of the run, so that all panels agree."""
    ends = [places(record, of) for name, of in record.metrics.items() if name.startswith("validation/")]
    low, high = (find([find(each) for each in ends], default=0.0) for find in (min, max))
    return (low, high) if low < high else (low - 0.5, high + 0.5)
