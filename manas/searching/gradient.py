"""The search by gradient: alphas and weights take turns (DARTS, Liu et al., ICLR 2019; MANAS)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from manas.architecture.choice import Moment, architecture_parameters, relax, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.recomputation import RestingBuffers
from manas.cost.budget import Pressure
from manas.data.dataset.crops import Batch
from manas.relaxations.base import Mean, Relaxation, scheduled
from manas.relaxations.smoothing import perturb
from manas.reporting.drawing.figure import raster
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.bilevel import Forward, Gradients, Loss, added, descend, first_order, second_order
from manas.searching.config import SearchConfig
from manas.searching.eigenvalue import dominant_eigenvalue
from manas.searching.evidence import Evidence, write_evidence
from manas.searching.method import SupernetSearch
from manas.searching.objectives import beta_decay, complexity, indecision
from manas.searching.perturbation import PerturbationConfig, Projected, select_by_perturbation
from manas.searching.reasons import Reason, preference, sentence
from manas.searching.review import Review
from manas.searching.verdict import verdict
from manas.training.distributed import Process
from manas.training.guard import LeftOut
from manas.training.optimiser import Descent
from manas.training.run import RunDirectory
from manas.training.schedule import set_rate
from manas.training.step import Terms, total, under

WEIGHTS, ALPHAS = 0, 1  # the numbers of the two draws of a step


class GradientSearch(SupernetSearch):
    """The search by gradient; the alphas descend on held backgrounds."""

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        super().__init__(config, process, directory)
        names = [f"alphas of {choice.label}" for choice in self.choices]
        parameters = architecture_parameters(self.network)
        alphas = config.alphas.build([{"params": parameters, "param_names": names}])
        self.alphas = Descent(alphas, self.weights.statistics, config.alphas.clip)
        self.table = self.architectures.table.to(process.device)
        self.dearest = self.table.dearest()
        self.pressure = Pressure(self.table, config.budget, process.device) if config.budget else None
        self.review = Review(self.network, self.data, self.architectures, config)
        self.evidence = Evidence(self.choices)
        self.norms: list[Tensor] = []  # the norms of the gradients of the alphas in this epoch

    def begin(self, step: int) -> None:
        """Opens the streams of both parts of the backgrounds."""
        super().begin(step)
        # The alphas take no batch in the warm-up, so their stream begins where it ends.
        self.held = self.data.for_alphas(max(0, step - self.config.first_alpha_step))

    def step(self, step: int) -> Terms:
        """Takes a step of the alphas on held backgrounds and of the weights on kept ones, or a joint step."""
        kept = next(self.kept)
        set_rate(self.weights.optimiser, self.config.schedule.factor(step, self.config.total_steps))
        if step < self.config.first_alpha_step:
            return self._weight_step(kept, step)
        if self.config.order == "single":
            return self._single_step(kept, step)
        return self._alpha_step(next(self.held), kept, step) | self._weight_step(kept, step)

    def _weight_step(self, kept: Batch, step: int) -> Terms:
        relaxation, smoothing = self._relax(step, WEIGHTS), self.config.smoothing
        if smoothing:
            moment, loss = self._moment(step, WEIGHTS), self._loss(kept, step, training=True)
            perturb(
                self.network, relaxation, smoothing, moment, lambda: loss(self.network)[0], self.process.average
            )
        return self.weight_step(self.network, self.weights, kept, step / self.config.total_steps)

    def _alpha_step(self, held: Batch, kept: Batch, step: int) -> Terms:
        relaxation, training = self._relax(step, ALPHAS), self.config.alpha_statistics == "batch"
        if self.config.order == "second":
            gradients, terms = second_order(
                self.network,
                self.weights.optimiser,
                self.alphas.parameters,
                self._loss(kept, step, training=True),
                self._loss(held, step, training=training),
                self.process,
            )
        else:
            gradients, terms = first_order(
                lambda part: self._loss(part, step, training=training)(self.network),
                held.split(self.config.accumulate),
                self.alphas.parameters,
            )
        return self._alphas_descend(gradients, terms, relaxation, step)

    def _single_step(self, kept: Batch, step: int) -> Terms:
        """Takes a step of weights and alphas by one backward pass (one-level optimisation)."""
        relaxation, weights = self._relax(step, WEIGHTS), self.weights.parameters
        gradients, terms = first_order(
            lambda part: self._loss(part, step, training=True)(self.network),
            kept.split(self.config.accumulate),
            [*weights, *self.alphas.parameters],
        )
        # The weights come first: their step takes the running statistics back where their gradient is broken.
        norm = descend(gradients[: len(weights)], self.weights, self.process)
        of_alphas = self._alphas_descend(gradients[len(weights) :], terms, relaxation, step)
        return of_alphas | {"weights/gradient": norm}

    def _loss(self, batch: Batch, step: int, *, training: bool) -> Callable[[Forward], Loss]:
        """The objective on a batch as a function of the network, whose mode it sets to `training`."""

        def loss(forward: Forward) -> Loss:
            self.network.train(training)
            return self.objective(forward, batch, step / self.config.total_steps)

        return loss

    def _alphas_descend(self, gradients: Gradients, terms: Terms, relaxation: Relaxation, step: int) -> Terms:
        """Takes a step of the alphas along these gradients and those of the losses of the alphas alone."""
        # These losses need no forward pass, so they are differentiated once and not with every part of a batch.
        own = self._architecture_losses(relaxation, step / self.config.total_steps)
        of_own = torch.autograd.grad(total(own), self.alphas.parameters, allow_unused=True)
        self.evidence.add(gradients, of_own)
        gradients = [added(a, b) for a, b in zip(gradients, of_own, strict=True)]
        norm = descend(gradients, self.alphas, self.process)
        self.norms.append(norm.detach())  # as a tensor: a number would be waited for in every step
        if self.pressure:
            self.pressure.adapt(self.network)
            own["multiplier"] = self.pressure.multiplier
        return under("alphas", terms | own | {"gradient": norm})

    def _architecture_losses(self, relaxation: Relaxation, progress: float) -> dict[str, Tensor]:
        config = self.config
        losses = relaxation.losses(self.choices)
        if progress >= config.architecture_from:
            losses["architecture"] = config.architecture * indecision(self.network)
        if config.beta_decay:
            losses["beta_decay"] = scheduled(config.beta_decay, progress) * beta_decay(self.choices)
        if self.pressure:
            return losses | {"complexity": self.pressure.loss(self.network)}
        price = config.complexity.weight * complexity(self.network, self.table, self.dearest)
        return losses | {"complexity": price}

    def _moment(self, step: int, draw: int) -> Moment:
        progress = min(1.0, step / self.config.total_steps)  # the steps of perturbation come after the last
        return Moment(progress, self.config.seed, 2 * step + draw)

    def _relax(self, step: int, draw: int) -> Relaxation:
        """Gives the supernet the relaxation of a draw, and returns it."""
        relaxation = self.config.relaxation.at(self._moment(step, draw), self.choices)
        relax(self.network, relaxation)
        return relaxation

    def judge(self, epoch: int, tracker: Tracker) -> str:
        """Logs health, genotype and drawing of the epoch, without the noise of the relaxation."""
        relax(self.network, self._mean(epoch))
        gradient = float(torch.stack(self.norms).mean()) if self.norms else None
        self.norms = []
        tracker.scalars(self.ends[epoch], self.review.add(epoch, gradient, self._eigenvalue(epoch)))
        self.ended = self.review.stop is not None
        health = self.review.history[-1]
        if self.process.is_first:
            genotype = self.genotypes.of(self.review.choices, epoch=epoch, **health.scores)
            tracker.text(self.ends[epoch], "genotype", genotype.to_json())
            tracker.image(self.ends[epoch], "genotype", raster(genotype))
            self.genotypes.keep(_name(epoch), genotype)
        return f"relaxed {health.psnr_relaxed:.2f} dB, one-hot {health.psnr_one_hot:.2f} dB"

    def finish(self, progress: Progress) -> Genotype:
        """The genotype of the last epoch, of an earlier one that a stopping rule names, or of perturbation."""
        if isinstance(self.config.selection, PerturbationConfig):
            return self._finish_by_perturbation(self.config.selection, progress)
        stop, history = self.review.stop, self.review.history
        epoch = stop.epoch if stop else history[-1].epoch
        early = [f"stopped early: {stop.reason}"] if stop else []
        genotype = self.genotypes.kept(_name(epoch))
        reasons = self._reasons(genotype.choices)
        provenance = {**genotype.provenance, "decided_by": {k: str(v) for k, v in reasons.items()}}
        sentences = [*early, *verdict(history, epoch=epoch), sentence(reasons, searches=1)]
        return self.conclude(genotype.model_copy(update={"provenance": provenance}), sentences, progress)

    def _reasons(self, choices: Mapping[str, str]) -> dict[str, Reason]:
        pulls = self.evidence.pulls()
        if self.process.is_first:
            write_evidence(pulls, self.directory.path)
        return {label: preference(pulls[label], name) for label, name in choices.items()}

    def left_out(self) -> LeftOut:
        """The steps of weights and of alphas whose gradient was broken."""
        return super().left_out() + self.alphas.check()

    def state(self) -> dict[str, Any]:
        """The state of the supernet, the alphas' optimiser, the multiplier of the budget and the review."""
        multiplier = self.pressure.multiplier if self.pressure else None
        own = {"alphas": self.alphas.state_dict(), "multiplier": multiplier, "evidence": self.evidence.state()}
        return super().state() | own | self.review.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state` returned."""
        super().load_state(state)
        self.alphas.load_state_dict(state["alphas"])
        if self.pressure:
            self.pressure.multiplier = state["multiplier"].to(self.process.device)
        if "evidence" in state:  # checkpoints of earlier versions have none
            self.evidence.load_state(state["evidence"])
        self.review.load_state(state)
        self.ended = self.review.stop is not None

    def _mean(self, epoch: int) -> Mean:
        progress = (epoch + 1) / self.config.epochs
        return Mean(self.config.relaxation.at(Moment(progress, self.config.seed), self.choices))

    def _eigenvalue(self, epoch: int) -> float | None:
        """The dominant eigenvalue of the loss on the first held crops; the first process tells the others."""
        every = self.config.eigenvalue_every
        if not every or (epoch + 1) % every:
            return None
        return self.process.share(self._sharpness() if self.process.is_first else None)

    def _sharpness(self) -> float:
        self.network.train(self.config.alpha_statistics == "batch")
        with RestingBuffers(self.network):
            loss, _ = self.objective(self.network, self.data.validation[0], 1.0)
            return dominant_eigenvalue(loss, self.alphas.parameters)

    def _finish_by_perturbation(self, config: PerturbationConfig, progress: Progress) -> Genotype:
        choices, epoch = self._choose_by_perturbation(config, progress), self.config.epochs - 1
        relax(self.network, self._mean(epoch))
        health = self.review.health(choices, epoch)
        genotype = self.genotypes.of(choices, epoch=epoch, selection=config.kind, **health.scores)
        return self.conclude(genotype, verdict([health], by_alphas=False), progress)

    def _choose_by_perturbation(self, config: PerturbationConfig, progress: Progress) -> dict[str, str]:
        mean, training = self._mean(self.config.epochs - 1), self.config.alpha_statistics == "batch"
        steps = itertools.count(self.config.total_steps)
        last = (self.config.total_steps - 1) / self.config.total_steps

        def score(kept: Mapping[str, str], missing: tuple[str, str] | None) -> float:
            with relaxed_by(self.network, Projected(mean, kept, missing)):
                return self.data.psnr(self.network, training=training)

        def tune(kept: Mapping[str, str]) -> None:
            for step, _ in zip(steps, range(config.tune_steps), strict=False):
                relaxation = self.config.relaxation.at(self._moment(step, WEIGHTS), self.choices)
                relax(self.network, Projected(relaxation, kept))
                self.weight_step(self.network, self.weights, next(self.kept), last)

        return select_by_perturbation(
            self.architectures.forks,
            score,
            tune,
            seed=self.config.seed,
            allowance=self.architectures.allowance,
            decided=lambda label, name: progress.say(f"{label}: {name}"),
        )


def _name(epoch: int) -> str:
    return f"epoch_{epoch:04d}"
