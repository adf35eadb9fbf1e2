"""A linear model of what architectures score, fitted to the scores of a few of them.

    score = level + sum over an architecture's choices of their effects + effect of cost * cost + noise

The effect of a choice has three parts: one in common with the candidates of its name at all forks that offer
the same, one in common with those at the same place of other stages, and one of its own. So a model of hundreds
of candidates is fitted to tens of architectures. All parts are Gaussian a priori, as large at rare candidates
as at frequent ones (ridge regression with its uncertainty; Bishop, Pattern Recognition and Machine Learning,
2006, section 3.3). Linear models of architectures predict as well as others where few were trained (White et
al., NeurIPS 2021).

What learns fast is not what ends best. So scores are of short trainings or of long ones, which have a level of
their own, and what effects in common change by in a long training is learned from the few that are long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from manas.cost.table import CostTable

Candidate = tuple[str, str]  # label and name
Values = Mapping[Candidate, float]

OWN = (0.0, 0.1, 0.3)  # deviations of an effect at one fork, in those of the common effects
COST = 30.0  # deviation of the effect of the whole cost of the dearest architecture, which has tens of choices
LATE = (0.5, 0.2, 1.0)  # deviations of what a long training changes; the first while none was long
NOISE = (0.1, 0.3, 1.0, 3.0, 10.0)  # variances of the noise, in those of the effects of an architecture


class Surrogate:
    """The model of a space before it has seen a score.

    Attributes:
        columns: (C, D) the features that each of the C candidates adds to an architecture: one for each common
            effect, its cost, one for each own effect, and those of effects in common and cost once more, for
            what a long training changes.
        common: the number of effects in common, the cost among them.
    """

    def __init__(self, table: CostTable):
        candidates = [(label, name) for label, fork in table.forks.items() for name in fork.names]
        self.place = {candidate: n for n, candidate in enumerate(candidates)}
        around = _around(table)
        effects = [_common_effects(table, around, *candidate) for candidate in candidates]
        known = {effect: n for n, effect in enumerate(dict.fromkeys(e for each in effects for e in each))}
        columns = np.zeros((len(candidates), len(known) + 1))
        for row, of in zip(columns, effects, strict=True):
            row[[known[effect] for effect in of]] = 1.0
        costs = np.concatenate([fork.own.numpy() for fork in table.forks.values()])
        columns[:, -1] = COST * costs / (table.dearest() or 1.0)
        self.common = columns.shape[1]
        self.columns = np.concatenate([columns, np.eye(len(columns)), columns], 1)

    def counting(self, *, long: bool) -> np.ndarray:
        """(D,) which features count in a training that is long or short, as 1 and 0."""
        return np.repeat([1.0, float(long)], [self.common + len(self.columns), self.common])

    def features(self, choices: Mapping[str, str], *, long: bool = False) -> np.ndarray:
        """(D,) the features of an architecture in a training that is long or short."""
        rows = [self.place[each] for each in choices.items()]
        return self.columns[rows].sum(0) * self.counting(long=long)

    def fitted(
        self,
        architectures: Sequence[Mapping[str, str]],
        scores: Sequence[float],
        are_long: Sequence[bool] | None = None,
        *,
        long: bool = False,
    ) -> Belief:
        """The belief after N scores; of the deviations `OWN`, `NOISE` and `LATE` it takes the most likely ones.

        Args:
            are_long: whether the training of each score was long; none was unless given.
            long: whether the belief is asked of long trainings.
        """
        y, groups = np.array(scores, dtype=float), np.array(are_long or [False] * len(scores))
        features = np.array(
            [self.features(each, long=of) for each, of in zip(architectures, groups, strict=True)]
        )
        asked = groups == long if (groups == long).any() else ~groups
        centre, level = features[asked].mean(0), y[asked].mean()
        for group in (groups, ~groups):  # each is about a level of its own
            if group.any():
                features[group] -= features[group].mean(0)
                y[group] -= y[group].mean()
        levels = len(set(groups.tolist()))
        beliefs = [
            Belief(self, centre, level, self._prior(own, late), noise, features, y, levels, long)
            for late, own, noise in product(LATE if levels > 1 else LATE[:1], OWN, NOISE)
        ]
        return max(beliefs, key=lambda belief: belief.likelihood)

    def _prior(self, own: float, late: float) -> np.ndarray:
        """(D,) the variances of the effects: 1 of a common one."""
        return np.repeat([1.0, own**2, late**2], [self.common, len(self.columns), self.common])


def _around(table: CostTable) -> dict[str, Candidate]:
    """The candidate that a fork stands inside, by label; an outermost fork stands in none."""
    return {
        inner: (label, name)
        for label, fork in table.forks.items()
        for name, inside in zip(fork.names, fork.inside, strict=True)
        for inner in inside
    }


def _common_effects(
    table: CostTable, around: Mapping[str, Candidate], label: str, name: str
) -> tuple[Hashable, Hashable]:
    """The keys of the two effects that a candidate has in common with others."""
    place = re.sub(r"[0-9]+", "#", label)  # the same of ``stage0/full`` and ``stage1/full``
    inside, outer = [], label
    while outer in around:
        outer, enclosing = around[outer]
        inside.append(enclosing)
    return (table.forks[label].names, name), (place, *inside, name)


@dataclass
class Belief:
    """What the scores of N architectures say of all effects.

    Attributes:
        surrogate: the model.
        centre: (D,) the mean features of the architectures, of those whose trainings are asked of.
        level: their mean score.
        prior: (D,) the variances of the effects before, up to the factor `scale`.
        noise: the variance of a score about its architecture, in the mean variance of an architecture.
        centred: (N, D) the features less their means, over the short trainings or the long ones.
        residuals: (N,) the scores less their means.
        levels: the number of these means, 1 or 2.
        long: whether long trainings are asked of.
    """

    surrogate: Surrogate
    centre: np.ndarray
    level: float
    prior: np.ndarray
    noise: float
    centred: np.ndarray
    residuals: np.ndarray
    levels: int = 1
    long: bool = False

    def __post_init__(self) -> None:
        count = len(self.residuals)
        free = max(1, count - self.levels)  # each level has taken one
        kernel = (self.centred * self.prior) @ self.centred.T
        self.noise *= float(np.trace(kernel)) / count or 1.0
        covariance = kernel + self.noise * np.eye(count)  # of the scores, up to `scale`
        self.gain = np.linalg.solve(covariance, self.centred * self.prior).T  # (D, N)
        self.effects = self.gain @ self.residuals  # (D,) their means
        self.scale = max(1e-12, float(self.residuals @ np.linalg.solve(covariance, self.residuals)) / free)
        # Residuals add up to zero whatever is true, so the variance of that, the noise, does not count.
        volume = np.linalg.slogdet(covariance)[1] - self.levels * math.log(self.noise)
        self.likelihood = -free / 2 * math.log(self.scale) - volume / 2

    def score(self, choices: Mapping[str, str]) -> float:
        """The expected score of an architecture."""
        return self.level + float((self._features(choices) - self.centre) @ self.effects)

    def lead(self, choices: Mapping[str, str], *others: Mapping[str, str]) -> tuple[float, float]:
        """The expected lead of an architecture over another, or over the mean of others, and its deviation."""
        apart = self._features(choices) - np.mean([self._features(each) for each in others], 0)
        seen = self.centred @ (self.prior * apart)  # (N,)
        variance = float(apart @ (self.prior * apart) - apart @ self.gain @ seen)
        return float(apart @ self.effects), math.sqrt(max(0.0, variance) * self.scale)

    def expected(self) -> Values:
        """What each candidate adds to the expected score."""
        return self._values(self.effects)

    def drawn(self, rng: np.random.Generator, boldness: float = 1.0) -> Values:
        """What each candidate adds to the score by effects that are drawn from the belief.

        Args:
            boldness: factor on how far the effects are from those expected.
        """
        # An effect of the prior, corrected as the data of a world with these effects would correct it.
        effects = rng.standard_normal(len(self.prior)) * np.sqrt(self.prior * self.scale)
        noise = rng.standard_normal(len(self.residuals)) * math.sqrt(self.noise * self.scale)
        apart = effects - self.gain @ (self.centred @ effects + noise)
        return self._values(self.effects + boldness * apart)

    def _values(self, effects: np.ndarray) -> Values:
        values = self.surrogate.columns @ (effects * self.surrogate.counting(long=self.long))
        return dict(zip(self.surrogate.place, values.tolist(), strict=True))

    def _features(self, choices: Mapping[str, str]) -> np.ndarray:
        return self.surrogate.features(choices, long=self.long)
