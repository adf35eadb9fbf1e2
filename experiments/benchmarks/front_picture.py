"""The networks of `equal_latency.py` by latency and PSNR, as a picture."""

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

from manas.reporting.drawing.sheet import BLUE, GREY, INK, VERMILION
from manas.reporting.report.panels import Name, as_svg, name_ends, panels, room_for, style

COLOURS = {"searched": BLUE, "attention": VERMILION, "plain": INK, "random": GREY}
Result = Mapping[str, Any]


def front(results: Sequence[Result], qualities: Mapping[str, Callable[[Result], float]]) -> str:
    """Draws each network as a dot and the means of each row over its budgets as a line.

    Seeds differ by the scenes that they report on. That is taken out: the dots of a seed are moved by the
    difference of the seed's mean to that of all, which leaves the differences within a seed as they are.

    Args:
        results: with row, budget, seed and latency in seconds; those without a budget are left out.
        qualities: by the title of a panel, what is read off a result, in dB.

    Returns:
        An SVG.
    """
    rows = {row: [r for r in results if r["row"] == row and r["budget"]] for row in COLOURS}
    rows = {row: of for row, of in rows.items() if of}
    right = room_for(list(rows))
    with style():
        figure, every_axes = panels(list(qualities), "ms for 480x320", columns=2, height=150, right=right)
        for axes, quality in zip(every_axes, qualities.values(), strict=True):
            moved = _without_seeds([r for of in rows.values() for r in of], quality)
            names = []
            for row, of in rows.items():
                dots = [(r["latency"] * 1e3, moved(r)) for r in of]
                axes.plot(*zip(*dots, strict=True), "o", color=COLOURS[row], alpha=0.3, markeredgewidth=0)
                budgets = dict.fromkeys(r["budget"] for r in of)
                within = [[d for d, r in zip(dots, of, strict=True) if r["budget"] == b] for b in budgets]
                line = sorted(tuple(map(mean, zip(*each, strict=True))) for each in within)
                axes.plot(*zip(*line, strict=True), "o-", color=COLOURS[row], markersize=5)
                names.append(Name(row, line[-1][1], COLOURS[row]))
            name_ends(axes, names, right)
        return as_svg(figure)


def _without_seeds(results: Sequence[Result], quality: Callable[[Result], float]) -> Callable[[Result], float]:
    """The quality of a result, less what its seed is above the mean of all seeds."""
    of_seeds = {
        seed: mean(quality(r) for r in results if r["seed"] == seed) for seed in {r["seed"] for r in results}
    }
    centre = mean(of_seeds.values())
    return lambda result: quality(result) - of_seeds[result["seed"]] + centre
