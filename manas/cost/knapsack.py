"""The most probable architecture within a budget, and the one of most value.

Each is a knapsack with multiple choices, which HiGHS solves.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from manas.cost.table import CostTable

ROUNDING = 1e-9  # sums of seconds in another order differ

Probabilities = Mapping[str, Mapping[str, float]]  # label -> candidate -> probability
Candidate = tuple[str, str]  # label and name
Row = tuple[dict[Candidate, float], float, float]  # coefficients, and between what their sum must be


def within(
    table: CostTable,
    limit: float,
    spend: float,
    probabilities: Probabilities,
    given: Mapping[str, str] = {},
) -> dict[str, str] | None:
    """The architecture with the least regret whose cost is at most `limit`, and at least `spend` of it.

    The regret of a choice is log(p_max / p), so that without a limit the result is the argmax of every fork.
    No node that is reached has nothing but zeros among its inputs. If no architecture is in the window, the
    dearest below it is taken; None if all exceed the limit.

    Args:
        probabilities: label -> candidate -> probability.
        given: choices that are made already.
    """

    def regret(candidate: Candidate) -> float:
        label, name = candidate
        # `max` keeps the first where the second is not a number, as of a search that has diverged.
        clear = {each: max(sys.float_info.min, p) for each, p in probabilities[label].items()}
        return math.log(max(clear.values()) / clear[name])

    knapsack = _Knapsack(table, given)
    found = knapsack.least(regret, spend * limit, limit)
    if found is not None:
        return found
    dearest = knapsack.least(lambda candidate: -knapsack.costs[candidate], 0.0, limit)
    # Among those of the same cost, again the least regretted; the window is as wide as the solver's tolerance.
    return dearest and (knapsack.least(regret, table.exact(dearest), limit) or dearest)


def most_valued(
    table: CostTable,
    limit: float,
    spend: float,
    values: Mapping[Candidate, float],
    given: Mapping[str, str] = {},
) -> dict[str, str] | None:
    """The architecture with the largest sum of values whose cost is in the window of `within`.

    If none is in it, the one of most value below the window; None if all exceed the limit, or `given` leaves a
    node without input.

    Args:
        values: (label, name) -> what a candidate adds where it is reached.
        given: choices that are made already.
    """
    knapsack = _Knapsack(table, given)
    best = partial(knapsack.least, lambda candidate: -values[candidate])
    lowest = spend * limit if spend else 0.0  # the limit may be infinite
    return best(lowest, limit) or best(0.0, limit)


def cheapest_derived(table: CostTable) -> float:
    """The cost of the cheapest architecture whose nodes all have an input."""
    knapsack = _Knapsack(table, {})
    found = knapsack.least(lambda candidate: knapsack.costs[candidate], 0.0, math.inf)
    return table.exact(found or {})


class _Knapsack:
    """The architectures of a table as 0/1 variables, one a candidate.

    A fork that is reached has one candidate: the sum over it is 1, or the variable of the candidate that it
    stands in. A node has an input: the variables of all candidates that feed it sum to at least 1 as soon as
    one of its forks is reached.
    """

    def __init__(self, table: CostTable, given: Mapping[str, str]):
        self.table = table
        self.costs = {
            (label, name): cost
            for label, fork in table.forks.items()
            for name, cost in zip(fork.names, fork.own.tolist(), strict=True)
        }
        self.place = {candidate: n for n, candidate in enumerate(self.costs)}
        self.open = [given.get(label, name) == name for label, name in self.costs]
        self.around: dict[str, Candidate | None] = dict.fromkeys(table.outermost)
        for label, fork in table.forks.items():
            for name, inside in zip(fork.names, fork.inside, strict=True):
                self.around |= dict.fromkeys(inside, (label, name))
        self.rows = [
            *(self._row(label, self._candidates(label), exactly=True) for label in table.forks),
            *(row for inputs in table.nodes.values() for row in self._node(inputs)),
        ]

    def least(
        self, objective: Callable[[Candidate], float], lowest: float, highest: float
    ) -> dict[str, str] | None:
        """The architecture of the least sum of `objective` whose cost is in the window; None if none is."""
        values = np.array([objective(candidate) for candidate in self.costs])
        scale = min(highest, self.table.dearest()) or 1.0
        window = [(bound - self.table.fixed) / scale for bound in (lowest, highest)]
        costs = {candidate: cost / scale for candidate, cost in self.costs.items()}
        rows: list[Row] = [*self.rows, (costs, window[0], window[1])]
        while True:
            chosen = self._solved(values, rows)
            if chosen is None or self.table.exact(chosen) <= highest * (1 + ROUNDING):
                return chosen
            # Beyond the limit by less than the solver tells apart: any other architecture than this.
            rows.append((dict.fromkeys(chosen.items(), 1.0), -math.inf, len(chosen) - 1.0))

    def _solved(self, values: np.ndarray, rows: Sequence[Row]) -> dict[str, str] | None:
        matrix = np.zeros((len(rows), len(values)))
        for n, (coefficients, _, _) in enumerate(rows):
            for candidate, coefficient in coefficients.items():
                matrix[n, self.place[candidate]] = coefficient
        constraint = LinearConstraint(matrix, [row[1] for row in rows], [row[2] for row in rows])
        found = milp(
            values,
            integrality=np.ones(len(values)),
            bounds=Bounds(0, np.array(self.open, float)),
            constraints=constraint,
            options={"mip_rel_gap": 0.0},
        )
        if found.x is None:
            return None
        return {label: name for (label, name), x in zip(self.costs, found.x, strict=True) if x > 0.5}

    def _candidates(self, label: str) -> list[Candidate]:
        return [(label, name) for name in self.table.forks[label].names]

    def _node(self, inputs: Sequence[str]) -> list[Row]:
        """The rows of a node: of each place in the tree where it has inputs, if anything can feed it."""
        zeros = self.table.zeros.items()
        feeding = [each for label in inputs for each in self._candidates(label) if each not in zeros]
        places = {self.around[label]: label for label in inputs}
        return [self._row(label, feeding, exactly=False) for label in places.values()] if feeding else []

    def _row(self, label: str, among: Sequence[Candidate], *, exactly: bool) -> Row:
        """One of `among` is chosen if the fork is reached; if `exactly`, only one, and only if it is."""
        row = dict.fromkeys(among, 1.0)
        around = self.around[label]
        if around is None:
            return row, 1.0, 1.0 if exactly else math.inf
        row[around] = row.get(around, 0.0) - 1.0
        return row, 0.0, 0.0 if exactly else math.inf
