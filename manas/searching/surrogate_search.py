"""The search by a surrogate: short trainings teach a linear model which architectures to train next."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import numpy as np

from manas.architecture.genotype import Genotype
from manas.reporting.progress import Progress
from manas.searching.alone_search import AloneSearch
from manas.searching.config import SearchConfig, SurrogateConfig
from manas.searching.reasons import Reason, lead_reason, sentence
from manas.searching.surrogate import Belief, Surrogate
from manas.training.distributed import Process
from manas.training.run import RunDirectory

WORST = 1.0  # dB below all other scores: what a diverged training counts as; a perfect one, as much above


class SurrogateSearch(AloneSearch):
    """The search that trains the architectures that a model of all scores so far holds for promising.

    The first ones are drawn at random. Every later one is the best there is, within the budget, by effects
    drawn from the belief (Thompson sampling), ever closer to those expected. Each starts from a seed of its
    own, so that its luck is noise that the model allows for.
    """

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        super().__init__(config, process, directory)
        assert isinstance(config.method, SurrogateConfig)
        self.ends = range(config.steps, config.total_steps + 1, config.steps)
        self.drawn = min(config.epochs, max(2, round(config.method.drawn * config.epochs)))
        self.surrogate = Surrogate(self.architectures.table)

    def propose(self, number: int) -> dict[str, str]:
        """An architecture that is drawn at random, or by the belief after all scores so far."""
        if number < self.drawn:
            return self.architectures.sample(random.Random(f"{self.config.seed}/{number}"))
        rng = np.random.default_rng([self.config.seed, number])
        left = 1 - number / self.config.epochs
        best = self.architectures.best(self.belief().drawn(rng, boldness=left))
        assert best is not None  # a budget that no architecture meets was refused
        return self.process.share(best)

    def seed_of(self, number: int) -> int:
        """A seed for each architecture."""
        return self.config.seed + number

    def belief(self) -> Belief:
        """The belief after all scores so far."""
        numbers = [score for score in self.scores if math.isfinite(score)] or [0.0]
        worst, perfect = min(numbers) - WORST, max(numbers) + WORST
        scores = np.nan_to_num(self.scores, nan=worst, neginf=worst, posinf=perfect).tolist()
        return self.surrogate.fitted(self.tried, scores)

    def finish(self, progress: Progress) -> Genotype:
        """The genotype of the architecture, of those that were trained, that the belief holds for the best."""
        belief, count = self.belief(), len(self.scores)
        sound = [n for n in range(count) if not math.isnan(self.scores[n])] or range(count)
        number = self.process.share(max(sound, key=lambda n: belief.score(self.tried[n])))
        genotype = self.genotype_of(number)
        reasons = self._reasons(belief, genotype.choices)
        decided = {label: str(reason) for label, reason in reasons.items()}
        genotype = genotype.model_copy(update={"provenance": {**genotype.provenance, "decided_by": decided}})
        verdict = [
            f"the best of {count} trainings by what all of them say: {self.scores[number]:.2f} dB; the first "
            f"{self.drawn}, drawn at random, reach {self.range(self.scores[: self.drawn])}",
            sentence(reasons, count, "trainings"),
        ]
        return self.conclude(genotype, verdict, progress)

    def _reasons(self, belief: Belief, choices: Mapping[str, str]) -> dict[str, Reason]:
        """Why each choice was made: by the data, if no other candidate, with what suits it best, comes near."""
        values, forks = belief.expected(), self.architectures.table.forks
        reasons = {}
        for label, name in choices.items():
            others = [{**choices, label: each} for each in forks[label].names if each != name]
            rivals = [self.architectures.best(values, given, unlimited=True) for given in others]
            # A candidate that leaves a node without input is no rival.
            reasons[label] = lead_reason([belief.lead(choices, each) for each in rivals if each])
        return reasons
