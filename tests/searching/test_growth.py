"""The eigenvalue's growth: what the two rules call growth in noise, and what in a doubling."""

from itertools import pairwise, permutations

import numpy as np
import pytest

from manas.searching.growth import Growth, eigenvalue_growth
from manas.searching.health import Health, Tally
from manas.searching.verdict import StopConfig, should_stop, verdict

EPOCHS, SEARCHES = 30, 400
RULES = {rule: StopConfig(eigenvalue_growth=1.3, eigenvalue_rule=rule) for rule in ("published", "trend")}
COURSES = {
    "flat": np.ones(EPOCHS),
    "doubled": np.concatenate([2 ** (np.arange(10) / 9), np.full(EPOCHS - 10, 2.0)]),  # over ten epochs
}


def history(eigenvalues):
    none = Tally(0, 0, 0.0)
    return [
        Health(epoch, 30.0, 30.0, {"a+b": 0.1}, none, none, gradient=0.1, eigenvalue=float(value))
        for epoch, value in enumerate(eigenvalues)
    ]


def share_stopped(course, noise, rule):
    """The share of searches that a rule ends in one of their epochs."""
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(SEARCHES):
        factors = np.maximum(1 + noise * rng.standard_normal(EPOCHS), 0.01)
        epochs = history(COURSES[course] * factors)
        ended += any(should_stop(epochs[: n + 1], RULES[rule]) for n in range(EPOCHS))
    return ended / SEARCHES


@pytest.mark.parametrize(
    ("course", "noise", "rule", "low", "high"),
    [
        ("flat", 0.1, "published", 0.0, 0.01),
        ("flat", 0.3, "published", 0.55, 0.67),
        ("flat", 0.1, "trend", 0.0, 0.01),
        ("flat", 0.3, "trend", 0.0, 0.04),
        ("doubled", 0.1, "published", 0.89, 0.97),
        ("doubled", 0.3, "published", 0.93, 0.99),
        ("doubled", 0.1, "trend", 0.89, 0.97),
        ("doubled", 0.3, "trend", 0.66, 0.79),
    ],
)
def test_the_shares_that_are_told(course, noise, rule, low, high):
    """The figures of `manas.searching.growth` and of docs/searching.md."""
    assert low <= share_stopped(course, noise, rule) <= high


def test_the_rule_by_default_is_that_with_a_trend():
    assert StopConfig(eigenvalue_growth=1.3) == RULES["trend"]


def test_the_verdict_calls_the_same_growth():
    rng = np.random.default_rng(1)
    told, growth = 0, "the eigenvalue of the alphas grew from"
    for _ in range(200):
        epochs = history(1 + 0.3 * rng.standard_normal(EPOCHS))
        stop = should_stop(epochs, RULES["trend"])
        sentence = any(text.startswith(growth) for text in verdict(epochs))
        assert sentence == (stop is not None)
        told += sentence
    assert told <= 4
    doubled = COURSES["doubled"]
    assert not verdict(history(doubled))[0].startswith(growth)  # it is flat in the end
    assert verdict(history(doubled[:10]))[0].startswith(growth)


def test_the_chance_of_a_rise_is_the_share_of_orders_that_rise_as_much():
    """By brute force over all orders of six values: the pairs that rise."""
    values = [0.1, 0.2, 0.4, 0.3, 0.6, 0.5]

    def rises(order):
        return sum(b > a for n, a in enumerate(order) for b in order[n + 1 :])

    orders = list(permutations(values))
    share = sum(rises(order) >= rises(values) for order in orders) / len(orders)
    assert Growth(1.0, 1.0, 0, values).chance == pytest.approx(share, rel=1e-9)


def test_a_constant_has_no_trend():
    growth = eigenvalue_growth(history([0.5] * 12))
    assert not growth.chance < 0.01
    assert not growth.exceeds(0.9)
    assert growth.exceeds(0.9, "published")


def test_a_rise_without_noise_is_a_trend_from_five_values_on():
    chances = [Growth(1.0, 2.0, 0, list(range(n))).chance for n in range(2, 9)]
    assert all(later < earlier for earlier, later in pairwise(chances))
    assert [chance < 0.01 for chance in chances] == [False, False, False, True, True, True, True]
