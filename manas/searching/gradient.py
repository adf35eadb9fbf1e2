"""The search by gradient: alphas and weights take turns (DARTS, Liu et al., ICLR 2019; MANAS)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from manas.architecture.choice import Moment, architecture_parameters, relax
from manas.architecture.genotype import Genotype
from manas.architecture.recomputation import RestingBuffers
from manas.data.dataset.crops import Batch
from manas.relaxations.base import Noiseless, Relaxation
from manas.relaxations.smoothing import perturb
from manas.reporting.drawing.figure import raster
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.bilevel import Forward, Gradients, Loss, added, descend, first_order, second_order
from manas.searching.config import SearchConfig
from manas.searching.correlation import correlate
from manas.searching.eigenvalue import dominant_eigenvalue
from manas.searching.evidence import Evidence, write_evidence
from manas.searching.method import SupernetSearch
from manas.searching.objectives import AlphaLosses
from manas.searching.reasons import Reason, preference, sentence
from manas.searching.review import Review
from manas.searching.verdict import verdict
from manas.training.distributed import Process
from manas.training.guard import LeftOut
from manas.training.optimiser import Descent
from manas.training.run import RunDirectory
from manas.training.schedule import set_rate
from manas.training.step import Terms, total, under
from manas.training.validation import beside_input

WEIGHTS, ALPHAS = 0, 1  # the numbers of the two draws of a step


class GradientSearch(SupernetSearch):
    """The search by gradient; the alphas descend on held backgrounds.

    Attributes:
        alpha_descent: the descent that takes the steps of the alphas.
        alpha_losses: what the alphas pay beside the loss of the restoration.
        review: the supernet's health at the end of every epoch, and whether the search stops.
        evidence: what the gradients of the steps say of every candidate.
    """

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        super().__init__(config, process, directory)
        names = [f"alphas of {choice.label}" for choice in self.choices]
        parameters = architecture_parameters(self.network)
        optimiser = config.alphas.build([{"params": parameters, "param_names": names}])
        self.alpha_descent = Descent(optimiser, self.weight_descent.statistics, config.alphas.clip)
        self.alpha_losses = AlphaLosses(config, self.network, self.architectures.table, process.device)
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
        set_rate(self.weight_descent.optimiser, self.config.schedule.factor(step, self.config.total_steps))
        return self._learn(step, alphas=step >= self.config.first_alpha_step)

    def _learn(self, step: int, *, alphas: bool) -> Terms:
        kept = next(self.kept)
        if not alphas:
            return self._weight_step(kept, step)
        if self.config.order == "single":
            return self._single_step(kept, step)
        with self.meter.gradient_of_alphas(self.config.order):
            terms = self._alpha_step(next(self.held), kept, step)
        terms |= self._weight_step(kept, step)
        return terms

    def _weight_step(self, kept: Batch, step: int) -> Terms:
        self._relax(step, WEIGHTS)
        if self.config.smoothing:
            moment, loss = self._moment(step, WEIGHTS), self._loss(kept, step, training=False)
            average = self.process.average
            with self.meter.gradient_of_alphas():  # the adversary differentiates weights of the same place
                perturb(self.network, self.config.smoothing, moment, lambda: loss(self.network)[0], average)
        return self.weight_step(self.network, self.weight_descent, kept, self._progress(step))

    def _alpha_step(self, held: Batch, kept: Batch, step: int) -> Terms:
        second, training = self.config.order == "second", self.config.alpha_statistics == "batch"
        # The look-ahead draws as the weight step after it does; smoothing perturbs the latter alone.
        relaxation = self._relax(step, WEIGHTS if second else ALPHAS)
        if second:
            gradients, terms = second_order(
                self.network,
                self.weight_descent.optimiser,
                self.alpha_descent.parameters,
                self._loss(kept, step, training=True),
                self._loss(held, step, training=training),
                self.process,
            )
        else:
            gradients, terms = first_order(
                lambda part: self._loss(part, step, training=training)(self.network),
                held.split(self.config.accumulate),
                self.alpha_descent.parameters,
            )
        return self._alphas_descend(gradients, terms, relaxation, min(step, self.config.total_steps))

    def _single_step(self, kept: Batch, step: int) -> Terms:
        """Takes a step of weights and alphas by one backward pass (one-level optimisation)."""
        relaxation, weights = self._relax(step, WEIGHTS), self.weight_descent.parameters
        gradients, terms = first_order(
            lambda part: self._loss(part, step, training=True)(self.network),
            kept.split(self.config.accumulate),
            [*weights, *self.alpha_descent.parameters],
        )
        # The weights come first: their step takes the running statistics back where their gradient is broken.
        norm = descend(gradients[: len(weights)], self.weight_descent, self.process)
        last = min(step, self.config.total_steps)
        of_alphas = self._alphas_descend(gradients[len(weights) :], terms, relaxation, last)
        return of_alphas | {"weights/gradient": norm}

    def _loss(self, batch: Batch, step: int, *, training: bool) -> Callable[[Forward], Loss]:
        """The objective on a batch as a function of the network, whose mode it sets to `training`."""

        def loss(forward: Forward) -> Loss:
            self.network.train(training)
            return self.objective(forward, batch, self._progress(step))

        return loss

    def _alphas_descend(self, gradients: Gradients, terms: Terms, relaxation: Relaxation, step: int) -> Terms:
        """Takes a step of the alphas along these gradients and those of the losses of the alphas alone."""
        # These losses need no forward pass, so they are differentiated once and not with every part of a batch.
        own = self.alpha_losses(relaxation, step / self.config.total_steps)
        of_own = torch.autograd.grad(total(own), self.alpha_descent.parameters, allow_unused=True)
        self.evidence.add(gradients, of_own)
        gradients = [added(a, b) for a, b in zip(gradients, of_own, strict=True)]
        norm = descend(gradients, self.alpha_descent, self.process)
        self.norms.append(norm.detach())  # as a tensor: a number would be waited for in every step
        return under("alphas", terms | own | self.alpha_losses.adapt() | {"gradient": norm})

    def _progress(self, step: int) -> float:
        return min(1.0, step / self.config.total_steps)  # the steps of perturbation come after the last

    def _moment(self, step: int, draw: int) -> Moment:
        # A look-ahead is differentiated in the alphas, and takes the step of the weights as it will be taken.
        learn = draw == ALPHAS or self.config.order != "first"
        return Moment(self._progress(step), self.config.seed, 2 * step + draw, learn)

    def _relax(self, step: int, draw: int) -> Relaxation:
        """Gives the supernet the relaxation of a draw, and returns it."""
        relaxation = self.config.relaxation.at(self._moment(step, draw), self.choices)
        relax(self.network, relaxation)
        return relaxation

    def judge(self, epoch: int, tracker: Tracker) -> str:
        """Logs health, genotype and drawing of the epoch, without the noise of the relaxation."""
        relax(self.network, self._noiseless(epoch))
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
        relaxed, one_hot = health.psnr_relaxed, health.psnr_one_hot
        return f"relaxed {relaxed:.2f} dB, one-hot {beside_input(one_hot, self.data.input)}"

    def finish(self, progress: Progress) -> Genotype:
        """The genotype of the last epoch, or of an earlier one that a stopping rule names."""
        correlate(self, progress)
        stop, history = self.review.stop, self.review.history
        epoch = stop.epoch if stop else history[-1].epoch
        early = [f"stopped early: {stop.reason}"] if stop else []
        genotype, sentences = self.genotypes.kept(_name(epoch)), [*early, *verdict(history, epoch=epoch)]
        if any(self.evidence.steps):  # alphas at rest have no reasons
            reasons = self._reasons(genotype.choices)
            provenance = {**genotype.provenance, "decided_by": {k: str(v) for k, v in reasons.items()}}
            genotype = genotype.model_copy(update={"provenance": provenance})
            sentences.append(sentence(reasons, searches=1))
        return self.conclude(genotype, sentences, progress)

    def _reasons(self, choices: Mapping[str, str]) -> dict[str, Reason]:
        pulls = self.evidence.pulls()
        if self.process.is_first:
            write_evidence(pulls, self.directory.path)
        return {label: preference(pulls[label], name) for label, name in choices.items()}

    def left_out(self) -> LeftOut:
        """The steps of weights and of alphas whose gradient was broken."""
        return super().left_out() + self.alpha_descent.check()

    def state(self) -> dict[str, Any]:
        """The state of the supernet, the alphas' optimiser, the multiplier of the budget and the review."""
        own = {"alphas": self.alpha_descent.state_dict(), "multiplier": self.alpha_losses.state()}
        return super().state() | own | {"evidence": self.evidence.state()} | self.review.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state` returned."""
        super().load_state(state)
        self.alpha_descent.load_state_dict(state["alphas"])
        self.alpha_losses.load_state(state["multiplier"])
        if "evidence" in state:  # checkpoints of earlier versions have none
            self.evidence.load_state(state["evidence"])
        self.review.load_state(state)
        self.ended = self.review.stop is not None

    def _noiseless(self, epoch: int) -> Noiseless:
        progress = (epoch + 1) / self.config.epochs
        return Noiseless(self.config.relaxation.at(Moment(progress, self.config.seed), self.choices))

    def _eigenvalue(self, epoch: int) -> float | None:
        """The dominant eigenvalue of the loss on the first held crops; the first process tells the others."""
        every = self.config.eigenvalue_every
        if not every or (epoch + 1) % every:
            return None
        return self.process.share(self._sharpness() if self.process.is_first else None)

    def _sharpness(self) -> float:
        self.network.train(self.config.alpha_statistics == "batch")
        with RestingBuffers(self.network), self.meter.curvature() as each_product:
            loss, _ = self.objective(self.network, self.data.validation[0], 1.0)
            return dominant_eigenvalue(loss, self.alpha_descent.parameters, each_product=each_product)


def _name(epoch: int) -> str:
    return f"epoch_{epoch:04d}"
