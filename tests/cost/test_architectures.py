"""The architectures that a search may choose: the best by values, within a budget and without."""

import random

import pytest
from architecture.toy_spaces import NESTED, architectures
from training.tiny_runs import tower

from manas.cost.architectures import Architectures
from manas.cost.budget import BudgetConfig
from manas.cost.counting import cost_table

EVERY = list(architectures(NESTED.root))
TABLE = cost_table(NESTED, "parameters")
COSTS = sorted(set(map(TABLE.exact, EVERY)))


def values_of(space, seed):
    rng = random.Random(seed)
    return {(label, name): rng.gauss(0, 1) for label, names in space.choices().items() for name in names}


@pytest.mark.parametrize("limit", COSTS)
def test_the_best_keeps_to_the_budget_and_spends_it(limit):
    budget = BudgetConfig(parameters=int(limit))
    found = Architectures(NESTED, TABLE, budget)
    for seed in range(10):
        values = values_of(NESTED, seed)
        worth = {TABLE.exact(a): [] for a in EVERY}
        for choices in EVERY:
            worth[TABLE.exact(choices)].append(sum(values[each] for each in choices.items()))
        allowed = [max(worth[cost]) for cost in COSTS if budget.spend * limit <= cost <= limit]
        best = found.best(values)
        assert budget.spend * limit <= TABLE.exact(best) <= limit
        assert sum(values[each] for each in best.items()) == pytest.approx(max(allowed))


@pytest.mark.parametrize("budget", [None, BudgetConfig(parameters=int(COSTS[1]))])
def test_unlimited_is_the_best_of_all_with_what_is_given(budget):
    for seed in range(10):
        values = values_of(NESTED, seed)

        def worth(choices, values=values):
            return sum(values[each] for each in choices.items())

        for given in ({}, {"fork0": "c0"}, {"fork0": "c1", "fork0/c1/fork0": "c1"}):
            best = Architectures(NESTED, TABLE, budget).best(values, given, unlimited=True)
            assert best == max((a for a in EVERY if given.items() <= a.items()), key=worth)


def test_a_budget_beyond_the_dearest_limits_nothing():
    values = values_of(NESTED, 0)
    beyond = Architectures(NESTED, TABLE, BudgetConfig(parameters=int(100 * COSTS[-1])))
    assert beyond.best(values) == Architectures(NESTED, TABLE, None).best(values)


def test_what_is_given_may_leave_a_node_without_input():
    space = tower()
    architectures = Architectures(space, cost_table(space, "macs", (3, 16, 16)), None)
    values = dict.fromkeys(values_of(space, 0), 0.0)
    (label,) = next(labels for labels in architectures.table.nodes.values() if len(labels) == 1)
    assert architectures.best(values, {label: "none"}) is None
    assert architectures.best(values, {label: "skip_connect"})[label] == "skip_connect"
