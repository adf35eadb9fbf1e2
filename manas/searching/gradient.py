"""The search by gradient: alphas and weights take turns (DARTS, Liu et al., ICLR 2019; MANAS)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from manas.architecture.choice import architecture_parameters, relax, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.recomputation import RestingBuffers
from manas.architecture.weighting import Moment
from manas.cost.budget import Pressure
from manas.data.dataset.backgrounds import Batch
from manas.relaxations.base import Mean, Relaxation, scheduled
from manas.relaxations.smoothing import perturb
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.bilevel import Forward, Gradients, Loss, added, descend, first_order, second_order
from manas.searching.health import dominant_eigenvalue
from manas.searching.judge import Judge
from manas.searching.loop import SupernetSearch
from manas.searching.objectives import beta_decay, complexity, indecision
from manas.searching.perturbation import PerturbationConfig, Projected, select_by_perturbation
from manas.searching.setting import Setting
from manas.training.guard import LeftOut
from manas.training.optimiser import Descent
from manas.training.step import Terms, total

WEIGHTS, ALPHAS = 0, 1  # the two draws of a step


class GradientSearch(SupernetSearch):
    """The search whose architecture is in alphas, which descend on held backgrounds."""

    def __init__(self, setting: Setting):
        super().__init__(setting)
        config = self.config
        self.alphas = architecture_parameters(self.network)
        names = [f"alphas of {choice.label}" for choice in self.choices]
        alphas = config.alphas.build([{"params": self.alphas, "param_names": names}])
        self.alpha_descent = Descent(alphas, self.learner.statistics, config.alphas.clip)
        self.objective = self.learner.objective
        device = self.process.device
        self.table = setting.table.to(device)
        self.dearest = self.table.dearest()
        self.pressure = (
            Pressure(self.table, config.budget.limit, config.budget.rate, device) if config.budget else None
        )
        self.judge = Judge(setting, self.network)
        self.norms: list[Tensor] = []  # of the gradients of the alphas, in this epoch

    # The steps ------------------------------------------------------------------------------------------------

    def step(self, step: int) -> Terms:
        """The alphas on held backgrounds, then the weights on kept ones; or both at once."""
        kept = next(self.batches["kept"])
        self.learner.set_rate(step)
        if step < self.config.first_alpha_step:
            return self._weight_step(kept, step)
        if self.config.order == "single":
            return self._single_step(kept, step)
        return self._alpha_step(next(self.batches["held"]), kept, step) | self._weight_step(kept, step)

    def _weight_step(self, kept: Batch, step: int) -> Terms:
        relaxation, smoothing = self._relax(step, WEIGHTS), self.config.smoothing
        if smoothing:
            moment, loss = self._moment(step, WEIGHTS), self._loss(kept, step, training=True)
            perturb(self.network, relaxation, smoothing, moment, lambda: loss(self.network)[0], self.process)
        return self.learner.step(kept, step)

    def _alpha_step(self, held: Batch, kept: Batch, step: int) -> Terms:
        relaxation, training = self._relax(step, ALPHAS), self.config.alpha_statistics == "batch"
        if self.config.order == "second":
            gradients, terms = second_order(
                self.network,
                self.learner.descent.optimiser,
                self.alphas,
                self._loss(kept, step, training=True),
                self._loss(held, step, training=training),
                self.process,
            )
        else:
            gradients, terms = first_order(
                lambda part: self._loss(part, step, training=training)(self.network),
                held.split(self.config.accumulate),
                self.alphas,
            )
        return self._alphas_descend(gradients, terms, relaxation, step)

    def _single_step(self, kept: Batch, step: int) -> Terms:
        """One backward pass for weights and alphas (one-level optimisation)."""
        relaxation, weights = self._relax(step, WEIGHTS), self.learner.weights
        gradients, terms = first_order(
            lambda part: self._loss(part, step, training=True)(self.network),
            kept.split(self.config.accumulate),
            [*weights, *self.alphas],
        )
        # The weights come first: their step takes the running statistics back where their gradient is broken.
        of_weights = self.learner.descend(gradients[: len(weights)], {})
        return self._alphas_descend(gradients[len(weights) :], terms, relaxation, step) | of_weights

    def _loss(self, batch: Batch, step: int, *, training: bool) -> Callable[[Forward], Loss]:
        """The objective on a batch as a function of the network, which it puts into the mode for it."""

        def loss(forward: Forward) -> Loss:
            self.network.train(training)
            return self.objective(forward, batch, step / self.config.total_steps)

        return loss

    def _alphas_descend(self, gradients: Gradients, terms: Terms, relaxation: Relaxation, step: int) -> Terms:
        """One step of the alphas on these gradients and those of what they pay for by themselves."""
        own = self._architecture_losses(relaxation, step / self.config.total_steps)
        of_own = torch.autograd.grad(total(own), self.alphas, allow_unused=True)
        gradients = [added(a, b) for a, b in zip(gradients, of_own, strict=True)]
        norm = descend(gradients, self.alphas, self.alpha_descent, self.process)
        self.norms.append(norm.detach())
        if self.pressure:
            self.pressure.adapt(self.network)
            own["multiplier"] = self.pressure.multiplier
        return {f"alphas/{name}": term for name, term in (terms | own | {"gradient": norm}).items()}

    def _architecture_losses(self, relaxation: Relaxation, progress: float) -> dict[str, Tensor]:
        config = self.config
        losses = {"architecture": config.architecture * indecision(self.network)}
        losses |= relaxation.losses(self.choices)
        if config.beta_decay:
            losses["beta_decay"] = scheduled(config.beta_decay, progress) * beta_decay(self.choices)
        if self.pressure:
            return losses | {"complexity": self.pressure.loss(self.network)}
        price = config.complexity.weight * complexity(self.network, self.table, self.dearest)
        return losses | {"complexity": price}

    def _moment(self, step: int, draw: int) -> Moment:
        progress = min(1.0, step / self.config.total_steps)  # steps that tune come after the last
        return Moment(progress, self.config.seed, 2 * step + draw)

    def _relax(self, step: int, draw: int) -> Relaxation:
        """Gives the supernet the relaxation of a draw."""
        relaxation = self.config.relaxation.at(self._moment(step, draw), self.choices)
        relax(self.network, relaxation)
        return relaxation

    # The epochs -----------------------------------------------------------------------------------------------

    def end_epoch(self, epoch: int, tracker: Tracker) -> str:
        """Health, genotype and drawing of the epoch, without the noise of the relaxation."""
        relax(self.network, self._mean(epoch))
        gradient = float(torch.stack(self.norms).mean()) if self.norms else None
        self.norms = []
        line = self.judge.end_epoch(epoch, tracker, gradient, self._eigenvalue(epoch))
        self.ended = self.judge.stop is not None
        return line

    def choose(self, progress: Progress) -> Genotype:
        """The genotype of the last epoch or of one that a rule asks for, or that of perturbation."""
        if isinstance(self.config.selection, PerturbationConfig):
            choices = self._choose_by_perturbation(self.config.selection, progress)
            relax(self.network, self._mean(self.config.epochs - 1))
            return self.judge.finish(choices, progress)
        return self.judge.finish(None, progress)

    def steps_left_out(self) -> LeftOut:
        """The steps of weights and of alphas whose gradient was broken."""
        return super().steps_left_out() + self.alpha_descent.check()

    def state(self) -> dict[str, Any]:
        """The alphas' optimiser, the multiplier of the budget and what was judged."""
        multiplier = self.pressure.multiplier if self.pressure else None
        return {"alphas": self.alpha_descent.state_dict(), "multiplier": multiplier, **self.judge.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` returned."""
        self.alpha_descent.load_state_dict(state["alphas"])
        if self.pressure:
            self.pressure.multiplier = state["multiplier"].to(self.process.device)
        self.judge.load_state(state)
        self.ended = self.judge.stop is not None

    def _mean(self, epoch: int) -> Mean:
        progress = (epoch + 1) / self.config.epochs
        return Mean(self.config.relaxation.at(Moment(progress, self.config.seed), self.choices))

    def _eigenvalue(self, epoch: int) -> float | None:
        """Of the loss on the first of the held crops, the same in every epoch; one process has it."""
        every = self.config.eigenvalue_every
        if not every or (epoch + 1) % every:
            return None
        return self.process.share(self._sharpness() if self.process.is_first else None)

    def _sharpness(self) -> float:
        self.network.train(self.config.alpha_statistics == "batch")
        with RestingBuffers(self.network):
            loss, _ = self.objective(self.network, self.setting.validation[0], 1.0)
            return dominant_eigenvalue(loss, self.alphas)

    def _choose_by_perturbation(self, config: PerturbationConfig, progress: Progress) -> dict[str, str]:
        mean, training = self._mean(self.config.epochs - 1), self.config.alpha_statistics == "batch"
        steps = itertools.count(self.config.total_steps)

        def score(kept: Mapping[str, str], missing: tuple[str, str]) -> float:
            with relaxed_by(self.network, Projected(mean, kept, missing)):
                return self.setting.psnr(self.network, training=training)

        def tune(kept: Mapping[str, str]) -> None:
            for step, _ in zip(steps, range(config.tune_steps), strict=False):
                relaxation = self.config.relaxation.at(self._moment(step, WEIGHTS), self.choices)
                relax(self.network, Projected(relaxation, kept))
                self.learner.step(next(self.batches["kept"]), self.config.total_steps - 1)

        return select_by_perturbation(
            self.setting.forks,
            score,
            tune,
            seed=self.config.seed,
            allowance=self.setting.allowance,
            decided=lambda label, name: progress.say(f"{label}: {name}"),
        )
