"""Evolution as a method of search: a supernet trained on sampled paths, then `evolution` on its weights."""

from __future__ import annotations

import random
from collections.abc import Mapping
from math import gcd

from manas.architecture.choice import relax, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.cost.selection import comparable
from manas.data.dataset.crops import Batch
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.bilevel import Loss
from manas.searching.config import SearchConfig
from manas.searching.evolution import EvolutionConfig, evolve, mutated
from manas.searching.method import SupernetSearch
from manas.training.distributed import Process
from manas.training.run import RunDirectory
from manas.training.schedule import set_rate
from manas.training.step import Terms
from manas.training.validation import beside_input


class EvolutionSearch(SupernetSearch):
    """The search by evolution; every step trains paths that are drawn uniformly, and the alphas stay put."""

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        super().__init__(config, process, directory)
        assert isinstance(config.method, EvolutionConfig)
        batch, most = config.data.batch, config.method.paths
        self.paths = max(n for n in range(1, most + 1) if batch % n == 0)  # of parts of one size

    def step(self, step: int) -> Terms:
        """Takes one step of the weights, each part of the batch on a path that is drawn for it."""
        set_rate(self.weight_descent.optimiser, self.config.schedule.factor(step, self.config.total_steps))
        progress = step / self.config.total_steps
        # Background n of the whole batch goes along path n, modulo the paths, on whatever process it is:
        # a process has every so many-th of them.
        ranks, paths = self.process.world_size, self.paths
        parts = next(self.kept).dealt(paths // gcd(paths, ranks))
        numbers = (step * paths + (part * ranks + self.process.rank) % paths for part in range(len(parts)))

        def loss(part: Batch) -> Loss:
            relax(self.network, OneHot(self._path(next(numbers))))
            return self.objective(self.network, part, progress)

        return self.step_along(self.network, loss, parts, self.weight_descent)

    def judge(self, epoch: int, tracker: Tracker) -> str:
        """Logs the PSNR of one path, the same in every epoch."""
        psnr = self._score(self._path(0))
        scores = {"validation/psnr_of_a_path": psnr, "validation/input": self.data.input}
        tracker.scalars(self.ends[epoch], scores)
        return f"a path {beside_input(psnr, self.data.input)}"

    def finish(self, progress: Progress) -> Genotype:
        """Evolves architectures on the trained weights; returns the genotype of the best."""
        method = self.config.method
        assert isinstance(method, EvolutionConfig)
        scores: list[float] = []

        def score(choices: Mapping[str, str]) -> float:
            scores.append(self._score(choices))
            if not len(scores) % method.population:
                best = max(scores, key=comparable)
                progress.say(f"{len(scores)} of {method.evaluations} architectures: best {best:.2f} dB")
            return scores[-1]

        sample, mutate = self.architectures.sample, self._mutate
        best = evolve(method, sample, mutate, score, seed=self.config.seed)
        genotype = self.genotypes.of(best.choices, psnr_one_hot=best.score, evaluations=len(scores))
        first = max(scores[: method.population], key=comparable)
        verdict = f"evolution raised the best one-hot PSNR from {first:.2f} to {best.score:.2f} dB"
        return self.conclude(genotype, [verdict], progress)

    def _path(self, number: int) -> dict[str, str]:
        return self.architectures.sample(random.Random(f"{self.config.seed}/{number}"))

    def _mutate(self, choices: Mapping[str, str], rng: random.Random) -> dict[str, str]:
        """Changes one fork such that every node keeps an input and the budget holds, if a draw finds such."""
        return self.architectures.fitting(lambda: mutated(self.architectures.forks, choices, rng), rng)

    def _score(self, choices: Mapping[str, str]) -> float:
        """PSNR of a path by batch statistics, since the running ones mix all paths."""
        with relaxed_by(self.network, OneHot(choices)):
            return self.data.psnr(self.network, training=True)
