"""The most probable architecture within a budget, as a knapsack with multiple choices that HiGHS solves."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from manas.architecture.weighting import NONE
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
    No node has `none` at all of its inputs. If none is in the window, the dearest below it is taken; None if
    all exceed the limit.

    Args:
        probabilities: label -> candidate -> probability.
        given: choices that are made already.
    """

    def regret(candidate: Candidate) -> float:
        label, name = candidate
        by_name = probabilities[label]
        return math.log(max(by_name.values()) / max(by_name[name], sys.float_info.min))

    knapsack = _Knapsack(table, given)
    found = knapsack.least(regret, spend * limit, limit)
    if found is not None:
        return found
    dearest = knapsack.least(lambda candidate: -knapsack.costs[candidate], 0.0, limit)
    # Among those of the same cost, again the least regretted; the window is as wide as the solver's tolerance.
    return dearest and (knapsack.least(regret, table.exact(dearest), limit) or dearest)


def cheapest_derived(table: CostTable) -> float:
    """The cost of the cheapest architecture whose nodes all have an input."""
    knapsack = _Knapsack(table, {})
    found = knapsack.least(lambda candidate: knapsack.costs[candidate], 0.0, math.inf)
    return table.exact(found or {})


class _Knapsack:
    """The architectures of a table as 0/1 variables, one a candidate.

    A fork that is reached has one candidate: the sum over it is 1, or the variable of the candidate that it
    stands in. A node that is reached has an input: its variables of `none` sum to less than its inputs.
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
        self.rows: list[Row] = []
        self._forks(table.outermost, None)
        for label, fork in table.forks.items():
            for name, inside in zip(fork.names, fork.inside, strict=True):
                self._forks(inside, (label, name))

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

    def _forks(self, labels: Sequence[str], inside: Candidate | None) -> None:
        """The rows of forks that stand inside a candidate, or in every architecture."""
        for label in labels:
            one = {(label, name): 1.0 for name in self.table.forks[label].names}
            self.rows.append(
                (one | ({inside: -1.0} if inside else {}), *((0.0, 0.0) if inside else (1.0, 1.0)))
            )
        for inputs in self.table.nodes.values():
            self._node([label for label in inputs if label in labels])

    def _node(self, inputs: Sequence[str]) -> None:
        """The row of a node's inputs in one place of the tree, if one of them can be other than `none`."""
        names = {label: self.table.forks[label].names for label in inputs}
        if any(set(each) != {NONE} for each in names.values()):
            starving = {(label, NONE): 1.0 for label in inputs if NONE in names[label]}
            self.rows.append((starving, -math.inf, len(inputs) - 1.0))
