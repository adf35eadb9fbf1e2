"""Retraining: the genotypes become the towers of one network, which is trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manas.architecture.finding import space_class
from manas.architecture.genotype import Genotype
from manas.config import read_config
from manas.cost.table import costs
from manas.data.dataset.backgrounds import Backgrounds, Batch
from manas.data.dataset.source_config import SourceConfig
from manas.data.images import write_image
from manas.device import place
from manas.errors import ManasError
from manas.reporting.drawing.stitches import draw_stitches, raster_of_stitches
from manas.reporting.progress import Progress
from manas.reporting.report.page import write_report
from manas.reporting.stitches import Stitches, stitches_of
from manas.reporting.tracking import Tracker
from manas.restoration.losses import require_effect
from manas.restoration.model_file import ModelDescription, save_model
from manas.restoration.network import size_multiple_of, tasks_of
from manas.training.assembly import whole_genotype
from manas.training.checkpoint import load_checkpoint, save_checkpoint
from manas.training.config import RetrainConfig
from manas.training.distributed import Process, started
from manas.training.ema import MovingAverage
from manas.training.guard import LeftOut
from manas.training.initialise import initialise, start
from manas.training.numerics import make_sound, shape_of_pass
from manas.training.optimiser import Descent, RunningStatistics, decay_groups
from manas.training.run import RunDirectory, versions
from manas.training.schedule import set_rate
from manas.training.statistics import Statistics
from manas.training.step import Objective, Terms, logged
from manas.training.validation import sample_sheet, validate


def retrain(
    config: RetrainConfig | Mapping[str, Any] | str | Path, *, resume: bool = False, overwrite: bool = False
) -> Path:
    """Trains the network of the genotypes and returns the path of its model file, the best by validation.

    Args:
        config: the configuration, the mapping of one, or the path of its YAML file.
        resume: go on with the run in the run directory, exactly.
        overwrite: replace it.

    Raises:
        ManasError: for a bad configuration, genotypes or data that cannot be used, or a run directory that
            holds a run.
    """
    config = read_config(RetrainConfig, config)
    genotype = whole_genotype(config)
    with started(config.device) as process:
        run = RunDirectory(config, config.run, process, resume=resume, overwrite=overwrite)
        return _Retraining(config, genotype, process, run).run()


class _Retraining:
    def __init__(self, config: RetrainConfig, genotype: Genotype, process: Process, directory: RunDirectory):
        torch.manual_seed(config.seed)
        self.config, self.genotype, self.process, self.directory = config, genotype, process, directory
        self.total = config.epochs * config.steps
        self.tasks = tasks_of(genotype.space)
        self.network = place(genotype.network(), process.device)
        shape = shape_of_pass(config.data, process)
        self.numerics = make_sound(self.network, shape, process, config.precision)
        require_effect(config.loss, genotype.space, genotype.choices)
        self.backgrounds = Backgrounds(
            config.data,
            self.tasks,
            seed=config.seed,
            held_share=config.validation_share,
            multiple=size_multiple_of(self.network),
            **process.share_of_data(),
        )
        if not directory.can_resume:  # the checkpoint has all weights, and the files may be gone
            start(self.network, self.backgrounds, process)
            trusted = space_class(config.space, trusted=True) if config.space else None
            initialise(self.network, config.init, trusted)
        self.validation = self.backgrounds.validation("held")
        self.average = MovingAverage(self.network, config.average)
        self.statistics = Statistics(self.backgrounds, process)
        optimiser = config.optimiser.build(decay_groups(self.network, config.stitch_rate))
        self.descent = Descent(optimiser, RunningStatistics(self.network), config.optimiser.clip)
        self.objective = Objective(config.loss, process, config.precision)
        self.parallel = process.in_parallel(self.network)
        self.best = float("-inf")
        self.cost = costs(self.network, (3, config.data.patch, config.data.patch))

    def run(self) -> Path:
        done = self._resume()
        batches = self.backgrounds.batches("kept", step=done)
        self.directory.open()
        first = self.process.is_first
        with (
            Tracker(self.directory.path, step=done, enabled=first) as tracker,
            Progress("retrain", self.total, done=done, enabled=first) as progress,
        ):
            for note in (*self.backgrounds.notes, *self.numerics):
                progress.say(note)
            for step in range(done, self.total):
                terms = self._step(next(batches), step)
                progress.advance()
                if (step + 1) % self.config.log_every == 0:
                    self._log(tracker, step + 1, terms)
                if (step + 1) % self.config.steps == 0:
                    self._end_epoch(tracker, progress, (step + 1) // self.config.steps - 1)
        if first:
            write_report(self.directory.path)
        return self.directory.path / "model.safetensors"

    def _step(self, batch: Batch, step: int) -> Terms:
        set_rate(self.descent.optimiser, self.config.schedule.factor(step, self.total))
        self.parallel.train()
        loss, terms = self.objective(self.parallel, batch, step / self.total)
        loss.backward()
        norm = self.descent.step()
        self.average.update(step)
        return terms | {"gradient": norm}

    def _log(self, tracker: Tracker, step: int, terms: Mapping[str, Tensor]) -> None:
        named = {f"training/{name}": mean for name, mean in logged(terms, self.process).items()}
        rate = self.descent.optimiser.param_groups[0]["lr"]
        tracker.scalars(step, named | {"rate": rate, "steps_left_out": self.descent.check().steps})

    def _end_epoch(self, tracker: Tracker, progress: Progress, epoch: int) -> None:
        step = (epoch + 1) * self.config.steps
        left_out = self.descent.check()
        self.process.average_statistics(self.network)
        self.descent.statistics.remember()
        if self.config.statistics == "estimated":
            self.statistics.estimate(self.average.network)
        else:
            self.process.average_statistics(self.average.network)
        scores = self._validate()
        values = {f"validation/{name}": value for name, value in scores.items()}
        stitches = stitches_of(self.average.network)
        tracker.scalars(step, values | (stitches.values if stitches else {}))
        improved = epoch == 0 or scores["psnr"] > self.best
        self.best = max(self.best, scores["psnr"])
        if self.process.is_first:
            self._write(tracker, step, self._description(epoch, scores, left_out), improved)
            if stitches:
                self._draw(tracker, step, stitches)
        tracker.flush()
        save_checkpoint(self.directory.checkpoint, self.process, self._state(step))
        by_task = ", ".join(f"{task} {scores[f'psnr/{task}']:.2f}" for task in self.config.data.tasks)
        line = f"epoch {epoch}: {scores['psnr']:.2f} dB ({by_task}){' *' if improved else ''}"
        progress.say(line + f"; {left_out}" * bool(left_out.steps))

    def _validate(self) -> dict[str, float]:
        precision = self.config.precision
        return validate(self.average.network, self.validation, self.tasks, self.process, precision)

    def _write(self, tracker: Tracker, step: int, description: ModelDescription, improved: bool) -> None:
        sheet = sample_sheet(self.average.network, self.validation, self.process)
        tracker.image(step, "validation: degraded, restored, clean", sheet)
        epoch = description.training["epoch"]
        write_image(self.directory.path / "samples" / f"epoch_{epoch:04d}.png", sheet)
        for name in ("last", "model") if improved else ("last",):
            save_model(self.directory.path / f"{name}.safetensors", self.average.network, description)

    def _draw(self, tracker: Tracker, step: int, stitches: Stitches) -> None:
        tracker.image(step, "stitches", raster_of_stitches(stitches))
        draw_stitches(stitches, self.directory.path / "stitches.png")

    def _description(self, epoch: int, scores: Mapping[str, float], left_out: LeftOut) -> ModelDescription:
        training = versions() | {
            "seed": self.config.seed,
            "epoch": epoch,
            "steps": (epoch + 1) * self.config.steps,
            "config_sha256": self.directory.digest(),
            **self.cost,
            "validation": dict(scores),
            "steps_left_out": left_out.steps,
        }
        training |= {"broken_gradients": left_out.parameters} if left_out.names else {}
        training |= {"numerics": "; ".join(self.numerics)} if self.numerics else {}
        seen = {task: [s.model_dump(mode="json") for s in self._sources(task)] for task in self.tasks}
        return ModelDescription(genotype=self.genotype, training=training, degradations=seen)

    def _sources(self, task: str) -> list[SourceConfig]:
        return [source for source in self.config.data.sources if source.task == task]

    def _state(self, step: int) -> dict[str, Any]:
        return {
            "kind": "retrain",
            "step": step,
            "best": self.best,
            "genotype": self.genotype.to_json(),
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "descent": self.descent.state_dict(),
        }

    def _resume(self) -> int:
        """The step to go on from, with everything as it was then."""
        if not self.directory.can_resume:
            return 0
        state = load_checkpoint(self.directory.checkpoint, self.process)
        if state["genotype"] != self.genotype.to_json():
            raise ManasError(
                f"{self.directory.path}: the genotypes have changed; resume with those it began with"
            )
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self.descent.load_state_dict(state["descent"])
        self.best = state["best"]
        return state["step"]
