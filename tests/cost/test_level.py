"""The level of a table, by whole networks whose seconds are known."""

import pytest
import torch
from architecture.toy_spaces import NESTED, architectures

from manas.architecture.finding import load_space
from manas.cost.counting import cost_table
from manas.cost.level import levelled, spread


@pytest.fixture(scope="module")
def table():
    return cost_table(load_space("manas_tiny"), "macs", (3, 16, 16))


def scaled(table, fixed, slope):
    return lambda choices: fixed + slope * (table.exact(choices) - table.fixed)


@pytest.mark.parametrize("fixed", [0.0, 1e3, 1e7])
@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_a_line_is_found_again(table, fixed, slope):
    seconds = scaled(table, fixed, slope)
    found = levelled(table, seconds, networks=16, rounds=1)
    for choices in spread(table, 5):
        assert found.exact(choices) == pytest.approx(seconds(choices), rel=0.02)
    assert found.origin == table.origin
    assert found.nodes == table.nodes


def test_nothing_becomes_cheaper_than_nothing(table):
    """Networks that take less than their candidates: the fixed cost ends at zero."""
    found = levelled(table, scaled(table, -1e5, 1.0), networks=16, rounds=1)
    assert found.fixed >= 0
    assert all(fork.own.ge(0).all() for fork in found.forks.values())


def test_the_median_of_the_rounds_counts(table):
    calls = []

    def seconds(choices):
        calls.append(choices)
        slow = 50.0 if len(calls) in (3, 20, 37) else 1.0  # another network each
        return slow * table.exact(choices)

    found = levelled(table, seconds, networks=16, rounds=3)
    assert len(calls) == 48
    assert calls[:16] == calls[16:32] == calls[32:]  # in turns
    for choices in spread(table, 5):
        assert found.exact(choices) == pytest.approx(table.exact(choices), rel=0.02)


def test_a_clock_that_stands_still_leaves_the_table(table):
    assert levelled(table, lambda _: 0.0, networks=4, rounds=1) is table


def test_networks_are_spread_over_the_costs(table):
    costs = [table.exact(choices) for choices in spread(table, 16)]
    assert min(costs) < table.cheapest() * 1.2
    assert max(costs) > 0.4 * table.dearest()
    assert len({round(cost) for cost in costs}) > 8


def test_one_network_is_enough(table):
    found = levelled(table, lambda choices: 2 * table.exact(choices), networks=1, rounds=1)
    (choices,) = spread(table, 1)
    assert found.exact(choices) == pytest.approx(2 * table.exact(choices), rel=0.02)


def test_networks_of_a_nested_space_are_architectures_of_it():
    table = cost_table(NESTED, "parameters", (3, 8, 8))
    every = [dict(each) for each in architectures(NESTED.root)]
    assert all(choices in every for choices in spread(table, 8))


def test_costs_stay_differentiable_doubles(table):
    found = levelled(table, table.exact, networks=4, rounds=1)
    assert all(fork.own.dtype == torch.float64 for fork in found.forks.values())
