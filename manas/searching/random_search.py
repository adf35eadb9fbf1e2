"""Random search: the baseline that every search has to beat (Li and Talwalkar, UAI 2019)."""

from __future__ import annotations

import math
import random
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from manas.architecture.genotype import Genotype
from manas.cost.selection import comparable
from manas.cost.table import measure
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.config import RandomConfig
from manas.searching.learner import Learner
from manas.searching.setting import Setting, placed
from manas.training.checkpoint import load_checkpoint, save_checkpoint
from manas.training.guard import LeftOut
from manas.training.initialise import start
from manas.training.numerics import make_sound, shape_of_pass
from manas.training.step import logged


class RandomSearch:
    """Draws architectures, trains each for its share of the compute, keeps the best by validation.

    A run that is resumed begins the architecture in which it was interrupted again.
    """

    def __init__(self, setting: Setting, method: RandomConfig):
        self.setting, self.config, self.process = setting, setting.config, setting.process
        seeds = (f"{self.config.seed}/{n}" for n in range(method.candidates))
        self.candidates = [setting.sample(random.Random(seed)) for seed in seeds]
        self.scores: list[float] = []  # dB, of the candidates so far

    def run(self) -> Genotype:
        """The search from the last candidate, if it is resumed, to the genotype."""
        steps = self._steps()
        done = self._resume()
        self.setting.open()
        first = self.process.is_first
        with (
            Tracker(self.setting.directory.path, step=sum(steps[:done]), enabled=first) as tracker,
            Progress("search", sum(steps), done=sum(steps[:done]), enabled=first) as progress,
        ):
            for note in self.setting.backgrounds.notes:
                progress.say(note)
            for candidate in range(done, len(steps)):
                self._train(candidate, steps, tracker, progress)
            best = self._best()
            genotype = self.setting.kept_genotype(_name(best))
            numbers = [score for score in self.scores if not math.isnan(score)] or [math.nan]
            low, high = min(numbers), max(numbers)
            said = f"the best of {len(steps)} random architectures, which reach {low:.2f} to {high:.2f} dB"
            return self.setting.finish(genotype, [said], progress)

    def _train(self, candidate: int, steps: list[int], tracker: Tracker, progress: Progress) -> None:
        torch.manual_seed(self.config.seed)  # the same start for all
        before = sum(steps[:candidate])
        network = placed(self.config.space.network(self.candidates[candidate]), self.process)
        start(network, self.setting.backgrounds, self.process)
        if steps[candidate]:
            self._learn(network, steps[candidate], before, tracker, progress)
        self.scores.append(self.setting.psnr(network, training=False))
        self._keep(candidate, before + steps[candidate], tracker)
        progress.say(f"candidate {candidate}: {self.scores[-1]:.2f} dB after {steps[candidate]} steps")

    def _learn(self, network: nn.Module, steps: int, before: int, tracker: Tracker, progress: Progress) -> None:
        shape = shape_of_pass(self.config.data, self.process, self.config.accumulate)
        for note in make_sound(network, shape, self.process, self.config.precision):
            progress.say(note)
        learner = Learner(network, self.config, self.process, steps)
        batches = self.setting.backgrounds.batches("kept")
        for step in range(steps):
            terms = learner.step(next(batches), step)
            progress.advance()
            if (before + step + 1) % self.config.log_every == 0:
                left_out = {"steps_left_out": learner.descent.check().steps}
                tracker.scalars(before + step + 1, logged(terms, self.process) | left_out)
        self.setting.left_out += learner.descent.check()
        self.process.average_statistics(network)

    def _keep(self, candidate: int, step: int, tracker: Tracker) -> None:
        psnr = self.scores[candidate]
        tracker.scalars(step, {"validation/psnr_of_a_candidate": psnr})
        if self.process.is_first:
            genotype = self.setting.genotype(self.candidates[candidate], candidate=candidate, psnr=psnr)
            genotype.write(self.setting.genotype_path(_name(candidate)))
        tracker.flush()
        best = self.candidates[self._best()]
        state: dict[str, Any] = {"kind": "search", "step": step, "scores": self.scores}
        state["left_out"] = asdict(self.setting.left_out)
        state |= {"space": self.config.space.model_dump(mode="json"), "choices": best}
        save_checkpoint(self.setting.directory.checkpoint, self.process, state)

    def _resume(self) -> int:
        """The number of candidates that are done."""
        if self.setting.directory.can_resume:
            state = load_checkpoint(self.setting.directory.checkpoint, self.process)
            self.scores = state["scores"]
            self.setting.left_out = LeftOut(**state.get("left_out", {}))  # older checkpoints have none
        return len(self.scores)

    def _best(self) -> int:
        return max(range(len(self.scores)), key=lambda n: comparable(self.scores[n]))

    def _steps(self) -> list[int]:
        """Steps of each candidate, which cost its share of what a search by gradient would cost."""
        config, shape = self.config, self.setting.patch
        with torch.device("meta"):
            supernet = config.space.supernet()
        passes = 2 * config.total_steps - config.first_alpha_step  # of weights, and of alphas after the warm-up
        share = passes * measure(supernet, "macs", shape) / len(self.candidates)
        costs = [measure(config.space.network(choices), "macs", shape) for choices in self.candidates]
        return [max(1, round(share / macs)) if macs else 0 for macs in costs]  # without any it learns nothing


def _name(candidate: int) -> str:
    return f"candidate_{candidate:04d}"
