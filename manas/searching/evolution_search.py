"""Evolution as a method of search: a supernet trained on sampled paths, then `evolution` on its weights."""

from __future__ import annotations

import random
from collections.abc import Mapping

from manas.architecture.choice import relax, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.cost.selection import comparable
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.evolution import EvolutionConfig, evolve, mutated
from manas.searching.method import SupernetSearch
from manas.training.schedule import set_rate
from manas.training.step import Terms


class EvolutionSearch(SupernetSearch):
    """Every step trains one path, drawn uniformly; the alphas stay where they are."""

    def step(self, step: int) -> Terms:
        """One step of the weights on the path that this step draws."""
        relax(self.network, OneHot(self._path(step)))
        set_rate(self.weights.optimiser, self.config.schedule.factor(step, self.config.total_steps))
        return self.weight_step(self.network, self.weights, next(self.kept), step / self.config.total_steps)

    def judge(self, epoch: int, tracker: Tracker) -> str:
        """PSNR of one path, the same in every epoch."""
        psnr = self._score(self._path(0))
        tracker.scalars(self.ends[epoch], {"validation/psnr_of_a_path": psnr})
        return f"a path {psnr:.2f} dB"

    def finish(self, progress: Progress) -> Genotype:
        """The best of all that lived."""
        method = self.config.method
        assert isinstance(method, EvolutionConfig)
        lived: list[float] = []

        def score(choices: Mapping[str, str]) -> float:
            lived.append(self._score(choices))
            if not len(lived) % method.population:
                best = max(lived, key=comparable)
                progress.say(f"{len(lived)} of {method.evaluations} architectures: best {best:.2f} dB")
            return lived[-1]

        sample, mutate = self.architectures.sample, self._mutated
        best = evolve(method, sample, mutate, score, seed=self.config.seed)
        genotype = self.genotypes.of(best.choices, psnr_one_hot=best.score, evaluations=len(lived))
        first = max(lived[: method.population], key=comparable)
        verdict = f"evolution raised the best one-hot PSNR from {first:.2f} to {best.score:.2f} dB"
        return self.conclude(genotype, [verdict], progress)

    def _path(self, step: int) -> dict[str, str]:
        return self.architectures.sample(random.Random(f"{self.config.seed}/{step}"))

    def _mutated(self, choices: Mapping[str, str], rng: random.Random) -> dict[str, str]:
        """A change of one fork that leaves every node an input and keeps to the budget, if one is found."""
        return self.architectures.fitting(lambda: mutated(self.architectures.forks, choices, rng), rng)

    def _score(self, choices: Mapping[str, str]) -> float:
        """By batch statistics: the running ones are of all paths together."""
        with relaxed_by(self.network, OneHot(choices)):
            return self.data.psnr(self.network, training=True)
