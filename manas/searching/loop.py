"""The search: a supernet is trained while its alphas learn which candidates to keep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from manas.architecture.choice import architecture_parameters, choices_of, relaxed_by, weight_parameters
from manas.architecture.cost import Metric, cost_table, measure, thop_macs
from manas.architecture.genotype import Genotype
from manas.architecture.relaxation import OneHot, Softmax
from manas.architecture.space import GivenSpace
from manas.config import Configuration, read_config
from manas.data.dataset import Backgrounds, Batch, DataConfig
from manas.data.images import write_image
from manas.device import DeviceName, place
from manas.errors import ManasError
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.restoration.losses import LossWeights
from manas.restoration.network import size_multiple_of, tasks_of
from manas.searching.bilevel import descend
from manas.searching.objectives import complexity, indecision, probabilities_of
from manas.searching.selection import argmax
from manas.training.checkpoint import load_checkpoint, save_checkpoint
from manas.training.distributed import Precision, Process, started
from manas.training.optimiser import Descent, OptimiserConfig, RunningStatistics, decay_groups
from manas.training.run import RunDirectory, versions
from manas.training.schedule import ScheduleConfig, set_rate
from manas.training.step import forward_terms, logged, total
from manas.training.validation import sample_sheet, validate


class ComplexityConfig(BaseModel):
    """The complexity loss: `weight` x expected cost over that of the dearest architecture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(0.01, ge=0)
    metric: Metric = "macs"


class SearchConfig(Configuration):
    """Configuration of `search`.

    Attributes:
        run: the run directory.
        seed: of the initial weights, the partition of the backgrounds and all draws.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: of the network's forward pass; losses are in float32 in any case.
        space: a preset, YAML path, ``package.module:Class``, or a mapping with its `kind`.
        relaxation: how alphas become weights.
        data: where the images come from.
        epochs, steps: epochs, and steps in each; an epoch ends with validation, genotype and checkpoint.
        warmup: share of the steps before the alphas start to move.
        alpha_share: share of the training backgrounds that the alphas see, and the weights do not.
        alpha_statistics: normalisation in the alpha step by ``batch`` statistics, as in the weight step, or by
            ``running`` ones, as released. The alphas are then judged by the network that is being trained,
            and not by averages over weights that no longer exist, which early on mislead them.
        loss: of the restoration, in both steps.
        architecture: weight of the binary entropy of the probabilities, in the alpha step. The released code
            takes log10; the same weight is 0.43 times as large here.
        complexity: the price of MACs or parameters, in the alpha step.
        weights, alphas: the two optimisers; the schedule is of the weights'.
        log_every: steps between two entries of the metrics; the device is waited for only then.
    """

    model_config = ConfigDict(validate_default=True)

    run: str = "runs/search"
    seed: int = Field(0, ge=0)
    device: DeviceName = "auto"
    precision: Precision = "float32"
    space: GivenSpace = "manas_tiny"  # type: ignore[assignment] # validated as what it names
    relaxation: Softmax = Softmax()
    data: DataConfig = DataConfig()
    epochs: int = Field(10, ge=1)
    steps: int = Field(40, ge=1)
    warmup: float = Field(0.25, ge=0, lt=1)
    alpha_share: float = Field(0.5, gt=0, lt=1)
    alpha_statistics: Literal["batch", "running"] = "batch"
    loss: LossWeights = LossWeights()
    architecture: float = Field(0.01, ge=0)
    complexity: ComplexityConfig = ComplexityConfig()
    weights: OptimiserConfig = OptimiserConfig(name="adam", rate=1e-3, clip=5.0)
    schedule: ScheduleConfig = ScheduleConfig(floor=0.05)
    alphas: OptimiserConfig = OptimiserConfig(name="adam", rate=1e-2, betas=(0.5, 0.999))
    log_every: int = Field(10, ge=1)


def search(
    config: SearchConfig | Mapping[str, Any] | str | Path, *, resume: bool = False, overwrite: bool = False
) -> Genotype:
    """Searches a space and returns the genotype; writes it with everything else to the run directory.

    Args:
        config: the configuration, the mapping of one, or the path of its YAML file.
        resume: go on with the run in the run directory, exactly.
        overwrite: replace it.

    Raises:
        ManasError: for a bad configuration, data that cannot be used, a space without forks, or a run
            directory that holds a run.
    """
    config = read_config(SearchConfig, config)
    with started(config.device) as process:
        run = RunDirectory(config, config.run, process, resume=resume, overwrite=overwrite)
        return _Search(config, process, run).run()


class _Search:
    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        torch.manual_seed(config.seed)
        self.config, self.process, self.directory = config, process, directory
        self.total = config.epochs * config.steps
        self.first_alpha_step = round(config.warmup * self.total)
        self.tasks = tasks_of(config.space) or config.data.tasks
        self.network = place(config.space.supernet(config.relaxation), process.device)
        self.backgrounds = Backgrounds(
            config.data,
            self.tasks,
            seed=config.seed,
            held_share=config.alpha_share,
            multiple=size_multiple_of(self.network),
            **process.share_of_data(),
        )
        self.validation = self.backgrounds.validation("held")
        process.broadcast([*self.network.parameters(), *self.network.buffers()])
        self.alphas = architecture_parameters(self.network)
        if not self.alphas:
            raise ManasError("space: it has no forks, so there is nothing to search; retrain it as it is")
        self.weights = weight_parameters(self.network)
        self.shape = (3, config.data.patch, config.data.patch)
        self.table = cost_table(config.space, config.complexity.metric, self.shape).to(process.device)
        self.dearest = self.table.dearest()
        statistics = RunningStatistics(self.network)
        alphas = config.alphas.build([{"params": self.alphas}])
        self.alpha_descent = Descent(alphas, statistics, config.alphas.clip)
        weights = config.weights.build(decay_groups(self.network))
        self.weight_descent = Descent(weights, statistics, config.weights.clip)

    def run(self) -> Genotype:
        start = self._resume()
        kept = self.backgrounds.batches("kept", step=start)
        held = self.backgrounds.batches("held", step=max(0, start - self.first_alpha_step))
        self.directory.open()
        first = self.process.is_first
        with (
            Tracker(self.directory.path, step=start, enabled=first) as tracker,
            Progress("search", self.total, done=start, enabled=first) as progress,
        ):
            for step in range(start, self.total):
                terms: dict[str, Tensor] = {}
                if step >= self.first_alpha_step:
                    terms |= self._alpha_step(next(held), step)
                terms |= self._weight_step(next(kept), step)
                progress.advance()
                if (step + 1) % self.config.log_every == 0:
                    left_out = {"steps_left_out": self._steps_left_out()}
                    tracker.scalars(step + 1, logged(terms, self.process) | left_out)
                if (step + 1) % self.config.steps == 0:
                    self._end_epoch(tracker, progress, (step + 1) // self.config.steps - 1)
        return self._finish()

    def _weight_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        set_rate(self.weight_descent.optimiser, self.config.schedule.factor(step, self.total))
        terms = self._terms(batch, step, training=True)
        norm = descend(total(terms), self.weights, self.weight_descent, self.process)
        return {f"weights/{name}": term for name, term in terms.items()} | {"weights/gradient": norm}

    def _alpha_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        terms = self._terms(batch, step, training=self.config.alpha_statistics == "batch")
        terms["architecture"] = self.config.architecture * indecision(self.network)
        terms["complexity"] = self.config.complexity.weight * complexity(self.network, self.table, self.dearest)
        norm = descend(total(terms), self.alphas, self.alpha_descent, self.process)
        return {f"alphas/{name}": term for name, term in terms.items()} | {"alphas/gradient": norm}

    def _steps_left_out(self) -> int:
        return self.weight_descent.check() + self.alpha_descent.check()

    def _terms(self, batch: Batch, step: int, *, training: bool) -> dict[str, Tensor]:
        self.network.train(training)
        config = self.config
        progress = step / self.total
        return forward_terms(self.network, batch, config.loss, progress, self.process, config.precision)

    def _end_epoch(self, tracker: Tracker, progress: Progress, epoch: int) -> None:
        step = (epoch + 1) * self.config.steps
        self._steps_left_out()  # before anything is kept
        self.process.average_statistics(self.network)
        self.weight_descent.statistics.remember()
        genotype = self._genotype(epoch)
        scores = self._validate(genotype)
        genotype = genotype.model_copy(update={"provenance": genotype.provenance | scores})
        shares = {f"{label}/{k}": p for label, by in self._probabilities().items() for k, p in by.items()}
        values = {f"validation/{k}": v for k, v in scores.items()}
        tracker.scalars(step, values | {f"probabilities/{k}": v for k, v in shares.items()})
        tracker.text(step, "genotype", genotype.to_json())
        if self.process.is_first:
            sheet = sample_sheet(self.network, self.validation, self.process)
            tracker.image(step, "validation: degraded, restored, clean", sheet)
            write_image(self.directory.path / "samples" / f"epoch_{epoch:04d}.png", sheet)
            genotype.write(self._genotype_path(epoch))
        tracker.flush()
        save_checkpoint(self.directory.checkpoint, self.process, self._state(step))
        relaxed, one_hot = scores["psnr_relaxed"], scores["psnr_one_hot"]
        progress.say(f"epoch {epoch}: relaxed {relaxed:.2f} dB, one-hot {one_hot:.2f} dB")

    def _validate(self, genotype: Genotype) -> dict[str, float]:
        """PSNR of the relaxed and of the one-hot network; their difference is the discretisation gap."""
        relaxed = self._psnr()
        with relaxed_by(self.network, OneHot(genotype.choices)):
            one_hot = self._psnr()
        return {"psnr_relaxed": relaxed, "psnr_one_hot": one_hot, "discretisation_gap": relaxed - one_hot}

    def _psnr(self) -> float:
        scores = validate(self.network, self.validation, self.tasks, self.process, self.config.precision)
        return scores["psnr"]

    def _probabilities(self) -> dict[str, dict[str, float]]:
        names = {choice.label: choice.names for choice in choices_of(self.network)}
        found = probabilities_of(self.network)
        return {label: dict(zip(names[label], p.tolist(), strict=True)) for label, p in found.items()}

    def _genotype(self, epoch: int) -> Genotype:
        choices = argmax(self.config.space, self._probabilities())
        provenance = versions() | {
            "seed": self.config.seed,
            "epoch": epoch,
            "config_sha256": self.directory.digest(),
            "parameters": int(measure(self.config.space.network(choices), "parameters")),
            "macs": thop_macs(self.config.space.network(choices), self.shape),
            "input": list(self.shape),
        }
        return Genotype(space=self.config.space, choices=choices, provenance=provenance)

    def _genotype_path(self, epoch: int) -> Path:
        return self.directory.path / "genotypes" / f"epoch_{epoch:04d}.json"

    def _state(self, step: int) -> dict[str, Any]:
        return {
            "kind": "search",
            "step": step,
            "space": self.config.space.model_dump(mode="json"),
            "probabilities": self._probabilities(),
            "network": self.network.state_dict(),
            "weights": self.weight_descent.state_dict(),
            "alphas": self.alpha_descent.state_dict(),
        }

    def _resume(self) -> int:
        """The step to go on from, with everything as it was then."""
        if not self.directory.can_resume:
            return 0
        state = load_checkpoint(self.directory.checkpoint, self.process)
        self.network.load_state_dict(state["network"])
        self.weight_descent.load_state_dict(state["weights"])
        self.alpha_descent.load_state_dict(state["alphas"])
        return state["step"]

    def _finish(self) -> Genotype:
        """The genotype of the last epoch; the run directory is one that all processes see."""
        text = self._genotype_path(self.config.epochs - 1).read_text(encoding="utf-8")
        genotype = Genotype.from_json(text, trusted=True)
        if self.process.is_first:
            genotype.write(self.directory.path / "genotype.json")
        self.process.wait()
        return genotype
