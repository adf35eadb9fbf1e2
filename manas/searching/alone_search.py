"""The searches that train architectures alone, one after another, without a supernet."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from manas.architecture.genotype import Genotype
from manas.cost.selection import comparable
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.alone import TrainingAlone
from manas.searching.config import SearchConfig
from manas.searching.method import Method
from manas.training.distributed import Process
from manas.training.guard import LeftOut
from manas.training.run import RunDirectory
from manas.training.step import Terms
from manas.training.validation import beside_input


class AloneSearch(Method):
    """A search whose epochs are trainings, each of one architecture from its first step to its last.

    Since each is trained alone, it is judged as a retraining judges (`SearchData.psnr_alone`). A resumed run
    begins the interrupted training again.

    Attributes:
        tried: the architectures so far.
        scores: their PSNR in dB; one score less than `tried` during a training.
    """

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        super().__init__(config, process, directory)
        self.tried: list[dict[str, str]] = []
        self.scores: list[float] = []
        self.training: TrainingAlone | None = None
        self.left_out_before = LeftOut()  # the steps left out in the trainings that are complete

    @abstractmethod
    def propose(self, number: int) -> dict[str, str]:
        """The architecture that is trained as the one of this number, from 0."""

    def seed_of(self, number: int) -> int:
        """The seed of the first weights of the architecture of this number."""
        return self.config.seed

    def begin(self, step: int) -> None:
        """Opens no stream, since every architecture has its own."""

    def begin_epoch(self, epoch: int, progress: Progress) -> None:
        """Makes the network of an architecture; it sees the same batches as every other."""
        steps = self.ends[epoch] - (self.ends[epoch - 1] if epoch else 0)
        self.tried.append(self.propose(epoch))
        self.training = TrainingAlone(self, self.tried[-1], steps, seed=self.seed_of(epoch))
        for note in self.training.notes:
            progress.say(note)

    def step(self, step: int) -> Terms:
        """Takes one step of the weights."""
        assert self.training is not None
        return self.training.step()

    def left_out(self) -> LeftOut:
        """The steps of all trainings whose gradient was broken."""
        return self.left_out_before + (self.training.left_out() if self.training else LeftOut())

    def end_epoch(self, epoch: int, tracker: Tracker) -> str:
        """Scores the architecture and writes its genotype."""
        assert self.training is not None
        psnr, steps = self.training.score(), self.training.steps
        self.left_out_before, self.training = self.left_out(), None
        self.scores.append(psnr)
        cost = self.architectures.table.exact(self.tried[epoch])
        scores = {"validation/psnr_of_a_candidate": psnr, "validation/input": self.data.input}
        tracker.scalars(self.ends[epoch], scores | {"candidate/cost": cost})
        self.genotypes.keep(_name(epoch), self.genotypes.of(self.tried[epoch], candidate=epoch, psnr=psnr))
        return f"candidate {epoch}: {beside_input(psnr, self.data.input)} after {steps} steps"

    def genotype_of(self, number: int) -> Genotype:
        """The genotype of the architecture of this number, as it was kept."""
        return self.genotypes.kept(_name(number))

    def best(self) -> int:
        """The number of the architecture with the highest score."""
        return max(range(len(self.scores)), key=lambda n: comparable(self.scores[n]))

    @staticmethod
    def reached(scores: list[float]) -> str:
        """The lowest and the highest of scores in words, those that are no numbers left out."""
        numbers = [score for score in scores if not math.isnan(score)] or [math.nan]
        return f"{min(numbers):.2f} to {max(numbers):.2f} dB"

    def state(self) -> dict[str, Any]:
        """The architectures and scores so far, and the choices of the best."""
        return {
            "kind": "search",
            "space": self.config.space.model_dump(mode="json"),
            "choices": self.tried[self.best()],
            "tried": self.tried,
            "scores": self.scores,
            "left_out": asdict(self.left_out_before),
            "compute": self.meter.state(self.process),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state` returned."""
        self.scores = state["scores"]
        # Checkpoints of earlier versions name no architectures, since only random search wrote any, nor counts.
        self.tried = state.get("tried") or [self.propose(number) for number in range(len(self.scores))]
        self.left_out_before = LeftOut(**state.get("left_out", {}))
        self.meter.load_state(state.get("compute"), self.process)


def _name(number: int) -> str:
    return f"candidate_{number:04d}"
