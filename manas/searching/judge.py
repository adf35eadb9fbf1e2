"""What a search by gradient writes down at the end of each epoch, and what it says at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from manas.architecture.choice import choices_of, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import NONE, OneHot
from manas.cost.selection import argmax
from manas.reporting.drawing.figure import raster
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.searching.health import SKIP, Health, entropy_by_group, shares_by_group, tally
from manas.searching.objectives import probabilities_of
from manas.searching.setting import Setting
from manas.searching.verdict import Stop, should_stop, verdict


class Judge:
    """The health of a supernet over its epochs, and the genotypes that it would derive.

    Attributes:
        history: the health of every epoch.
        stop: why and with what the search has ended early, if it has.
    """

    def __init__(self, setting: Setting, network: nn.Module):
        self.setting, self.network = setting, network
        self.history: list[Health] = []
        self.stop: Stop | None = None
        self.choices: dict[str, str] = {}

    def end_epoch(self, epoch: int, tracker: Tracker, gradient: float | None, eigenvalue: float | None) -> str:
        """Judges the supernet under the relaxation that it has; returns the line that is shown."""
        setting, probabilities = self.setting, self._probabilities()
        self.choices = argmax(setting.space, probabilities, setting.allowance)
        health = self._health(epoch, gradient, eigenvalue)
        self.history.append(health)
        self.stop = should_stop(self.history, setting.config.stop)
        step = (epoch + 1) * setting.config.steps
        tracker.scalars(step, self._numbers(health, probabilities))
        if setting.process.is_first:
            genotype = setting.genotype(self.choices, epoch=epoch, **health.scores)
            tracker.text(step, "genotype", genotype.to_json())
            tracker.image(step, "genotype", raster(genotype))
            genotype.write(setting.genotype_path(_name(epoch)))
        return f"relaxed {health.psnr_relaxed:.2f} dB, one-hot {health.psnr_one_hot:.2f} dB"

    def finish(self, choices: Mapping[str, str] | None, progress: Progress) -> Genotype:
        """The genotype of the search with what is to be said of it; an epoch's unless choices are given."""
        epoch = self.stop.epoch if self.stop else self.history[-1].epoch
        if choices is None:
            said = [f"stopped early: {self.stop.reason}"] if self.stop else []
            said += verdict(self.history, epoch=epoch)
            return self.setting.finish(self.setting.kept_genotype(_name(epoch)), said, progress)
        self.choices = dict(choices)
        health, kind = self._health(epoch, None, None), self.setting.config.selection.kind
        genotype = self.setting.genotype(choices, epoch=epoch, selection=kind, **health.scores)
        return self.setting.finish(genotype, verdict([health], by_alphas=False), progress)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "choices": self.choices,
            "history": [health.to_dict() for health in self.history],
            "stop": asdict(self.stop) if self.stop else None,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` returned."""
        self.choices = state["choices"]
        self.history = [Health.from_dict(values) for values in state["history"]]
        self.stop = Stop(**state["stop"]) if state["stop"] else None

    def _health(self, epoch: int, gradient: float | None, eigenvalue: float | None) -> Health:
        training = self.setting.config.alpha_statistics == "batch"
        relaxed = self.setting.psnr(self.network, training=training)
        with relaxed_by(self.network, OneHot(self.choices)):
            one_hot = self.setting.psnr(self.network, training=training)
        candidates = {choice.label: choice.names for choice in choices_of(self.network)}
        return Health(
            epoch=epoch,
            psnr_relaxed=relaxed,
            psnr_one_hot=one_hot,
            entropy=entropy_by_group(self.network),
            skips=tally(SKIP, self.choices, candidates),
            nones=tally(NONE, self.choices, candidates),
            gradient=gradient,
            eigenvalue=eigenvalue,
        )

    def _numbers(self, health: Health, probabilities: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Everything that is logged once an epoch, by name."""
        numbers = {f"validation/{k}": v for k, v in health.scores.items()}
        measured = {
            "skip_share": health.skip_share,
            "none_share": health.none_share,
            "alpha_gradient": health.gradient,
            "eigenvalue": health.eigenvalue,
            "cost": self.setting.table.exact(self.choices),
        }
        numbers |= {f"health/{k}": v for k, v in measured.items() if v is not None}
        numbers |= {f"entropy/{tag}": value for tag, value in health.entropy.items()}
        for tag, shares in shares_by_group(self.network).items():
            numbers |= {f"shares/{tag}/{name}": share for name, share in shares.items()}
        for label, by_name in probabilities.items():
            numbers |= {f"probabilities/{label}/{name}": p for name, p in by_name.items()}
        return numbers

    def _probabilities(self) -> dict[str, dict[str, float]]:
        names = {choice.label: choice.names for choice in choices_of(self.network)}
        found = probabilities_of(self.network)
        return {label: dict(zip(names[label], p.tolist(), strict=True)) for label, p in found.items()}


def _name(epoch: int) -> str:
    return f"epoch_{epoch:04d}"
