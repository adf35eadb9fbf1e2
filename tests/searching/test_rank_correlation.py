"""Kendall's tau of predictors with trainings, its standard error, and what is said of it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from manas.searching.rank_correlation import Tau, pairwise, rank_correlations, sentence_on, tau_b

SIZES = {"architectures": 12, "steps": 300, "seeds": 2}


def rows(count=12, seed=0, noise=0.0, seed_noise=0.0):
    """Architectures whose truth is their number; MACs fall with it, and parameters are all equal."""
    rng = np.random.default_rng(seed)
    return [
        {
            "one_hot": n + noise * rng.standard_normal(),
            "macs": -float(n),
            "parameters": 7.0,
            "synflow": rng.standard_normal(),
            "alone": [n + seed_noise * rng.standard_normal() for _ in range(2)],
        }
        for n in range(count)
    ]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=15))
def test_tau_is_that_of_scipy(pairs):
    one, other = np.array(pairs, dtype=float).T
    expected = kendalltau(one, other).statistic
    assert tau_b(pairwise(one), pairwise(other)) == pytest.approx(0.0 if math.isnan(expected) else expected)


def test_of_a_known_order():
    taus = rank_correlations(rows(), seed=0)
    names = ("one_hot", "macs", "parameters", "another_seed")
    assert [taus[name].tau for name in names] == pytest.approx([1, -1, 0, 1])
    assert taus["beyond_size"].tau == pytest.approx(1)  # than parameters, the better of the two
    assert taus["one_hot"].error == pytest.approx(0)


def test_the_standard_error_is_the_spread_over_draws_of_architectures():
    """By drawing 300 sets of 12 architectures from the same population."""
    found = [rank_correlations(rows(seed=n, noise=8.0), seed=n)["one_hot"] for n in range(30)]
    population = np.std([kendalltau(*_pair(seed)).statistic for seed in range(300)])
    assert np.mean([tau.error for tau in found]) == pytest.approx(population, rel=0.35)


def _pair(seed):
    drawn = rows(seed=seed, noise=8.0)
    return np.array([row["one_hot"] for row in drawn]), np.arange(12.0)


def test_a_training_that_failed_is_the_worst():
    told = rows()
    told[11]["alone"] = [None, None]
    told[10]["one_hot"] = None
    truth = [*range(11), -1]
    predicted = [*range(10), -1, 11]
    expected = kendalltau(truth, predicted).statistic
    assert rank_correlations(told, seed=0)["one_hot"].tau == pytest.approx(expected)


def test_the_ceiling_is_the_tau_of_two_seeds():
    told = rows(seed_noise=3.0)
    one, other = zip(*(row["alone"] for row in told), strict=True)
    found = rank_correlations(told, seed=0)["another_seed"].tau
    assert found == pytest.approx(kendalltau(one, other).statistic)


@pytest.mark.parametrize(
    ("one_hot", "beyond", "says"),
    [
        (Tau(0.3, 0.2), Tau(0.3, 0.2), "no more than chance gives"),
        (Tau(-0.9, 0.1), Tau(-0.9, 0.1), "no more than chance gives"),
        (Tau(0.5, 0.2), Tau(0.1, 0.2), "no more than size alone tells"),
        (Tau(0.5, 0.2), Tau(0.5, 0.2), "more than size alone tells"),
    ],
)
def test_what_is_said(one_hot, beyond, says):
    others = {"macs": Tau(0.4, 0.1), "parameters": Tau(0.1, 0.1), "synflow": Tau(0.2, 0.1)}
    others["another_seed"] = Tau(0.76, 0.1)
    text = sentence_on({**others, "one_hot": one_hot, "beyond_size": beyond}, SIZES)
    assert text == (
        "the one-hot scores rank 12 random architectures as their trainings alone do (300 steps, 2 seeds) with "
        f"Kendall's tau {one_hot.tau:.2f} (standard error {one_hot.error:.2f}), {says}; two seeds have 0.76 "
        "(standard error 0.10); without a supernet: macs 0.40, parameters 0.10, synflow 0.20"
    )


def test_scores_by_lot_seldom_tell_more_than_chance():
    """Of 60 sets, few exceed two standard errors by lot."""
    rng = np.random.default_rng(5)
    claims = 0
    for n in range(60):
        told = [row | {"one_hot": rng.standard_normal(), "macs": rng.standard_normal()} for row in rows(seed=n)]
        tau = rank_correlations(told, seed=n)["one_hot"]
        claims += tau.tau > 2 * tau.error
    assert claims <= 6
