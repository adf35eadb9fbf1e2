"""What the tabular benchmark shows: its spread and noise, what tells a good architecture, and what finds one.

    python experiments/benchmarks/tabular_findings.py TABLE.json

The quality of an architecture is the mean of its PSNR on light and on heavy rain. Methods are played on the
table: each sees what a training would have shown it (the validation of a seed after so many steps) and pays for
it; what it chooses is judged by the quality on scenes that nothing was chosen by, in the mean over the seeds.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr

import manas
from manas.cost.counting import measure

DRAWS = 2000  # plays of each method
BUDGET = 8  # full trainings that a search may cost
HALVINGS = ((24, 1), (12, 2), (5, 4), (2, 6))  # so many architectures are trained up to so many sixths
LEVELS = ("light", "heavy")


class Row(NamedTuple):
    """An architecture of the table.

    Attributes:
        name: its name.
        psnr: (S, 2) PSNR of its seeds on light and heavy rain.
        validation: (6,) the validation PSNR of its first seed after each sixth of the steps.
        features: its counts by name.
    """

    name: str
    psnr: np.ndarray
    validation: np.ndarray
    features: Mapping[str, float]

    @property
    def quality(self) -> float:
        return float(self.psnr.mean())


def rows_of(table: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a table."""
    for name, row in table["rows"].items():
        seeds = list(row["seeds"].values())
        psnr = np.array([[seed["psnr"][level] for level in LEVELS] for seed in seeds])
        validation = np.array(list(seeds[0]["validation"].values()))
        costs = {"MACs": row["macs"], "parameters": row["parameters"]}
        yield Row(name, psnr, validation, counts(row["choices"]) | costs)


def counts(choices: Mapping[str, str]) -> dict[str, float]:
    """How often an architecture has each kind of block, scale, expansion, second block and gate."""
    found: dict[str, float] = {}
    for label, choice in choices.items():
        if choice not in ("none", "skip_connect"):
            last = label.split("/")[-1]
            key = choice if last in ("kind", "expansion", "gate") else last
            found[key] = found.get(key, 0) + 1
    return found


def spread(rows: list[Row]) -> Iterator[str]:
    """The mean, the best and the noise of random architectures, by level."""
    for place, level in enumerate((*LEVELS, "mean")):
        values = np.array([row.psnr.mean(0)[place] if place < 2 else row.quality for row in rows])
        repeated = [row.psnr[:, place] if place < 2 else row.psnr.mean(1) for row in rows if len(row.psnr) > 1]
        noise = np.sqrt(np.mean([each.var(ddof=1) for each in repeated]))
        first, second = np.array([each[:2] for each in repeated]).T
        share = 1 - noise**2 / np.var([row.psnr[0].mean() if place > 1 else row.psnr[0, place] for row in rows])
        tau = kendalltau(first, second).statistic
        cells = (f"{v:.2f}" for v in (values.mean(), values.std(ddof=1), values.max(), noise, share, tau))
        yield f"| {level} | {' | '.join(cells)} |"


def predictors(rows: list[Row]) -> Iterator[str]:
    """Kendall's tau with the quality of what is known before, or early in, a training."""
    quality = np.array([row.quality for row in rows])
    for name in ("MACs", "parameters"):
        yield name, kendalltau([row.features[name] for row in rows], quality).statistic
    sixths = len(rows[0].validation)
    for sixth in range(sixths):
        found = kendalltau([row.validation[sixth] for row in rows], quality).statistic
        yield f"validation after {sixth + 1}/{sixths} of the steps", found
    yield "ridge regression on counts, each left out", kendalltau(left_out(rows), quality).statistic


def matrix(rows: list[Row]) -> np.ndarray:
    """(N, F + 1) the counts of architectures, and a constant."""
    names = sorted({name for row in rows for name in row.features if name not in ("MACs", "parameters")})
    values = np.array([[row.features.get(name, 0.0) for name in names] for row in rows])
    return np.concatenate([(values - values.mean(0)) / (values.std(0) + 1e-9), np.ones((len(rows), 1))], 1)


def ridge(x: np.ndarray, y: np.ndarray, weight: float = 5.0) -> np.ndarray:
    """(F + 1,) the coefficients of a ridge regression, whose constant is free."""
    penalty = weight * np.eye(x.shape[1])
    penalty[-1, -1] = 0
    return np.linalg.solve(x.T @ x + penalty, x.T @ y)


def left_out(rows: list[Row]) -> np.ndarray:
    """(N,) the quality of each architecture by a regression on all others."""
    x, y = matrix(rows), np.array([row.quality for row in rows])
    keep = ~np.eye(len(rows), dtype=bool)
    return np.array([x[n] @ ridge(x[keep[n]], y[keep[n]]) for n in range(len(rows))])


def carriers(rows: list[Row]) -> Iterator[tuple[str, float, float]]:
    """Spearman's correlation of every count with PSNR on light and on heavy rain."""
    psnr = np.array([row.psnr.mean(0) for row in rows])
    for name in sorted({name for row in rows for name in row.features}):
        values = [row.features.get(name, 0.0) for row in rows]
        yield name, *(spearmanr(values, psnr[:, level]).statistic for level in (0, 1))


Method = Callable[[list[Row], random.Random], Row]


def one(rows: list[Row], rng: random.Random) -> Row:
    return rng.choice(rows)


def best_of_eight(rows: list[Row], rng: random.Random) -> Row:
    return max(rng.sample(rows, BUDGET), key=lambda row: row.validation[-1])


def dearest_of_eight(rows: list[Row], rng: random.Random) -> Row:
    return max(rng.sample(rows, BUDGET), key=lambda row: row.features["MACs"])


def halving(rows: list[Row], rng: random.Random) -> Row:
    """Trains many a little, and of those that are ahead ever fewer ever longer."""
    left = rng.sample(rows, HALVINGS[0][0])
    for (_, sixths), (after, _) in zip(HALVINGS, (*HALVINGS[1:], (1, 0)), strict=True):
        left = sorted(left, key=lambda row: row.validation[sixths - 1], reverse=True)[:after]
    return left[0]


def guided(rows: list[Row], rng: random.Random) -> Row:
    """Trains five, and three times the one that a regression on what was trained holds for best."""
    x, order = matrix(rows), {row.name: place for place, row in enumerate(rows)}
    trained = rng.sample(rows, BUDGET - 3)
    for _ in range(3):
        places = [order[row.name] for row in trained]
        coefficients = ridge(x[places], np.array([row.validation[-1] for row in trained]))
        others = [row for row in rows if row.name not in {each.name for each in trained}]
        trained.append(max(others, key=lambda row: float(x[order[row.name]] @ coefficients)))
    return max(trained, key=lambda row: row.validation[-1])


METHODS: dict[str, Method] = {
    "a random architecture": one,
    "random search, 8 trainings": best_of_eight,
    "the dearest of 8": dearest_of_eight,
    "successive halving": halving,
    "guided by regression, 8 trainings": guided,
}


def played(rows: list[Row], method: Method) -> tuple[float, float, float]:
    """The mean percentile of what a method chooses, its regret in dB, and the share in the best 5 percent."""
    quality = np.sort([row.quality for row in rows])
    chosen = np.array([method(rows, random.Random(seed)).quality for seed in range(DRAWS)])
    percentiles = np.searchsorted(quality, chosen, side="right") / len(quality)
    return percentiles.mean(), (quality[-1] - chosen).mean(), (percentiles > 0.95).mean()


def supernet_macs(table: Mapping[str, Any]) -> float:
    """The MACs of a network of all candidates, which a step of a search by gradient goes through."""
    with torch.device("meta"):
        return measure(manas.load_space(table["space"]).supernet(), "macs", (3, *table["size"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    table = json.loads(parser.parse_args().table.read_text())
    rows = list(rows_of(table))
    drawn = [row for row in rows if row.name.startswith("random")]
    print(f"{len(drawn)} random architectures, {sum(len(row.psnr) > 1 for row in drawn)} with several seeds\n")
    ratio = supernet_macs(table) / np.mean([row.features["MACs"] for row in drawn])
    print(f"The supernet has {ratio:.0f} times the MACs of their mean.\n")
    print("| PSNR | mean | deviation | best | noise | share that is architecture | tau of two seeds |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(spread(drawn)))
    for row in rows:
        if row not in drawn:
            light, heavy = row.psnr.mean(0)
            print(f"{row.name}: {light:.2f} / {heavy:.2f}")
    print("\n| predictor | tau with the quality |\n|---|---|")
    print("\n".join(f"| {name} | {tau:.2f} |" for name, tau in predictors(drawn)))
    print("\n| count | light | heavy |\n|---|---|---|")
    print("\n".join(f"| {name} | {light:+.2f} | {heavy:+.2f} |" for name, light, heavy in carriers(drawn)))
    print("\n| method | percentile | regret, dB | in the best 5 % |\n|---|---|---|---|")
    for name, method in METHODS.items():
        if len(drawn) > HALVINGS[0][0]:
            percentile, regret, top = played(drawn, method)
            print(f"| {name} | {percentile:.0%} | {regret:.2f} | {top:.0%} |")


if __name__ == "__main__":
    main()
