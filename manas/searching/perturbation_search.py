"""The search by gradient whose architecture is selected by perturbation (DARTS-PT; Wang et al., ICLR 2021)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from manas.architecture.choice import relax, relaxed_by
from manas.architecture.forks import every_fork
from manas.architecture.genotype import Genotype
from manas.relaxations.base import Relaxation
from manas.reporting.progress import Progress
from manas.searching.config import SearchConfig
from manas.searching.correlation import correlate
from manas.searching.gradient import GradientSearch
from manas.searching.perturbation import (
    PerturbationConfig,
    Projected,
    select_by_perturbation,
    tuning_factor,
)
from manas.searching.verdict import verdict
from manas.training.distributed import Process
from manas.training.run import RunDirectory
from manas.training.schedule import set_rate


class PerturbationSearch(GradientSearch):
    """The search by gradient that asks its last supernet which candidates it misses most."""

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        super().__init__(config, process, directory)
        self.chosen: dict[str, str] = {}

    def finish(self, progress: Progress) -> Genotype:
        """The genotype of the candidates that the supernet misses most."""
        selection, epoch = self.config.selection, self.config.epochs - 1
        assert isinstance(selection, PerturbationConfig)
        correlate(self, progress)  # before the supernet is tuned to one of its architectures
        choices = self._choose(selection, progress)
        relax(self.network, self._noiseless(epoch))
        health = self.review.health(choices, epoch)
        genotype = self.genotypes.of(choices, epoch=epoch, selection=selection.kind, **health.scores)
        return self.conclude(genotype, verdict([health], by_alphas=False), progress)

    def _choose(self, selection: PerturbationConfig, progress: Progress) -> dict[str, str]:
        mean, training = self._noiseless(self.config.epochs - 1), self.config.alpha_statistics == "batch"
        forks, steps = self.architectures.forks, itertools.count()
        most = selection.tune_steps * len(list(every_fork(forks)))  # fewer, where forks are not reached

        def score(kept: Mapping[str, str], missing: tuple[str, str] | None) -> float:
            with relaxed_by(self.network, Projected(mean, kept, missing)):
                return self.data.psnr(self.network, training=training)

        def tune(kept: Mapping[str, str]) -> None:
            self.chosen = dict(kept)
            for step in itertools.islice(steps, selection.tune_steps):
                rate = tuning_factor(step, most, self.config.schedule.floor)
                set_rate(self.weight_descent.optimiser, rate)
                self._learn(self.config.total_steps + step, alphas=selection.alphas == "learn")

        return select_by_perturbation(
            forks,
            score,
            tune,
            seed=self.config.seed,
            allowance=self.architectures.allowance,
            decided=lambda label, name: progress.say(f"{label}: {name}"),
        )

    def _relax(self, step: int, draw: int) -> Relaxation:
        relaxation = super()._relax(step, draw)
        if self.chosen:
            relax(self.network, Projected(relaxation, self.chosen))
        return relaxation
