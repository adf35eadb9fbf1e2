"""Kendall's rank correlation of predictors with the truth, and its standard error.

The truth of an architecture is its mean PSNR over several short trainings alone. The tau of two seeds is the
ceiling of every predictor. MACs, parameters and SynFlow need no supernet. Their bias is size
(NAS-Bench-Suite-Zero; Krishnakumar et al., NeurIPS 2022), so one-hot scores have to tell more than size does.
Standard errors are by a bootstrap over the architectures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

PREDICTORS = ("one_hot", "macs", "parameters", "synflow")
RESAMPLES = 1000

# An architecture: its `choices`, a number for each predictor, and the PSNR of its training `alone` by seed.
Row = dict[str, Any]


class Tau(NamedTuple):
    """Kendall's tau-b, and its standard error."""

    tau: float
    error: float

    def __str__(self) -> str:
        return f"{self.tau:.2f} (standard error {self.error:.2f})"


def rank_correlations(rows: Sequence[Row], seed: int) -> dict[str, Tau]:
    """Kendall's tau with the truth of every predictor, and of one seed with another as `another_seed`.

    Architectures whose training failed are the worst. `beyond_size` is the tau of the one-hot scores less the
    larger one of MACs and parameters.
    """
    alone = np.array([[_score(psnr) for psnr in row["alone"]] for row in rows])  # (N, seeds)
    truth, seeds = pairwise(alone.mean(1)), [pairwise(psnr) for psnr in alone.T]
    predictors = {name: pairwise([_score(row[name]) for row in rows]) for name in PREDICTORS}
    size = max(("macs", "parameters"), key=lambda name: tau_b(predictors[name], truth))

    def taus(places: np.ndarray) -> dict[str, float]:
        of = np.ix_(places, places)
        found = {name: tau_b(predictor[of], truth[of]) for name, predictor in predictors.items()}
        found["another_seed"] = float(np.mean([tau_b(a[of], b[of]) for a, b in combinations(seeds, 2)]))
        return found | {"beyond_size": found["one_hot"] - found[size]}

    rng, every = np.random.default_rng(seed), np.arange(len(rows))
    resamples = [taus(rng.choice(every, len(every))) for _ in range(RESAMPLES)]
    spread = {name: float(np.std([each[name] for each in resamples])) for name in resamples[0]}
    return {name: Tau(tau, spread[name]) for name, tau in taus(every).items()}


def pairwise(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """(N, N), for each pair of values: 1 where the first is larger, -1 where it is smaller, 0 in a tie."""
    ranks = rankdata(values)  # infinities have no difference, but a rank
    return np.sign(np.subtract.outer(ranks, ranks))


def tau_b(one: np.ndarray, other: np.ndarray) -> float:
    """Kendall's tau-b by the pairs (N, N) of `pairwise`; 0 if either is constant, which ranks nothing."""
    scale = math.sqrt((one * one).sum() * (other * other).sum())
    return float((one * other).sum() / scale) if scale else 0.0


def _score(value: float | None) -> float:
    return -math.inf if value is None else value


def sentence_on(taus: Mapping[str, Tau], sizes: Mapping[str, int]) -> str:
    """The sentence that tells what the one-hot scores are worth.

    Args:
        sizes: the numbers of `architectures`, of their `seeds`, and of the `steps` of each training.
    """
    own, beyond = taus["one_hot"], taus["beyond_size"]
    if own.tau < 2 * own.error:
        worth = "no more than chance gives"
    elif beyond.tau < 2 * beyond.error:
        worth = "no more than size alone tells"
    else:
        worth = "more than size alone tells"
    free = ", ".join(f"{name} {taus[name].tau:.2f}" for name in PREDICTORS[1:])
    return (
        f"the one-hot scores rank {sizes['architectures']} random architectures as their trainings alone do "
        f"({sizes['steps']} steps, {sizes['seeds']} seeds) with Kendall's tau {own}, {worth}; two seeds have "
        f"{taus['another_seed']}; without a supernet: {free}"
    )
