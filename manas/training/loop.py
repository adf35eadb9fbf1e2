"""The one training loop; searches, baselines and retraining are its jobs, each with steps of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.training.checkpoint import load_checkpoint, save_checkpoint
from manas.training.distributed import Process
from manas.training.guard import LeftOut
from manas.training.run import RunDirectory
from manas.training.step import Terms, logged

Result = TypeVar("Result")


class Job(ABC, Generic[Result]):
    """Work in steps that form epochs; an interrupted job goes on exactly from the end of its last epoch.

    Attributes:
        title: the name that the progress bar shows.
        process, directory: the process that the job runs in, and the directory that it writes to.
        ends: the number of steps after which each epoch ends.
        log_every: steps between two entries of the metrics.
        notes: sentences for the user before the first step.
        files: texts that the run directory holds from the start, by name.
        ended: whether the job has ended before its last epoch, by a rule of its own.
    """

    title: str
    process: Process
    directory: RunDirectory
    ends: Sequence[int]
    log_every: int
    notes: Sequence[str] = ()
    files: Mapping[str, str] = {}
    ended: bool = False

    @abstractmethod
    def begin(self, step: int) -> None:
        """Opens the streams of batches at the position of `step`."""

    def begin_epoch(self, epoch: int, progress: Progress) -> None:  # noqa: B027 (most have nothing to prepare)
        """Prepares the steps of an epoch."""

    @abstractmethod
    def step(self, step: int) -> Terms:
        """Takes one step and returns the terms of its loss, by the names that they are logged under."""

    @abstractmethod
    def left_out(self) -> LeftOut:
        """The steps so far whose gradient was broken; waits for the device."""

    def numbers(self) -> dict[str, float]:
        """The numbers that are logged beside the terms; waits for the device."""
        return {"steps_left_out": self.left_out().steps}

    @abstractmethod
    def end_epoch(self, epoch: int, tracker: Tracker) -> str:
        """Judges the network and writes the files of an epoch; returns the line that the user sees."""

    @abstractmethod
    def finish(self, progress: Progress) -> Result:
        """Completes the job after its last epoch and returns its result."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint keeps beside the position in the loop."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state` returned."""


def run(job: Job[Result]) -> Result:
    """Carries out a job, from its last checkpoint if its run is resumed, and returns its result."""
    epochs, done = _resume(job)
    job.begin(done)
    # The directory is written to last, so that a mistake in the data or the checkpoint leaves it as it was.
    job.directory.open(job.files)
    first = job.process.is_first
    with (
        Tracker(job.directory.path, step=done, enabled=first) as tracker,
        Progress(job.title, job.ends[-1], done=done, enabled=first) as progress,
    ):
        for note in job.notes:
            progress.say(note)
        for epoch in range(epochs, len(job.ends)):
            if job.ended:
                break
            job.begin_epoch(epoch, progress)
            for step in range(done, job.ends[epoch]):
                terms = job.step(step)
                progress.advance()
                if (step + 1) % job.log_every == 0:
                    tracker.scalars(step + 1, logged(terms, job.process) | job.numbers())
            done = job.ends[epoch]
            progress.say(_end_epoch(job, epoch, tracker))
        return job.finish(progress)


def _end_epoch(job: Job, epoch: int, tracker: Tracker) -> str:
    """Ends an epoch and saves its checkpoint; returns the line that the user sees."""
    left_out = job.left_out()  # raises after many broken steps in a row, before the checkpoint is overwritten
    line = job.end_epoch(epoch, tracker)
    tracker.flush()  # the metrics must hold every step of the checkpoint, to which a resumed run cuts them back
    place = {"step": job.ends[epoch], "epochs": epoch + 1}
    save_checkpoint(job.directory.checkpoint, job.process, place | job.state())
    return f"{line}; {left_out}" if left_out.steps else line


def _resume(job: Job) -> tuple[int, int]:
    """Restores a job from its last checkpoint, if it is resumed; returns the epochs and steps that are done."""
    if not job.directory.can_resume:
        return 0, 0
    state = load_checkpoint(job.directory.checkpoint, job.process)
    job.load_state(state)
    epochs = state.get("epochs", bisect_right(job.ends, state["step"]))  # older checkpoints do not count them
    return epochs, state["step"]
