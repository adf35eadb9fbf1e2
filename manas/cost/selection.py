"""From probabilities to a genotype."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from manas.architecture.decide import Replayed
from manas.architecture.forks import Fork, every_fork, nodes_of, zeros_of
from manas.architecture.space import SearchSpace
from manas.cost.knapsack import ROUNDING, Probabilities, within
from manas.cost.table import CostTable, ForkCost
from manas.errors import ManasError


class Allowance(NamedTuple):
    """The cost of a derived network by a table: at most `limit`, and at least `spend` of it if possible."""

    table: CostTable
    limit: float
    spend: float

    def holds(self, choices: Mapping[str, str]) -> bool:
        """Whether an architecture is within the limit and spends enough."""
        return self.spend * self.limit <= self.table.exact(choices) <= self.limit * (1 + ROUNDING)


def unlimited(forks: Sequence[Fork]) -> Allowance:
    """The allowance that every architecture of a space keeps to: no candidate costs anything."""
    costs = {
        fork.label: ForkCost(
            fork.names,
            torch.zeros(len(fork.names), dtype=torch.float64),
            tuple(tuple(inner.label for inner in inside) for inside in fork.inside.values()),
        )
        for fork in every_fork(forks)
    }
    table = CostTable(0.0, tuple(fork.label for fork in forks), costs).with_nodes_of(forks)
    return Allowance(table, limit=0.0, spend=0.0)


def argmax(
    space: SearchSpace, probabilities: Probabilities, allowance: Allowance | None = None
) -> dict[str, str]:
    """The architecture of the least regret (`knapsack.within`) in which every node has an input.

    It is the most probable candidate of every fork on the path, unless all inputs of a node (`Fork.node`) would
    be zero. A node that nothing can feed stays without an input. An allowance changes the result only where
    the result does not keep to it.

    Args:
        space: whose program is walked.
        probabilities: label -> candidate -> probability.

    Raises:
        ManasError: if no architecture is within the allowance.
    """
    choices, forks = most_probable(space, probabilities), space.forks()
    if starved_nodes(forks, choices):
        choices = within(*unlimited(forks), probabilities) or choices
    if allowance is None or allowance.holds(choices):
        return choices
    found = within(*allowance, probabilities)
    if found is None:
        raise ManasError(f"budget: no architecture of the space keeps to {allowance.limit:,.6g}; raise it")
    return found


def most_probable(space: SearchSpace, probabilities: Probabilities) -> dict[str, str]:
    """The most probable candidate of every fork on the path, whatever becomes of its node."""

    def pick(label: str, names: tuple[str, ...]) -> str:
        return max(names, key=lambda name: probabilities[label][name])

    return space.walk(Replayed(pick))


def comparable(score: float) -> float:
    """A score by which to choose: what is not a number is the worst of all."""
    return -math.inf if math.isnan(score) else score


def starved_nodes(forks: Iterable[Fork], choices: Mapping[str, str]) -> list[list[str]]:
    """The reached inputs of every node that is reached, and all of whose reached inputs are zero.

    Args:
        forks: of the space, the outermost ones.
        choices: one path through it.
    """
    forks = list(forks)
    zeros = zeros_of(forks).items()
    reached = [[label for label in inputs if label in choices] for inputs in nodes_of(forks).values()]
    return [labels for labels in reached if labels and all((each, choices[each]) in zeros for each in labels)]
