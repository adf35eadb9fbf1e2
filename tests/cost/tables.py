"""Made-up costs and probabilities of small spaces, and what an architecture loses by them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import torch

from manas.architecture.forks import every_fork, nodes_of, zeros_of
from manas.architecture.space import SearchSpace
from manas.cost.table import CostTable, ForkCost


def fork_of(own: Sequence[float]) -> ForkCost:
    """A fork of candidates c0, c1, ... of these costs, with no fork inside."""
    names = tuple(f"c{k}" for k in range(len(own)))
    return ForkCost(names, torch.tensor(own, dtype=torch.float64), ((),) * len(own))


def table_of(space: SearchSpace, cost: Callable[[str, str], float], fixed: float = 0.0) -> CostTable:
    """A table of a space whose own costs are `cost(label, name)`."""
    forks = {}
    for fork in every_fork(space.forks()):
        inside = tuple(tuple(inner.label for inner in inner_forks) for inner_forks in fork.inside.values())
        own = torch.tensor([cost(fork.label, name) for name in fork.names], dtype=torch.float64)
        forks[fork.label] = ForkCost(fork.names, own, inside)
    outermost = space.forks()
    labels = tuple(fork.label for fork in outermost)
    return CostTable(fixed, labels, forks, nodes=nodes_of(outermost), zeros=zeros_of(outermost))


def random_probabilities(space: SearchSpace, rng: random.Random) -> dict[str, dict[str, float]]:
    """Label -> candidate -> probability, all of them positive."""
    given = {label: [rng.random() + 1e-9 for _ in names] for label, names in space.choices().items()}
    return {
        label: {name: p / sum(given[label]) for name, p in zip(names, given[label], strict=True)}
        for label, names in space.choices().items()
    }


def regret(choices: Mapping[str, str], probabilities: Mapping[str, Mapping[str, float]]) -> float:
    """How much less probable choices are than the most probable at the same forks."""
    return sum(
        math.log(max(probabilities[label].values()) / probabilities[label][name])
        for label, name in choices.items()
    )
