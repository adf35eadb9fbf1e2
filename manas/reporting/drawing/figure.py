"""Drawing of a genotype: a figure for a paper, a file, or an image for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from matplotlib.figure import Figure

from manas.architecture.genotype import Genotype
from manas.architecture.registry import kind_of
from manas.reporting.drawing.contract import drawing_of
from manas.reporting.drawing.forks import ForkDrawing
from manas.reporting.drawing.output import rasterised, settings, suffix_of, write
from manas.reporting.drawing.sheet import GREY, MARGIN, Sheet, length, shortened
from manas.restoration.network import tasks_of

_HEADLINE, _SUBTITLE, _LINE, _APART, _AIR = 6.4, 5.4, 9.0, 6.0, 5.0


def figure(genotype: Genotype) -> Figure:
    """The architecture as a figure; its text has at least five points in print.

    It is one column (3.4 in) wide where the architecture fits into that, else as wide as the text of a
    two-column page (7.1 in). A space draws itself where a package has entered how (`contract.Drawing`);
    elsewhere an architecture becomes a box a fork.
    """
    with settings():
        drawing = drawing_of(genotype.space)
        if drawing is None or not drawing.can_draw(genotype):
            drawing = ForkDrawing()
        sheet = Sheet(drawing.width(genotype))
        bottom = drawing.draw(sheet, genotype, _draw_title(sheet, genotype))
        return sheet.finish(bottom + MARGIN)


def draw(genotype: Genotype, path: str | Path) -> Path:
    """Writes the figure as SVG, PNG or PDF by the suffix; the same genotype gives the same bytes.

    Parents are created; the file is complete or not there.

    Raises:
        ManasError: for another suffix.
        OSError: where the path cannot be written.
    """
    path = Path(path)
    suffix_of(path)  # before anything is drawn
    return write(figure(genotype), path)


def raster(genotype: Genotype) -> np.ndarray:
    """The figure as (H, W, 3) uint8."""
    return rasterised(figure(genotype))


def _draw_title(sheet: Sheet, genotype: Genotype) -> float:
    """The name of the space and what is known of the architecture; returns where the drawing may begin."""
    y, room = MARGIN + _LINE / 2, sheet.width - 2 * MARGIN
    name = kind_of(type(genotype.space)).rpartition(":")[2].replace("_", " ")
    name = shortened(name, room, _HEADLINE, bold=True)
    sheet.text(MARGIN, y, name, size=_HEADLINE, bold=True, align="left")
    y = _write(sheet, MARGIN + length(name, _HEADLINE, bold=True) + _APART, y, _facts(genotype))
    costs = list(_costs_of_towers(genotype))
    if costs:
        y = _write(sheet, MARGIN, y + _LINE, costs)
    return y + _LINE / 2 + _AIR


def _write(sheet: Sheet, x: float, y: float, texts: Iterable[str]) -> float:
    """Texts from (x, y) on, in as many lines as they need; returns the height of the last one."""
    for text in texts:
        text = shortened(text, sheet.width - 2 * MARGIN, _SUBTITLE)
        width = length(text, _SUBTITLE)
        if x > MARGIN and x + width > sheet.width - MARGIN:
            x, y = MARGIN, y + _LINE
        sheet.text(x, y, text, size=_SUBTITLE, colour=GREY, align="left")
        x += width + _APART
    return y


def _facts(genotype: Genotype) -> Iterator[str]:
    count = len(genotype.choices)
    yield "1 choice" if count == 1 else f"{count} choices"
    yield from filter(None, [_cost(genotype.provenance)])


def _costs_of_towers(genotype: Genotype) -> Iterator[str]:
    for task in tasks_of(genotype.space):
        cost = _cost(genotype.provenance.get(task))
        if cost:
            yield f"{task}: {cost}"


def _cost(provenance: Any) -> str:
    """``4.72 M parameters, 1.31 G MACs at 64 x 64``; as much of it as a provenance knows."""
    if not isinstance(provenance, Mapping):
        return ""
    return ", ".join(_parts_of_cost(provenance))


def _parts_of_cost(provenance: Mapping[str, Any]) -> Iterator[str]:
    parameters, macs, shape = (provenance.get(key) for key in ("parameters", "macs", "input"))
    if _is_count(parameters):
        yield f"{_rounded(parameters)} parameters"
    if _is_count(macs):
        size = f" at {shape[2]} x {shape[1]}" if isinstance(shape, list | tuple) and len(shape) == 3 else ""
        yield f"{_rounded(macs)} MACs{size}"


def _is_count(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18


def _rounded(count: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            digits = 2 if count < 10 * size else 1 if count < 100 * size else 0
            return f"{count / size:.{digits}f} {unit}"
    return f"{count:g}"
