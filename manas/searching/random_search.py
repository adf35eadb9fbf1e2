"""Random search: the baseline that every search has to beat (Li and Talwalkar, UAI 2019)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import asdict
from itertools import accumulate
from typing import Any

import torch

from manas.architecture.genotype import Genotype
from manas.cost.counting import measure
from manas.cost.selection import comparable
from manas.device import place
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.config import RandomConfig, SearchConfig
from manas.searching.method import Method
from manas.training.distributed import Process
from manas.training.guard import LeftOut
from manas.training.initialise import start
from manas.training.run import RunDirectory
from manas.training.schedule import set_rate
from manas.training.step import Terms


class RandomSearch(Method):
    """The search that draws architectures, trains each for its share of the compute, and takes the best.

    An epoch is the training of one architecture; a resumed run begins the interrupted training again.
    """

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        super().__init__(config, process, directory)
        assert isinstance(config.method, RandomConfig)
        seeds = (f"{config.seed}/{n}" for n in range(config.method.candidates))
        self.candidates = [self.architectures.sample(random.Random(seed)) for seed in seeds]
        self.ends = list(accumulate(self._steps()))
        self.scores: list[float] = []  # PSNR in dB of the candidates so far
        self.left_out_before = LeftOut()  # the steps left out in the trainings that are complete

    def begin(self, step: int) -> None:
        """Opens no stream, since every candidate has its own."""

    def begin_epoch(self, epoch: int, progress: Progress) -> None:
        """Makes the network of a candidate, with the same seed and the same batches as every other."""
        torch.manual_seed(self.config.seed)
        self.network = place(self.config.space.network(self.candidates[epoch]), self.process.device)
        start(self.network, self.data.backgrounds, self.process)
        for note in self.sound(self.network):
            progress.say(note)
        self.kept = self.data.for_weights()
        self.first = self.ends[epoch - 1] if epoch else 0
        self.steps = self.ends[epoch] - self.first
        self.weights = self.descent(self.network) if self.steps else None

    def step(self, step: int) -> Terms:
        """Takes one step of the weights of the candidate."""
        assert self.weights is not None
        own = step - self.first
        set_rate(self.weights.optimiser, self.config.schedule.factor(own, self.steps))
        return self.weight_step(self.network, self.weights, next(self.kept), own / self.steps)

    def left_out(self) -> LeftOut:
        """The steps of all candidates whose gradient was broken."""
        return self.left_out_before + (self.weights.check() if self.weights else LeftOut())

    def end_epoch(self, epoch: int, tracker: Tracker) -> str:
        """Scores the candidate and writes its genotype."""
        self.process.average_statistics(self.network)
        self.left_out_before, self.weights = self.left_out(), None
        psnr = self.data.psnr(self.network, training=False)
        self.scores.append(psnr)
        tracker.scalars(self.ends[epoch], {"validation/psnr_of_a_candidate": psnr})
        genotype = self.genotypes.of(self.candidates[epoch], candidate=epoch, psnr=psnr)
        self.genotypes.keep(_name(epoch), genotype)
        return f"candidate {epoch}: {psnr:.2f} dB after {self.steps} steps"

    def finish(self, progress: Progress) -> Genotype:
        """The genotype of the best candidate."""
        numbers = [score for score in self.scores if not math.isnan(score)] or [math.nan]
        low, high = min(numbers), max(numbers)
        count = len(self.candidates)
        verdict = f"the best of {count} random architectures, which reach {low:.2f} to {high:.2f} dB"
        return self.conclude(self.genotypes.kept(_name(self._best())), [verdict], progress)

    def state(self) -> dict[str, Any]:
        """The scores so far, and the choices of the best candidate."""
        return {
            "kind": "search",
            "space": self.config.space.model_dump(mode="json"),
            "choices": self.candidates[self._best()],
            "scores": self.scores,
            "left_out": asdict(self.left_out_before),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state` returned."""
        self.scores = state["scores"]
        self.left_out_before = LeftOut(**state.get("left_out", {}))  # older checkpoints have none

    def _best(self) -> int:
        return max(range(len(self.scores)), key=lambda n: comparable(self.scores[n]))

    def _steps(self) -> list[int]:
        """The number of steps of each candidate: equal shares of the compute of a search by gradient."""
        config, shape = self.config, (3, self.config.data.patch, self.config.data.patch)
        with torch.device("meta"):
            supernet = config.space.supernet()
        # A search by gradient takes a pass for the weights in every step, and one for the alphas after the
        # warm-up.
        passes = 2 * config.total_steps - config.first_alpha_step
        share = passes * measure(supernet, "macs", shape) / len(self.candidates)
        costs = [measure(config.space.network(choices), "macs", shape) for choices in self.candidates]
        # Without multiply-accumulates a network learns nothing, and its steps would cost nothing.
        return [max(1, round(share / macs)) if macs else 0 for macs in costs]


def _name(candidate: int) -> str:
    return f"candidate_{candidate:04d}"
