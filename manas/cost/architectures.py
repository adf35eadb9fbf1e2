"""The architectures that a search may choose: they keep to a budget and leave every node an input."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

import torch

from manas.architecture.forks import every_fork, random_choices
from manas.architecture.space import SearchSpace
from manas.cost.budget import BudgetConfig, amount
from manas.cost.counting import InputShape
from manas.cost.knapsack import ROUNDING, Candidate, Probabilities, cheapest_derived, most_valued
from manas.cost.latency import measured_latency
from manas.cost.selection import Allowance, argmax, starved_nodes
from manas.cost.table import CostTable
from manas.errors import ManasError

UNWANTED = -1e3  # the value of a choice that is neither wanted nor zero, beside 1 of one that is wanted
DRAWS = 100  # before a random architecture within the budget is made and not met by chance


class Architectures:
    """The architectures of a space within a budget.

    Attributes:
        space: the space.
        forks: its outermost forks.
        table: the costs of its candidates.
        allowance: the limits on the cost of an architecture, or None.

    Raises:
        ManasError: for a budget that no architecture meets.
    """

    def __init__(self, space: SearchSpace, table: CostTable, budget: BudgetConfig | None):
        self.space, self.forks, self.table, self.budget = space, space.forks(), table, budget
        self.allowance = _allowance(table, budget) if budget else None

    def argmax(self, probabilities: Probabilities) -> dict[str, str]:
        """The most probable architecture; see `selection.argmax`."""
        return argmax(self.space, probabilities, self.allowance)

    def best(
        self, values: Mapping[Candidate, float], given: Mapping[str, str] = {}, *, unlimited: bool = False
    ) -> dict[str, str] | None:
        """The architecture with the largest sum of the values of its candidates; None if none has `given`.

        Args:
            values: (label, name) -> value.
            given: choices that are made already.
            unlimited: whether the budget does not count.
        """
        limit, spend = (math.inf, 0.0) if unlimited or not self.allowance else self.allowance[1:]
        return most_valued(self.table, limit, spend, values, given)

    def like(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """The architecture with as many wanted choices as the budget allows, and else the zeros of forks."""
        values = {
            (fork.label, name): 1.0
            if wanted.get(fork.label) == name
            else 0.0
            if name == fork.zero
            else UNWANTED
            for fork in every_fork(self.forks)
            for name in fork.names
        }
        found = self.best(values)
        assert found is not None  # a budget that no architecture meets was refused
        return found

    def affords(self, choices: Mapping[str, str]) -> bool:
        """Whether an architecture costs no more than the budget, if there is one."""
        return self.allowance is None or self.table.exact(choices) <= self.allowance.limit * (1 + ROUNDING)

    def sample(self, rng: random.Random) -> dict[str, str]:
        """A random architecture, uniform fork by fork."""
        return self.fitting(lambda: random_choices(self.forks, rng), rng)

    def fitting(self, draw: Callable[[], dict[str, str]], rng: random.Random) -> dict[str, str]:
        """The first draw that may be chosen; if `DRAWS` draws may not, the argmax of random numbers."""
        for _ in range(DRAWS):
            choices = draw()
            fits = self.allowance is None or self.allowance.holds(choices)
            if fits and not starved_nodes(self.forks, choices):
                return choices
        forks = self.table.forks.items()
        return self.argmax({label: {n: rng.random() for n in fork.names} for label, fork in forks})

    def spending(self, choices: Mapping[str, str], shape: InputShape, device: torch.device) -> str | None:
        """The sentence that tells how much of the budget an architecture spends; None without a budget."""
        if self.budget is None:
            return None
        metric, limit, cost = self.budget.metric, self.budget.limit, self.table.exact(choices)
        sentence = f"budget: {amount(cost, metric)} of {amount(limit, metric)}, {cost / limit:.1%}"
        if metric == "latency" and self.budget.table:
            sentence += f" by {self.budget.table}"
        elif metric == "latency":
            latency = measured_latency(self.space.network(choices), shape, device)
            sentence += f" by the table; {amount(latency, metric)} measured as a whole"
        return sentence


def _allowance(table: CostTable, budget: BudgetConfig) -> Allowance:
    cheapest, dearest = cheapest_derived(table), table.dearest()
    if cheapest > budget.limit * (1 + ROUNDING):
        given, low, high = (amount(cost, budget.metric) for cost in (budget.limit, cheapest, dearest))
        raise ManasError(
            f"budget: {given} cannot be met; the cheapest architecture of the space has {low}, the dearest "
            f"{high}; raise the budget or take a smaller space"
        )
    out_of_reach = budget.spend * budget.limit > dearest
    return Allowance(table, budget.limit, 0.0 if out_of_reach else budget.spend)
