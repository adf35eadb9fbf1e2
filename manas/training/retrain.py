"""Retraining: the genotypes become the towers of one network, which is trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from manas.architecture.finding import space_class
from manas.architecture.genotype import Genotype
from manas.config import read_config
from manas.cost.counting import costs
from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.config import SourceConfig
from manas.device import place
from manas.errors import ManasError
from manas.reporting.drawing.stitches import draw_stitches, raster_of_stitches
from manas.reporting.progress import Progress
from manas.reporting.report.page import write_report
from manas.reporting.stitch_numbers import stitches_of
from manas.reporting.tracking import Tracker
from manas.restoration.losses import require_effect
from manas.restoration.model_file import ModelDescription, save_model
from manas.restoration.network import size_multiple_of, tasks_of
from manas.training.assembly import whole_genotype
from manas.training.config import RetrainConfig
from manas.training.distributed import Process, started
from manas.training.ema import MovingAverage
from manas.training.estimated_statistics import Statistics
from manas.training.guard import LeftOut
from manas.training.initialise import initialise, named, start
from manas.training.loop import Job, run
from manas.training.numerics import make_sound, shape_of_pass
from manas.training.optimiser import Descent, RunningStatistics, decay_groups
from manas.training.run import RunDirectory, versions
from manas.training.schedule import set_rate
from manas.training.step import Objective, Terms, under
from manas.training.validation import beside_input, sample_sheet, untouched, validate, write_samples


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
        directory = RunDirectory(config, config.run, process, resume=resume, overwrite=overwrite)
        return run(_Retraining(config, genotype, process, directory))


class _Retraining(Job[Path]):
    title = "retrain"

    def __init__(self, config: RetrainConfig, genotype: Genotype, process: Process, directory: RunDirectory):
        torch.manual_seed(config.seed)
        self.config, self.genotype, self.process, self.directory = config, genotype, process, directory
        self.log_every, self.steps = config.log_every, config.epochs * config.steps
        self.ends = range(config.steps, self.steps + 1, config.steps)
        self.tasks = tasks_of(genotype.space)
        self.network = place(genotype.network(), process.device)
        self.numerics = make_sound(self.network, shape_of_pass(config.data, process), process, config.precision)
        require_effect(config.loss, genotype.space, genotype.choices)
        self.backgrounds = Backgrounds(
            config.data,
            self.tasks,
            seed=config.seed,
            held_share=config.validation_share,
            multiple=size_multiple_of(self.network),
            **process.share_of_data(),
        )
        self.notes = [*self.backgrounds.notes, *self.numerics]
        if not directory.can_resume:  # a checkpoint has all weights, and the files of `init` may be gone
            start(self.network, self.backgrounds, process)
            trusted = space_class(config.space, trusted=True) if config.space else None
            initialise(self.network, config.init, trusted)
        self.validation = self.backgrounds.validation("held")
        self.input = untouched(self.validation, self.tasks, process)
        self.average = MovingAverage(self.network, config.average)
        self.statistics = Statistics(self.backgrounds, process)
        optimiser = config.optimiser.build(decay_groups(self.network, config.stitch_rate))
        self.descent = Descent(optimiser, RunningStatistics(self.network), config.optimiser.clip)
        self.objective = Objective(config.loss, process, config.precision)
        # Wrapped after the average and the optimiser were made, whose names would else begin with "module.".
        self.parallel = process.in_parallel(self.network)
        self.best = float("-inf")
        # Measured once: the network does not change in cost, and every epoch writes a description.
        self.cost = costs(self.network, (3, config.data.patch, config.data.patch))

    def begin(self, step: int) -> None:
        self.batches = self.backgrounds.batches("kept", step=step)

    def step(self, step: int) -> Terms:
        set_rate(self.descent.optimiser, self.config.schedule.factor(step, self.steps))
        self.parallel.train()  # validation has left the network in evaluation mode
        loss, terms = self.objective(self.parallel, next(self.batches), step / self.steps)
        loss.backward()
        norm = self.descent.step()
        self.average.update(step)
        return under("training", terms | {"gradient": norm})

    def left_out(self) -> LeftOut:
        return self.descent.check()

    def numbers(self) -> dict[str, float]:
        return {"rate": self.descent.optimiser.param_groups[0]["lr"], **super().numbers()}

    def end_epoch(self, epoch: int, tracker: Tracker) -> str:
        # Each process has the statistics of its own batches, and one checkpoint serves them all.
        self.process.average_statistics(self.network)
        self.descent.statistics.remember()
        if self.config.statistics == "estimated":
            self.statistics.estimate(self.average.network)
        else:
            self.process.average_statistics(self.average.network)
        scores = self._validate() | self.input
        # The first epoch counts in any case: a score of NaN would else leave no model file.
        improved = epoch == 0 or scores["psnr"] > self.best
        self.best = max(self.best, scores["psnr"])
        self._write(tracker, epoch, scores, improved)
        by_task = ", ".join(
            f"{task} {scores[f'psnr/{task}']:.2f} {scores[f'psnr/{task}'] - scores[f'input/{task}']:+.2f}"
            for task in self.config.data.tasks
        )
        whole = beside_input(scores["psnr"], scores["input"])
        return f"epoch {epoch}: {whole} ({by_task}){' *' if improved else ''}"

    def finish(self, progress: Progress) -> Path:
        if self.process.is_first:
            write_report(self.directory.path)
        return self.directory.path / "model.safetensors"

    def state(self) -> dict[str, Any]:
        return {
            "kind": "retrain",
            "best": self.best,
            "genotype": self.genotype.to_json(),
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "descent": self.descent.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        if state["genotype"] != self.genotype.to_json():
            raise ManasError(
                f"{self.directory.path}: the genotypes have changed; resume with those it began with"
            )
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self.descent.load_state_dict(state["descent"])
        self.best = state["best"]

    def _validate(self) -> dict[str, float]:
        precision = self.config.precision
        return validate(self.average.network, self.validation, self.tasks, self.process, precision)

    def _write(self, tracker: Tracker, epoch: int, scores: Mapping[str, float], improved: bool) -> None:
        """Writes the numbers, the pictures and the model files of an epoch."""
        step, stitches = self.ends[epoch], stitches_of(self.average.network)
        values = {f"validation/{name}": value for name, value in scores.items()}
        tracker.scalars(step, values | (stitches.values if stitches else {}))
        if not self.process.is_first:
            return
        sheet = sample_sheet(self.average.network, self.validation, self.process)
        write_samples(sheet, self.directory.path, tracker, epoch, step)
        description = self._description(epoch, scores)
        for name in ("last", "model") if improved else ("last",):
            save_model(self.directory.path / f"{name}.safetensors", self.average.network, description)
        if stitches:
            tracker.image(step, "stitches", raster_of_stitches(stitches))
            draw_stitches(stitches, self.directory.path / "stitches.png")

    def _description(self, epoch: int, scores: Mapping[str, float]) -> ModelDescription:
        left_out = self.left_out()
        training = versions() | {
            "seed": self.config.seed,
            "epoch": epoch,
            "steps": self.ends[epoch],
            "config_sha256": self.directory.digest(),
            **self.cost,
            "validation": dict(scores),
            "steps_left_out": left_out.steps,
            "backgrounds": dict(self.backgrounds.counts),
        }
        training |= {"init": named(self.config.init)} if self.config.init else {}
        training |= {"broken_gradients": left_out.parameters} if left_out.names else {}
        said = {"license": self.config.license, "credit": self.config.credit}
        training |= {key: value for key, value in said.items() if value}
        training |= {"numerics": "; ".join(self.numerics)} if self.numerics else {}
        sources = {task: [s.model_dump(mode="json") for s in self._sources(task)] for task in self.tasks}
        return ModelDescription(genotype=self.genotype, training=training, degradations=sources)

    def _sources(self, task: str) -> list[SourceConfig]:
        return [source for source in self.config.data.sources if source.task == task]
