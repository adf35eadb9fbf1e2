"""Random search: the baseline that every search has to beat (Li and Talwalkar, UAI 2019)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import asdict
from itertools import accumulate
from typing import Any

from manas.architecture.genotype import Genotype
from manas.cost.selection import comparable
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.alone import TrainingAlone
from manas.searching.config import RandomConfig, SearchConfig
from manas.searching.method import Method
from manas.searching.shares import equal_shares
from manas.training.distributed import Process
from manas.training.guard import LeftOut
from manas.training.run import RunDirectory
from manas.training.step import Terms


class RandomSearch(Method):
    """The search that draws architectures, trains each for its share of the compute, and takes the best.

    Since each was trained alone, it is judged as a retraining judges (`SearchData.psnr_alone`). An epoch is the
    training of one architecture; a resumed run begins the interrupted training again.
    """

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        super().__init__(config, process, directory)
        assert isinstance(config.method, RandomConfig)
        seeds = (f"{config.seed}/{n}" for n in range(config.method.candidates))
        self.candidates = [self.architectures.sample(random.Random(seed)) for seed in seeds]
        self.ends = list(accumulate(equal_shares(config, self.data, self.candidates)))
        self.training: TrainingAlone | None = None
        self.scores: list[float] = []  # PSNR in dB of the candidates so far
        self.left_out_before = LeftOut()  # the steps left out in the trainings that are complete

    def begin(self, step: int) -> None:
        """Opens no stream, since every candidate has its own."""

    def begin_epoch(self, epoch: int, progress: Progress) -> None:
        """Makes the network of a candidate, with the same seed and the same batches as every other."""
        steps = self.ends[epoch] - (self.ends[epoch - 1] if epoch else 0)
        self.training = TrainingAlone(self, self.candidates[epoch], steps, seed=self.config.seed)
        for note in self.training.notes:
            progress.say(note)

    def step(self, step: int) -> Terms:
        """Takes one step of the weights of the candidate."""
        assert self.training is not None
        return self.training.step()

    def left_out(self) -> LeftOut:
        """The steps of all candidates whose gradient was broken."""
        return self.left_out_before + (self.training.left_out() if self.training else LeftOut())

    def end_epoch(self, epoch: int, tracker: Tracker) -> str:
        """Scores the candidate and writes its genotype."""
        assert self.training is not None
        psnr, steps = self.training.score(), self.training.steps
        self.left_out_before, self.training = self.left_out(), None
        self.scores.append(psnr)
        tracker.scalars(self.ends[epoch], {"validation/psnr_of_a_candidate": psnr})
        genotype = self.genotypes.of(self.candidates[epoch], candidate=epoch, psnr=psnr)
        self.genotypes.keep(_name(epoch), genotype)
        return f"candidate {epoch}: {psnr:.2f} dB after {steps} steps"

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
            "compute": self.meter.state(self.process),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state` returned."""
        self.scores = state["scores"]
        self.left_out_before = LeftOut(**state.get("left_out", {}))  # older checkpoints have none, nor a count
        self.meter.load_state(state.get("compute"), self.process)
        # An earlier version gave the candidates other numbers of steps; those that are left get today's.
        apart = state["step"] - self.ends[len(self.scores) - 1]
        self.ends = [end + apart for end in self.ends]

    def _best(self) -> int:
        return max(range(len(self.scores)), key=lambda n: comparable(self.scores[n]))


def _name(candidate: int) -> str:
    return f"candidate_{candidate:04d}"
