"""From probabilities to a genotype."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from manas.architecture.decide import Replayed
from manas.architecture.forks import Fork, nodes_of
from manas.architecture.space import SearchSpace
from manas.architecture.weighting import NONE
from manas.cost.knapsack import ROUNDING, Probabilities, within
from manas.cost.table import CostTable
from manas.errors import ManasError


class Allowance(NamedTuple):
    """The cost of a derived network by a table: at most `limit`, and at least `spend` of it if possible."""

    table: CostTable
    limit: float
    spend: float

    def holds(self, choices: Mapping[str, str]) -> bool:
        """Whether an architecture is within the limit and spends enough."""
        return self.spend * self.limit <= self.table.exact(choices) <= self.limit * (1 + ROUNDING)


def argmax(
    space: SearchSpace, probabilities: Probabilities, allowance: Allowance | None = None
) -> dict[str, str]:
    """The most probable candidate of every fork on the path, but no node loses its last input.

    Where all inputs of a node (`Fork.node`) would be `none`, the most probable other candidate among them is
    taken instead. Under an allowance it is the architecture closest to that within it (`knapsack.within`).

    Args:
        space: whose program is walked.
        probabilities: label -> candidate -> probability.

    Raises:
        ManasError: if no architecture is within the allowance.
    """
    choices = _fed(space, probabilities)
    if allowance is None or allowance.holds(choices):
        return choices
    found = within(*allowance, probabilities)
    if found is None:
        raise ManasError(f"budget: no architecture of the space keeps to {allowance.limit:,.6g}; raise it")
    return found


def most_probable(
    space: SearchSpace, probabilities: Probabilities, barred: Collection[tuple[str, str]] = ()
) -> dict[str, str]:
    """The most probable candidate of every fork on the path, whatever becomes of its node.

    Args:
        barred: (label, candidate) pairs that are not to be chosen.
    """

    def pick(label: str, names: tuple[str, ...]) -> str:
        allowed = (name for name in names if (label, name) not in barred)
        return max(allowed, key=lambda name: probabilities[label][name])

    return space.walk(Replayed(pick))


def _fed(space: SearchSpace, probabilities: Probabilities) -> dict[str, str]:
    """The most probable architecture in which no node is starved."""
    forks, barred = space.forks(), set[tuple[str, str]]()
    while True:
        choices = most_probable(space, probabilities, barred)
        alive = {
            (label, name): p
            for labels in starved_nodes(forks, choices)
            for label in labels
            for name, p in probabilities[label].items()
            if name != NONE
        }
        if not alive:
            return choices
        label, _ = max(alive, key=lambda key: alive[key])
        barred.add((label, NONE))


def comparable(score: float) -> float:
    """A score by which to choose: what is not a number is the worst of all."""
    return -math.inf if math.isnan(score) else score


def starved_nodes(forks: Iterable[Fork], choices: Mapping[str, str]) -> list[list[str]]:
    """The reached inputs of every node that is reached, and all of whose inputs are `none`.

    Args:
        forks: of the space, the outermost ones.
        choices: one path through it.
    """
    reached = [[label for label in inputs if label in choices] for inputs in nodes_of(forks).values()]
    return [inputs for inputs in reached if inputs and all(choices[label] == NONE for label in inputs)]
