"""The most probable architecture within a budget, and that of most value, against all of small spaces."""

import functools
import math
import random

import pytest
from architecture.toy_spaces import NESTED, Block, Tree, architectures, trees
from cost.tables import fork_of, random_probabilities, regret, table_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from manas.architecture.finding import load_space
from manas.cost.counting import cost_table
from manas.cost.knapsack import most_valued, within
from manas.cost.selection import starved_nodes
from manas.cost.table import CostTable


def case(space, seed, whole=True):
    """A table of integers, probabilities, and every architecture of a space with its cost."""
    rng = random.Random(seed)
    number = (lambda: rng.randrange(60)) if whole else (lambda: rng.random() * 60)
    table = table_of(space, lambda *_: number(), number())
    probabilities = random_probabilities(space, rng)
    return table, probabilities, [(table.exact(a), a) for a in architectures(space.root)]


# Costs are whole numbers, which the solver's tolerance tells apart.
spaces = trees(60).filter(lambda space: space.root.forks)


@settings(max_examples=40)
@given(
    space=st.one_of(st.just(NESTED), spaces),
    seed=st.integers(0, 10**6),
    share=st.floats(0, 1.1),
    spend=st.sampled_from([0.0, 0.5, 0.9]),
)
def test_the_least_regret_within_the_window(space, seed, share, spend):
    table, probabilities, everything = case(space, seed)
    costs = [cost for cost, _ in everything]
    limit = round(min(costs) + share * (max(costs) - min(costs)) - 2 * (share == 0))
    assume(limit > 0)
    found = within(table, limit, spend, probabilities)
    below = [(cost, a) for cost, a in everything if cost <= limit]
    window = [regret(a, probabilities) for cost, a in below if cost >= spend * limit]
    if not below:
        assert found is None
        return
    space.check(found)
    assert table.exact(found) <= limit
    if window:
        assert table.exact(found) >= spend * limit
        assert regret(found, probabilities) == pytest.approx(min(window), abs=1e-9)
    else:
        dearest = max(cost for cost, _ in below)
        assert table.exact(found) == dearest
        equals = [regret(a, probabilities) for cost, a in below if cost == dearest]
        assert regret(found, probabilities) == pytest.approx(min(equals), abs=1e-9)


def value(choices, values):
    return sum(values[candidate] for candidate in choices.items())


@settings(max_examples=60)
@given(
    space=st.one_of(st.just(NESTED), spaces),
    seed=st.integers(0, 10**6),
    share=st.floats(0, 1.1) | st.just(math.inf),
    spend=st.sampled_from([0.0, 0.5, 0.9]),
    made=st.integers(0, 3),
)
def test_the_most_value_within_the_window(space, seed, share, spend, made):
    """Values of either sign; some choices are made already, of forks that may not be reached."""
    table, _, everything = case(space, seed)
    rng = random.Random(seed)
    values = {(label, name): rng.gauss(0, 1) for label, names in space.choices().items() for name in names}
    fixed = rng.sample(sorted(space.choices()), min(made, len(space.choices())))
    fixed = {label: rng.choice(space.choices()[label]) for label in fixed}
    costs = [cost for cost, _ in everything]
    limit = min(costs) + share * (max(costs) - min(costs) or 1) - 2 * (share == 0)
    limit, spend = (math.inf, 0.0) if math.isinf(share) else (round(limit), spend)
    assume(limit > 0)
    found = most_valued(table, limit, spend, values, fixed)
    left = [(cost, a) for cost, a in everything if all(fixed.get(label, n) == n for label, n in a.items())]
    below = [(cost, a) for cost, a in left if cost <= limit]
    window = [value(a, values) for cost, a in below if spend == 0 or cost >= spend * limit]
    if not below:
        assert found is None
        return
    assert (table.exact(found), found) in below
    best = max(window or [value(a, values) for _, a in below])
    assert value(found, values) == pytest.approx(best, abs=1e-9)


def test_where_nothing_is_in_the_window_value_counts_and_not_cost():
    """Costs 1, 10 and 100; the window is [45, 50]."""
    table = CostTable(0.0, ("fork0",), {"fork0": fork_of([1, 10, 100])})
    values = {("fork0", "c0"): -1.0, ("fork0", "c1"): -2.0, ("fork0", "c2"): 5.0}
    assert most_valued(table, 50, 0.9, values) == {"fork0": "c0"}
    assert most_valued(table, 11, 0.9, values) == {"fork0": "c1"}
    assert most_valued(table, 0.5, 0.0, values) is None


def test_a_node_keeps_an_input_whatever_its_value():
    table = whole_tower_table()
    values = {
        (label, name): float(name == "none") for label, fork in table.forks.items() for name in fork.names
    }
    found = most_valued(table, math.inf, 0.0, values)
    for labels in table.nodes.values():
        reached = [found[label] for label in labels if label in found]
        assert reached.count("none") == max(0, len(reached) - 1)
    only = next(labels for labels in table.nodes.values() if len(labels) == 1)
    assert most_valued(table, math.inf, 0.0, values, {only[0]: "none"}) is None


FLAT = Tree(root=Block(forks=((Block(),) * 3,) * 5))


def test_many_architectures_of_nearly_one_cost():
    """243 architectures below a thousand: most costs are met by several, most limits split neighbours."""
    for seed in range(60):
        table, probabilities, everything = case(FLAT, seed)
        costs = sorted(cost for cost, _ in everything)
        limit = costs[random.Random(seed).randrange(len(costs))]
        window = [regret(a, probabilities) for cost, a in everything if 0.97 * limit <= cost <= limit]
        found = within(table, limit, 0.97, probabilities)
        assert regret(found, probabilities) == pytest.approx(min(window), abs=1e-9), seed


@settings(max_examples=40)
@given(space=st.one_of(st.just(NESTED), spaces), seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_costs_of_any_resolution(space, seed, share):
    """Real costs: as good as anything that keeps to the window with the solver's tolerance to spare."""
    table, probabilities, everything = case(space, seed, whole=False)
    limit = table.cheapest() + share * (table.dearest() - table.cheapest()) + 1e-9
    found = within(table, limit, 0.5, probabilities)
    space.check(found)
    assert table.exact(found) <= limit
    spare = 3e-6 * limit
    safe = [
        regret(a, probabilities)
        for cost, a in everything
        if 0.5 * limit + spare <= cost <= limit - spare and cost <= limit
    ]
    if safe:
        assert table.exact(found) >= 0.5 * limit
        assert regret(found, probabilities) <= min(safe) + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_a_limit_of_exactly_the_cheapest(seed):
    table, probabilities, everything = case(NESTED, seed)
    found = within(table, table.cheapest(), 0.9, probabilities)
    assert table.exact(found) == table.cheapest()
    cheapest = [regret(a, probabilities) for cost, a in everything if cost == table.cheapest()]
    assert regret(found, probabilities) == pytest.approx(min(cheapest), abs=1e-9)
    assert within(table, table.cheapest() - 1, 0.9, probabilities) is None


def test_a_limit_of_exactly_the_cheapest_in_fractions():
    """Sums of seconds are not exact; what `cheapest` calls the cheapest must be within its own cost."""
    for seed in range(30):
        table, probabilities, _ = case(NESTED, seed, whole=False)
        found = within(table, table.cheapest(), 0.0, probabilities)
        assert found is not None, seed
        assert table.exact(found) == pytest.approx(table.cheapest())


@pytest.mark.parametrize("seed", range(10))
def test_without_a_limit_it_is_the_argmax(seed):
    table, probabilities, _ = case(NESTED, seed)
    found = within(table, table.dearest(), 0.0, probabilities)
    assert found == {label: max(probabilities[label], key=probabilities[label].get) for label in found}


def test_the_dearest_below_an_empty_window():
    """Costs 1, 10 and 100; the window is [45, 50]."""
    space = Tree(root=Block(forks=((Block(), Block(), Block()),)))
    table = CostTable(0.0, ("fork0",), {"fork0": fork_of([1, 10, 100])})
    probabilities = {"fork0": {"c0": 0.8, "c1": 0.1, "c2": 0.1}}
    assert within(table, 50, 0.9, probabilities) == {"fork0": "c1"}
    assert within(table, 50, 0.0, probabilities) == {"fork0": "c0"}
    assert within(table, 0.5, 0.0, probabilities) is None
    space.check({"fork0": "c1"})


def test_the_dearest_below_a_window_that_is_far_above_the_space():
    table = CostTable(0.0, ("fork0", "fork1"), {"fork0": fork_of([1, 5, 100]), "fork1": fork_of([1, 5, 100])})
    probabilities = {label: {"c0": 0.2, "c1": 0.5, "c2": 0.3} for label in table.forks}
    for factor in (2, 5000):
        assert within(table, factor * table.dearest(), 0.9, probabilities) == {"fork0": "c2", "fork1": "c2"}


def test_the_cheapest_is_not_lost_to_one_of_about_its_cost():
    """1.0 and 1.0004 are one at the resolution of 3.0 / 1000, but only the first leaves room for the rest."""
    table = CostTable(0.0, ("fork0", "fork1"), {"fork0": fork_of([1.0, 1.0004]), "fork1": fork_of([1.9998])})
    probabilities = {"fork0": {"c0": 0.1, "c1": 0.9}, "fork1": {"c0": 1.0}}
    assert within(table, 3.0, 0.9, probabilities) == {"fork0": "c0", "fork1": "c0"}
    assert within(table, 3.1, 0.9, probabilities) == {"fork0": "c1", "fork1": "c0"}


def test_what_exceeds_the_limit_by_less_than_the_solver_tells_apart_is_not_taken():
    table = CostTable(0.0, ("fork0",), {"fork0": fork_of([1 - 1e-8, 1 + 1e-8])})
    assert within(table, 1.0, 0.0, {"fork0": {"c0": 0.1, "c1": 0.9}}) == {"fork0": "c0"}
    table = CostTable(0.0, ("fork0",), {"fork0": fork_of([1 + 2e-8, 1 + 1e-8])})
    assert within(table, 1.0, 0.0, {"fork0": {"c0": 0.1, "c1": 0.9}}) is None


def test_a_candidate_of_probability_zero_is_the_last_resort():
    table = CostTable(0.0, ("fork0",), {"fork0": fork_of([1, 10, 20])})
    probabilities = {"fork0": {"c0": 0.0, "c1": 0.3, "c2": 0.7}}
    assert within(table, 15, 0.0, probabilities) == {"fork0": "c1"}
    assert within(table, 5, 0.0, probabilities) == {"fork0": "c0"}


def test_candidates_that_cost_nothing():
    table = CostTable(5.0, ("fork0", "fork1"), {"fork0": fork_of([0, 0, 3]), "fork1": fork_of([0, 0, 0])})
    probabilities = {label: {"c0": 0.1, "c1": 0.3, "c2": 0.6} for label in table.forks}
    assert within(table, 5, 0.9, probabilities) == {"fork0": "c1", "fork1": "c2"}
    assert within(table, 8, 0.9, probabilities) == {"fork0": "c2", "fork1": "c2"}


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_whole_tower(share):
    """19 forks, whose architectures cannot be counted out: the window is met, and nothing is given away."""
    space = load_space("manas_small")
    table, probabilities = whole_tower_table(), random_probabilities(space, random.Random(0))
    limit = table.cheapest() + share * (table.dearest() - table.cheapest())
    found = within(table, limit, 0.9, probabilities)
    space.check(found)
    assert 0.9 * limit <= table.exact(found) <= limit
    forks = space.forks()
    for label, names in space.choices().items():  # no single change is better
        for name in names:
            other = {**found, label: name}
            if starved_nodes(forks, other):
                continue
            if 0.901 * limit <= table.exact(other) <= 0.999 * limit:
                assert regret(found, probabilities) <= regret(other, probabilities) + 1e-9


@functools.cache
def whole_tower_table():
    return cost_table(load_space("manas_small"), "macs", (3, 64, 64))
