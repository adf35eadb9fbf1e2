"""The loop of every search that trains a supernet; what differs between methods is in their subclasses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from manas.architecture.choice import choices_of, relaxed_by
from manas.architecture.genotype import Genotype
from manas.data.dataset.backgrounds import Batch
from manas.data.images import write_image
from manas.relaxations.softmax import Softmax
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.learner import Learner
from manas.searching.setting import Setting, placed
from manas.training.checkpoint import load_checkpoint, save_checkpoint
from manas.training.guard import LeftOut
from manas.training.initialise import start
from manas.training.numerics import make_sound, shape_of_pass
from manas.training.step import logged
from manas.training.validation import sample_sheet


class SupernetSearch(ABC):
    """Trains a supernet for the steps of its configuration, then chooses an architecture."""

    def __init__(self, setting: Setting):
        self.setting, self.config, self.process = setting, setting.config, setting.process
        config = self.config
        torch.manual_seed(config.seed)
        relaxation, recompute = config.relaxation, config.checkpointing
        self.network = placed(config.space.supernet(relaxation, recompute=recompute), self.process)
        if not setting.directory.can_resume:
            with relaxed_by(self.network, Softmax()):  # every candidate is run, whatever the relaxation
                start(self.network, setting.backgrounds, self.process)
        shape = shape_of_pass(config.data, self.process, config.accumulate)
        self.numerics = make_sound(self.network, shape, self.process, config.precision)
        self.choices = choices_of(self.network)
        self.learner = Learner(self.network, config, self.process, config.total_steps)
        self.batches: dict[str, Iterator[Batch]] = {}
        self.ended = False  # whether a rule has ended the search before its last step

    @abstractmethod
    def step(self, step: int) -> dict[str, Tensor]:
        """One step of the search; returns its terms by name."""

    @abstractmethod
    def end_epoch(self, epoch: int, tracker: Tracker) -> str:
        """Judges the supernet at the end of an epoch; returns the line that is shown."""

    @abstractmethod
    def choose(self, progress: Progress) -> Genotype:
        """The genotype that the search ends with."""

    def state(self) -> dict[str, Any]:
        """What a method keeps in a checkpoint beside network and weights."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027 (nothing to load is no mistake)
        """Goes on from what `state` returned."""

    def steps_left_out(self) -> LeftOut:
        """The steps whose gradient was broken; waits for the device."""
        return self.learner.descent.check()

    def run(self) -> Genotype:
        """The search from its last checkpoint, if it is resumed, to the genotype."""
        done, config = self._resume(), self.config
        held = max(0, done - config.first_alpha_step)
        backgrounds = self.setting.backgrounds
        self.batches = {
            "kept": backgrounds.batches("kept", step=done),
            "held": backgrounds.batches("held", step=held),
        }
        self.setting.open()
        first = self.process.is_first
        with (
            Tracker(self.setting.directory.path, step=done, enabled=first) as tracker,
            Progress("search", config.total_steps, done=done, enabled=first) as progress,
        ):
            for note in (*backgrounds.notes, *self.numerics):
                progress.say(note)
            for step in range(done, config.total_steps):
                if self.ended:
                    break
                terms = self.step(step)
                progress.advance()
                if (step + 1) % config.log_every == 0:
                    left_out = {"steps_left_out": self.steps_left_out().steps}
                    tracker.scalars(step + 1, logged(terms, self.process) | left_out)
                if (step + 1) % config.steps == 0:
                    self._end_epoch(tracker, progress, (step + 1) // config.steps - 1)
            self.setting.left_out = self.steps_left_out()
            return self.choose(progress)

    def _end_epoch(self, tracker: Tracker, progress: Progress, epoch: int) -> None:
        step = (epoch + 1) * self.config.steps
        left_out = self.steps_left_out()  # before anything is kept
        self.process.average_statistics(self.network)
        self.learner.statistics.remember()
        line = self.end_epoch(epoch, tracker)
        if self.process.is_first:
            sheet = sample_sheet(self.network, self.setting.validation, self.process)
            tracker.image(step, "validation: degraded, restored, clean", sheet)
            write_image(self.setting.directory.path / "samples" / f"epoch_{epoch:04d}.png", sheet)
        tracker.flush()
        save_checkpoint(self.setting.directory.checkpoint, self.process, self._state(step))
        progress.say(f"epoch {epoch}: {line}" + f"; {left_out}" * bool(left_out.steps))

    def _state(self, step: int) -> dict[str, Any]:
        return {
            "kind": "search",
            "step": step,
            "space": self.config.space.model_dump(mode="json"),
            "network": self.network.state_dict(),
            "weights": self.learner.descent.state_dict(),
            **self.state(),
        }

    def _resume(self) -> int:
        """The step to go on from, with everything as it was then."""
        if not self.setting.directory.can_resume:
            return 0
        state = load_checkpoint(self.setting.directory.checkpoint, self.process)
        self.network.load_state_dict(state["network"])
        self.learner.descent.load_state_dict(state["weights"])
        self.load_state(state)
        return state["step"]
