"""The curves of a search by gradient: the preferences of its alphas, their entropy, and the cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from manas.reporting.drawing.sheet import BLUE, GREY, WIRE
from manas.reporting.report.panels import LINE, Name, name_ends, panels, room_for, scale
from manas.reporting.report.record import Record, Series, mapping
from manas.reporting.report.timeline import Curves, last, over_epochs, over_steps, places, unit

UNITS = {"macs": "MACs", "parameters": "parameters", "latency": "s"}


def decisions(record: Record) -> Curves | None:
    """The entropies of the alphas, and the shares of forks that chose to skip or to leave out their input."""
    entropies = record.under("entropy")
    names = {"health/skip_share": "skip", "health/zero_share": "zero", "health/none_share": "zero"}
    chosen = _renamed(record, names)  # the last is of earlier versions
    shown = {"Entropy of the alphas, by group": entropies, "Share of the forks that chose": chosen}
    shown = {title: of for title, of in shown.items() if of}
    if not shown:
        return None
    right = room_for([name for of in shown.values() for name in of], 84)
    figure, every_axes = panels(list(shown), unit(record), columns=2, right=right)
    for axes, of in zip(every_axes, shown.values(), strict=True):
        axes.set_ylim(-0.02, 1.04)  # a little more than [0, 1], so that lines at the ends are seen whole
        over_epochs(axes, record, of, right)
    numbers = [f"entropy of {tag} {last(of):.2f}" for tag, of in entropies.items()]
    numbers += [f"{name} chosen by {last(of):.0%} of the forks that offer it" for name, of in chosen.items()]
    caption = f"After the last epoch: {', '.join(numbers)}. An entropy of 1 is undecided, 0 decided."
    return Curves("Decisions", caption, figure)


def shares(record: Record) -> Curves | None:
    """The mean probability of every candidate, stacked, by group of choices."""
    groups: dict[str, dict[str, Series]] = {}
    for name, series in record.under("shares").items():
        tag, _, candidate = name.rpartition("/")
        groups.setdefault(tag, {})[candidate] = series
    if not groups:
        return None
    most = max(map(len, groups.values()))
    sign = record.drawing.sign
    right = room_for([sign(name).name for of in groups.values() for name in of])
    height = max(104, most * LINE)
    figure, every_axes = panels(list(groups), unit(record), columns=2, height=height, right=right)
    for axes, of in zip(every_axes, groups.values(), strict=True):
        _stack(axes, record, of, right)
    numbers = {tag: ", ".join(f"{name} {last(s):.2f}" for name, s in of.items()) for tag, of in groups.items()}
    texts = "; ".join(f"of {tag}: {text}" for tag, text in numbers.items())
    caption = f"Mean probability of each candidate in its group; after the last epoch, {texts}."
    return Curves("Shares of the candidates", caption, figure)


def sharpness(record: Record) -> Curves | None:
    """The gradient of the alphas, and the curvature of the loss in them."""
    titles = {
        "health/alpha_gradient": "Norm of the gradient of the alphas",
        "health/eigenvalue": "Dominant eigenvalue of their Hessian",
    }
    shown = _renamed(record, titles)
    if not shown:
        return None
    figure, every_axes = panels(list(shown), unit(record), columns=2)
    for axes, series in zip(every_axes, shown.values(), strict=True):
        over_epochs(axes, record, {"": series}, 0)
        scale(axes, series.values)
    numbers = [f"{title[0].lower()}{title[1:]} {last(of):.3g}" for title, of in shown.items()]
    caption = f"At the end: {', '.join(numbers)}. An eigenvalue that grows often precedes a collapse."
    return Curves("Gradient and curvature", caption, figure)


def score_by_cost(record: Record) -> Curves | None:
    """The architectures that were trained alone, by cost and score, with those that were chosen."""
    costs, scores = (record.metrics.get(n) for n in ("candidate/cost", "validation/psnr_of_a_candidate"))
    if costs is None or scores is None or len(costs.values) != len(scores.values):
        return None
    table = record.cost()
    metric = str(table.origin.get("metric", "")) if table else ""
    figure, (axes,) = panels(["PSNR-Y of the candidates, dB"], UNITS.get(metric, "cost"), columns=1, height=130)
    axes.plot(costs.values, scores.values, "o", color=GREY)
    chosen = _chosen(record, len(scores.values))
    axes.plot(costs.values[chosen], scores.values[chosen], "o-", color=BLUE, markersize=5)
    several = "those chosen for the budgets" if len(chosen) > 1 else "the chosen one"
    caption = f"Cost and PSNR-Y of {len(scores.values)} architectures, each trained alone; blue: {several}."
    return Curves("Cost and score", caption, figure)


def _chosen(record: Record, count: int) -> list[int]:
    """The numbers of the candidates that were chosen: of a front, from the smallest budget on."""
    front = record.summary.get("front")
    found = front if isinstance(front, list) else [record.summary]
    numbers = [mapping(each).get("candidate") for each in found]
    return [n for n in numbers if isinstance(n, int) and 0 <= n < count]


def cost(record: Record) -> Curves | None:
    """The cost of the derived network with its budget, and the multiplier of the complexity loss."""
    series, multiplier = (record.metrics.get(name) for name in ("health/cost", "alphas/multiplier"))
    if series is None:
        return None
    table, limit, right = record.cost(), budget_of(record), room_for(["derived"])
    metric = UNITS.get(str(table.origin.get("metric")), "") if table else ""
    titles = [f"Cost of the derived network{', ' if metric else ''}{metric}"]
    titles += ["Multiplier of the budget"] if multiplier else []
    figure, axes = panels(titles, unit(record), columns=2, right=right)
    over_epochs(axes[0], record, {"derived": series}, right, {"budget": limit} if limit else {})
    axes[0].yaxis.set_major_formatter(EngFormatter(sep=" "))
    if multiplier:
        over_steps(axes[1], record, multiplier, BLUE)
        axes[1].set_xlabel("step")
    caption = f"After the last epoch the derived network has {_amount(last(series), metric)}"
    caption += f", {last(series) / limit:.1%} of the budget of {_amount(limit, metric)}" if limit else ""
    if table:
        low, high = (_amount(end, metric) for end in (table.cheapest(), table.dearest()))
        caption += f". The cheapest architecture of the space has {low}, the dearest {high}"
    return Curves("Cost", f"{caption}.", figure)


def budget_of(record: Record) -> float | None:
    """The budget of the derived network as a number, or None."""
    budget = record.config.get("budget")
    limits = [budget.get(metric) for metric in UNITS] if isinstance(budget, dict) else []
    return next((float(limit) for limit in limits if isinstance(limit, int | float) and limit > 0), None)


def _stack(axes: Axes, record: Record, of: Mapping[str, Series], right: float) -> None:
    """Draws bands from 0 to 1 in the colours of the drawing, with the names of the candidates at their ends."""
    x, sign = places(record, next(iter(of.values()))), record.drawing.sign
    values = np.nan_to_num(np.array([series.values for series in of.values()]))
    if len(x) == 1:  # a point would have no area
        x, values = x + np.array([-0.5, 0.5]), np.repeat(values, 2, axis=1)
    tops = np.cumsum(values, axis=0)
    for name, low, high in zip(of, [0 * tops[0], *tops], tops, strict=False):
        axes.fill_between(x, low, high, color=sign(name).colour, linewidth=0)
        axes.plot(x, high, color=WIRE, linewidth=0.5, clip_on=False)
    axes.set(xlim=(x[0], x[-1]), ylim=(0, max(1, tops[-1].max())))
    ends = tops[:, -1] - values[:, -1] / 2
    name_ends(axes, [Name(sign(name).name, end) for name, end in zip(of, ends, strict=True)], right)


def _renamed(record: Record, names: Mapping[str, str]) -> dict[str, Series]:
    """The numbers of a run under other names; missing ones are left out."""
    return {name: record.metrics[key] for key, name in names.items() if key in record.metrics}


def _amount(cost: float, metric: str) -> str:
    """Writes a cost with its unit: ``1.25 G MACs``, ``40.00 ms``."""
    if metric == "s":
        return EngFormatter("s", places=2, sep=" ")(cost)
    return f"{EngFormatter(places=2, sep=' ')(cost)} {metric}".rstrip()
