"""The curves of any run: PSNR and losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manas.reporting.drawing.sheet import BLUE, FAINT, GREY, INK, VERMILION, WHITE
from manas.reporting.report.panels import Name, name_ends, panels, room_for, scale
from manas.reporting.report.record import Record, Series
from manas.reporting.report.timeline import DASHED, Curves, last, over_epochs, over_steps, places, unit

NO_LOSSES = ("gradient", "multiplier")  # numbers that are logged among the terms of a step
_PALE = {"facecolor": WHITE, "alpha": 0.75, "linewidth": 0, "pad": 0.5}
_CORNER: dict[str, Any] = {"horizontalalignment": "right", "verticalalignment": "top", "bbox": _PALE}


def relaxed_and_one_hot(record: Record) -> Curves | None:
    """PSNR of the relaxed and of the derived network, with the gap between them."""
    scores = record.under("validation")
    if "psnr_relaxed" not in scores or "psnr_one_hot" not in scores:
        return None
    relaxed, one_hot = scores["psnr_relaxed"], scores["psnr_one_hot"]
    shown = {"relaxed": relaxed, "one-hot": one_hot}
    figure, axes = _psnr_panel(record, shown)
    if np.array_equal(relaxed.steps, one_hot.steps):
        x = places(record, relaxed)
        axes.fill_between(x, one_hot.values, relaxed.values, color=FAINT, alpha=0.3, linewidth=0)
    gap = f", a gap (shaded) of {last(relaxed) - last(one_hot):.2f} dB{_of_the_input(record)}."
    return Curves("Restoration", _psnrs(shown) + gap + _mark(record, axes, one_hot), figure)


def of_a_path(record: Record) -> Curves | None:
    """PSNR of one path through a one-shot supernet."""
    series = record.metrics.get("validation/psnr_of_a_path")
    if series is None:
        return None
    shown = {"a path": series}
    same = "the path is the same in every epoch, with the weights of the supernet"
    caption = f"{_psnrs(shown)}{_of_the_input(record)}; {same}."
    return Curves("Restoration", caption, _psnr_panel(record, shown)[0])


def of_candidates(record: Record) -> Curves | None:
    """PSNR of every architecture that a search has trained alone."""
    series = record.metrics.get("validation/psnr_of_a_candidate")
    if series is None:
        return None
    scores, right = series.values, room_for(["median", "best: 99"])
    figure, (axes,) = panels(["PSNR-Y of the candidates, dB"], "candidate", columns=1, right=right)
    best, middle, worst = int(np.nanargmax(scores)), float(np.nanmedian(scores)), float(np.nanmin(scores))
    axes.vlines(np.arange(len(scores)), worst, scores, color=FAINT, linewidth=0.8)
    axes.plot(scores, "o", color=GREY)
    axes.plot(best, scores[best], "o", color=BLUE, markersize=5)
    axes.axhline(middle, color=FAINT, linewidth=0.8, linestyle=DASHED)
    name_ends(axes, [Name("median", middle, GREY), Name(f"best: {best}", scores[best], BLUE)], right)
    alone = "random architectures" if record.method == "random" else "architectures"
    caption = (
        f"PSNR-Y of {len(scores)} {alone} on the validation crops, each trained alone: best "
        f"{scores[best]:.2f} dB (candidate {best}), median {middle:.2f} dB, worst {worst:.2f} "
        f"dB{_of_the_input(record)}."
    )
    return Curves("Restoration", caption, figure)


def by_task(record: Record) -> Curves | None:
    """PSNR of a network in training, over all images and over the images of each task."""
    scores = record.under("validation")
    if "psnr" not in scores:
        return None
    tasks = {name.removeprefix("psnr/"): of for name, of in scores.items() if name.startswith("psnr/")}
    shown = tasks if len(tasks) == 1 else {"all": scores["psnr"], **tasks}
    figure, axes = _psnr_panel(record, shown)
    caption = f"{_psnrs(shown)}{_of_the_input(record)}."
    return Curves("Restoration", f"{caption}{_mark(record, axes, scores['psnr'])}", figure)


def losses(record: Record) -> Curves | None:
    """Each term of the losses on its own scale."""
    sources = {
        who: {name: of for name, of in record.under(who).items() if name not in NO_LOSSES}
        for who in ("weights", "alphas", "training")
    }
    terms = list(dict.fromkeys(name for series in sources.values() for name in series))
    if not terms:
        return None
    figure, every_axes = panels(terms, "step", columns=3, height=78)
    for term, axes in zip(terms, every_axes, strict=True):
        _overlay(axes, record, {who: series[term] for who, series in sources.items() if term in series})
        if sources["alphas"]:
            _name_owners(axes, [who for who, series in sources.items() if term in series])
    both = " of the weights (blue) and of the alphas (vermilion)" if sources["alphas"] else ""
    caption = f"The weighted terms of the loss{both}; what descends is their sum."
    return Curves("Losses", caption + _left_out(record), figure)


def _psnr_panel(record: Record, shown: Mapping[str, Series]) -> tuple[Figure, Axes]:
    right = room_for(list(shown))
    title = "PSNR-Y of the validation crops, dB"
    figure, (axes,) = panels([title], unit(record), columns=1, height=130, right=right)
    over_epochs(axes, record, shown, right, _input(record))
    return figure, axes


def _input(record: Record) -> dict[str, float]:
    """The score of the crops as they are, by its name; nothing in runs of earlier versions."""
    series = record.metrics.get("validation/input")
    return {"input": last(series)} if series else {}


def _of_the_input(record: Record) -> str:
    """The score of the crops as they are, as the end of a sentence."""
    return "".join(f"; the {name} has {score:.2f} dB" for name, score in _input(record).items())


def _psnrs(shown: Mapping[str, Series]) -> str:
    numbers = ", ".join(f"{name} {last(series):.2f} dB" for name, series in shown.items())
    return f"PSNR-Y of the validation crops at the end of each epoch; after the last, {numbers}"


def _mark(record: Record, axes: Axes, series: Series) -> str:
    """Draws a ring around the epoch of the result; returns a sentence about it."""
    epoch = record.summary.get("epoch")
    at = np.flatnonzero(places(record, series) == epoch)
    if not len(at) or not record.steps_of_an_epoch:
        return ""
    x, y = places(record, series)[at], series.values[at]
    axes.plot(x, y, "o", color=INK, markersize=7, markerfacecolor="none", clip_on=False)
    return f" The ring is around epoch {epoch}, that of the result."


def _overlay(axes: Axes, record: Record, shown: Mapping[str, Series]) -> None:
    scale(axes, np.concatenate([series.values for series in shown.values()]))
    for who, series in shown.items():
        over_steps(axes, record, series, _colour_of(who))


def _name_owners(axes: Axes, owners: list[str]) -> None:
    """Names the parameters that the losses are for, in the corner that falling curves leave free."""
    for line, who in enumerate(owners):
        axes.text(1, 1 - 0.13 * line, who, color=_colour_of(who), transform=axes.transAxes, **_CORNER)


def _colour_of(who: str) -> str:
    return VERMILION if who == "alphas" else BLUE


def _left_out(record: Record) -> str:
    series = record.metrics.get("steps_left_out")
    worst = int(np.nanmax(series.values)) if series else 0
    return f" Steps left out because their gradient was broken: {worst}." if worst else ""
