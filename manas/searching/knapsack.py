"""The most probable architecture within a budget, as a knapsack with multiple choices."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from manas.architecture.cost import CostTable
from manas.architecture.weighting import NONE

BINS = 1000  # resolution of the costs at which partial architectures are told apart
ROUNDING = 1e-9  # sums of seconds in another order differ

Probabilities = Mapping[str, Mapping[str, float]]  # label -> candidate -> probability


def within(
    table: CostTable,
    limit: float,
    spend: float,
    probabilities: Probabilities,
    given: Mapping[str, str] = {},
) -> dict[str, str] | None:
    """The architecture with the least regret whose cost is at most `limit`, and at least `spend` of it.

    The regret of a choice is log(p_max / p), so that without a limit the result is the argmax of every fork.
    No node has `none` at all of its inputs. If none is in the window, the dearest below it is taken; None if
    all exceed the limit. Exact up to a resolution of 1/1000 of the limit.

    Args:
        probabilities: label -> candidate -> probability.
        given: choices that are made already.
    """
    whole = _Knapsack(table, probabilities, limit, given).of_forks(table.outermost, [EMPTY])
    spent = [partial for partial in whole if partial.cost + table.fixed >= spend * limit]
    if spent:
        return dict(min(spent, key=lambda partial: partial.regret).choices)
    return dict(max(whole, key=lambda partial: partial.cost).choices) if whole else None


def cheapest_derived(table: CostTable) -> float:
    """The cost of the cheapest architecture whose nodes all have an input."""

    def costs(label: str) -> dict[str, float]:
        fork = table.forks[label]
        pairs = zip(fork.names, fork.own.tolist(), fork.inside, strict=True)
        return {name: own + of(inside) for name, own, inside in pairs}

    def of(labels: Sequence[str]) -> float:
        by_label = {label: costs(label) for label in labels}
        nodes = ([by_label[label] for label in node] for node in nodes_of(labels))
        return sum(min(found.values()) for found in by_label.values()) + sum(map(_to_feed, nodes))

    return table.fixed + of(table.outermost)


def nodes_of(labels: Iterable[str]) -> list[list[str]]:
    """The labels under each node, which are ``.../node<i>/<input>``."""
    nodes = defaultdict(list)
    for label in labels:
        node = re.fullmatch(r"(.*\bnode\d+)/[^/]+", label)
        if node:
            nodes[node.group(1)].append(label)
    return list(nodes.values())


def _to_feed(inputs: Sequence[Mapping[str, float]]) -> float:
    """What it costs more than the cheapest to give a node an input that is not `none`."""
    more = [cost - min(costs.values()) for costs in inputs for name, cost in costs.items() if name != NONE]
    return min(more, default=0.0)


class _Partial(NamedTuple):
    """A part of an architecture: what it costs, and how far it is from the most probable choices."""

    cost: float
    regret: float  # sum of log(p of the most probable / p of the chosen)
    choices: tuple[tuple[str, str], ...]


EMPTY = _Partial(0.0, 0.0, ())


class _Knapsack:
    """Sums of parts that keep to the limit; of those with about the same cost the least regretted."""

    def __init__(self, table: CostTable, probabilities: Probabilities, limit: float, given: Mapping[str, str]):
        self.table, self.probabilities, self.given = table, probabilities, given
        self.room = limit * (1 + ROUNDING) - table.fixed
        self.width = min(limit, table.dearest()) / BINS

    def of_forks(self, labels: Sequence[str], partials: list[_Partial]) -> list[_Partial]:
        """What forks add to partial architectures, node by node and then the rest."""
        nodes = nodes_of(labels)
        inputs = {label for node in nodes for label in node}
        for node in nodes:
            partials = self._combined(partials, self._of_node(node))
        for label in labels:
            if label not in inputs:
                partials = self._combined(partials, self._of_fork(label))
        return partials

    def _of_node(self, labels: Sequence[str]) -> list[_Partial]:
        """Of all its inputs; what starves it only where there is nothing else."""
        starved, fed = [EMPTY], list[_Partial]()
        for label in labels:
            found = self._of_fork(label)
            nothing = [partial for partial in found if (label, NONE) in partial.choices]
            something = [partial for partial in found if (label, NONE) not in partial.choices]
            fed = self._combined(fed, found) + self._combined(starved, something)
            starved = self._combined(starved, nothing)
        can_be_fed = any(set(self.table.forks[label].names) != {NONE} for label in labels)
        return fed if can_be_fed else starved

    def _of_fork(self, label: str) -> list[_Partial]:
        fork, p = self.table.forks[label], self.probabilities[label]
        best, found = max(p.values()), list[_Partial]()
        for name, own, inside in zip(fork.names, fork.own.tolist(), fork.inside, strict=True):
            if self.given.get(label, name) == name:
                start = _Partial(own, _log_ratio(best, p[name]), ((label, name),))
                found += self.of_forks(inside, [start])
        return found

    def _combined(self, one: list[_Partial], other: list[_Partial]) -> list[_Partial]:
        best: dict[int, tuple[float, float, _Partial, _Partial]] = {}
        if not one or not other:
            return []
        for a in one:
            for b in other:
                cost, regret = a.cost + b.cost, a.regret + b.regret
                place = int(cost / self.width)
                if cost <= self.room and (place not in best or regret < best[place][1]):
                    best[place] = (cost, regret, a, b)
        a, b = (min(parts, key=lambda part: part.cost) for parts in (one, other))
        if a.cost + b.cost <= self.room:  # the cheapest is never lost to one that is less regretted
            best[-1] = (a.cost + b.cost, a.regret + b.regret, a, b)
        return [_Partial(cost, regret, a.choices + b.choices) for cost, regret, a, b in best.values()]


def _log_ratio(best: float, p: float) -> float:
    return math.log(best / p) if p > 0 else math.inf
