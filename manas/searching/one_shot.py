"""Evolution as a method of search: a supernet trained on sampled paths, then `evolution` on its weights."""

from __future__ import annotations

import random
from collections.abc import Mapping

from torch import Tensor

from manas.architecture.choice import relax, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.cost.selection import comparable
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.evolution import EvolutionConfig, evolve, mutated
from manas.searching.loop import SupernetSearch
from manas.searching.setting import Setting


class EvolutionSearch(SupernetSearch):
    """Every step trains one path, drawn uniformly; the alphas stay where they are."""

    def __init__(self, setting: Setting, method: EvolutionConfig):
        super().__init__(setting)
        self.method = method

    def step(self, step: int) -> dict[str, Tensor]:
        """One step of the weights on the path that this step draws."""
        relax(self.network, OneHot(self._path(step)))
        return self.learner.step(next(self.batches["kept"]), step)

    def end_epoch(self, epoch: int, tracker: Tracker) -> str:
        """PSNR of one path, the same in every epoch."""
        psnr = self._score(self._path(0))
        tracker.scalars((epoch + 1) * self.config.steps, {"validation/psnr_of_a_path": psnr})
        return f"a path {psnr:.2f} dB"

    def choose(self, progress: Progress) -> Genotype:
        """The best of all that lived."""
        lived: list[float] = []

        def score(choices: Mapping[str, str]) -> float:
            lived.append(self._score(choices))
            if not len(lived) % self.method.population:
                best = max(lived, key=comparable)
                progress.say(f"{len(lived)} of {self.method.evaluations} architectures: best {best:.2f} dB")
            return lived[-1]

        sample, mutate = self.setting.sample, self._mutated
        best = evolve(self.method, sample, mutate, score, seed=self.config.seed)
        genotype = self.setting.genotype(best.choices, psnr_one_hot=best.score, evaluations=len(lived))
        first = max(lived[: self.method.population], key=comparable)
        said = f"evolution raised the best one-hot PSNR from {first:.2f} to {best.score:.2f} dB"
        return self.setting.finish(genotype, [said], progress)

    def _path(self, step: int) -> dict[str, str]:
        return self.setting.sample(random.Random(f"{self.config.seed}/{step}"))

    def _mutated(self, choices: Mapping[str, str], rng: random.Random) -> dict[str, str]:
        """A change of one fork that leaves every node an input and keeps to the budget, if one is found."""
        return self.setting.fitting(lambda: mutated(self.setting.forks, choices, rng), rng)

    def _score(self, choices: Mapping[str, str]) -> float:
        """By batch statistics: the running ones are of all paths together."""
        with relaxed_by(self.network, OneHot(choices)):
            return self.setting.psnr(self.network, training=True)
