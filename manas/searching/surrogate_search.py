"""The search by a surrogate: short trainings teach a linear model which architectures to train next."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from manas.architecture.genotype import Genotype
from manas.cost.architectures import Architectures
from manas.cost.budget import amount
from manas.reporting.progress import Progress
from manas.searching.alone_search import AloneSearch
from manas.searching.config import SearchConfig, SurrogateConfig
from manas.searching.reasons import Reason, lead_reason, single_choices
from manas.searching.surrogate import Belief, Surrogate
from manas.training.distributed import Process
from manas.training.run import RunDirectory

DEVIATIONS = 2.0  # of the lead over random architectures, from which a search counts as decided
WORST = 1.0  # dB below all other scores: what a diverged training counts as; a perfect one, as much above


class SurrogateSearch(AloneSearch):
    """The search that trains the architectures that a model of all scores so far holds for promising.

    The first ones are those that the space has by hand, within the smallest budget; of a front, the best of
    them follows within each larger one. Then some are drawn at random. Every later one is the best there is,
    within its budget, by effects drawn from the belief (Thompson sampling), ever closer to those expected. What
    learns fast is not what ends best: the last ones, the finals, have long trainings, as those by hand have,
    and are drawn for that; one with a long training is chosen. Each training starts from a seed of its own, so
    that its luck is noise that the model allows for.

    Attributes:
        within: the architectures within each budget.
        known: the choices of the architectures by hand, as large as the space allows.
        by_hand: the numbers of the trainings of these.
        drawn: the numbers of the trainings whose architectures are drawn at random.
        finals: the numbers of the finals.
    """

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        super().__init__(config, process, directory)
        assert isinstance(config.method, SurrogateConfig)
        method, space, table = config.method, config.space, self.architectures.table
        self.surrogate = Surrogate(table)
        self.within = [Architectures(space, table, budget) for budget in config.budgets or [None]]
        self.known = list(space.by_hand().values()) if method.by_hand else []
        self.by_hand, self.drawn, self.finals = self._phases(method)
        steps = (config.steps * (method.longer if self.is_long(n) else 1) for n in range(config.epochs))
        self.ends = list(accumulate(map(round, steps)))

    def _phases(self, method: SurrogateConfig) -> tuple[range, range, range]:
        """The numbers of the trainings by hand, of those drawn at random and of the finals."""
        trainings, budgets = self.config.epochs, len(self.within)
        drawn = max(2, budgets, round(method.drawn * trainings))
        finals = max(budgets, round(method.finals * trainings)) if method.finals else 0
        by_hand = len(self.known) + budgets - 1 if self.known else 0
        first = min(by_hand, max(0, trainings - drawn - finals))
        last = min(trainings, first + drawn)
        return range(first), range(first, last), range(max(last, trainings - finals), trainings)

    def is_long(self, number: int) -> bool:
        """Whether the training of this number is a long one."""
        return number in self.by_hand or number in self.finals

    def propose(self, number: int) -> dict[str, str]:
        """An architecture that is known, drawn at random, or drawn by the belief after all scores so far.

        The budgets of a front take turns.
        """
        if number in self.by_hand:
            return self.process.share(self._known(number))
        within = self.within[number % len(self.within)]
        if number in self.drawn:
            return within.sample(random.Random(f"{self.config.seed}/{number}"))
        phase = self.finals if number in self.finals else range(self.drawn.start, self.finals.start)
        left = 1 - phase.index(number) / len(phase)
        rng = np.random.default_rng([self.config.seed, number])
        best = within.best(self.belief(long=self.is_long(number)).drawn(rng, boldness=left))
        assert best is not None  # a budget that no architecture meets was refused
        return self.process.share(best)

    def _known(self, number: int) -> dict[str, str]:
        """One by hand within the smallest budget, and after all of them the best within the larger ones."""
        if number < len(self.known):
            return self.within[0].like(self.known[number])
        best = int(np.argmax(self._numbers()[: len(self.known)]))
        return self.within[1 + number - len(self.known)].like(self.known[best])

    def seed_of(self, number: int) -> int:
        """A seed for each architecture."""
        return self.config.seed + number

    def belief(self, *, long: bool) -> Belief:
        """The belief after all scores so far, on short trainings or on long ones."""
        are_long = [self.is_long(n) for n in range(len(self.scores))]
        return self.surrogate.fitted(self.tried, self._numbers(), are_long, long=long)

    def _numbers(self) -> list[float]:
        """The scores, those of diverged and of perfect trainings as numbers."""
        numbers = [score for score in self.scores if math.isfinite(score)] or [0.0]
        worst, perfect = min(numbers) - WORST, max(numbers) + WORST
        return np.nan_to_num(self.scores, nan=worst, neginf=worst, posinf=perfect).tolist()

    def finish(self, progress: Progress) -> Genotype:
        """The genotype of the best architecture by belief and own score, of long trainings if there are any.

        What a score is beyond the belief is in part luck, in part the architecture's own, of which a linear
        model knows nothing; so both count alike.

        Of a front, one for each budget is written; that of the largest is the genotype of the search.
        """
        belief, verdict, front = self.belief(long=any(map(self.is_long, range(len(self.scores))))), [], []
        for within in self.within:
            genotype, sentences = self._chosen(belief, within)
            if len(self.within) > 1:
                assert within.budget is not None
                budget = amount(within.budget.limit, within.budget.metric)
                sentences = [f"{budget}: {sentence}" for sentence in sentences]
                name = f"front_{''.join(budget.split()[:2])}"
                self.genotypes.keep(name, genotype)
                front.append(
                    {"budget": budget, "genotype": name, "candidate": genotype.provenance["candidate"]}
                )
            verdict += sentences
        self.provenance |= {"front": front} if front else {}
        return self.conclude(genotype, verdict, progress)

    def _chosen(self, belief: Belief, within: Architectures) -> tuple[Genotype, list[str]]:
        """The genotype of the best within a budget, and the sentences on it."""
        afforded = [n for n, choices in enumerate(self.tried) if within.affords(choices)]
        afforded = [n for n in afforded if self.is_long(n)] or afforded
        sound = [n for n in afforded if not math.isnan(self.scores[n])] or afforded
        numbers = self._numbers()
        number = self.process.share(max(sound, key=lambda n: belief.score(self.tried[n]) + numbers[n]))
        genotype = self.genotype_of(number)
        reasons = self._reasons(belief, genotype.choices)
        decided = {label: str(reason) for label, reason in reasons.items()}
        genotype = genotype.model_copy(update={"provenance": {**genotype.provenance, "decided_by": decided}})
        drawn = [n for n in self.drawn if within.affords(self.tried[n])]
        return genotype, [self._lead(belief, number, drawn), single_choices(reasons)]

    def _lead(self, belief: Belief, number: int, drawn: Sequence[int]) -> str:
        """The sentence that tells how much better an architecture is than those that were drawn at random."""
        lead, deviation = belief.lead(self.tried[number], *(self.tried[n] for n in drawn))
        reached, is_decided = self.reached([self.scores[n] for n in drawn]), lead > DEVIATIONS * deviation
        return (
            f"{'decided' if is_decided else 'undecided'}: by the scores of {len(self.scores)} trainings it is "
            f"{lead:.2f} dB better (standard deviation {deviation:.2f}) than the mean of {len(drawn)} that "
            f"were drawn at random, which reached {reached} after {self.config.steps} steps"
            + ("" if is_decided else "; search with more epochs, or longer ones")
        )

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
